"""What the pictures and explanations show: operations, and the kernels they became.

Taken from the engine's schedule; knows nothing of text layout or drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lazytorch import engine
from lazytorch.engine.pipeline import Scheduled
from lazytorch.ir.node import Node
from lazytorch.ir.show import show_kernel
from lazytorch.ops import leaves
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.plan import CallStep, LaunchStep
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor

# Graphs of more pending values are shown as they were recorded, without planning kernels.
PLANNED_VALUES = 20_000
KEPT = "left out: what it packs is kept and has not changed"


@dataclass(frozen=True)
class Operation:
    """One operation of the graph: value ``number``, made at the user's ``site``."""

    number: int
    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    sources: tuple[int, ...]
    site: str
    detail: str = ""

    def __str__(self) -> str:
        sources = [f"v{source}" for source in self.sources]
        inside = ", ".join([*sources, self.detail] if self.detail else sources)
        return f"v{self.number} = {self.name}({inside}) {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class KernelInfo:
    """One launch, or one call of the host.

    ``operations`` are computed in it, ``reasons`` say why it was cut as it is, ``bytes`` counts
    the arrays it reads and writes once, ``launch`` is (work-groups, work-items in each).
    ``source`` is OpenCL C, or the kernel's own text on devices that compile none. ``kept`` says
    that it would be left out now: what it packs is kept and has not changed.
    """

    name: str
    operations: tuple[Operation, ...]
    reasons: tuple[str, ...]
    bytes: int
    flops: int
    launch: tuple[int, int]
    source: str
    stored: tuple[int, ...] = ()
    device: str = ""
    kept: bool = False

    @property
    def title(self) -> str:
        """The operations in few words: ``exp, sub, sum``."""
        names = list(dict.fromkeys(o.name for o in self.operations if o.kind != "move"))
        names = names or list(dict.fromkeys(o.name for o in self.operations)) or [self.name]
        return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


@dataclass
class Picture:
    """All values by number, and the kernels in launch order."""

    operations: dict[int, Operation] = field(default_factory=dict)
    kernels: list[KernelInfo] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    planned: bool = True
    ready: int = 0


def nodes_of(values: Iterable[Any]) -> list[Node]:
    """The nodes of tensors (or nodes, which the tests give)."""
    result = []
    for value in values:
        if isinstance(value, Node):
            result.append(value)
        elif isinstance(value, Tensor):
            result.append(node_of(value))
        else:
            raise TypeError(
                f"expected tensors of lazytorch, got {type(value).__name__}: pass the tensors "
                "whose pending work is to be shown, as in lazytorch.explain(loss)"
            )
    if not result:
        raise TypeError("expected at least one tensor, as in lazytorch.graph(loss)")
    return result


def picture_of(values: Sequence[Any], plan: bool = True) -> Picture:
    """Operations and kernels behind ``values``."""
    nodes = nodes_of(values)
    picture = Picture(ready=sum(node.buffer is not None for node in nodes))
    by_device: dict[str, list[Node]] = {}
    for node in nodes:
        if node.buffer is None:
            by_device.setdefault(node.device, []).append(node)
    del nodes
    for device, pending in by_device.items():
        if plan and _count(pending, PLANNED_VALUES) <= PLANNED_VALUES:
            scheduled = engine.plan_for(pending)
            _add_scheduled(picture, scheduled, device)
        else:
            picture.planned = False
            _add_recorded(picture, pending)
    return picture


def _count(roots: Sequence[Node], limit: int) -> int:
    """Values below ``roots``, counted up to ``limit``. Holds no node when it returns."""
    seen: set[int] = set()
    stack = list(roots)
    while stack and len(seen) <= limit:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            stack.extend(node.src)
    return len(seen)


def _add_recorded(picture: Picture, roots: Sequence[Node]) -> None:
    """The graph as it was recorded: no kernels, values numbered from the sources on."""
    numbers: dict[int, int] = {}
    sites: dict[Any, str] = {}
    stack: list[Node] = list(roots)[::-1]
    while stack:
        node = stack[-1]
        if id(node) in numbers:
            stack.pop()
            continue
        waiting = [source for source in node.src if id(source) not in numbers]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        stack.pop()
        number = numbers[id(node)] = len(picture.operations)
        if node.site not in sites:
            sites[node.site] = engine.format_site(node.site)
        picture.operations[number] = Operation(
            number, node.op.name, node.op.kind, node.shape, node.dtype.name,
            tuple(numbers[id(source)] for source in node.src), sites[node.site],
        )  # fmt: skip
    picture.outputs += [numbers[id(root)] for root in roots]


def _add_scheduled(picture: Picture, scheduled: Scheduled, device: str) -> None:
    graph = scheduled.graph
    start = len(picture.operations)
    sites: dict[Any, str] = {}
    for number in range(len(graph)):
        site = graph.nodes[number].site
        if site not in sites:
            sites[site] = engine.format_site(site)
        picture.operations[start + number] = _operation(graph, number, start, sites[site])
    picture.outputs += [start + number for number in graph.outputs]
    for position, step in enumerate(scheduled.plan.steps):
        kernel = _kernel(picture, scheduled, step, start, device)
        if position in scheduled.kept:
            kernel = replace(kernel, kept=True, reasons=(*kernel.reasons, KEPT))
        picture.kernels.append(kernel)


def _operation(graph: Graph, number: int, start: int, site: str) -> Operation:
    op, attrs = graph.ops[number], graph.attrs[number]
    detail = ""
    if op is leaves.CONSTANT:
        detail = repr(attrs[0])
    elif op.kind not in ("leaf", "contract"):
        # An attention's attributes begin with the result it names.
        attrs = attrs[:1] if op.kind == "attention" else attrs
        detail = ", ".join(str(getattr(item, "key", getattr(item, "name", item))) for item in attrs)
    return Operation(
        start + number, op.name, op.kind, graph.shapes[number], graph.dtypes[number].name,
        tuple(start + source for source in graph.sources[number]), site, detail,
    )  # fmt: skip


def _kernel(
    picture: Picture, scheduled: Scheduled, step: LaunchStep | CallStep, start: int, device: str
) -> KernelInfo:
    graph = scheduled.graph
    if isinstance(step, CallStep):
        number = start + step.number
        nbytes = graph.nbytes(step.number) + sum(graph.nbytes(n) for n in step.reads)
        return KernelInfo(
            f"host {step.op.name}", (picture.operations[number],), step.notes, nbytes, 0, (1, 1),
            f"{step.op.name}: computed by the host with NumPy", (number,), device,
        )  # fmt: skip
    covered = operations_of(graph, scheduled.stored, step.covers)
    source = scheduled.plan.sources.get(step.name, "")
    if not source and step.kernel is not None:
        source = show_kernel(step.kernel)
    return KernelInfo(
        name=step.name or f"kernel {len(picture.kernels)}",
        operations=tuple(picture.operations[start + number] for number in covered),
        reasons=tuple(dict.fromkeys(step.notes)),
        bytes=step.nbytes,
        flops=step.flops,
        launch=(step.groups, step.local),
        source=source,
        stored=tuple(start + n for n in step.covers),
        device=device,
    )


def operations_of(
    graph: Graph, stored: dict[int, str], covers: Sequence[int]
) -> list[int]:
    """The values computed in a kernel: those it covers, and what is inlined into them."""
    covered = set(covers)
    found = set(covers)
    stack = list(covers)
    while stack:
        for source in graph.sources[stack.pop()]:
            if source in found or graph.ops[source].kind == "leaf":
                continue
            if source in stored and source not in covered:
                continue
            found.add(source)
            stack.append(source)
    return sorted(found)
