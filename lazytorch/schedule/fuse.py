"""Which loop nests share a launch: rules 2 to 5 of the five fusion rules.

1. *inline* (in ``regions``): maps and moves join their readers.
2. *epilogue*: maps over the results of a reduction or contraction join it.
3. *row group*: reductions over the same rows, and the maps between them, become one nest.
4. *side by side*: independent nests of one index space that share reads become one nest with
   several outputs; small independent elementwise nests share a launch.
5. *wall*: host calls, copies, conflicting index maps, caps.

Each boundary that stays has its reason in the step's notes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RowBody,
    Stage,
    Store,
    extent,
)
from lazytorch.schedule import align, choices
from lazytorch.schedule.attention import Joined, families, joined_results
from lazytorch.schedule.bodies import attention_body, body_of
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.order import Item, in_order
from lazytorch.schedule.regions import Puller

HOST_KINDS = frozenset(("host", "copy"))
# Of a pointer or of the largest scalar.
ARGUMENT_BYTES = 8


@dataclass(frozen=True)
class HostStep:
    """A value made by the host: a Python function, or a copy between devices."""

    number: int
    reads: tuple[int, ...]
    notes: tuple[str, ...] = ()


Step = Kernel | HostStep


@dataclass(eq=False)
class Group:
    """A nest on its way into a launch."""

    order: int
    body: Body | None
    covers: list[int]
    reads: set[int]
    writes: set[int]
    notes: list[str] = field(default_factory=list)
    # Groups that were not joined with this one, and why. A joined group is a new object, so an
    # answer stays true as long as its group is the one in use.
    refusals: dict[int, tuple[Group, str]] = field(default_factory=dict)
    strangers: set[Group] = field(default_factory=set)


class Fuser:
    """Merges the nests of one graph; holds who reads and writes which value.

    ``argument_bytes`` is what the device takes as arguments of one launch; at least 1024 in the
    full profile of OpenCL.
    """

    def __init__(self, graph: Graph, stored: dict[int, str], argument_bytes: int = 1024) -> None:
        self.graph = graph
        self.argument_bytes = argument_bytes
        self.stored = stored
        self.outputs = set(graph.outputs)
        self.groups: dict[int, Group] = {}
        self.producer: dict[int, int] = {}
        puller = Puller(graph, stored)
        attentions = families(graph, tuple(stored))
        joins = [join for join in joined_results(graph, stored) if join.target in stored]
        joined = {join.target for join in joins}
        for number, reason in stored.items():
            if number in joined:
                continue
            if graph.ops[number].kind != "attention":
                self._add(number, reason, puller)
            elif number in attentions:
                rows = attentions[number]
                into = [join for join in joins if not join.paths.keys().isdisjoint(rows)]
                self._add_attention(rows, reason, puller, into)
        self.readers: dict[int, set[int]] = {}
        for key, group in self.groups.items():
            for number in group.reads:
                self.readers.setdefault(number, set()).add(key)
        for group in self.groups.values():
            if isinstance(group.body, AttentionBody):
                self._drop_unread(group)

    def _add(self, number: int, reason: str, puller: Puller) -> None:
        graph = self.graph
        kind = graph.ops[number].kind
        if kind in HOST_KINDS:
            body: Body | None = None
            reads = set(graph.sources[number])
        elif kind == "leaf" and graph.ops[number].name in ("buffer", "scalar"):
            return
        else:
            body = body_of(graph, number, puller)
            reads = reads_of(body)
        self.groups[number] = Group(number, body, [number], reads, {number}, [reason])
        self.producer[number] = number

    def _add_attention(
        self, numbers: list[int], reason: str, puller: Puller, joins: list[Joined]
    ) -> None:
        body = attention_body(self.graph, numbers, puller, joins)
        first = numbers[0]
        targets = [join.target for join in joins]
        reasons = [reason, *(self.stored[target] for target in targets)]
        writes = {*numbers, *targets}
        self.groups[first] = Group(
            first, body, sorted(writes), reads_of(body), writes, list(dict.fromkeys(reasons))
        )  # fmt: skip
        self.producer.update(dict.fromkeys(writes, first))

    def _drop_unread(self, group: Group) -> None:
        """Leave out the stores of values that nobody reads."""
        assert group.body is not None
        needed = {
            number for number in group.writes if number in self.outputs or self.readers.get(number)
        }
        group.body = keep_stores(group.body, needed)
        group.writes = {store.target for store in group.body.stores()}
        group.reads = reads_of(group.body)

    # Dependencies -----------------------------------------------------------------------------

    def consumers(self, key: int) -> set[int]:
        found: set[int] = set()
        for number in self.groups[key].writes:
            found |= self.readers.get(number, set())
        found.discard(key)
        return found

    def producers(self, key: int) -> set[int]:
        found = {self.producer[n] for n in self.groups[key].reads if n in self.producer}
        found.discard(key)
        return found

    def reaches(self, start: int, goal: int, skip_direct: bool) -> bool:
        """Whether a path of dependencies leads from one group to another."""
        stack = [key for key in self.consumers(start) if not (skip_direct and key == goal)]
        seen = set(stack)
        while stack:
            key = stack.pop()
            if key == goal:
                return True
            for following in self.consumers(key):
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
        return False

    # Merging ----------------------------------------------------------------------------------

    def run(self, merge: bool = True) -> list[Step]:
        """Merge until nothing more fits; the steps in an order that respects dependencies."""
        changed = merge
        while changed:
            changed = False
            for key in sorted(self.groups):
                if key in self.groups and self._merge_with_producers(key):
                    changed = True
            if not changed:
                changed = self._merge_neighbours()
        return self._steps()

    def _merge_with_producers(self, key: int) -> bool:
        for producer in sorted(self.producers(key), reverse=True):
            if producer not in self.groups or key not in self.groups:
                continue
            first, second = self.groups[producer], self.groups[key]
            known = second.refusals.get(producer)
            if known is not None and known[0] is first:
                continue
            merged = self._merged(first, second)
            if not isinstance(merged, str) and self.reaches(producer, key, skip_direct=True):
                merged = "another kernel must run between them"
            if isinstance(merged, str):
                second.refusals[producer] = (first, merged)
                continue
            self._replace(producer, key, merged)
            return True
        return False

    def _merged(self, producer: Group, consumer: Group) -> Body | str:
        """The joined nest, or why there is none."""
        first, second = producer.body, consumer.body
        if first is None or second is None:
            return "wall: the host takes part"
        if not isinstance(second, RowBody):
            return "its operands are read many times, so they are stored"
        if not isinstance(first, RowBody) and _has_complex(second):
            return "complex numbers do not come in the vectors of a product"
        if isinstance(first, ContractBody):
            merged = merge_epilogue(first, second, producer.writes & consumer.reads)
        elif isinstance(first, AttentionBody):
            merged = merge_attention(first, second, producer.writes & consumer.reads)
        elif isinstance(first, RowBody):
            merged = merge_rows(first, second, producer.writes & consumer.reads)
        else:
            return "the producer makes whole rows"
        if isinstance(merged, str):
            return merged
        return _over_caps(merged) or merged

    def _replace(self, producer: int, key: int, body: Body) -> None:
        """Put a joined group in the place of two and drop stores that nobody reads any more."""
        first, second = self.groups.pop(producer), self.groups.pop(key)
        joined = Group(
            max(first.order, second.order), body, sorted(first.covers + second.covers),
            set(), first.writes | second.writes, first.notes + second.notes,
        )  # fmt: skip
        for number in first.reads | second.reads:
            self.readers.get(number, set()).difference_update((producer, key))
        self._drop_unread(joined)
        self.groups[key] = joined
        for number in joined.writes:
            self.producer[number] = key
        for number in joined.reads:
            self.readers.setdefault(number, set()).add(key)

    def _merge_neighbours(self) -> bool:
        """Rule 4: join independent nests over one index space that read the same array."""
        by_space: dict[object, list[int]] = {}
        for key in sorted(self.groups):
            body = self.groups[key].body
            if isinstance(body, RowBody):
                by_space.setdefault(_space(body), []).append(key)
        for keys in by_space.values():
            for position, first in enumerate(keys):
                for second in keys[position + 1 : position + 9]:
                    if self._merge_pair(first, second):
                        return True
        return False

    def _merge_pair(self, first: int, second: int) -> bool:
        one, two = self.groups[first], self.groups[second]
        if one in two.strangers or not one.reads & two.reads:
            return False
        merged = merge_side_by_side(one.body, two.body)  # type: ignore[arg-type]
        if (
            merged is None
            or _over_caps(merged)
            or self.reaches(first, second, skip_direct=False)
            or self.reaches(second, first, skip_direct=False)
        ):
            two.strangers.add(one)
            return False
        self._replace(first, second, merged)
        return True

    # Steps ------------------------------------------------------------------------------------

    def _ordered(self) -> list[int]:
        items = {
            key: Item(group.order, frozenset(group.reads), frozenset(group.writes))
            for key, group in self.groups.items()
        }
        return in_order(items, self.graph)

    def _steps(self) -> list[Step]:
        order = self._ordered()
        late: list[int] = []
        early: list[int] = []
        for key in order:
            (late if self._may_wait(key) else early).append(key)
        steps: list[Step] = [self._step([key]) for key in early]
        for batch in self._batches(late):
            steps.append(self._step(batch))
        return steps

    def _batches(self, late: list[int]) -> list[list[int]]:
        """Nests that share a launch, within the caps on bodies and arguments."""
        batches: list[list[int]] = []
        arrays: set[int] = set()
        scalars: set[int] = set()
        for key in late:
            group = self.groups[key]
            assert group.body is not None
            own = group.reads | group.writes
            own_scalars = {
                value.data
                for value in ex.walk(group.body.expressions())
                if value.kind == ex.ARGUMENT
            }
            count = len(arrays | own)
            full = (
                count > choices.MAX_ARGUMENTS
                or ARGUMENT_BYTES * (count + len(scalars | own_scalars)) > self.argument_bytes
            )
            if not batches or full or len(batches[-1]) >= choices.MAX_BODIES:
                batches.append([])
                arrays, scalars = set(), set()
            batches[-1].append(key)
            arrays |= own
            scalars |= own_scalars
        return batches

    def _may_wait(self, key: int) -> bool:
        """Small elementwise nests that nothing else in the graph reads run last, together.

        Not random starts of parameters: alone, those of one shape are one piece of code, and long
        code is what a driver compiles slowly.
        """
        body = self.groups[key].body
        return (
            isinstance(body, RowBody)
            and body.is_map
            and not any(e.kind == ex.RANDOM for e in ex.walk(body.expressions()))
            and extent(body.rows) <= choices.SIDE_BY_SIDE_ELEMENTS
            and not self.consumers(key)
        )

    def _step(self, keys: list[int]) -> Step:
        groups = [self.groups[key] for key in keys]
        notes = tuple(note for group in groups for note in (*group.notes, *_refused(group)))
        if groups[0].body is None:
            number = groups[0].covers[0]
            return HostStep(number, self.graph.sources[number], notes)
        covers = tuple(sorted(number for group in groups for number in group.covers))
        bodies = tuple(group.body for group in groups if group.body is not None)
        values = {
            number: self.graph.dtypes[number]
            for group in groups
            for number in group.reads | group.writes
        }
        for body in bodies:
            for expression in ex.walk(body.expressions()):
                if expression.kind == ex.ARGUMENT:
                    values[expression.data] = expression.dtype
        return Kernel(bodies, values, covers, notes)


def _refused(group: Group) -> Iterable[str]:
    for producer, (_, reason) in group.refusals.items():
        yield f"not joined with the kernel of value {producer}: {reason}"


def reads_of(body: Body) -> set[int]:
    """Numbers of the arrays a nest loads."""
    return {load.data[0] for load in ex.loads_of(body.expressions())}


def keep_stores(body: Body, needed: set[int]) -> Body:
    """The nest without the stores of values outside ``needed``."""
    if isinstance(body, ContractBody):
        kept = tuple(store for store in body.epilogue if store.target in needed)
        return replace(body, epilogue=kept)
    if isinstance(body, AttentionBody):
        return _keep_results(body, needed)
    if isinstance(body, RowBody):
        kept_stages = tuple(
            stage for stage in body.stages if not isinstance(stage, Store) or stage.target in needed
        )
        return RowBody(body.rows, kept_stages)
    return body


def _keep_results(body: AttentionBody, needed: set[int]) -> AttentionBody:
    results = []
    for result in body.results:
        kept = tuple(store for store in result.epilogue if store.target in needed)
        if kept:
            results.append(replace(result, epilogue=kept))
    return replace(body, results=tuple(results))


def _has_complex(body: Body) -> bool:
    return any(e.dtype.kind == "c" for e in ex.walk(body.expressions()))


def _over_caps(body: Body) -> str | None:
    operations = loads = 0
    arrays: set[int] = set()
    for expression in ex.walk(body.expressions()):
        operations += expression.kind == ex.APPLY
        if expression.kind == ex.LOAD:
            loads += 1
            arrays.add(expression.data[0])
    if operations > choices.MAX_OPERATIONS:
        return f"wall: {operations} operations in one kernel"
    if len(arrays) > choices.MAX_LOADS or loads > 4 * choices.MAX_LOADS:
        return f"wall: {len(arrays)} arrays in one kernel"
    if len(body.stores()) > choices.MAX_STORES:
        return f"wall: {len(body.stores())} outputs of one nest"
    return None


def merge_epilogue(first: ContractBody, second: RowBody, shared: set[int]) -> Body | str:
    """Rule 2 for contractions: an elementwise reader of the whole result joins its store."""
    axes = (*first.batch, *first.rows, *first.columns)
    stores = _joined_epilogue(axes, first.epilogue, second, shared)
    return stores if isinstance(stores, str) else replace(first, epilogue=stores)


def merge_attention(first: AttentionBody, second: RowBody, shared: set[int]) -> Body | str:
    """The same for one of an attention's results."""
    read = [r for r in first.results if any(store.target in shared for store in r.epilogue)]
    if len(read) != 1:
        return "it reads several results of the attention"
    (result,) = read
    stores = _joined_epilogue(result.axes, result.epilogue, second, shared)
    if isinstance(stores, str):
        return stores
    made = tuple(
        replace(other, epilogue=stores) if other is result else other for other in first.results
    )
    return replace(first, results=made)


