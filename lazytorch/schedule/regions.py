"""Which values are stored, and how the others are computed where they are needed.

``choose_stored`` decides, for each value, between a buffer of its own and being inlined into
its readers (rule 1, *inline*). :class:`Puller` then writes an element of any value as a scalar
expression over loop axes, following moves as index maps until it meets stored values.
"""

from __future__ import annotations

from lazytorch import dtypes
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression, Guard
from lazytorch.ir.index import Index, flatten, loaded, of_int
from lazytorch.ops import leaves, movement
from lazytorch.schedule import choices
from lazytorch.schedule.attention import computed_in_place, joined_results, values_to_store
from lazytorch.schedule.frontiers import store_frontiers
from lazytorch.schedule.graph import Graph

# Kinds that are computed wherever they are needed.
INLINE_KINDS = frozenset(("map", "move", "random", "gather"))


def choose_stored(graph: Graph, fusion: bool) -> dict[int, str]:
    """The numbers of the values that get a buffer, each with the reason."""
    stored: dict[int, str] = {}
    outputs = set(graph.outputs)
    for number, op in enumerate(graph.ops):
        if op.kind == "leaf":
            if number in outputs:
                stored[number] = "output"
            continue
        if number in outputs:
            stored[number] = "output"
        elif op.kind not in INLINE_KINDS:
            stored[number] = f"{op.kind} makes a value of its own"
        elif not fusion:
            stored[number] = "LAZYTORCH_FUSION=0"
        elif number in graph.reasons:
            stored[number] = graph.reasons[number]
        _store_what_must_be_read_in_memory(graph, number, stored)
    if any(dtype.kind == "c" for dtype in graph.dtypes):
        _store_what_complex_numbers_feed(graph, stored)
    if fusion:
        for joined in joined_results(graph, stored):
            stored.setdefault(joined.target, "the parts of an attention's result lie in it")
        _cap_regions(graph, stored)
        _store_shared(graph, stored)
        store_frontiers(graph, stored)
        _cap_regions(graph, stored)
    return stored


def _store_what_must_be_read_in_memory(graph: Graph, number: int, stored: dict[int, str]) -> None:
    op = graph.ops[number]
    sources = graph.sources[number]
    if op.kind == "gather":
        # An array in another shape is the same array.
        data = sources[0]
        while graph.ops[data] is movement.RESHAPE:
            data = graph.sources[data][0]
        # The one element of a number is the same at every position.
        if graph.ops[data] not in (leaves.BUFFER, leaves.SCALAR):
            stored.setdefault(data, "gather reads it at computed positions")
    elif op.kind in ("host", "copy", "recurrent"):
        for source in sources:
            if graph.ops[source] is not leaves.BUFFER:
                stored.setdefault(source, f"{op.kind} reads it from memory")
    elif op.kind == "attention":
        for source in values_to_store(graph, number):
            stored.setdefault(source, "attention reads it many times")
    elif op.kind == "contract":
        for source, index in zip(sources, graph.attrs[number][2:]):
            if not any(len(terms) > 1 for terms in index):
                continue
            # Where a window is staged each element is read once: padding costs nothing there.
            # Other moves under it may make its positions irregular, and are stored.
            while graph.ops[source] is movement.PAD:
                source = graph.sources[source][0]
            if graph.ops[source] is movement.RESHAPE:
                # Channels in groups: an array in another shape is the same array.
                source = graph.sources[source][0]
            if graph.ops[source] is not leaves.BUFFER:
                stored.setdefault(source, "windows of a convolution read it many times")


def _store_what_complex_numbers_feed(graph: Graph, stored: dict[int, str]) -> None:
    """Products read their operands in vectors, which complex numbers do not come in."""
    mixed: set[int] = set()
    for number, op in enumerate(graph.ops):
        sources = graph.sources[number]
        if op.kind in ("contract", "attention", "recurrent"):
            for source in mixed.intersection(sources):
                stored.setdefault(source, "a product takes no complex numbers apart")
            continue
        inherits = op.kind in INLINE_KINDS and number not in stored
        if graph.dtypes[number].kind == "c" or (inherits and mixed.intersection(sources)):
            mixed.add(number)


