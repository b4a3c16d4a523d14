"""torch.device: the name under which a user addresses a place of computation.

Objects are interned, so that two tensors are on one device when their devices are the same
object. What a name stands for is the engine's business; it is asked once, at first use.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from lazytorch import config, engine

ACCELERATORS = ("cuda", "mps", "xpu")
KINDS = ("cpu", "cuda", "mps", "xpu", "opencl", "ocl", "numpy", "meta")
_interned: dict[tuple[str, int | None], device] = {}


class device:
    """A device by kind and number; also a context manager that makes it the default.

    >>> device("cuda:1").index
    1
    """

    __slots__ = ("_before", "_runtime", "index", "type")
    __module__ = "torch"  # What its class prints as.
    type: str
    index: int | None
    _runtime: str | None
    _before: list[device | None]

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        if isinstance(type, device):
            return type
        if isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(
                f"device(): argument 'type' must be str or int, not {type.__class__.__name__}"
            )
        kind, number = _parse(type)
        if number is not None and index is not None:
            raise RuntimeError(
                f"type (string) must not include an index because index was passed "
                f"explicitly: {type}"
            )
        key = (kind, index if number is None else number)
        known = _interned.get(key)
        if known is None:
            known = object.__new__(cls)
            known.type, known.index = key
            known._runtime, known._before = None, []
            _interned[key] = known
        return known

    @property
    def runtime(self) -> str:
        """The engine's name of the device."""
        name = self._runtime
        if name is None:
            name = self._runtime = engine.resolve_device(_stand_in(self))
        return name

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        number = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{number})"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __enter__(self) -> device:
        self._before.append(_defaults.device)
        _defaults.device = self
        return self

    def __exit__(self, *_: Any) -> None:
        _defaults.device = self._before.pop()

    def __reduce__(self) -> Any:
        return (_rebuild, (self.type, self.index))


def _rebuild(kind: str, index: int | None) -> device:
    return device(kind, index)


def _stand_in(place: device) -> str:
    """The name to resolve: LAZYTORCH_DEVICE may put another computing device behind ``cpu``, so
    that a script that names no device, or ``cpu``, runs on it as it is."""
    chosen: str = config.get("DEVICE")
    if place.type == "cpu" and chosen and device(chosen).type not in ACCELERATORS:
        return chosen
    return str(place)


def _forget_runtime() -> None:
    for place in _interned.values():
        place._runtime = None


# A forked child may not use the parent's devices; names are resolved again there.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_runtime)


def use_numpy_only(because: str) -> None:
    """Let this process compute with NumPy alone; ``because`` ends the sentence that a user reads
    who asks for another device."""
    engine.use_numpy_only(because)
    _forget_runtime()


def _parse(text: str) -> tuple[str, int | None]:
    kind, colon, number = text.partition(":")
    if kind not in KINDS:
        raise RuntimeError(
            f"Expected one of {', '.join(KINDS)} device type at start of device string: {text}"
        )
    if colon and not number.isdigit():
        raise RuntimeError(f"Invalid device string: '{text}'")
    return ("opencl" if kind == "ocl" else kind), int(number) if colon else None


class _Defaults(threading.local):
    device: device | None = None


_defaults = _Defaults()
_process_default: device | None = None


def get_default_device() -> device:
    """The device of tensors made without one."""
    global _process_default
    chosen = _defaults.device
    if chosen is not None:
        return chosen
    if _process_default is None:
        named = device(config.get("DEVICE") or "cpu")
        _process_default = named if named.type in ACCELERATORS else device("cpu")
    return _process_default


def set_default_device(place: Any) -> None:
    """Make ``place`` the device of new tensors; ``None`` returns to the initial one."""
    _defaults.device = None if place is None else device(place)


def as_device(place: Any) -> device:
    """``place`` as a device, the default for ``None``."""
    if place is None:
        return get_default_device()
    return place if place.__class__ is device else device(place)