# Over split rows the conditions of a body are simpler: they may turn out always or never true.
_READS_FALL_AWAY = "with its rows split it reads nothing of the result"


def _joined_epilogue(
    axes: tuple[Axis, ...], epilogue: tuple[Store, ...], second: RowBody, shared: set[int]
) -> tuple[Store, ...] | str:
    """The stores of a result and of its elementwise reader, or why they do not join."""
    if not second.is_map:
        return "a reduction reads the contraction's result"
    second = align.split_rows(second, _loads_of(second, shared))
    loads = _loads_of(second, shared)
    if not loads:
        return _READS_FALL_AWAY
    store = next(s for s in epilogue if s.target == loads[0].data[0])
    found = align.correspond(store.index, axes, loads[0].data[1])
    if found is None:
        return "it reads the contraction's result in another order"
    covered = set(found.image(axes))
    if any(axis not in covered for axis in second.rows if axis.size > 1):
        return "it repeats the contraction's result"
    inverse = found.inverse()
    stages = tuple(align.substitute_stage(stage, inverse, {}) for stage in second.stages)
    answered = align.replace_loads(stages, {s.target: s for s in epilogue})
    if answered is None:
        return "it reads the contraction's result at other positions too"
    return (*epilogue, *(stage for stage in answered if isinstance(stage, Store)))


