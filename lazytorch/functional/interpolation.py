"""interpolate: nearest, linear in one to three dimensions, cubic, and by area.

Every mode but 'area' treats one axis after the other: output position i lies at a real position
of the input, and its value is a weighted sum of a few neighbours read with a gather. Positions
and weights are computed from i inside the kernel.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.functional.adaptive_pooling import adaptive_avg_pool
from lazytorch.functional.composite import (
    expanded,
    gathered,
    iota,
    larger,
    narrowed,
    require_tensor,
    reshaped,
    smaller,
    widened,
)
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
_MODES = ("nearest", "nearest-exact", "area", "bicubic", *_LINEAR)

# The cubic convolution kernel's parameter: R. Keys, "Cubic convolution interpolation for digital
# image processing", 1981, with the value PyTorch uses.
_CUBIC = -0.75


def _along(values: Any, axis: int, rank: int) -> Any:
    """A vector laid along one axis."""
    return reshaped(
        values, tuple(shape_of(values)[0] if place == axis else 1 for place in range(rank))
    )


def _limited(place: Any, extent: int) -> Any:
    return smaller(larger(place, 0), extent - 1)


def _nearest(x: Tensor, axis: int, wanted: int, scale: float, exact: bool) -> Tensor:
    shape = shape_of(x)
    extent = shape[axis]
    times = wanted // extent if extent else 0
    if wanted == extent * times and scale == 1 / times:
        split = reshaped(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
        spread = expanded(split, (*shape[: axis + 1], times, *shape[axis + 1 :]))
        return reshaped(spread, (*shape[:axis], wanted, *shape[axis + 1 :]))
    position: Any = cast(iota(wanted, x), dtypes.float32)
    position = (position + 0.5) * scale if exact else position * scale
    place = _limited(cast(functions.floor(position), dtypes.int64), extent)
    return gathered(x, _along(place, axis, len(shape)), axis)


def _real_position(x: Tensor, wanted: int, scale: float, corners: bool, cubic: bool) -> Any:
    position: Any = cast(iota(wanted, x), dtype_of(x))
    if corners:
        return position * scale
    position = (position + 0.5) * scale - 0.5
    return position if cubic else larger(position, 0)


def _linear(x: Tensor, axis: int, wanted: int, scale: float, corners: bool) -> Tensor:
    extent, rank = shape_of(x)[axis], len(shape_of(x))
    position = _real_position(x, wanted, scale, corners, False)
    floor = functions.floor(position)
    below = _limited(cast(floor, dtypes.int64), extent)
    above = _limited(below + 1, extent)
    share = _along(_limited_share(position - cast(below, dtype_of(x))), axis, rank)
    first: Any = gathered(x, _along(below, axis, rank), axis)
    second: Any = gathered(x, _along(above, axis, rank), axis)
    return first * (1 - share) + second * share  # type: ignore[no-any-return]


def _limited_share(share: Any) -> Any:
    return smaller(larger(share, 0), 1)


def _near(t: Any) -> Any:
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1


def _far(t: Any) -> Any:
    return ((t - 5) * t + 8) * t * _CUBIC - 4 * _CUBIC


def cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """The weights of the four pixels around a point that is ``t`` beyond the second."""
    return _far(t + 1), _near(t), _near(1 - t), _far(2 - t)


def _cubic(x: Tensor, axis: int, wanted: int, scale: float, corners: bool) -> Tensor:
    extent, rank = shape_of(x)[axis], len(shape_of(x))
    position = _real_position(x, wanted, scale, corners, True)
    floor = functions.floor(position)
    t = position - floor
    place = cast(floor, dtypes.int64)
    total: Any = None
    for step, weight in enumerate(cubic_weights(t)):
        index = _along(_limited(place + (step - 1), extent), axis, rank)
        term = gathered(x, index, axis) * _along(weight, axis, rank)
        total = term if total is None else total + term
    return total  # type: ignore[no-any-return]


def _step(extent: int, wanted: int, factor: float | None, corners: bool) -> float:
    """How far one output step goes in the input."""
    if corners:
        return (extent - 1) / (wanted - 1) if wanted > 1 else 0.0
    if factor is not None:
        return 1.0 / factor
    return extent / wanted


def _sizes(
    extents: Shape, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[Shape, list[Any]]:
    dims = len(extents)
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "either size or scale_factor should be defined"
            if size is None
            else "only one of size or scale_factor should be defined"
        )
    given = size if scale_factor is None else scale_factor
    numbers = (given,) * dims if isinstance(given, (int, float)) else tuple(given)
    if len(numbers) != dims:
        name = "output shape" if scale_factor is None else "scale_factor"
        raise ValueError(
            f"Input and {name} must have the same number of spatial dimensions, but got input with "
            f"spatial dimensions of {list(extents)} and {name} of {given}."
        )
    if scale_factor is None:
        return tuple(int(number) for number in numbers), [None] * dims
    wanted = tuple(math.floor(float(extent) * factor) for extent, factor in zip(extents, numbers))
    return wanted, [None] * dims if recompute else list(numbers)


def _check_mode(rank: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _MODES:
        raise NotImplementedError(
            f"Input Error: only {', '.join(_MODES)} modes are supported (got {mode})"
        )
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | "
                "bilinear | bicubic | trilinear"
            )
    needed = _LINEAR.get(mode, 2 if mode == "bicubic" else rank - 2)
    if rank not in (3, 4, 5) or needed != rank - 2:
        raise NotImplementedError(
            "Input Error: Only 3D, 4D and 5D input Tensors supported (got "
            f"{rank}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | area | "
            f"nearest-exact (got {mode})"
        )
    if antialias:
        raise NotImplementedError(
            "antialias=True is not supported yet: shrink with mode='area' instead"
        )


_NAMES = {
    "nearest": "UpsampleNearestND", "nearest-exact": "UpsampleNearestExactND",
    "linear": "UpsampleLinear1D", "bilinear": "UpsampleBilinear2D",
    "bicubic": "UpsampleBicubic2D", "trilinear": "UpsampleTrilinear3D",
}  # fmt: skip


def _name(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any,
    **__: Any,
) -> str | None:  # fmt: skip
    known = _NAMES.get(mode)
    return known and known.replace("N" + "D", f"{input.ndim - 2}D") + "Backward0"


@shown_as(_name)
def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:  # fmt: skip
    """(N, C, ...) resized to ``size`` or by ``scale_factor``.

    Modes: nearest, nearest-exact, linear, bilinear, trilinear, bicubic, area. ``antialias``
    raises NotImplementedError.
    """
    require_tensor(input, "interpolate", "input", 1)
    shape = shape_of(input)
    _check_mode(len(shape), mode, align_corners, antialias)
    if recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    wanted, factors = _sizes(shape[2:], size, scale_factor, recompute_scale_factor)
    if any(extent < 1 for extent in (*wanted, *shape[2:])):
        raise RuntimeError(
            f"Input and output sizes should be greater than 0, but got input {list(shape[2:])} and "
            f"output {list(wanted)}"
        )
    if mode == "area":
        return adaptive_avg_pool(len(wanted), input, wanted)
    exact = mode == "nearest-exact"
    corners = bool(align_corners)
    x = input if mode.startswith("nearest") else widened(input)
    for place, (extent, target, factor) in enumerate(zip(shape[2:], wanted, factors)):
        step = _step(extent, target, factor, corners)
        axis = place + 2
        if mode.startswith("nearest"):
            x = _nearest(x, axis, target, step, exact)
        elif mode == "bicubic":
            x = _cubic(x, axis, target, step, corners)
        elif extent != target or step != 1.0:
            x = _linear(x, axis, target, step, corners)
    if x is input:
        return functions.clone(input)  # type: ignore[no-any-return]
    return narrowed(x, input)


def _deprecated(name: str) -> None:
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.",
        stacklevel=3,
    )


def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """The old name of :func:`interpolate`."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``interpolate`` with mode 'nearest'."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``interpolate`` with mode 'bilinear' and aligned corners."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)
