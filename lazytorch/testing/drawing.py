"""make_tensor: random values of any dtype, between bounds that the dtype can hold."""

from __future__ import annotations

import math
import warnings
from typing import Any

import lazytorch as torch
from lazytorch.dtypes import DType
from lazytorch.ops.shapes import count
from lazytorch.tensor.tensor import Tensor


def _limits(dtype: DType) -> tuple[float, float]:
    """The smallest value that may be drawn, and what no value may reach."""
    if dtype.kind == "b":
        return 0, 2
    if dtype.kind in "iu":
        info = torch.iinfo(dtype)
        # The bound of randint is an int64 itself.
        return info.min, info.max + (dtype is not torch.int64)
    return torch.finfo(dtype).min, torch.finfo(dtype).max


def _bounds(dtype: DType, low: float | None, high: float | None) -> tuple[float, float]:
    """The interval to draw from, within what the dtype holds; ``ValueError`` for an empty one."""
    lowest, end = _limits(dtype)
    whole = dtype.kind not in "fc"
    usual = (0, 2) if dtype.kind == "b" else (-9, 10) if whole else (-9, 9)
    low, high = (usual[0] if low is None else low), (usual[1] if high is None else high)
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"`low` and `high` cannot be NaN, but got low={low} and high={high}")
    if low == high and not whole:
        warnings.warn(
            "make_tensor with low==high is deprecated for floating point and complex numbers: "
            "torch.full makes a tensor of one value",
            FutureWarning,
            stacklevel=3,
        )
    elif low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    elif high < lowest or low >= end:
        raise ValueError(
            f"The value interval specified by `low` and `high` is [{low}, {high}), but {dtype} "
            f"only supports [{lowest}, {end})"
        )
    low, high = (min(max(bound, lowest), end) for bound in (low, high))
    return (math.ceil(low), math.ceil(high)) if whole else (low, high)


def _uniform(shape: tuple[int, ...], dtype: DType, device: Any, low: float, high: float) -> Tensor:
    if dtype.kind == "c":
        parts = _uniform((*shape, 2), dtype.real, device, low, high)
        return torch.view_as_complex(parts)
    # Half of each bound: the whole interval can be wider than the dtype's largest number.
    drawn = torch.rand(shape, dtype=dtype, device=device)
    values: Tensor = (drawn * (high / 2 - low / 2) + low / 2) * 2
    return values.clamp(low, high)


def make_tensor(
    *shape: Any, dtype: DType, device: Any, low: float | None = None, high: float | None = None,
    requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Random values of ``dtype`` in [low, high), by default in [-9, 9), 9 itself among integers.

    Complex numbers have both parts in the interval. With ``noncontiguous`` the values lie apart
    in memory, the first one not at its beginning; with ``exclude_zero`` what would be 0 is 1, or
    the smallest normal number. ``ValueError`` for intervals without a value of the dtype.

    >>> torch.testing.make_tensor((2, 3), dtype=torch.uint8, device="cpu", low=1).shape
    torch.Size([2, 3])
    """
    first = shape[0] if len(shape) == 1 else None
    extents = tuple(first) if isinstance(first, (tuple, list)) else shape
    whole = dtype.kind not in "fc"
    if noncontiguous and memory_format is not None:
        raise ValueError(
            "The parameters `noncontiguous` and `memory_format` are mutually exclusive, but got "
            f"noncontiguous={noncontiguous} and memory_format={memory_format}"
        )
    if requires_grad and whole:
        raise ValueError(
            "`requires_grad=True` is not supported for boolean and integral dtypes, but got "
            f"dtype={dtype}"
        )
    apart = noncontiguous and count(extents) > 1
    drawn = (*extents[:-1], 2 * extents[-1]) if apart else extents
    low, high = _bounds(dtype, low, high)
    if whole:
        made = torch.randint(int(low), int(high), drawn, dtype=dtype, device=device)
    else:
        made = _uniform(drawn, dtype, device, low, high)
    if apart:
        made = made[..., 1::2]
    elif memory_format is not None:
        made = made.clone(memory_format=memory_format)
    if exclude_zero:
        made[made == 0] = 1 if whole else torch.finfo(dtype).tiny
    return made.requires_grad_() if requires_grad else made