def _loads_of(body: RowBody, shared: set[int]) -> list[ex.Expression]:
    return [load for load in ex.loads_of(body.expressions()) if load.data[0] in shared]


def merge_rows(first: RowBody, second: RowBody, shared: set[int]) -> Body | str:
    """Rules 2 and 3: a reader joins the nest whose rows it reads."""
    stores = {store.target: store for store in first.stores()}
    if second.is_map:
        # A group of channels is a row, and its reader counts channels.
        second = align.split_rows(second, _loads_of(second, shared))
    loads = _loads_of(second, shared)
    if not loads:
        return _READS_FALL_AWAY
    loads.sort(key=lambda load: -len(stores[load.data[0]].axes))
    store = stores[loads[0].data[0]]
    axes = (*first.rows, *store.axes)
    found = align.correspond(store.index, axes, loads[0].data[1])
    if found is None:
        return "it reads the result in another order or only parts of it"
    rows = found.image(first.rows)
    if first.is_map:
        return _merge_map(first, second, found, set(rows))
    elements = extent(first.rows) * max(extent(stage.axes) for stage in first.stages)
    if extent(first.rows) < choices.MIN_GROUP_ROWS and elements > choices.SMALL_GROUP_ELEMENTS:
        return "too few rows to run in parallel as one group"
    rewritten = align.substitute_body(first, found)
    if second.is_map:
        rest = tuple(a for a in second.rows if a not in rows and a.size > 1)
        stages: tuple[Stage, ...] = tuple(replace(stage, axes=rest) for stage in second.stages)
    else:
        if {a for a in second.rows if a.size > 1} != set(rows):
            return "its rows are not the rows of the result"
        stages = second.stages
    return _joined(rewritten, stages)


