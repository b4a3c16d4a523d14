"""The moves that every kernel gets before it is rendered for a target.

``collapse`` and ``widen`` join neighbouring loops, ``add_stashes`` keeps dear values of a row on
chip instead of computing them in each stage, and contractions are cut into packing and tiles
(``contract``). Each is a function from kernel to kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lazytorch.codegen import contract, recurrent
from lazytorch.codegen.attention import lower_attention
from lazytorch.codegen.choice import Chooser, by_rule, wished, with_wish, with_wished_walk
from lazytorch.codegen.joining import collapse, widen
from lazytorch.codegen.rows import choose_style, local_size
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, flatten, of_atom
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RecurrentBody,
    RowBody,
    ScanBody,
    ScatterBody,
    Stage,
    Stash,
    extent,
)
from lazytorch.ir.segments import segments
from lazytorch.schedule.align import inner_nests

# Arithmetic from which a value that two stages of a row need is kept on chip, and the bytes of
# private memory that a row may use for it.
STASH_COST = 8
STASH_BYTES = 32 << 10


def finish(
    kernel: Kernel,
    target: Target,
    new_value: Callable[[DType, int], int],
    choose: Chooser = by_rule,
) -> list[Kernel]:
    """The kernels to render, in launch order, for one scheduled kernel.

    ``choose`` may name another schedule than the rules' for any of its bodies.
    """
    before: list[Kernel] = []
    bodies: list[Body] = []
    values = dict(kernel.values)
    for body in kernel.bodies:
        if not _has_points(body):
            continue
        schedule = choose(body, kernel.values)
        if isinstance(body, ContractBody):
            if extent(body.summed) == 0:
                body = _empty_sum(body)
            else:
                lowered = contract.lower_contract(body, values, new_value, target, schedule)
                before.extend(lowered[:-1])
                values.update(lowered[-1].values)
                bodies.extend(lowered[-1].bodies)
                continue
        if isinstance(body, AttentionBody):
            lowered = lower_attention(body, values, new_value, target, schedule)
            before.extend(lowered[:-1])
            values.update(lowered[-1].values)
            bodies.extend(lowered[-1].bodies)
            continue
        if isinstance(body, RecurrentBody):
            lowered = recurrent.lower_recurrent(body, values, new_value, target, schedule)
            before.extend(_preparing(lowered[:-1], target))
            values.update(lowered[-1].values)
            bodies.extend(lowered[-1].bodies)
            continue
        if isinstance(body, RowBody):
            body = with_wish(widen(collapse(body), target), schedule)
            wish = wished(body)
            # A block of columns would need a stash for each lane; it computes values again.
            columns = choose_style(body, target).kind == "columns"
            if target.family == "cpu" and wish is None and body.is_map:
                bodies.extend(_in_segments(body, target))
                continue
            if target.family == "cpu" and not columns and (wish is None or wish.stash):
                body = with_wish(add_stashes(body), wish)
        elif isinstance(body, (ScanBody, ScatterBody)):
            body = with_wished_walk(body, schedule)
        bodies.append(body)
    if not bodies:
        return []
    launches = [
        replace(kernel, bodies=tuple(alike), values=values)
        for alike in _by_work_group(bodies, target)
    ]
    return [*before, *launches]


def _preparing(kernels: list[Kernel], target: Target) -> list[Kernel]:
    """Kernels of row bodies, ready to be rendered."""
    result = []
    for kernel in kernels:
        bodies: list[Body] = [
            widen(collapse(b), target) for b in kernel.bodies if isinstance(b, RowBody)
        ]
        for alike in _by_work_group(bodies, target):
            result.append(replace(kernel, bodies=tuple(alike)))
    return result


def _by_work_group(bodies: list[Body], target: Target) -> list[list[Body]]:
    """Bodies that can share a launch: those whose styles want the same kind of work-group."""
    alike: dict[str, list[Body]] = {}
    for body in bodies:
        kind = "elements"
        if isinstance(body, RowBody):
            kind = choose_style(body, target).kind
        elif isinstance(body, (ScanBody, ScatterBody)):
            kind = "vectors" if local_size(body, target) == 1 else "elements"
        else:
            # Each fills local memory as if it were alone.
            kind = f"contract {len(alike)}"
        alike.setdefault("vectors" if kind in ("inner", "columns") else kind, []).append(body)
    return list(alike.values())


def _in_segments(body: RowBody, target: Target) -> list[Body]:
    """The body cut at its edges where each piece is then done in vectors."""
    parts = [widen(collapse(part), target) for part in segments(body)]
    if all(choose_style(part, target).kind == "columns" for part in parts):
        return list(parts)
    return [body]


def _has_points(body: Body) -> bool:
    if isinstance(body, ContractBody):
        return extent((*body.batch, *body.rows, *body.columns)) > 0
    if isinstance(body, AttentionBody):
        return any(extent(result.axes) for result in body.results)
    if isinstance(body, RowBody) and extent(body.rows) == 0:
        return False
    return isinstance(body, RowBody) or extent(body.rows) > 0


def _empty_sum(body: ContractBody) -> RowBody:
    """A sum over nothing is 0 everywhere; what is left is the epilogue."""

    def zero(expression: Expression) -> Expression | None:
        if expression.kind == ex.RESULT and expression.data == body.number:
            return ex.constant(0, expression.dtype)
        return None

    stores = tuple(
        replace(store, value=ex.rewrite(store.value, {}, zero)) for store in body.epilogue
    )
    return RowBody((*body.batch, *body.rows, *body.columns), stores)


# stashes --------------------------------------------------------------------------------------


def add_stashes(body: RowBody) -> RowBody:
    """Keep what several stages over one nest would compute again in a private array."""
    stages = list(body.stages)
    budget = STASH_BYTES
    number = 0
    for nest in inner_nests(stages):
        size = extent(nest)
        while True:
            found = _dearest_shared(stages, nest)
            if found is None:
                break
            value, first = found
            budget -= size * value.dtype.compute.itemsize
            if budget < 0:
                return RowBody(body.rows, tuple(stages))
            index = flatten(tuple(map(of_atom, nest)), tuple(axis.size for axis in nest))
            held = ex.stashed(number, index, value.dtype)
            # The first user shares the loop that fills the stash and has the value at hand.
            for position in range(first + 1, len(stages)):
                if stages[position].axes == nest:
                    replaced = _replace_value(stages[position].value, value, held)
                    stages[position] = replace(stages[position], value=replaced)
            stages.insert(first, Stash(number, index, value, nest, size))
            number += 1
    return RowBody(body.rows, tuple(stages))


def _replace_value(root: Expression, value: Expression, held: Expression) -> Expression:
    return ex.rewrite(root, {}, None, {value: held})


def _dearest_shared(stages: list[Stage], nest: tuple[Axis, ...]) -> tuple[Expression, int] | None:
    """The dearest value that at least two separate loops over the nest compute, and the first."""
    loops = [
        n for n, stage in enumerate(stages) if stage.axes == nest and not isinstance(stage, Stash)
    ]
    if len(loops) < 2:
        return None
    seen: dict[Expression, list[int]] = {}
    for position in loops:
        for expression in ex.walk([stages[position].value]):
            if expression.kind == ex.APPLY:
                seen.setdefault(expression, []).append(position)
    best: tuple[int, Expression, int] | None = None
    for expression, places in seen.items():
        if len(places) < 2 or not any(axis in expression.axes() for axis in nest):
            continue
        cost = ex.cost(expression)
        if cost >= STASH_COST and (best is None or cost > best[0]):
            best = (cost, expression, places[0])
    return None if best is None else (best[1], best[2])