def _cap_regions(graph: Graph, stored: dict[int, str]) -> None:
    """Store values where an inlined region would exceed a kernel's caps (rule 5, *wall*)."""
    operations: dict[int, int] = {}
    arrays: dict[int, int] = {}
    depth: dict[int, int] = {}
    for number, op in enumerate(graph.ops):
        own = 1 << number
        if op.kind == "leaf":
            operations[number], depth[number] = 0, 0
            arrays[number] = own if op in (leaves.BUFFER, leaves.SCALAR) else 0
            continue
        inside, loads, deep = _region(graph, number, operations, arrays, depth)
        while (
            inside.bit_count() > choices.MAX_OPERATIONS
            or loads.bit_count() > choices.MAX_LOADS
            or deep > choices.MAX_DEPTH
        ):
            heaviest = max(
                graph.sources[number],
                key=lambda source: (operations[source].bit_count(), arrays[source].bit_count()),
            )
            if operations[heaviest] == 0:
                break
            stored[heaviest] = "wall: the kernel would exceed its size caps"
            operations[heaviest], arrays[heaviest], depth[heaviest] = 0, 1 << heaviest, 0
            inside, loads, deep = _region(graph, number, operations, arrays, depth)
        if number in stored:
            operations[number], arrays[number], depth[number] = 0, own, 0
        else:
            operations[number], arrays[number], depth[number] = inside, loads, deep


def _region(
    graph: Graph,
    number: int,
    operations: dict[int, int],
    arrays: dict[int, int],
    depth: dict[int, int],
) -> tuple[int, int, int]:
    inside, loads, deep = 1 << number, 0, 0
    for source in graph.sources[number]:
        inside |= operations[source]
        loads |= arrays[source]
        deep = max(deep, depth[source])
    return inside, loads, deep + 1


def _store_shared(graph: Graph, stored: dict[int, str]) -> None:
    """Store what several kernels would compute again at a loss, and what rows would repeat."""
    readers: list[set[int]] = [set() for _ in graph.ops]
    # The largest iteration space in which the value would be computed.
    space = [0] * len(graph)
    in_place: set[int] = set()
    shared: list[int] = []
    for number in range(len(graph) - 1, -1, -1):
        op = graph.ops[number]
        if op.kind == "leaf":
            continue
        own = graph.size(number)
        if op.kind == "attention":
            in_place.update(computed_in_place(graph, number))
        if number not in stored and number not in in_place and op.kind == "map":
            reason = _why_stored(graph, number, stored, readers[number], space[number])
            if reason:
                stored[number] = reason
                if space[number] < choices.EXPANSION * max(own, 1):
                    shared.append(number)
        if number in stored:
            inlined_into, inlined_space = {number}, own
            if op.kind in ("reduce", "scan"):
                inlined_space = graph.size(graph.sources[number][0])
            elif op.kind in ("contract", "attention"):
                inlined_space = 0
        else:
            inlined_into, inlined_space = readers[number], max(own, space[number])
        for source in graph.sources[number]:
            if len(readers[source]) < 8:
                readers[source] |= inlined_into
            space[source] = max(space[source], inlined_space)
    # What was dear when it was looked at may be next to stored values now: 1 + tanh(x), or a
    # normalized x whose rows' statistics are stored.
    for number in shared:
        cost, arrays = _inline_cost(graph, number, stored)
        whole = graph.size(number) // choices.EXPANSION
        large = [source for source in arrays if graph.size(source) > whole]
        if len(large) == 1 and cost <= (1 if len(arrays) == 1 else choices.NORMALIZE_COST):
            del stored[number]


def _why_stored(
    graph: Graph, number: int, stored: dict[int, str], readers: set[int], space: int
) -> str | None:
    cost, arrays = _inline_cost(graph, number, stored)
    if cost >= 4 and space >= choices.EXPANSION * max(graph.size(number), 1):
        return "its readers would repeat it along their axes"
    if len(readers) > 1 and (cost > choices.RECOMPUTE_COST or len(arrays) > 3):
        return f"{len(readers)} readers, and storing it costs less than computing it again"
    return None


def _inline_cost(graph: Graph, number: int, stored: dict[int, str]) -> tuple[int, set[int]]:
    """(arithmetic, values read) of computing one element from stored values."""
    cost = 0
    arrays: set[int] = set()
    seen = {number}
    stack = [number]
    while stack and cost < 1000:
        current = stack.pop()
        cost += graph.ops[current].cost if graph.ops[current].kind != "move" else 0
        for source in graph.sources[current]:
            if source in seen:
                continue
            seen.add(source)
            if source in stored or graph.ops[source] is leaves.BUFFER:
                arrays.add(source)
            elif graph.ops[source].kind != "leaf":
                stack.append(source)
    return cost, arrays


