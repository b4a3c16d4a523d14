"""Sampling images and volumes at given points: grid_sample, and the grids of affine maps.

A point is mapped to pixel coordinates, brought inside by the padding mode, and its value is a sum
over the neighbouring pixels of value times weight: 2 ** d neighbours with linear weights
(M. Jaderberg et al., "Spatial transformer networks", 2015, equation 5), 4 x 4 with cubic ones.
Only the weights depend on the coordinates smoothly, so the gradients are those of this sum.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import by_rank, shown_as
from lazytorch.functional.composite import (
    gathered,
    iota,
    larger,
    narrowed,
    reshaped,
    smaller,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.interpolation import cubic_weights
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")

# Coordinates --------------------------------------------------------------------------------------


def _in_pixels(coordinate: Any, extent: int, corners: bool) -> Any:
    """From [-1, 1] to pixels; -1 and 1 are centres of the outer pixels, or their outer edges."""
    if corners:
        return (coordinate + 1) * ((extent - 1) / 2)
    return ((coordinate + 1) * extent - 1) / 2


def _clipped(pixel: Any, extent: int) -> Any:
    """Limited to the image; what lies on its edge or beyond has no slope."""
    return where(pixel <= 0, 0, where(pixel >= extent - 1, extent - 1, pixel))


def _reflected(pixel: Any, extent: int, corners: bool) -> Any:
    """Mirrored at the centres or at the outer edges of the outer pixels until it is inside."""
    low, span = (0.0, float(extent - 1)) if corners else (-0.5, float(extent))
    if not span:
        return pixel * 0
    distance = functions.abs(pixel - low)
    flips = functions.floor(distance / span)
    rest = distance - flips * span
    odd = functions.remainder(flips, 2) != 0
    return where(odd, span - rest, rest) + low


def _inside(pixel: Any, extent: int, padding: str, corners: bool) -> Any:
    if padding == "zeros":
        return pixel
    if padding == "reflection":
        pixel = _reflected(pixel, extent, corners)
    return _clipped(pixel, extent)


# Values -------------------------------------------------------------------------------------------


def _value(flat: Tensor, extents: Shape, places: list[Any]) -> Any:
    """Pixels (N, C, P) of images (N, C, pixels) at integer places (N, P); 0 outside."""
    position: Any = 0
    valid: Any = None
    for place, extent in zip(places, extents):
        within = (place >= 0) & (place < extent)
        valid = within if valid is None else valid & within
        position = position * extent + smaller(larger(place, 0), extent - 1)
    batch, points = shape_of(position)
    taken = gathered(flat, reshaped(position, (batch, 1, points)), 2)
    return where(reshaped(valid, (batch, 1, points)), taken, 0)


def _whole(pixel: Any) -> Any:
    return cast(pixel, dtypes.int64)


def _column(weight: Any) -> Any:
    batch, points = shape_of(weight)
    return reshaped(weight, (batch, 1, points))


def _nearest(flat: Tensor, extents: Shape, pixels: list[Any]) -> Any:
    return _value(flat, extents, [_whole(functions.round(pixel)) for pixel in pixels])


def _linear(flat: Tensor, extents: Shape, pixels: list[Any]) -> Any:
    floors = [functions.floor(pixel) for pixel in pixels]
    shares = [pixel - floor.detach() for pixel, floor in zip(pixels, floors)]
    lows = [_whole(floor) for floor in floors]
    total: Any = None
    for corner in itertools.product((0, 1), repeat=len(extents)):
        weight: Any = None
        for share, upper in zip(shares, corner):
            factor = share if upper else 1 - share
            weight = factor if weight is None else weight * factor
        places = [low + upper for low, upper in zip(lows, corner)]
        term = _value(flat, extents, places) * _column(weight)
        total = term if total is None else total + term
    return total


def _cubic(flat: Tensor, extents: Shape, pixels: list[Any], padding: str, corners: bool) -> Any:
    floors = [functions.floor(pixel).detach() for pixel in pixels]
    weights = [cubic_weights(pixel - floor) for pixel, floor in zip(pixels, floors)]
    total: Any = None
    for row in range(4):
        line: Any = None
        for column in range(4):
            steps = (row - 1, column - 1)
            moved = [
                _inside(floor + step, extent, padding, corners)
                for floor, step, extent in zip(floors, steps, extents)
            ]
            value = _value(flat, extents, [_whole(place) for place in moved])
            term = value * _column(weights[1][column])
            line = term if line is None else line + term
        line = line * _column(weights[0][row])
        total = line if total is None else total + line
    return total


# grid_sample --------------------------------------------------------------------------------------


def _check(input: Tensor, grid: Tensor, mode: str) -> None:
    shape, points = shape_of(input), shape_of(grid)
    sizes = f"input with sizes {list(shape)} and grid with sizes {list(points)}"
    if dtype_of(input) is not dtype_of(grid):
        raise RuntimeError(
            "grid_sampler(): expected input and grid to have same dtype, but input has "
            f"{dtype_of(input).name} and grid has {dtype_of(grid).name}"
        )
    if len(shape) not in (4, 5) or len(shape) != len(points):
        raise RuntimeError(
            "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but "
            f"got {sizes}"
        )
    if shape[0] != points[0]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got {sizes}"
        )
    if points[-1] != len(shape) - 2:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {len(shape) - 2} in last dimension, but "
            f"got grid with sizes {list(points)}"
        )
    for axis in range(2, len(shape)):
        if not shape[axis]:
            raise RuntimeError(
                "grid_sampler(): expected input to have non-empty spatial dimensions, but input "
                f"has sizes {list(shape)} with dimension {axis} being empty"
            )
    if mode == "bicubic" and len(shape) != 4:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if dtype_of(input).kind != "f":
        raise NotImplementedError(
            f'"grid_sampler_{len(shape) - 2}d_cpu" not implemented for {dtype_of(input)!r}: '
            "convert input and grid to a floating-point dtype"
        )


def _sampled(input: Tensor, grid: Tensor, mode: str, padding: str, corners: bool) -> Tensor:
    _check(input, grid, mode)
    batch, channels, *extents = shape_of(input)
    wanted = shape_of(grid)[1:-1]
    points = count(wanted)
    if not batch * channels * points:
        return input.new_zeros((batch, channels, *wanted))  # type: ignore[attr-defined, no-any-return]
    flat = reshaped(widened(input), (batch, channels, count(tuple(extents))))
    places = reshaped(widened(grid), (batch, points, len(extents)))
    pixels = []
    for axis, extent in enumerate(extents):
        # The last coordinate runs along the first spatial axis.
        coordinate = functions.select(places, 2, len(extents) - 1 - axis)
        pixel = _in_pixels(coordinate, extent, corners)
        pixels.append(pixel if mode == "bicubic" else _inside(pixel, extent, padding, corners))
    if mode == "bicubic":
        out = _cubic(flat, tuple(extents), pixels, padding, corners)
    else:
        out = (_nearest if mode == "nearest" else _linear)(flat, tuple(extents), pixels)
    return narrowed(reshaped(out, (batch, channels, *wanted)), input)


_ALIGNMENT = (
    "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. "
    "Please specify align_corners=True if the old behavior is desired. See the documentation of "
    "grid_sample for details."
)


@shown_as(by_rank("GridSamplerNDBackward0"))
def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """The input's values at the points of ``grid``.

    ``input`` is (N, C, H, W) or (N, C, D, H, W); ``grid`` (N, ..., 2 or 3) holds points as
    (x, y[, z]) in [-1, 1], x along the last axis of the input. The result has the grid's shape
    with C channels. Modes: bilinear (trilinear for volumes), nearest (halves to even), bicubic
    (images only). Beyond the edges ``padding_mode`` takes 0 ('zeros'), the nearest pixel
    ('border') or the mirror image ('reflection'). ``align_corners`` lets -1 and 1 mean the centres
    of the outer pixels instead of their outer edges.

    >>> grid_sample(torch.arange(4.).reshape(1, 1, 2, 2), torch.zeros(1, 1, 1, 2),
    ...             align_corners=False)
    tensor([[[[1.5000]]]])
    """
    if mode not in _MODES:
        raise ValueError(
            "nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', "
            f"but got: '{mode}'"
        )
    if padding_mode not in _PADDINGS:
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
            f"'reflection', but got: '{padding_mode}'"
        )
    if align_corners is None:
        warnings.warn(_ALIGNMENT, stacklevel=3)
    return _sampled(input, grid, mode, padding_mode, bool(align_corners))


def _by_numbers(name: str, dims: int | None) -> None:
    """``torch.grid_sampler*``: mode and padding as numbers."""

    def sampler(
        input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
        align_corners: bool,
    ) -> Tensor:  # fmt: skip
        if dims is not None and len(shape_of(input)) != dims + 2:
            raise RuntimeError(
                f"{name}(): expected an input of {dims + 2} dimensions, got {list(input.shape)}"
            )
        if not (0 <= interpolation_mode < 3 and 0 <= padding_mode < 3):
            raise RuntimeError(
                f"{name}(): interpolation_mode and padding_mode are 0, 1 or 2, got "
                f"{interpolation_mode} and {padding_mode}"
            )
        mode, padding = _MODES[interpolation_mode], _PADDINGS[padding_mode]
        return _sampled(input, grid, mode, padding, align_corners)

    sampler.__name__ = sampler.__qualname__ = name
    sampler.__doc__ = (
        "``grid_sample`` with its modes as numbers: bilinear, nearest, bicubic; zeros, border, "
        "reflection."
    )
    public(method=False, out=False)(sampler)


for _name, _dims in (("grid_sampler", None), ("grid_sampler_2d", 2), ("grid_sampler_3d", 3)):
    _by_numbers(_name, _dims)


# Affine grids -------------------------------------------------------------------------------------


def _steps(extent: int, like: Tensor, corners: bool) -> Any:
    """Coordinates of ``extent`` pixels in [-1, 1]."""
    numbers: Any = cast(iota(extent, like), dtype_of(like))
    if corners:
        return numbers * (2 / (extent - 1)) - 1 if extent > 1 else numbers
    return (numbers * 2 + (1 - extent)) / extent


@public(method=False, out=False)
def affine_grid_generator(theta: Tensor, size: Any, align_corners: bool) -> Tensor:
    """Points of affine maps ``theta`` (N, d, d + 1) for an image of ``size`` (N, C, ...)."""
    batch, _, *extents = size
    dims = len(extents)
    axes: list[Any] = []
    for axis, extent in enumerate(extents):
        shape = [1] * dims
        shape[axis] = extent
        along = reshaped(_steps(extent, theta, align_corners), shape)
        axes.insert(0, functions.expand_copy(along, extents).reshape(-1, 1))
    points = functions.cat([*axes, functions.ones_like(axes[0])], 1)
    moved = functions.matmul(points, functions.transpose(theta, 1, 2))
    return reshaped(moved, (batch, *extents, dims))


def affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:
    """The grid for ``grid_sample`` of affine maps.

    ``theta`` is (N, 2, 3) for ``size`` (N, C, H, W), or (N, 3, 4) for (N, C, D, H, W); the grid is
    (N, H, W, 2) or (N, D, H, W, 3).

    >>> affine_grid(torch.eye(2, 3)[None], (1, 1, 1, 2), align_corners=True)
    tensor([[[[-1.,  0.],
              [ 1.,  0.]]]])
    """
    if dtype_of(theta).kind != "f":
        raise ValueError(f"Expected theta to have floating point type, but got {dtype_of(theta)!r}")
    sizes = tuple(size)
    dims = len(sizes) - 2
    if dims not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
            f"respectively. Got size {size}."
        )
    if len(shape_of(theta)) != 3 or shape_of(theta)[1:] != (dims, dims + 1):
        raise ValueError(
            f"Expected a batch of {dims}D affine matrices of shape Nx{dims}x{dims + 1} for size "
            f"{size}. Got {theta.shape}."
        )
    if min(sizes) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    if align_corners is None:
        warnings.warn(_ALIGNMENT, stacklevel=2)
    return affine_grid_generator(theta, sizes, bool(align_corners))
