"""Where each value of a plan lives: decided once, so that a replay allocates only outputs.

A value is a *leaf* (bound at launch), an *output* (a buffer that outlives the plan), or a
temporary in the *arena*, one block of memory a device lends to whichever plan is running.
An output may take the buffer of a leaf that nobody needs any more (*donation*): then an
optimizer's update, or any in-place operation, is computed in place. In the same way a temporary
may take the memory of one it is computed from.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazytorch import logs
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index
from lazytorch.ir.kernel import Body, ContractBody, Kernel, RowBody, Store
from lazytorch.schedule import choices

ARENA_ALIGNMENT = 256


@dataclass(frozen=True)
class Place:
    """``kind`` is 'leaf', 'output' or 'arena'; ``position`` counts leaves or outputs, or is the
    byte offset in the arena."""

    kind: str
    position: int
    nbytes: int


@dataclass(frozen=True)
class Access:
    """What one step reads and writes; ``replaceable`` has the inputs that each value it writes may
    be written over. ``may_fail`` is a step on the host, which may raise for the values it gets."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    replaceable: Mapping[int, tuple[int, ...]]
    may_fail: bool = False


@dataclass(frozen=True)
class Layout:
    """Places by value number; ``donors`` maps an output's position to a leaf's."""

    places: dict[int, Place]
    donors: dict[int, int]
    arena_bytes: int


def replaceable_inputs(kernel: Kernel) -> dict[int, tuple[int, ...]]:
    """For each stored value, the inputs it is computed from that it may be written over.

    Code generation promises that the stores which end a row, or which follow a contraction's sum,
    are carried out once for each point, by one work-item, after all their values are computed
    (``codegen.stores``); what such stores read only where they write may be overwritten there.
    """
    result: dict[int, tuple[int, ...]] = {}
    everything = [ex.loads_of(body.expressions()) for body in kernel.bodies]
    for number, body in enumerate(kernel.bodies):
        stores, rest = _last_stores(body)
        if not stores:
            continue
        forbidden = {load.data[0] for load in ex.loads_of(rest)}
        for other, loads in enumerate(everything):
            if other != number:
                forbidden.update(load.data[0] for load in loads)
        read_at: dict[int, set[Index | None]] = {}
        for load in ex.loads_of(store.value for store in stores):
            source, index, guard = load.data
            read_at.setdefault(source, set()).add(None if guard else index)
        points = {axis for axis in _points(body) if axis.size > 1}
        for store in stores:
            if not points <= store.index.axes():
                # Several points store one element.
                continue
            sources = dict.fromkeys(load.data[0] for load in ex.loads_of([store.value]))
            itemsize = kernel.values[store.target].itemsize
            result[store.target] = tuple(
                n
                for n in sources
                if n not in forbidden
                and read_at[n] == {store.index}
                and kernel.values[n].itemsize == itemsize
            )
    return result


def _last_stores(body: Body) -> tuple[list[Store], list[Expression]]:
    """The stores that come last at each point, together, and the values computed before them."""
    if isinstance(body, ContractBody):
        return list(body.epilogue), [body.first, body.second]
    if not isinstance(body, RowBody):
        return [], []
    stages = list(body.stages)
    last: list[Store] = []
    while stages and isinstance(stages[-1], Store) and not stages[-1].axes:
        last.append(stages.pop())  # type: ignore[arg-type]
    # A reduction over nothing would come between the stores.
    if not all(stage.axes or isinstance(stage, Store) for stage in stages):
        return [], []
    return last[::-1], [stage.value for stage in stages]


def _points(body: Body) -> tuple[Axis, ...]:
    """The axes over whose points the last stores are carried out."""
    if isinstance(body, ContractBody):
        return (*body.batch, *body.rows, *body.columns)
    return body.rows if isinstance(body, RowBody) else ()


def plan_memory(
    steps: Sequence[Access],
    nbytes: Mapping[int, int],
    leaves: Sequence[int],
    outputs: Sequence[int],
    donated: Sequence[int],
) -> Layout:
    """Lay out every value; ``donated`` lists positions of leaves whose memory is free to take."""
    places = {
        number: Place("leaf", position, nbytes[number]) for position, number in enumerate(leaves)
    }
    for position, number in enumerate(outputs):
        places.setdefault(number, Place("output", position, nbytes[number]))
    last_read = _last_reads(steps)
    donors = _donors(steps, nbytes, leaves, outputs, donated, last_read)
    arena_bytes = _place_temporaries(steps, nbytes, places, last_read)
    logs.write(
        "memory",
        lambda: f"arena {arena_bytes} bytes, {len(outputs)} outputs, {len(donors)} in place",
    )
    return Layout(places, donors, arena_bytes)


def _last_reads(steps: Sequence[Access]) -> dict[int, int]:
    last: dict[int, int] = {}
    for position, step in enumerate(steps):
        for number in step.reads:
            last[number] = position
    return last