class Puller:
    """Writes elements of values as expressions over loop axes."""

    def __init__(self, graph: Graph, stored: dict[int, str]) -> None:
        self.graph = graph
        self.stored = stored
        self.memo: dict[tuple[int, tuple[Index, ...], Guard], Expression] = {}

    def element(self, number: int, index: tuple[Index, ...], guard: Guard = ()) -> Expression:
        """The element of value ``number`` at ``index``; loads are guarded by ``guard``."""
        if self.graph.size(number) == 0:
            # It has no element, no kernel writes it, and no read of it is ever carried out.
            return ex.constant(0, self.graph.dtypes[number])
        if number in self.stored or self.graph.ops[number] is leaves.BUFFER:
            flat = flatten(index, self.graph.shapes[number])
            return ex.load(number, flat, guard, self.graph.dtypes[number])
        return self.computed(number, index, guard)

    def computed(self, number: int, index: tuple[Index, ...], guard: Guard = ()) -> Expression:
        """The same, computed even if the value is stored elsewhere."""
        key = (number, index, guard)
        known = self.memo.get(key)
        if known is None:
            known = self.memo[key] = self._computed(number, index, guard)
        return known

    def _computed(self, number: int, index: tuple[Index, ...], guard: Guard) -> Expression:
        graph = self.graph
        op, attrs, dtype = graph.ops[number], graph.attrs[number], graph.dtypes[number]
        sources = graph.sources[number]
        if op.kind == "map":
            operands = tuple(
                self.element(s, movement.broadcast_index(index, graph.shapes[s]), guard)
                for s in sources
            )
            return ex.apply(op, attrs, operands, dtype)
        if op.kind == "move":
            return self._moved(number, index, guard)
        if op is leaves.CONSTANT:
            return ex.constant(attrs[0], dtype)
        if op is leaves.SCALAR:
            return ex.argument(number, dtype)
        if op is leaves.IOTA:
            return ex.position(index[0], dtype)
        if op.kind == "random":
            seed, offset = (self.element(source, ()) for source in sources)
            return ex.random_bits(seed, offset, flatten(index, graph.shapes[number]), dtype)
        if op.kind == "gather":
            return self._gathered(number, index, guard)
        raise TypeError(f"{op!r} is not computed element by element")

    def _moved(self, number: int, index: tuple[Index, ...], guard: Guard) -> Expression:
        graph = self.graph
        sources = graph.sources[number]
        shapes = [graph.shapes[source] for source in sources]
        route = graph.ops[number].route
        assert route is not None
        routes = route(graph.attrs[number], graph.shapes[number], shapes, index)
        pieces: list[tuple[Guard, Expression]] = []
        for step in routes:
            conditions = ex.simplify_guard(step.conditions)
            if conditions is None:
                continue
            inner = ex.simplify_guard((*guard, *conditions)) or ()
            pieces.append((conditions, self.element(sources[step.source], step.index, inner)))
            if not conditions:
                break
        value = pieces[-1][1]
        for conditions, piece in reversed(pieces[:-1]):
            value = ex.choose(conditions, piece, value)
        return value

    def _gathered(self, number: int, index: tuple[Index, ...], guard: Guard) -> Expression:
        graph = self.graph
        data, positions = graph.sources[number]
        (axis,) = graph.attrs[number]
        where = movement.broadcast_index(index, graph.shapes[positions])
        picked = self.element(positions, where, guard)
        inner = list(index)
        inner[axis] = position_index(picked, graph.shapes[data][axis])
        for dimension, extent in enumerate(graph.shapes[data]):
            if dimension != axis and extent == 1:
                inner[dimension] = of_int(0)
        return self.element(data, tuple(inner), guard)


def position_index(picked: Expression, extent: int) -> Index:
    """A computed position, known to lie inside an axis of ``extent``, as an index."""
    if picked.kind == ex.CONSTANT:
        return of_int(int(picked.data))
    if picked.kind == ex.POSITION and picked.dtype in (dtypes.int64, dtypes.int32):
        index: Index = picked.data
        return index
    return loaded(picked, 0, max(extent - 1, 0))
