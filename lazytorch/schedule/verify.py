"""The grammar of graphs, steps and memory layouts; see ``ir.verify`` for that of kernels.

Runs when the setting VERIFY is on. Memory is checked against lifetimes found here anew, not
with the planner's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazytorch.errors import VerificationError
from lazytorch.ir.kernel import Kernel
from lazytorch.ir.verify import verify_kernel
from lazytorch.ops import elementwise, leaves
from lazytorch.schedule.fuse import HostStep, Step
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.memory import Access, Layout


def verify_graph(graph: Graph) -> None:
    """Sources come before users, and every row is what its operation says it is."""
    for number, op in enumerate(graph.ops):
        row = f"row {number} ({op.name})"
        sources = graph.sources[number]
        if any(not 0 <= source < number for source in sources):
            raise VerificationError(f"{row} reads rows {sources}, which do not come before it")
        if op.arity >= 0 and len(sources) != op.arity:
            raise VerificationError(f"{row} has {len(sources)} sources, not {op.arity}")
        if op.kind == "leaf":
            continue
        _verify_row(graph, number, row)
    for name, numbers, op in (
        ("leaf", graph.leaves, leaves.BUFFER),
        ("scalar", graph.scalars, leaves.SCALAR),
    ):
        for number in numbers:
            if graph.ops[number] is not op:
                raise VerificationError(f"{name} {number} is {graph.ops[number].name}")


def _verify_row(graph: Graph, number: int, row: str) -> None:
    op, sources = graph.ops[number], graph.sources[number]
    shapes = [graph.shapes[source] for source in sources]
    types = [graph.dtypes[source] for source in sources]
    shape, dtype = op.infer(shapes, types, graph.attrs[number])
    if tuple(shape) != graph.shapes[number]:
        raise VerificationError(
            f"{row} has shape {graph.shapes[number]}, and {tuple(shape)} follows from {shapes}"
        )
    if dtype is not graph.dtypes[number]:
        raise VerificationError(
            f"{row} has dtype {graph.dtypes[number]!r}, and {dtype!r} follows from {types}"
        )
    combined = types[1:] if op is elementwise.WHERE else types
    if op.kind == "map" and any(other is not combined[0] for other in combined):
        raise VerificationError(f"{row} combines dtypes {types} without a cast")


def verify_steps(steps: Sequence[Step], graph: Graph) -> None:
    """Every kernel obeys its grammar, and reads only what was stored before it."""
    sizes = {number: graph.size(number) for number in range(len(graph))}
    ready = set(graph.leaves)
    for step in steps:
        known = ready
        if isinstance(step, HostStep):
            # The host has the numbers that kernels get as arguments.
            known, reads = ready.union(graph.scalars), step.reads
        else:
            reads = tuple(step.reads())
        missing = [number for number in reads if number not in known]
        if missing:
            raise VerificationError(f"values {missing} are read before they are stored")
        if isinstance(step, Kernel):
            verify_kernel(step, sizes)
            ready.update(step.writes())
        else:
            ready.add(step.number)
    lost = [number for number in graph.outputs if number not in ready]
    if lost:
        raise VerificationError(f"outputs {lost} are never stored")


def verify_layout(
    steps: Sequence[Access],
    nbytes: Mapping[int, int],
    graph: Graph,
    layout: Layout,
) -> None:
    """Values that live at the same time share no memory; donated leaves are not read again."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, step in enumerate(steps):
        for number in step.reads:
            if number not in first and number not in graph.leaves:
                raise VerificationError(f"step {time} reads value {number} before it is written")
            last[number] = time
        for number in step.writes:
            first.setdefault(number, time)
            last[number] = time
    for number in last:
        place = layout.places.get(number)
        if place is None:
            raise VerificationError(f"value {number} has no place in memory")
        if place.nbytes != nbytes[number]:
            raise VerificationError(
                f"value {number} of {nbytes[number]} bytes has a place of {place.nbytes}"
            )
    _verify_arena(steps, first, last, layout)
    _verify_donors(steps, graph, layout, first, last)


def _verify_arena(
    steps: Sequence[Access], first: Mapping[int, int], last: Mapping[int, int], layout: Layout
) -> None:
    begins: list[list[int]] = [[] for _ in steps]
    for number, time in first.items():
        if layout.places[number].kind == "arena":
            begins[time].append(number)
    live: list[int] = []
    for time, step in enumerate(steps):
        live = [number for number in live if last[number] >= time]
        # A value may be written over one that is read for the last time, and only there.
        written = {
            source
            for number in begins[time]
            for source in step.replaceable.get(number, ())
            if last[source] == time and layout.places[source] == layout.places[number]
        }
        live = [number for number in live if number not in written] + begins[time]
        blocks = sorted((layout.places[number].position, number) for number in live)
        end, owner = 0, -1
        for position, number in blocks:
            nbytes = layout.places[number].nbytes
            if nbytes and position < end:
                raise VerificationError(
                    f"values {owner} and {number} share arena memory at step {time}"
                )
            if nbytes:
                end, owner = position + nbytes, number
        if end > layout.arena_bytes:
            raise VerificationError(f"value {owner} ends at {end} of {layout.arena_bytes} bytes")


def _verify_donors(
    steps: Sequence[Access],
    graph: Graph,
    layout: Layout,
    first: Mapping[int, int],
    last: Mapping[int, int],
) -> None:
    if len(set(layout.donors.values())) != len(layout.donors):
        raise VerificationError("a leaf gives its memory to two outputs")
    for output, position in layout.donors.items():
        number, leaf = graph.outputs[output], graph.leaves[position]
        time = first[number]
        read = last.get(leaf, -1)
        replaced = leaf in steps[time].replaceable.get(number, ())
        if read > time or (read == time and not replaced):
            raise VerificationError(
                f"output {number} takes the memory of leaf {leaf} at step {time}, "
                f"which is read until step {read}"
            )
        if any(step.may_fail for step in steps[time:]):
            raise VerificationError(
                f"output {number} takes the memory of leaf {leaf} at step {time}, before a step "
                "that may fail"
            )
        if leaf in graph.outputs:
            raise VerificationError(f"leaf {leaf} is an output and gives its memory away")
