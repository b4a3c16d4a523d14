"""``lazytorch.profile()``: which kernels a program spends its device time in."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lazytorch.runtime import profile as recording
from lazytorch.runtime.profile import Session, TimedLaunch


@dataclass(frozen=True)
class KernelTime:
    """All launches of one kernel of one plan.

    ``kept`` launches more were left out: what they pack had not changed.
    ``seconds`` is device time in total, ``flops`` and ``bytes`` are totals as well (bytes count
    each array a launch reads or writes once); ``reasons`` say why the kernel was cut as it is,
    and ``source`` is its OpenCL C, empty on the NumPy device.
    """

    name: str
    device: str
    launches: int
    seconds: float
    flops: int
    bytes: int
    reasons: tuple[str, ...]
    source: str
    kept: int = 0


class Profile:
    """Device time by kernel, the largest first. ``str()`` of it is a table.

    ``wall_seconds`` lasts from the beginning to the end of the block, ``device_seconds`` is what
    kernels took of it; the rest went into Python, into compiling, and into waiting: a profiled
    program waits for the device after every plan.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def wall_seconds(self) -> float:
        """Seconds the block took; 0 until it has ended."""
        return self._session.wall_seconds

    @property
    def device_seconds(self) -> float:
        """Seconds spent in kernels."""
        return sum(launch.seconds for launch in self._session.launches)

    @property
    def kernels(self) -> list[KernelTime]:
        """One record for each kernel that was launched, or left out."""
        together: dict[tuple[int, str], tuple[list[TimedLaunch], list[TimedLaunch]]] = {}
        for place, launches in enumerate((self._session.launches, self._session.kept)):
            for launch in launches:
                key = (id(launch.plan), launch.step.name)
                together.setdefault(key, ([], []))[place].append(launch)
        records = [_record(launches, kept) for launches, kept in together.values()]
        return sorted(records, key=lambda record: -record.seconds)

    def __str__(self) -> str:
        return self.table()

    def table(self, rows: int = 40) -> str:
        """The ``rows`` dearest kernels as text."""
        kernels = self.kernels
        if not kernels:
            return "no kernels were launched"
        total = self.device_seconds
        lines = [
            f"{'kernel':44} {'launches':>8} {'total ms':>9} {'share':>6} {'mean µs':>9} "
            f"{'GFLOP/s':>8} {'GB/s':>7}"
        ]
        lines += [_row(kernel, total) for kernel in kernels[:rows]]
        if len(kernels) > rows:
            rest = sum(kernel.seconds for kernel in kernels[rows:])
            lines.append(f"{f'{len(kernels) - rows} more':44} {'':8} {rest * 1e3:9.3f}")
        launches, kept = len(self._session.launches), len(self._session.kept)
        if kept:
            lines.append(f"{kept} launches left out: what they pack is kept and has not changed")
        lines.append(
            f"{launches} launches, {total * 1e3:.3f} ms in kernels"
            + (f" of {self.wall_seconds * 1e3:.3f} ms in all" if self.wall_seconds else "")
        )
        return "\n".join(lines)


def _record(launches: list[TimedLaunch], kept: list[TimedLaunch]) -> KernelTime:
    first, count = (launches or kept)[0], len(launches)
    step, plan = first.step, first.plan
    return KernelTime(
        step.name, first.device, count, sum(launch.seconds for launch in launches),
        step.flops * count, step.nbytes * count, step.notes, plan.sources.get(step.name, ""),
        len(kept),
    )  # fmt: skip


def _row(kernel: KernelTime, total: float) -> str:
    name = kernel.name if len(kernel.name) <= 44 else kernel.name[:43] + "…"
    rate = 1e-9 / kernel.seconds if kernel.seconds else 0.0
    return (
        f"{name:44} {kernel.launches:8} {kernel.seconds * 1e3:9.3f} "
        f"{kernel.seconds / total if total else 0:6.1%} "
        f"{kernel.seconds / max(kernel.launches, 1) * 1e6:9.1f} "
        f"{kernel.flops * rate:8.1f} {kernel.bytes * rate:7.1f}"
    )


@contextmanager
def profile() -> Iterator[Profile]:
    """Time every kernel that is launched in the block.

    Work still pending at the end of the block is not in it: look at the result inside. Device
    times come from OpenCL's profiling events, on the NumPy device from the clock around each
    kernel.

    >>> with lazytorch.profile() as seen:
    ...     torch.ones(64, 64).exp().sum().item() > 4096
    True
    >>> seen.kernels[0].launches
    1
    """
    with recording.session() as session:
        yield Profile(session)


def profile_until_exit() -> None:
    """What ``LAZYTORCH_PROFILE=1`` asks for: profile all, print the table when Python ends."""
    stack = ExitStack()
    table = stack.enter_context(profile())

    def show() -> None:
        stack.close()
        print(table, file=sys.stderr)

    atexit.register(show)


__all__ = ["KernelTime", "Profile", "profile", "profile_until_exit"]
