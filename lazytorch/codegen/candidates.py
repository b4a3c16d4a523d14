"""The schedules worth trying for a body: what a tuner measures, the most promising first.

Knows which choices exist and which of them fit the body; must not know how long anything takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from lazytorch.codegen import contract, finish, group_tiling, rows
from lazytorch.codegen.choice import (
    ContractSchedule,
    GroupSchedule,
    RowSchedule,
    Schedule,
)
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_schedule import possible_tilings
from lazytorch.codegen.target import Target
from lazytorch.ir.kernel import Body, ContractBody, Reduce, RowBody, extent

# Elements that a work-item of a row kernel may take, in steps of four.
SHARES = tuple(256 << (2 * step) for step in range(6))
ACCUMULATORS = (2, 4, 8)
LOCAL_SIZES = (1, 16, 32, 64, 128, 256)

_Item = TypeVar("_Item")


def candidates(body: Body, target: Target, count: int = 36) -> Sequence[Schedule]:
    """At most ``count`` schedules for a body as the scheduler made it; none where there is no
    choice."""
    if isinstance(body, ContractBody):
        if extent(body.summed) == 0 or contract.is_reduction(body, target):
            return []
        if target.family == "gpu":
            form = contract.settled(body, target)
            return _group_schedules(form, target, count)
        return list(_tilings(contract.settled(body, target), target, count))
    if isinstance(body, RowBody):
        return list(_row_schedules(finish.collapse(body), target))[:count]
    return []


# Contractions on CPU devices ---------------------------------------------------------------------


def _tilings(form: Form, target: Target, count: int) -> list[ContractSchedule]:
    estimates = possible_tilings(form, target)
    ordered = sorted(estimates, key=estimates.__getitem__)
    # An estimate errs for whole kinds of tilings at once, so the best of each kind are taken too.
    kinds: tuple[Callable[[ContractSchedule], object], ...] = (
        lambda s: (s.rows, s.vectors),
        lambda s: (s.block, s.splits),
        lambda s: (s.column_groups, s.row_panels),
        lambda s: (s.lines, s.pitch),
    )
    chosen: dict[ContractSchedule, None] = dict.fromkeys(ordered[: count // 3])
    ways = contract.possible_packing(form)
    if len(ways) > 1 and chosen:
        for schedule in ordered[:3]:
            for way in ways:
                chosen[_with_pack(schedule, way)] = None
    queues = [list(_firsts(ordered, kind)) for kind in kinds]
    for place in range(max((len(queue) for queue in queues), default=0)):
        for queue in queues:
            if place < len(queue):
                chosen[queue[place]] = None
    return [*chosen][:count]


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


# Contractions on GPUs ----------------------------------------------------------------------------


def _group_schedules(form: Form, target: Target, count: int) -> list[GroupSchedule]:
    found = list(group_tiling.possible(form, target))
    found.sort(key=lambda tiling: group_tiling.cycles(tiling, form, target))
    # The best of every shape, then the best of all.
    first = list(_firsts(found, lambda tiling: (tiling.rows, tiling.columns, tiling.row_each)))
    ordered = dict.fromkeys([*found[: count // 2], *first, *found])
    return [
        GroupSchedule(t.rows, t.columns, t.row_each, t.column_each, t.depth, t.splits, t.buffers)
        for t in [*ordered][:count]
    ]


# Rows --------------------------------------------------------------------------------------------


def _row_schedules(body: RowBody, target: Target) -> Iterator[RowSchedule]:
    for style in rows.possible_styles(body, target):
        if style == "inner":
            yield from _inner(body, target)
        elif style == "columns":
            yield from _columns(body, target)
        else:
            for local in LOCAL_SIZES:
                if local <= target.max_work_group_size:
                    yield RowSchedule(style, local=local)


def _inner(body: RowBody, target: Target) -> Iterator[RowSchedule]:
    work = max(extent(stage.axes) for stage in body.stages)
    count = extent(body.rows)
    stashes = (True, False) if finish.add_stashes(body) != body else (True,)
    shares = {min(count, max(1, elements // work)) for elements in SHARES}
    for stash in stashes:
        for share in sorted(shares):
            if share > 1 and share * target.compute_units > count:
                continue
            for accumulators in ACCUMULATORS:
                yield RowSchedule("inner", share, accumulators, stash=stash)


def _columns(body: RowBody, target: Target) -> Iterator[RowSchedule]:
    reduces = [stage for stage in body.stages if isinstance(stage, Reduce)]
    size = body.rows[-1].size
    work = max(1, sum(extent(stage.axes) for stage in reduces))
    step = 4 * target.vector_width
    shares = {min(size, max(step, elements // work // step * step)) for elements in SHARES}
    if reduces:
        shares.add(min(size, 16 * step))
    for share in sorted(shares):
        for vectors in (1, 2, 4, 8) if reduces else (0,):
            yield RowSchedule("columns", share, vectors)


__all__ = ["candidates"]
