"""Medians and quantiles, with and without NaN: sorted once, then read at computed ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.tape import label
from lazytorch.functional import results
from lazytorch.functional.composite import detached, reshaped
from lazytorch.functional.ordering import sort
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


# Medians --------------------------------------------------------------------------------------


def _medians(name: str, input: Tensor, dim: int, keepdim: bool, skip_nan: bool) -> tuple[Any, Any]:
    """(values, indices) of the lower medians along a dimension, which stays if ``keepdim``."""
    if dtype_of(input).kind in "bc":
        raise NotImplementedError(
            f"\"median_cpu\" not implemented for '{scalar_name(dtype_of(input))}'"
        )
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not shape:
        return functions.clone(input), functions.zeros((), dtype=dtypes.int64, device=input._device)
    if not shape[axis]:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    ordered, order = sort(input, axis)
    counts: Any = shape[axis]
    place: Any = functions.full((1,) * len(shape), (counts - 1) // 2, device=input._device)
    if dtype_of(input).kind == "f":
        # NaN sorts last: a median that minds them is the last element where there is one.
        spoiled = functions.isnan(detached(input))
        if skip_nan:
            counts = shape[axis] - functions.sum(spoiled, axis, keepdim=True)
            place = functions.clamp((counts - 1) // 2, min=0)
        else:
            place = functions.where(functions.any(spoiled, axis, True), shape[axis] - 1, place)
    extents = [1 if number == axis else extent for number, extent in enumerate(shape)]
    place = functions.broadcast_to(place, extents)
    values, indices = (functions.gather(part, axis, place) for part in (ordered, order))
    if not keepdim:
        values, indices = functions.squeeze(values, axis), functions.squeeze(indices, axis)
    return values, indices


def _of_all(name: str, input: Tensor, skip_nan: bool) -> Tensor:
    if not input.numel():  # type: ignore[attr-defined]
        return functions.full((), float("nan"), dtype=dtype_of(input), device=input._device)
    flat = reshaped(input, (input.numel(),))  # type: ignore[attr-defined]
    values: Tensor = _medians(name, flat, 0, False, skip_nan)[0]
    return values


@public()
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The (lower) median of all elements, or (values, indices) along a dimension.

    NaN where one occurs. ``IndexError`` along an empty dimension.

    >>> median(tensor([3., 1., 2., 4.]))
    tensor(2.)
    """
    if dim is None:
        return label(_of_all("median", input, False), "MedianBackward0")
    values, indices = _medians("median", input, dim, keepdim, False)
    return results.Median(label(values, "MedianBackward1"), indices)


@public()
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """``median`` of what is not NaN; NaN where nothing else is.

    >>> nanmedian(tensor([3., float("nan"), 1., 2.]))
    tensor(2.)
    """
    if dim is None:
        return label(_of_all("nanmedian", input, True), "NanmedianBackward0")
    values, indices = _medians("nanmedian", input, dim, keepdim, True)
    return results.NanMedian(label(values, "NanmedianBackward1"), indices)


# Quantiles ------------------------------------------------------------------------------------


def _checked_points(input: Tensor, q: Any, interpolation: str) -> tuple[Tensor, bool]:
    """The quantiles wanted, as a vector of the input's dtype, and whether it was one number."""
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            "quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )
    if dtype_of(input) not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(
            "quantile() input tensor must be either float or double dtype, but got "
            f"{dtype_of(input)!r}"
        )
    if 0 in shape_of(input):
        raise RuntimeError("quantile() input tensor must be non-empty")
    if not isinstance(q, Tensor):
        if isinstance(q, (bool, list, tuple)) or not isinstance(q, (int, float, np.number)):
            raise TypeError(
                f"quantile(): argument 'q' must be float or Tensor, not {type(q).__name__}"
            )
        if not 0 <= q <= 1:
            raise RuntimeError(f"quantile() q must be in the range [0, 1] but got {q:g}")
        return functions.full((1,), float(q), dtype=dtype_of(input), device=input._device), True
    if len(shape_of(q)) > 1:
        raise RuntimeError("quantile() q must be a scalar or 1D tensor")
    if dtype_of(q) is not dtype_of(input):
        raise RuntimeError("quantile() q tensor must be same dtype as the input tensor")
    values = every_value(q)
    if not ((values >= 0) & (values <= 1)).all():
        raise RuntimeError("quantile() q values must be in the range [0, 1]")
    return reshaped(q, (count(shape_of(q)),)), not shape_of(q)


def _quantiles(
    input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool
) -> Tensor:
    points, single = _checked_points(input, q, interpolation)
    shape = shape_of(input)
    axis = normalize_axis(0 if dim is None else dim, len(shape))
    flat = dim is None or not shape
    values = functions.reshape(input, (-1,)) if flat else functions.movedim(input, axis, -1)
    last = shape_of(values)[-1] - 1
    ordered = sort(values, -1).values
    spoiled = functions.isnan(detached(ordered))
    if skip_nan:
        top: Any = last - functions.sum(spoiled, -1, keepdim=True)
        rank = points * cast(functions.clamp(top, min=0), dtype_of(input))
    else:
        rank = functions.where(functions.any(spoiled, -1, True), float(last), points * last)  # type: ignore[operator]
    out = _read_between(ordered, rank, interpolation)
    # The quantiles come first; what was reduced may stay with size 1.
    out = functions.movedim(out, -1, 0)
    if keepdim:
        kept = [1] * len(shape) if dim is None else list(shape)
        if kept and dim is not None:
            kept[axis] = 1
        out = functions.reshape(out, [shape_of(points)[0], *kept])
    return functions.squeeze(out, 0) if single else out


def _read_between(ordered: Tensor, rank: Any, interpolation: str) -> Tensor:
    """Elements along the last axis at fractional ranks."""
    place = {"higher": functions.ceil, "nearest": functions.round}.get(
        interpolation, functions.floor
    )(rank)
    below = functions.gather(ordered, -1, cast(place, dtypes.int64))
    if interpolation not in ("linear", "midpoint"):
        return below
    above = functions.gather(ordered, -1, cast(functions.ceil(rank), dtypes.int64))
    middle = interpolation == "midpoint"
    weight = functions.full_like(rank, 0.5) if middle else rank - place
    return functions.lerp(below, above, weight)


@public()
@shown_as("SqueezeBackward4")
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Tensor:  # fmt: skip
    """Quantiles along a dimension (of all elements without one), as NumPy defines them.

    ``q``: a number in [0, 1], or a scalar or vector of the input's dtype; those of a vector are
    the result's first axis. NaN where one occurs. ``RuntimeError`` for other values, dtypes than
    float32 and float64, and empty inputs.

    >>> quantile(tensor([1., 2., 3., 4.]), 0.5)
    tensor(2.5000)
    """
    return _quantiles(input, q, dim, keepdim, interpolation, skip_nan=False)


@public()
@shown_as("SqueezeBackward4")
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Tensor:  # fmt: skip
    """``quantile`` of what is not NaN; NaN where nothing else is.

    >>> nanquantile(tensor([1., float("nan"), 3.]), 0.5)
    tensor(2.)
    """
    return _quantiles(input, q, dim, keepdim, interpolation, skip_nan=True)
