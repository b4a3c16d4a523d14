"""Calls that PyTorch refuses: a number where a tensor must stand, ``out=`` where it is read.

Most functions here take numbers and tensors; those named below take numbers in PyTorch only at
some places, and a program that passes one is told so here as there. Results are computed before
they are stored, so an ``out=`` in the memory of an input would do no harm here; it is refused
because the same program fails with PyTorch.
"""

from __future__ import annotations

import functools
from typing import Any

from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, overlaps, shape_of
from lazytorch.tensor.tensor import Tensor

# Names of the first two arguments, of functions where both are tensors.
_BOTH = {
    "atan2": ("input", "other"), "arctan2": ("input", "other"), "gcd": ("input", "other"),
    "lcm": ("input", "other"), "fmax": ("input", "other"), "fmin": ("input", "other"),
    "maximum": ("input", "other"), "minimum": ("input", "other"), "hypot": ("input", "other"),
    "nextafter": ("input", "other"), "isclose": ("input", "other"),
    "logical_and": ("input", "other"), "logical_or": ("input", "other"),
    "logical_xor": ("input", "other"), "heaviside": ("input", "values"),
    "polar": ("abs", "angle"), "complex": ("real", "imag"),
}  # fmt: skip
_FIRST = (
    "eq", "ne", "ge", "gt", "le", "lt", "fmod", "copysign", "rsub", "clamp_max", "clamp_min",
    "max", "min",
)  # fmt: skip

# Functions that read elements of an input at other places than they write.
_APART = ("gather", "index_select", "kthvalue", "masked_select", "take")
# Those whose first result has the input's dtype, and takes no other.
_SAME_DTYPE = ("aminmax", "gather", "kthvalue")


def _checked(name: str, function: Any, places: tuple[str, ...], method: bool) -> Any:
    count = len(places)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for place, value in enumerate(args[:count]):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{name}(): argument '{places[place]}' (position {place + 1 - method}) must be "
                    f"Tensor, not {type(value).__name__}"
                )
        return function(*args, **kwargs)

    return checked


for _name, _places in _BOTH.items():
    setattr(functions, _name, _checked(_name, getattr(functions, _name), _places, False))
    if hasattr(Tensor, _name):
        setattr(Tensor, _name, _checked(_name, getattr(Tensor, _name), _places, True))
for _name in _FIRST:
    setattr(functions, _name, _checked(_name, getattr(functions, _name), ("input",), False))


def _reach(tensor: Tensor) -> tuple[int, int]:
    """The first element of a tensor in its storage, and the one behind the last."""
    first: int = tensor.storage_offset()  # type: ignore[attr-defined]
    strides = tensor.stride()  # type: ignore[attr-defined]
    return first, first + 1 + sum((n - 1) * step for n, step in zip(shape_of(tensor), strides))


def _share_memory(first: Tensor, second: Any) -> bool:
    if not isinstance(second, Tensor) or not count(shape_of(first)) or not count(shape_of(second)):
        return False
    if first is second:
        return True
    if first._storage is None or first._storage is not second._storage:
        return False
    (a, b), (c, d) = _reach(first), _reach(second)
    return a < d and c < b


def _check_target(name: str, target: Any, args: Any) -> None:
    if not isinstance(target, Tensor):
        return
    if overlaps(shape_of(target), target.stride()):  # type: ignore[attr-defined]
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    if name in _APART and any(_share_memory(target, argument) for argument in args):
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor "
            "refer to a single memory location. Please clone() the tensor before performing the "
            "operation."
        )


def _with_checked_out(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        if out is not None:
            targets = tuple(out) if isinstance(out, (tuple, list)) else (out,)
            for target in targets:
                _check_target(name, target, args)
            same = targets if name == "aminmax" else targets[:1]
            for target in same if name in _SAME_DTYPE and isinstance(args[0], Tensor) else ():
                wanted, given = dtype_of(args[0]), dtype_of(target)
                if wanted is not given:
                    raise RuntimeError(
                        f"Expected out tensor to have dtype {scalar_name(wanted).lower()}, but got "
                        f"{scalar_name(given).lower()} instead"
                    )
        return function(*args, **kwargs)

    return checked


for _name in {*_APART, *_SAME_DTYPE}:
    setattr(functions, _name, _with_checked_out(_name, getattr(functions, _name)))