def _donors(
    steps: Sequence[Access],
    nbytes: Mapping[int, int],
    leaves: Sequence[int],
    outputs: Sequence[int],
    donated: Sequence[int],
    last_read: Mapping[int, int],
) -> dict[int, int]:
    free = {leaves[position]: position for position in donated}
    wanted = {number: position for position, number in enumerate(outputs)}
    donors: dict[int, int] = {}
    # After an exception the graph is computed again, from leaves that are as they were.
    safe = 1 + max((time for time, step in enumerate(steps) if step.may_fail), default=-1)
    for time, step in enumerate(steps[safe:], safe):
        # Whoever has the least choice comes first: an optimizer's moments before its parameter.
        for number in sorted(step.writes, key=lambda n: len(step.replaceable.get(n, ())) or 9):
            if number not in wanted or wanted[number] in donors or number in free:
                continue
            candidates = [
                leaf
                for leaf in free
                if nbytes[leaf] == nbytes[number] > 0
                and (
                    last_read.get(leaf, -1) < time
                    or (last_read[leaf] == time and leaf in step.replaceable.get(number, ()))
                )
            ]
            if candidates:
                # The value that is being updated first: then memory stays where it is.
                replaced = step.replaceable.get(number, ())
                leaf = max(candidates, key=lambda n: (n in replaced, -free[n]))
                donors[wanted[number]] = free.pop(leaf)
    return donors


def _place_temporaries(
    steps: Sequence[Access],
    nbytes: Mapping[int, int],
    places: dict[int, Place],
    last_read: Mapping[int, int],
) -> int:
    """Lay out what lives in the arena; the arena's size.

    First fit in order of time is quick and good; first fit with the largest first wastes less
    where values of many sizes overlap. The smaller result is taken.
    """
    blocks = _blocks(steps, nbytes, places, last_read)
    offsets, total = _first_fit_in_time(blocks)
    if len(blocks) <= choices.LARGEST_FIRST_BLOCKS:
        by_size = sorted(blocks, key=lambda block: (-block.size, block.first))
        other, smaller = _first_fit(by_size)
        if smaller < total:
            offsets, total = other, smaller
    for block in blocks:
        for number in block.numbers:
            places[number] = Place("arena", offsets[block.numbers[0]], nbytes[number])
    return total


@dataclass(eq=False)
class _Block:
    """``size`` bytes from step ``first`` to step ``last``, for values each of which is written over
    the one before it."""

    numbers: list[int]
    size: int
    first: int
    last: int


def _blocks(
    steps: Sequence[Access],
    nbytes: Mapping[int, int],
    places: Mapping[int, Place],
    last_read: Mapping[int, int],
) -> list[_Block]:
    """The blocks of all temporaries, in the order of their first steps."""
    blocks: list[_Block] = []
    # The block whose last value this is.
    ending: dict[int, _Block] = {}
    for time, step in enumerate(steps):
        for number in step.writes:
            if number in places:
                continue
            last = last_read.get(number, time)
            if number in ending:
                # Several launches write parts of it.
                ending[number].last = max(last, time)
                continue
            size = -(-nbytes[number] // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
            before = [
                n
                for n in step.replaceable.get(number, ())
                if n in ending and last_read[n] == time and nbytes[n] == nbytes[number]
            ]
            if before:
                block = ending.pop(before[0])
                block.numbers.append(number)
                block.last = last
            else:
                block = _Block([number], size, time, last)
                blocks.append(block)
            ending[number] = block
    return blocks


def _first_fit_in_time(blocks: Sequence[_Block]) -> tuple[dict[int, int], int]:
    """Offsets of blocks sorted by their first step: only those still alive are in the way."""
    offsets: dict[int, int] = {}
    live: list[tuple[int, int, int]] = []  # (offset, end offset, last step)
    total = 0
    for block in blocks:
        live = [other for other in live if other[2] >= block.first]
        offset = _lowest_gap(live, block.size)
        offsets[block.numbers[0]] = offset
        insort(live, (offset, offset + block.size, block.last))
        total = max(total, offset + block.size)
    return offsets, total


def _first_fit(blocks: Sequence[_Block]) -> tuple[dict[int, int], int]:
    """Offsets of blocks in any order."""
    offsets: dict[int, int] = {}
    placed: list[tuple[int, int, _Block]] = []
    total = 0
    for block in blocks:
        others = [
            (start, end, 0)
            for start, end, other in placed
            if other.first <= block.last and block.first <= other.last
        ]
        offset = offsets[block.numbers[0]] = _lowest_gap(others, block.size)
        insort(placed, (offset, offset + block.size, block), key=lambda entry: entry[:2])
        total = max(total, offset + block.size)
    return offsets, total


def _lowest_gap(taken: Sequence[tuple[int, int, int]], size: int) -> int:
    """The lowest offset where ``size`` bytes fit between ranges sorted by their start."""
    offset = 0
    for start, end, _ in taken:
        if offset + size <= start:
            break
        offset = max(offset, end)
    return offset