def _joined(first: RowBody, stages: tuple[Stage, ...]) -> Body | str:
    stages = align.rename_inner(stages, align.inner_nests(first.stages))
    own, stages = align.refine_inner(first.stages, stages)
    made = {stage.target: stage for stage in own if isinstance(stage, Store)}
    answered = align.replace_loads(stages, made)
    if answered is None:
        return "it reads the result at other positions too"
    return RowBody(first.rows, (*own, *answered))


def _merge_map(
    first: RowBody, second: RowBody, found: align.Correspondence, image: set[Axis]
) -> Body | str:
    """An elementwise nest joins a reader that visits each of its elements once."""
    rewritten = align.substitute_body(first, found)
    rows = {a for a in second.rows if a.size > 1}
    if second.is_map:
        if rows != image:
            return "its reader repeats or permutes it"
        return _joined(RowBody(second.rows, rewritten.stages), second.stages)
    inner = image - rows
    if not rows <= image:
        return "its reader repeats it along rows"
    nest = next((n for n in align.inner_nests(second.stages) if inner <= set(n)), None)
    if nest is None:
        return "its reader visits it in another nest"
    axes = tuple(axis for axis in nest if axis in inner)
    if inner and axes != nest:
        return "its reader repeats it along its inner axes"
    stages = tuple(replace(stage, axes=axes) for stage in rewritten.stages)
    return _joined(RowBody(second.rows, stages), second.stages)


def _space(body: RowBody) -> tuple[object, ...]:
    rows = tuple(axis.size for axis in body.rows)
    nests = frozenset(tuple(axis.size for axis in nest) for nest in align.inner_nests(body.stages))
    return rows, nests


def merge_side_by_side(first: RowBody, second: RowBody) -> RowBody | None:
    """Two nests over one space as one, when some load becomes common."""
    renaming = {b: of_atom(a) for a, b in zip(first.rows, second.rows)}
    parts = {b: (a,) for a, b in zip(first.rows, second.rows)}
    stages = tuple(align.substitute_stage(stage, renaming, parts) for stage in second.stages)
    stages = align.rename_inner(stages, align.inner_nests(first.stages))
    mine = set(ex.loads_of(first.expressions()))
    if not any(load in mine for load in ex.loads_of(stage.value for stage in stages)):
        return None
    return RowBody(first.rows, (*first.stages, *stages))


__all__ = ["Fuser", "Group", "HostStep", "Step"]
