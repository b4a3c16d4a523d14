"""Where each value of a plan lives: decided once, so that a replay allocates only outputs.

A value is a *leaf* (bound at launch), an *output* (a buffer that outlives the plan), or a
temporary in the *arena*, one block of memory a device lends to whichever plan is running.
An output may take the buffer of a leaf that nobody needs any more (*donation*): then an
optimizer's update, or any in-place operation, is computed in place.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazytorch import logs
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import Kernel, RowBody
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
    """What one step reads and writes, and which inputs it may overwrite with which output."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    replaceable: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """Places by value number; ``donors`` maps an output's position to a leaf's."""

    places: dict[int, Place]
    donors: dict[int, int]
    arena_bytes: int


def replaceable_inputs(kernel: Kernel) -> dict[int, tuple[int, ...]]:
    """For each stored value, the inputs that its kernel reads only where it writes that value.

    Only elementwise nests qualify: every work-item has read what it needs before it writes.
    """
    result: dict[int, tuple[int, ...]] = {}
    loads_by_body = [ex.loads_of(body.expressions()) for body in kernel.bodies]
    for number, body in enumerate(kernel.bodies):
        if not isinstance(body, RowBody) or not body.is_map:
            continue
        elsewhere = {
            load.data[0]
            for other, loads in enumerate(loads_by_body)
            if other != number
            for load in loads
        }
        # Loads of the stages behind a store come after it: they must not see what it wrote.
        later: set[int] = set()
        for store in reversed(body.stores()):
            inputs: dict[int, bool] = {}
            for load in loads_by_body[number]:
                source, index, guard = load.data
                same = index == store.index and not guard
                inputs[source] = inputs.get(source, True) and same
            result[store.target] = tuple(
                n for n, same in inputs.items() if same and n not in elsewhere and n not in later
            )
            later |= {load.data[0] for load in ex.loads_of([store.value])}
    return result


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
    for time, step in enumerate(steps):
        for number in step.writes:
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
    blocks = []
    for time, step in enumerate(steps):
        for number in step.writes:
            if number not in places:
                size = -(-nbytes[number] // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
                blocks.append(_Block(number, size, time, last_read.get(number, time)))
    offsets, total = _first_fit_in_time(blocks)
    if len(blocks) <= choices.LARGEST_FIRST_BLOCKS:
        by_size = sorted(blocks, key=lambda block: (-block.size, block.first))
        other, smaller = _first_fit(by_size)
        if smaller < total:
            offsets, total = other, smaller
    for number, offset in offsets.items():
        places[number] = Place("arena", offset, nbytes[number])
    return total


@dataclass(frozen=True)
class _Block:
    """``size`` bytes for a value from step ``first`` to step ``last``."""

    number: int
    size: int
    first: int
    last: int


def _first_fit_in_time(blocks: Sequence[_Block]) -> tuple[dict[int, int], int]:
    """Offsets of blocks sorted by their first step: only those still alive are in the way."""
    offsets: dict[int, int] = {}
    live: list[tuple[int, int, int]] = []  # (offset, end offset, last step)
    total = 0
    for block in blocks:
        live = [other for other in live if other[2] >= block.first]
        offset = _lowest_gap(live, block.size)
        offsets[block.number] = offset
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
        offset = offsets[block.number] = _lowest_gap(others, block.size)
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
