"""The schedules worth trying for maps, reductions, scans and scatters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lazytorch.codegen import finish, joining, rows, scans, sequential
from lazytorch.codegen.choice import RowSchedule, Schedule, WalkSchedule
from lazytorch.codegen.target import Target
from lazytorch.ir.kernel import Reduce, RowBody, ScanBody, ScatterBody, extent

# Elements that a work-item of a row kernel may take, in steps of four.
SHARES = tuple(256 << (2 * step) for step in range(6))
ACCUMULATORS = (2, 4, 8)
LOCAL_SIZES = (1, 16, 32, 64, 128, 256)


def row_schedules(body: RowBody, target: Target, count: int) -> Sequence[Schedule]:
    """At most ``count`` schedules for a map or a reduction."""
    return [*_row_schedules(joining.widen(joining.collapse(body), target), target)][:count]


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


# Walks -------------------------------------------------------------------------------------------


def scan_schedules(body: ScanBody, target: Target, count: int) -> Sequence[Schedule]:
    """At most ``count`` schedules for a scan."""
    found: list[Schedule] = []
    for style in scans.possible_styles(body, target):
        if style == "columns":
            found += [WalkSchedule(style, share) for share in _column_shares(body.rows[-1].size)]
        elif style == "elements":
            found += [WalkSchedule(style, local=local) for local in _local_sizes(body, target)]
    return found[:count]


def scatter_schedules(body: ScatterBody, target: Target, count: int) -> Sequence[Schedule]:
    """At most ``count`` schedules for a scatter."""
    if target.family == "gpu":
        found: list[Schedule] = [WalkSchedule("", local=n) for n in _local_sizes(body, target)]
        return found[:count]
    axis = sequential.scatter_axis(body, target.vector_width)
    if axis is not None:
        return [WalkSchedule("", share) for share in _column_shares(axis.size)][:count]
    most = -(-extent(body.rows) // target.compute_units)
    work = max(1, body.base_axis.size + body.axis.size)
    shares = {min(most, max(1, elements // work)) for elements in SHARES}
    return [WalkSchedule("", share) for share in sorted(shares)][:count]


def _column_shares(size: int) -> list[int]:
    """Columns that a work-item may take."""
    return sorted({min(size, share) for share in (32, 64, 128, 256, 512, 1024, 2048)})


def _local_sizes(body: ScanBody | ScatterBody, target: Target) -> list[int]:
    most = min(target.max_work_group_size, extent(body.rows))
    return [local for local in LOCAL_SIZES if local <= most]
