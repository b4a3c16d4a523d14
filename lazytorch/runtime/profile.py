"""Where device time goes: while a session is open, every replay is timed launch by launch.

A timed replay waits for the device after its last launch, so a profiled program shows what its
kernels take and not how Python and the device overlap.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lazytorch.schedule.plan import LaunchStep, Plan

if TYPE_CHECKING:
    from lazytorch.runtime.device import Device


@dataclass(frozen=True)
class TimedLaunch:
    """One launch of ``step`` that kept ``device`` busy for ``seconds``."""

    plan: Plan
    step: LaunchStep
    device: str
    seconds: float


@dataclass
class Session:
    """Everything launched while the session was open, in launch order.

    ``kept`` are launches left out because what they pack had not changed; they took no time.
    """

    launches: list[TimedLaunch] = field(default_factory=list)
    kept: list[TimedLaunch] = field(default_factory=list)
    wall_seconds: float = 0.0


_open: list[Session] = []


def active() -> bool:
    """Whether replays are to be timed."""
    return bool(_open)


@contextmanager
def session() -> Iterator[Session]:
    """Time every replay until the end of the block. Sessions may be nested."""
    opened = Session()
    _open.append(opened)
    began = time.perf_counter()
    try:
        yield opened
    finally:
        opened.wall_seconds = time.perf_counter() - began
        # By identity: two sessions that have seen the same launches are equal.
        _open[:] = [other for other in _open if other is not opened]


def note(
    plan: Plan, device: Device, times: dict[str, list[float]], kept: Collection[int]
) -> None:
    """Credit measured ``times`` (seconds by kernel name, in order) to the launches of a plan,
    whose steps at the positions ``kept`` were left out."""
    left = {name: iter(taken) for name, taken in times.items()}
    for position, step in enumerate(plan.steps):
        if not isinstance(step, LaunchStep):
            continue
        if position in kept:
            for opened in _open:
                opened.kept.append(TimedLaunch(plan, step, device.name, 0.0))
        elif step.name in left:
            launch = TimedLaunch(plan, step, device.name, next(left[step.name], 0.0))
            for opened in _open:
                opened.launches.append(launch)


__all__ = ["Session", "TimedLaunch", "active", "note", "session"]
