"""torch.cpu: the processor, asked what programs ask of cards."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lazytorch import engine
from lazytorch.cpu import amp


class Stream:
    """An order of work; the processor has one, and all work is in it."""

    def __init__(self, priority: int = -1) -> None:
        self.priority = priority

    def wait_stream(self, stream: Any) -> None:
        """Nothing is to be waited for: there is one order."""

    def synchronize(self) -> None:
        """Wait until everything recorded is done."""
        engine.synchronize()


class Event:
    """A moment in the order of work."""

    def record(self, stream: Any = None) -> None:
        """Nothing is to be noted: there is one order."""

    def wait(self, stream: Any = None) -> None:
        """Nothing is to be waited for: there is one order."""

    def query(self) -> bool:
        """Whether what was recorded before is done: it is waited for, then it is."""
        engine.synchronize()
        return True

    def synchronize(self) -> None:
        """Wait until everything recorded is done."""
        engine.synchronize()


_stream = Stream()


def is_available() -> bool:
    """Whether there is a processor."""
    return True


def is_initialized() -> bool:
    """Whether it is ready for use."""
    return True


def device_count() -> int:
    """One: all processors together are one device."""
    return 1


def current_device() -> str:
    """The name of the device."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing is to be chosen: there is one."""


def synchronize(device: Any = None) -> None:
    """Wait until everything recorded is done."""
    engine.synchronize()


def current_stream(device: Any = None) -> Stream:
    """The one order of work."""
    return _stream


def stream(stream: Stream | None) -> AbstractContextManager[None]:
    """Work inside is done in the one order there is."""
    return nullcontext()


__all__ = [
    "Event", "Stream", "amp", "current_device", "current_stream", "device_count", "is_available",
    "is_initialized", "set_device", "stream", "synchronize",
]  # fmt: skip
