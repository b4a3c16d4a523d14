"""Timing one function: warming up until it is steady, taking a turn, and what samples say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Calls shorter than this are timed several together, so that reading the clock does not matter.
SHORTEST_SAMPLE = 50e-6
# A call is steady once it is no slower than this times the best before it.
STEADY = 1.15
FEWEST_WARM_CALLS = 4


@dataclass(frozen=True)
class Spread:
    """Seconds of one call: the least, the quartiles, and from how many samples."""

    minimum: float
    first_quartile: float
    median: float
    third_quartile: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of at least one sample.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(minimum=1.0, first_quartile=1.5, median=2.0, third_quartile=2.5, count=3)
        """
        if not samples:
            raise ValueError("no samples: nothing was measured")
        if len(samples) == 1:
            (only,) = samples
            return cls(only, only, only, only, 1)
        low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(min(samples), low, middle, high, len(samples))


@dataclass(frozen=True)
class Warm:
    """What warming up found: seconds of the first and of the last call, and how many there were."""

    first: float
    last: float
    calls: int


def warm_up(
    call: Callable[[], Any],
    seconds: float,
    fewest: int = FEWEST_WARM_CALLS,
    clock: Callable[[], float] = time.perf_counter,
) -> Warm:
    """Call until a call is as quick as the best before it, at least ``fewest`` times, and no longer
    than about ``seconds`` after the first call (which may compile)."""
    start = clock()
    call()
    begun = clock()
    first = last = begun - start
    best = float("inf")
    calls = 1
    while calls < fewest or (last > STEADY * best and clock() - begun < seconds):
        best = min(best, last) if calls > 1 else best
        start = clock()
        call()
        now = clock()
        last = now - start
        calls += 1
        if now - begun > seconds:
            break
    return Warm(first, last, calls)


def take_turn(
    call: Callable[[], Any],
    seconds: float,
    batch: int = 1,
    most: int = 10**6,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of a call, over and over for about ``seconds``, at least once and at most ``most``
    times; each sample is the mean of ``batch`` calls."""
    samples = []
    end = clock() + seconds
    while True:
        start = clock()
        for _ in range(batch):
            call()
        now = clock()
        samples.append((now - start) / batch)
        # Another one only where it would not overrun by much.
        if now + samples[-1] * batch / 2 >= end or len(samples) * batch >= most:
            return samples


def batch_for(call_seconds: float) -> int:
    """How many calls make one sample.

    >>> batch_for(1e-5), batch_for(1.0)
    (5, 1)
    """
    return max(1, round(SHORTEST_SAMPLE / max(call_seconds, 1e-8)))
