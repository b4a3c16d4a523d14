"""Fractional max pooling: windows of one size at random places that grow evenly.

B. Graham, "Fractional max-pooling", 2015. Window i of an axis begins at
``floor((i + u) a) - floor(u a)`` with one uniform number u a channel, where a is the step
``(extent - size) / (windows - 1)``; the last window ends with the axis.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.functional.composite import (
    detached,
    gathered,
    iota,
    is_nan,
    max_over,
    min_over,
    reshaped,
)
from lazytorch.functional.conv_arguments import per_axis
from lazytorch.functional.elementwise import where
from lazytorch.functional.pooling import batched
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]


def _starts(sample: Any, extent: int, size: int, windows: int) -> Any:
    """Where windows begin, (N, C, windows), from one number in [0, 1) a channel, (N, C, 1)."""
    last = extent - size
    number: Any = iota(windows, sample, dtypes.int64)
    if windows == 1:
        return where(number == 0, last, 0) + cast(sample * 0, dtypes.int64)
    step = last / (windows - 1)
    moved = (cast(number, dtype_of(sample)) + sample) * step
    begin = cast(moved, dtypes.int64) - cast(sample * step, dtypes.int64)
    return where(number == windows - 1, last, begin)


def _positions(samples: Tensor, extents: Shape, size: Shape, windows: Shape) -> Any:
    """Flat positions of every window's elements, (N, C, all windows, elements of one)."""
    dims = len(extents)
    batch, channels = shape_of(samples)[:2]
    flat: Any = 0
    for axis in range(dims):
        # Images draw for their width first, volumes for their depth first.
        column = dims - 1 - axis if dims == 2 else axis
        sample = functions.narrow(samples, 2, column, 1)
        begin = _starts(sample, extents[axis], size[axis], windows[axis])
        places = [1] * dims
        places[axis] = windows[axis]
        begin = reshaped(begin, (batch, channels, *places, *(1,) * dims))
        offset = [1] * dims
        offset[axis] = size[axis]
        inner: Any = reshaped(iota(size[axis], samples, dtypes.int64), offset)
        flat = flat * extents[axis] + (begin + inner)
    return reshaped(flat, (batch, channels, count(windows), count(size)))


def _chosen(x: Tensor, positions: Any) -> Any:
    """The position of the first largest element (or NaN) of each window."""
    batch, channels, windows, volume = shape_of(positions)
    values = gathered(x, reshaped(positions, (batch, channels, windows * volume)), 2)
    values = reshaped(values, shape_of(positions))
    found: Any = values == max_over(values, (3,))
    if dtype_of(values).kind == "f":
        found = found | is_nan(values)
    place = where(found, iota(volume, x, dtypes.int64), volume - 1)
    first = min_over(place, (3,))
    return reshaped(gathered(positions, first, 3), (batch, channels, windows))


def _check(x: Tensor, size: Shape, windows: Shape, samples: Any, name: str) -> None:
    dims = len(size)
    shape = shape_of(x)
    for axis, (extent, width, wanted) in enumerate(zip(shape[2:], size, windows)):
        if width <= 0 or wanted <= 0:
            raise RuntimeError(
                f"{name}(): kernel_size and output_size must be greater than zero, but got "
                f"{list(size)} and {list(windows)}"
            )
        if wanted + width - 1 > extent:
            raise RuntimeError(
                f"{name}(): pool size {width} too large relative to input size {extent} for "
                f"{wanted} windows (spatial dimension {axis})"
            )
    if dtype_of(x).kind != "f":
        raise NotImplementedError(f'"{name}" not implemented for {dtype_of(x)!r}')
    if dtype_of(samples) is not dtype_of(x):
        raise RuntimeError("Expect _random_samples to have the same dtype as input")
    have = shape_of(samples)
    if len(have) != 3 or have[0] < shape[0] or have[1] < shape[1] or have[2] != dims:
        raise RuntimeError(
            f"Expect _random_samples of shape {[*shape[:2], dims]}, got {list(have)}"
        )


def _pooled(
    input: Tensor, dims: int, kernel_size: Any, output_size: Any, samples: Tensor | None, name: str
) -> tuple[Tensor, Tensor]:
    x, had_batch = batched(input, dims, name)
    size = per_axis(kernel_size, dims, "kernel_size", name)
    windows = per_axis(output_size, dims, "output_size", name)
    batch, channels, *extents = shape_of(x)
    if samples is None:
        samples = functions.rand(batch, channels, dims, dtype=dtype_of(x), device=x._device)
    assert samples is not None
    _check(x, size, windows, samples, name)
    flat = reshaped(x, (batch, channels, count(tuple(extents))))
    with no_grad():
        drawn = detached(samples)[:batch, :channels]  # type: ignore[index]
        places = _chosen(detached(flat), _positions(drawn, tuple(extents), size, windows))
    shape = (batch, channels, *windows)[0 if had_batch else 1 :]
    return reshaped(gathered(flat, places, 2), shape), reshaped(places, shape)


def _fractional_pools(dims: int) -> tuple[Any, Any]:
    name = f"fractional_max_pool{dims}d"

    def with_indices(
        input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
        return_indices: bool = False, _random_samples: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
        if output_size is None:
            ratios = (output_ratio,) * dims if isinstance(output_ratio, float) else output_ratio
            if len(ratios) != dims:
                raise ValueError(
                    f"{name} requires output_ratio to either be a single float or tuple of floats."
                )
            extents = shape_of(input)[-dims:]
            output_size = [int(extent * ratio) for extent, ratio in zip(extents, ratios)]
        return _pooled(input, dims, kernel_size, output_size, _random_samples, name)

    def pool(
        input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
        return_indices: bool = False, _random_samples: Tensor | None = None,
    ) -> Any:  # fmt: skip
        results = with_indices(
            input, kernel_size, output_size, output_ratio, return_indices, _random_samples
        )
        return results if return_indices else results[0]

    with_indices.__name__ = with_indices.__qualname__ = f"{name}_with_indices"
    with_indices.__doc__ = f"``{name}`` and the flat positions of the maxima in the input."
    pool.__name__ = pool.__qualname__ = name
    pool.__doc__ = (
        f"The maximum over randomly placed windows of {dims} spatial axes of (N, C, ...).\n\n"
        "``output_size`` is the number of windows an axis, or ``output_ratio`` their share of the "
        "extent. ``_random_samples`` (N, C, dims) in [0, 1) places them; drawn unless given. With "
        "``return_indices`` also flat positions in the input."
    )
    shown = shown_as(f"FractionalMaxPool{dims}DBackward0")
    return shown(pool), shown(with_indices)


fractional_max_pool2d, fractional_max_pool2d_with_indices = _fractional_pools(2)
fractional_max_pool3d, fractional_max_pool3d_with_indices = _fractional_pools(3)
