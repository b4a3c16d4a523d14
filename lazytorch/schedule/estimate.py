"""How much work a kernel is: arithmetic, bytes, and a readable name."""

from __future__ import annotations

from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RecurrentBody,
    Reduce,
    RowBody,
    ScanBody,
    ScatterBody,
    SortBody,
    extent,
)
from lazytorch.ops.recurrence import Recurrence
from lazytorch.schedule.graph import Graph

NAMED = 3


def points(body: Body) -> int:
    """Independent points of a body; 0 when it has nothing to do."""
    if isinstance(body, ContractBody):
        return extent((*body.batch, *body.rows, *body.columns))
    if isinstance(body, AttentionBody):
        return max(extent(result.axes) for result in body.results)
    return extent(body.rows)


def work_of(kernel: Kernel, graph: Graph) -> tuple[int, int]:
    """(arithmetic operations, bytes of the arrays read and written once)."""
    flops = sum(_flops(body) for body in kernel.bodies)
    touched = {*kernel.reads(), *kernel.writes()}
    return flops, sum(graph.nbytes(number) for number in touched if number < len(graph))


def _flops(body: Body) -> int:
    if isinstance(body, ContractBody):
        return body.flops + points(body) * _operations([s.value for s in body.epilogue])
    if isinstance(body, AttentionBody):
        return body.flops
    if isinstance(body, RowBody):
        rows = extent(body.rows)
        return sum(
            rows * extent(stage.axes)
            * (_operations([stage.value]) + isinstance(stage, Reduce))
            for stage in body.stages
        )  # fmt: skip
    if isinstance(body, RecurrentBody):
        of = Recurrence(*body.attrs)
        projection = of.hidden * of.width if of.projected else 0
        return 2 * of.steps * of.batch * (of.gates * of.width + projection)
    if isinstance(body, (ScanBody, ScatterBody)):
        return extent(body.rows) * body.axis.size * (1 + _operations([body.value]))
    if isinstance(body, SortBody):
        comparisons = max(1, (body.axis.size - 1).bit_length())
        return extent(body.rows) * body.axis.size * (comparisons + _operations([body.value]))
    return 0


def _operations(roots: list[ex.Expression]) -> int:
    return sum(e.data[0].cost for e in ex.walk(roots) if e.kind == ex.APPLY)


def label(kernel: Kernel, graph: Graph) -> str:
    """A short name made of the operations a kernel computes: letters and underscores only."""
    names: dict[str, None] = {}
    for body in kernel.bodies:
        if isinstance(body, ContractBody):
            names["contract"] = None
    for number in kernel.covers:
        op = graph.ops[number]
        if op.kind not in ("move", "leaf"):
            names.setdefault(op.name)
    return "_".join(list(names)[:NAMED]) or "move"
