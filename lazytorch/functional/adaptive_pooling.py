"""Pooling to a given output size.

Output i of an axis covers [floor(i * n / m), ceil((i + 1) * n / m)). Where m divides n these are
ordinary windows. Otherwise regions differ in size, and each axis is reduced on its own over all
of its elements with a mask: both the mean over a rectangle and its first largest element can be
found one axis after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.functional.composite import (
    gathered,
    iota,
    is_nan,
    max_over,
    min_over,
    narrowed,
    permuted,
    reshaped,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.pooling import average, average_gradient, batched, max_pool
from lazytorch.functional.windows import regular
from lazytorch.ops.reduction import lowest
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

_AVERAGE = {
    dims: Rule(f"AdaptiveAvgPool{dims}DBackward0", (average_gradient,)) for dims in (1, 2, 3)
}


def _wanted(input: Tensor, output_size: Any, dims: int, function: str) -> Shape:
    extents = shape_of(input)[-dims:]
    if isinstance(output_size, int):
        sizes: Sequence[Any] = (output_size,) * dims
    else:
        sizes = tuple(output_size)
        if len(sizes) == 1:
            sizes = sizes * dims
    if len(sizes) != dims:
        raise RuntimeError(
            f"{function}() argument 'output_size' should contain {dims} int, got {list(sizes)} "
            f"(got {len(sizes)})"
        )
    chosen = tuple(extent if size is None else int(size) for size, extent in zip(sizes, extents))
    if any(size < 0 for size in chosen):
        raise RuntimeError(
            f"{function}: elements of output_size must be greater than or equal to 0, but the "
            f"result would be {[*shape_of(input)[:-dims], *chosen]}"
        )
    return chosen


def _checked(
    input: Tensor, output_size: Any, dims: int, function: str
) -> tuple[Tensor, bool, Shape]:
    """The input with a batch axis, whether it had one, and the extents of the result."""
    if dims > 1 and not isinstance(output_size, int) and len(shape_of(input)) <= dims:
        raise ValueError(f"Input dimension should be at least {dims + 1}")
    x, had_batch = batched(input, dims, function)
    return x, had_batch, _wanted(x, output_size, dims, function)


def _region(extent: int, found: int, like: Tensor) -> tuple[Any, Any]:
    """First and past-the-last element of each output's region, as columns."""
    number: Any = reshaped(iota(found, like, dtypes.int64), (found, 1))
    start = functions.floor_divide(number * extent, found)
    stop = functions.floor_divide((number + 1) * extent + (found - 1), found)
    return start, stop


def _masked(x: Tensor, axis: int, found: int, fill: Any) -> tuple[Tensor, Any, Any]:
    """x (..., axis, ...) with ``axis`` last, seen once for each output: (..., found, extent)."""
    rank = len(shape_of(x))
    order = [*(number for number in range(rank) if number != axis), axis]
    moved = permuted(x, order)
    shape = shape_of(moved)
    extent = shape[-1]
    start, stop = _region(extent, found, x)
    place = iota(extent, x, dtypes.int64)
    inside = (place >= start) & (place < stop)  # type: ignore[operator]
    spread = reshaped(moved, (*shape[:-1], 1, extent))
    return where(inside, spread, fill), inside, stop - start


def _back(x: Tensor, axis: int) -> Tensor:
    """The last axis moved to ``axis``."""
    last = len(shape_of(x)) - 1
    return permuted(x, [*range(axis), last, *range(axis, last)])


def _average_axis(x: Tensor, axis: int, found: int) -> Tensor:
    values, _, sizes = _masked(x, axis, found, 0)
    total: Any = sum_over(values, (len(shape_of(values)) - 1,), keep=False)
    return _back(total / narrowed(reshaped(sizes, (found,)), x), axis)


def adaptive_avg_pool(dims: int, input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` regions."""
    function = f"adaptive_avg_pool{dims}d"
    x, had_batch, wanted = _checked(input, output_size, dims, function)
    extents = shape_of(x)[-dims:]
    if 0 in wanted:
        out = functions.zeros((*shape_of(x)[:-dims], *wanted), dtype=x.dtype, device=x.device)
    elif all(extent % size == 0 for extent, size in zip(extents, wanted)):
        out = average(x, regular(extents, wanted), True, None, _AVERAGE[dims])
    else:
        wide = widened(x)
        for number in range(dims):
            if wanted[number] != extents[number]:
                wide = _average_axis(wide, len(shape_of(x)) - dims + number, wanted[number])
        out = narrowed(wide, x)
    return out if had_batch else reshaped(out, shape_of(out)[1:])


def _max_axis(
    x: Tensor, where_at: Tensor | None, axis: int, found: int
) -> tuple[Tensor, Tensor, Any]:
    """The maximum along an axis, its position there, and ``where_at`` of the chosen elements."""
    fill = lowest(dtype_of(x))
    with no_grad():
        values, inside, _ = _masked(x, axis, found, fill)
        last = len(shape_of(values)) - 1
        largest = max_over(values, (last,))
        candidate: Any = (values == largest) & inside
        if dtype_of(x).kind == "f":
            candidate = candidate | (is_nan(values) & inside)
        extent = shape_of(values)[last]
        place = iota(extent, x, dtypes.int64)
        first = min_over(where(candidate, place, extent - 1), (last,), keep=False)
    chosen = _back(first, axis)
    below = None if where_at is None else gathered(where_at, chosen, axis)
    return gathered(x, chosen, axis), chosen, below


def adaptive_max_pool(
    dims: int, input: Tensor, output_size: Any, return_indices: bool = False
) -> Any:
    """The maximum of each of ``output_size`` regions, and where it was found."""
    function = f"adaptive_max_pool{dims}d"
    x, had_batch, wanted = _checked(input, output_size, dims, function)
    extents = shape_of(x)[-dims:]
    if 0 in wanted:
        shape = (*shape_of(x)[:-dims], *wanted)
        empty = functions.zeros(shape, dtype=x.dtype, device=x.device)
        results = [empty, functions.zeros(shape, dtype=dtypes.int64, device=x.device)]
    elif all(extent % size == 0 for extent, size in zip(extents, wanted)):
        size = tuple(extent // number for extent, number in zip(extents, wanted))
        results = list(max_pool(dims, x, size, size, 0, 1, False, True))
    else:
        results = list(_uneven_max(x, dims, extents, wanted))
    if not had_batch:
        results = [reshaped(result, shape_of(result)[1:]) for result in results]
    return tuple(results) if return_indices else results[0]


def _uneven_max(x: Tensor, dims: int, extents: Shape, wanted: Shape) -> tuple[Tensor, Tensor]:
    flat: Any = None
    scale = 1
    lead = len(shape_of(x)) - dims
    # From the last axis to the first: the first row that holds the maximum decides.
    for number in reversed(range(dims)):
        place: Any
        x, place, below = _max_axis(x, flat, lead + number, wanted[number])
        flat = place if below is None else place * scale + below
        scale *= extents[number]
    return x, cast(flat, dtypes.int64)
