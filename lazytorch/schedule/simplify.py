"""Rewrites of the numbered graph before it is cut into kernels.

``insertions`` makes sums of disjoint pieces concatenations, what has no elements is made constant,
``split_reductions`` gives a reduction to few results enough parallel work, and
``split_concatenations`` keeps a kernel's arguments few. Each appends rows and renumbers, so the
order "sources before users" holds afterwards.
"""

from __future__ import annotations

from lazytorch.ir.definition import OpDef
from lazytorch.ops import leaves, movement
from lazytorch.schedule import choices
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.insertions import join_insertions

# What has no elements is computed from nothing: its empty loops would have to fit those of others.
_OF_NO_ELEMENTS = frozenset(
    ("map", "move", "gather", "scatter", "scan", "random", "reduce", "contract")
)


def simplify(graph: Graph) -> Graph:
    """The rewritten graph; outputs, leaves and scalars keep their order."""
    graph = join_insertions(graph)
    made = Graph(leaves=[], scalars=[], outputs=[])
    grouped = _row_groups(graph)
    place: list[int] = []
    for number, op in enumerate(graph.ops):
        sources = tuple(place[source] for source in graph.sources[number])
        if op.kind in _OF_NO_ELEMENTS and graph.size(number) == 0:
            place.append(_empty(graph, made, number))
        elif op.kind == "reduce":
            place.append(_reduction(graph, made, number, sources, number in grouped))
        elif op is movement.CONCATENATE and len(sources) > choices.MAX_CONCATENATED:
            place.append(_concatenation(graph, made, number, sources))
        else:
            place.append(_copy(graph, made, number, sources))
    made.leaves = [place[number] for number in graph.leaves]
    made.scalars = [place[number] for number in graph.scalars]
    made.outputs = [place[number] for number in graph.outputs]
    return made


def _empty(graph: Graph, made: Graph, number: int) -> int:
    shape, dtype, node = graph.shapes[number], graph.dtypes[number], graph.nodes[number]
    zero = made.add(leaves.CONSTANT, (), (0,), (), dtype, node)
    return made.add(movement.EXPAND, (zero,), (shape,), shape, dtype, node)


def _copy(graph: Graph, made: Graph, number: int, sources: tuple[int, ...]) -> int:
    return made.add(
        graph.ops[number], sources, graph.attrs[number], graph.shapes[number],
        graph.dtypes[number], graph.nodes[number],
    )  # fmt: skip


def _row_groups(graph: Graph) -> set[int]:
    """Reductions whose result meets the reduced elements again, as in softmax and norms: in one
    piece they are a row group with what follows."""
    # The size that the reductions among a value's sources went over, as seen through maps.
    reduced: list[tuple[tuple[int, int], ...]] = []
    found: set[int] = set()
    for number, op in enumerate(graph.ops):
        sources = graph.sources[number]
        if op.kind == "reduce":
            reduced.append(((number, graph.size(sources[0])),))
            continue
        pending: tuple[tuple[int, int], ...] = ()
        if op.kind in ("map", "move"):
            pending = tuple(dict.fromkeys(p for s in sources for p in reduced[s]))[:8]
            size = graph.size(number)
            found.update(origin for origin, wanted in pending if size >= wanted)
            pending = tuple(p for p in pending if size < p[1])
        reduced.append(pending)
    return found


def _reduction(
    graph: Graph, made: Graph, number: int, sources: tuple[int, ...], grouped: bool
) -> int:
    (source,) = sources
    shape = made.shapes[source]
    axes = graph.attrs[number][0]
    rows = graph.size(number)
    parts = _parts(shape, axes, rows, grouped)
    if parts is None:
        return _copy(graph, made, number, sources)
    axis, count = parts
    node, op, dtype = graph.nodes[number], graph.ops[number], graph.dtypes[number]
    cut = (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])
    reshaped = made.add(movement.RESHAPE, (source,), (cut,), cut, dtype, node)
    inner = tuple(a if a < axis else a + 1 for a in axes)
    partial = _add_reduce(made, op, reshaped, inner, number, graph)
    # The parts are the one axis of the partial result that is not a row axis.
    position = sum(1 for a in range(axis) if a not in axes)
    made.reasons[partial] = "reduction cut in two: few results from many elements"
    return _add_reduce(made, op, partial, (position,), number, graph)


def _add_reduce(
    made: Graph, op: OpDef, source: int, axes: tuple[int, ...], number: int, graph: Graph
) -> int:
    shape = tuple(e for a, e in enumerate(made.shapes[source]) if a not in axes)
    return made.add(op, (source,), (axes,), shape, graph.dtypes[number], graph.nodes[number])


def _parts(
    shape: tuple[int, ...], axes: tuple[int, ...], rows: int, grouped: bool
) -> tuple[int, int] | None:
    """(axis to cut, number of parts), or ``None`` when the reduction is fine as it is."""
    work = 1
    for axis in axes:
        work *= shape[axis]
    row_length = shape[-1] if (len(shape) - 1) not in axes else 1
    # Column sums vectorize over the rows' innermost axis, so those rows count as few.
    large = work * rows >= choices.PANEL_ELEMENTS and not grouped
    panel = choices.PANEL_COLUMNS if large else choices.SMALL_PANEL_COLUMNS
    parallel = max(rows // max(row_length, 1), 1) * max(row_length // panel, 1)
    enough = choices.MIN_GROUP_ROWS if grouped else choices.SPLIT_ROWS
    if work * rows < choices.SPLIT_ELEMENTS or parallel >= enough or work < 512:
        return None
    axis = max(axes, key=lambda a: (shape[a] >= choices.SPLIT_PARTS, -a))
    wanted = max(2, min(choices.SPLIT_PARTS, choices.SPLIT_ROWS // parallel))
    extent = shape[axis]
    for count in (wanted, *range(wanted + 1, 2 * wanted + 1), *range(wanted - 1, 1, -1)):
        if extent % count == 0 and extent // count > 1:
            return axis, count
    return None


def _concatenation(graph: Graph, made: Graph, number: int, sources: tuple[int, ...]) -> int:
    """Join in a tree of bounded width; each inner join is kept in memory."""
    (axis,) = graph.attrs[number]
    node, dtype = graph.nodes[number], graph.dtypes[number]
    level = list(sources)
    while len(level) > 1:
        joined = []
        for start in range(0, len(level), choices.MAX_CONCATENATED):
            chunk = tuple(level[start : start + choices.MAX_CONCATENATED])
            if len(chunk) == 1:
                joined.append(chunk[0])
                continue
            shape = list(made.shapes[chunk[0]])
            shape[axis] = sum(made.shapes[source][axis] for source in chunk)
            part = made.add(movement.CONCATENATE, chunk, (axis,), tuple(shape), dtype, node)
            made.reasons[part] = "wall: a concatenation of many sources is made in parts"
            joined.append(part)
        level = joined
    return level[0]
