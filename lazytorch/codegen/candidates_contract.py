"""The schedules worth trying for a contraction: matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from lazytorch.codegen import contract, group_tiling
from lazytorch.codegen.choice import ContractSchedule, GroupSchedule, Schedule
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_pixels_choice import possible_pixels
from lazytorch.codegen.contract_schedule import possible_tilings, wish_for
from lazytorch.codegen.contract_taps import possible_taps
from lazytorch.codegen.target import Target
from lazytorch.ir.kernel import ContractBody, extent

_Item = TypeVar("_Item")
_Kinds = Sequence[Callable[[Any], object]]
# By which numbers schedules of one kind are told apart: the best of each value is tried.
TILINGS: _Kinds = (
    lambda s: (s.rows, s.vectors),
    lambda s: (s.block, s.splits),
    lambda s: (s.column_groups, s.row_panels),
    lambda s: (s.lines, s.pitch),
)
PIXELS: _Kinds = (
    lambda s: (s.vectors, s.lines),
    lambda s: (s.chunk, s.run),
    lambda s: (s.per_tile, s.height),
    lambda s: (s.column_groups, s.shares),
)
TAPS: _Kinds = (
    lambda s: (s.rows, s.vectors),
    lambda s: (s.height, s.per_block, s.together),
    lambda s: (s.channels, s.column_groups),
    lambda s: s.splits,
)


def contractions(body: ContractBody, target: Target, count: int) -> list[Schedule]:
    """At most ``count`` schedules for a contraction."""
    if extent(body.summed) == 0 or contract.is_reduction(body, target):
        return []
    form = contract.settled(body, target)
    if target.family == "gpu":
        return [*_group_schedules(form, target, count)]
    wish = wish_for(form, target)
    pixels = {s: cycles for s, (cycles, _) in possible_pixels(form, wish).items()}
    taps = {s: cycles for s, (cycles, _) in possible_taps(form, wish).items()}
    queues: list[list[Schedule]] = []
    if pixels:
        queues.append([*_best_of_each(pixels, PIXELS, count)])
    if taps:
        queues.append([*_best_of_each(taps, TAPS, count)])
    # Where a convolution has a kernel of its own, the general one is seldom better.
    few = count if not queues else count // 4
    queues.append([*_tilings(form, target, few)])
    mixed = (s for together in zip_longest(*queues) for s in together if s is not None)
    return list(mixed)[:count]


# On CPU devices ----------------------------------------------------------------------------------


def _best_of_each(estimates: dict[_Item, float], kinds: _Kinds, count: int) -> dict[_Item, None]:
    """The best third by estimate, then the best of each kind, since an estimate errs for whole
    kinds of tilings at once."""
    ordered = sorted(estimates, key=estimates.__getitem__)
    chosen: dict[_Item, None] = dict.fromkeys(ordered[: count // 3])
    queues = [list(_firsts(ordered, kind)) for kind in kinds]
    for together in zip_longest(*queues):
        chosen.update((item, None) for item in together if item is not None)
    return dict.fromkeys([*chosen][:count])


def _tilings(form: Form, target: Target, count: int) -> list[ContractSchedule]:
    estimates = possible_tilings(form, target)
    chosen = _best_of_each(estimates, TILINGS, count)
    ways = contract.possible_packing(form)
    packed: dict[ContractSchedule, None] = {}
    if len(ways) > 1 and chosen:
        for schedule in sorted(estimates, key=estimates.__getitem__)[:3]:
            for way in ways:
                packed[_with_pack(schedule, way)] = None
    first = [*chosen][: count // 3]
    return [*dict.fromkeys([*first, *packed, *chosen])][:count]


def _with_pack(schedule: ContractSchedule, way: str) -> ContractSchedule:
    return ContractSchedule(**{**schedule.__dict__, "pack": way})


def _firsts(items: Iterable[_Item], kind: Callable[[_Item], object]) -> Iterator[_Item]:
    """The first item of each kind."""
    seen: set[object] = set()
    for item in items:
        key = kind(item)
        if key not in seen:
            seen.add(key)
            yield item


# On GPUs ------------------------------------------------------------------------------------------


def _group_schedules(form: Form, target: Target, count: int) -> list[GroupSchedule]:
    found = list(group_tiling.possible(form, target))
    found.sort(key=lambda tiling: group_tiling.cycles(tiling, form, target))
    # The best of every shape, then the best of all.
    first = list(_firsts(found, lambda tiling: (tiling.rows, tiling.columns, tiling.row_each)))
    ordered = dict.fromkeys([*found[: count // 2], *first, *found])
    return [
        GroupSchedule(
            t.rows, t.columns, t.row_each, t.column_each, t.depth, t.splits, t.buffers, t.subgroup
        )
        for t in [*ordered][:count]
    ]
