"""Streams and events: orders of work, and moments in them, as programs for cards use them.

Every device here has one order, in which all work is done, so that nothing has to wait for
another stream. What is recorded is not computed at once, though: an event that takes the time
first waits until everything before it is done.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lazytorch import engine


class Stream:
    """An order of work; all streams of a device are the same one."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device, self.priority = device, priority

    def synchronize(self) -> None:
        """Wait until everything recorded is done."""
        engine.synchronize()

    def query(self) -> bool:
        """Whether everything recorded is done: it is waited for, then it is."""
        engine.synchronize()
        return True

    def wait_stream(self, stream: Any) -> None:
        """Nothing is to be waited for: there is one order."""

    def wait_event(self, event: Any) -> None:
        """Nothing is to be waited for: there is one order."""

    def record_event(self, event: Event | None = None) -> Event:
        """Note this moment in an event."""
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


class Event:
    """A moment in the order of work; with ``enable_timing`` its time is taken.

    >>> start, end = Event(enable_timing=True), Event(enable_timing=True)
    >>> start.record()
    >>> end.record()
    >>> start.elapsed_time(end) >= 0
    True
    """

    def __init__(
        self, device: Any = None, *, enable_timing: bool = False, blocking: bool = False,
        interprocess: bool = False,
    ) -> None:  # fmt: skip
        self.device, self.enable_timing = device, enable_timing
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        """Note this moment; taking its time waits until everything before it is done."""
        if self.enable_timing:
            engine.synchronize()
        self._time = time.perf_counter()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another; ``RuntimeError`` where a time is missing."""
        for event in (self, end_event):
            if not event.enable_timing:
                raise RuntimeError(
                    "Both events must be created with argument 'enable_timing=True'."
                )
            if event._time is None:
                raise RuntimeError(
                    "Both events must be recorded before calculating elapsed time."
                )
        return ((end_event._time or 0.0) - (self._time or 0.0)) * 1e3

    def wait(self, stream: Any = None) -> None:
        """Nothing is to be waited for: there is one order."""

    def query(self) -> bool:
        """Whether everything before is done: it is waited for, then it is."""
        engine.synchronize()
        return True

    def synchronize(self) -> None:
        """Wait until everything recorded is done."""
        engine.synchronize()


only_stream = Stream()


def stream(stream: Any) -> AbstractContextManager[Any]:
    """Work inside is done in the one order there is."""
    return nullcontext(stream)
