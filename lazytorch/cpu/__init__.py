"""torch.cpu: the processor, asked what programs ask of cards."""

from __future__ import annotations

from typing import Any

from lazytorch import engine
from lazytorch.cpu import amp
from lazytorch.streams import Event, Stream, only_stream, stream


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
    return only_stream


__all__ = [
    "Event", "Stream", "amp", "current_device", "current_stream", "device_count", "is_available",
    "is_initialized", "set_device", "stream", "synchronize",
]  # fmt: skip
