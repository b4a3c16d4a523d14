"""Max, average and power pooling over windows of 1 to 3 spatial axes.

Forward: padding, a view of every window, one reduction. Backward of the maximum: each window
remembers the number of its first largest element (a byte), and the gradient is a map that
compares it with the position of each element; no scatter.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, attach_many
from lazytorch.dtypes import DType
from lazytorch.functional.composite import (
    expanded,
    iota,
    is_nan,
    larger,
    max_over,
    min_over,
    narrowed,
    require_tensor,
    reshaped,
    smaller,
    sum_over,
    widened,
)
from lazytorch.functional.conv_arguments import per_axis
from lazytorch.functional.elementwise import where
from lazytorch.functional.windows import Windows, cut, overlay
from lazytorch.ops.reduction import lowest
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.templates import repeated, repeated_gradient
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

# Arguments --------------------------------------------------------------------------------------


def batched(input: Tensor, dims: int, function: str) -> tuple[Tensor, bool]:
    """The input with a batch axis, and whether it had one."""
    require_tensor(input, function, "input", 1)
    shape = shape_of(input)
    if len(shape) not in (dims + 1, dims + 2) or 0 in shape[-dims - 1 :]:
        raise RuntimeError(
            f"{function}: Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with optional 0 "
            f"dim batch size for input, but got: {list(shape)}"
        )
    return (input, True) if len(shape) == dims + 2 else (reshaped(input, (1, *shape)), False)


def _count(extent: int, size: int, step: int, pad: int, gap: int, ceil_mode: bool) -> int:
    """How many windows an axis has; with ``ceil_mode`` the last may stick out."""
    room = extent + 2 * pad - gap * (size - 1) - 1
    found = (room + (step - 1 if ceil_mode else 0)) // step + 1
    if ceil_mode and (found - 1) * step >= extent + pad:
        # A window must begin inside the input or its padding on the low side.
        found -= 1
    return found


def _window_sizes(
    dims: int, kernel: Any, stride: Any, padding: Any, dilation: Any, function: str
) -> tuple[Shape, Shape, Shape, Shape]:
    """Size, step, padding and dilation of windows, checked before the input is looked at."""
    size = per_axis(kernel, dims, "kernel_size", function)
    step = (
        size
        if stride is None or stride == [] or stride == ()
        else per_axis(stride, dims, "stride", function)
    )
    pad = per_axis(padding, dims, "padding", function)
    gap = per_axis(dilation, dims, "dilation", function)
    if any(number <= 0 for number in size):
        raise RuntimeError(f"kernel size should be greater than zero, but got {list(size)}")
    if any(number <= 0 for number in step):
        raise RuntimeError(f"stride should be greater than zero, but got {list(step)}")
    if any(number <= 0 for number in gap):
        raise RuntimeError(f"dilation should be greater than zero, but got dilation {list(gap)}")
    for number, extent, width in zip(pad, size, gap):
        if number < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {number}")
        if number > ((extent - 1) * width + 1) // 2:
            raise RuntimeError(
                "pad should be at most half of effective kernel size, but got "
                f"pad={number}, kernel_size={extent} and dilation={width}"
            )
    return size, step, pad, gap


def _windows(
    input: Tensor, size: Shape, step: Shape, pad: Shape, gap: Shape, ceil_mode: bool
) -> Windows:
    """The windows of an input that has a batch axis."""
    extents = shape_of(input)[-len(size) :]
    found = tuple(_count(*numbers, ceil_mode) for numbers in zip(extents, size, step, pad, gap))
    if any(number <= 0 for number in found):
        channels = shape_of(input)[1]
        before = "x".join(map(str, (channels, *extents)))
        after = "x".join(map(str, (channels, *found)))
        raise RuntimeError(
            f"Given input size: ({before}). Calculated output size: ({after}). Output size is too "
            "small"
        )
    return Windows(extents, size, step, gap, found, pad)


def _last(dims: int, rank: int) -> tuple[int, ...]:
    return tuple(range(rank - dims, rank))


# Maximum ----------------------------------------------------------------------------------------


def _numbers(windows: Windows, like: Tensor, dtype: DType) -> Tensor:
    """The number of each position inside a window, in the window's shape."""
    return reshaped(cast(iota(windows.volume, like), dtype), windows.size)


def _max_gradient(g: Any, extra: Any, attrs: Any) -> Any:
    return _put_back(g[0] if isinstance(g, list) else g, extra, attrs[0])


@repeated_gradient
def _put_back(g: Any, first: Any, windows: Windows) -> Any:
    shape = shape_of(g)
    ones = (1,) * len(windows.size)
    chosen = reshaped(first, (*shape, *ones)) == _numbers(windows, g, dtype_of(first))
    return overlay(where(chosen, reshaped(g, (*shape, *ones)), 0), windows)


def _max_rule(dims: int, indices: bool) -> Rule:
    with_indices = "WithIndices" if indices else ""
    return Rule(f"MaxPool{dims}D{with_indices}Backward0", (_max_gradient,))


_MAX_RULES = {dims: _max_rule(dims, True) for dims in (1, 2, 3)}


def _first_largest(values: Tensor, largest: Tensor, windows: Windows) -> Tensor:
    """The number of the first element of each window that is its maximum, or its NaN."""
    dims = len(windows.size)
    shape = shape_of(largest)
    axes = _last(dims, len(shape_of(values)))
    spread = reshaped(largest, (*shape, *(1,) * dims))
    found: Any = values == spread
    if dtype_of(values).kind == "f":
        found = found | is_nan(values)
    # A byte holds the number of a position in most windows: a quarter of what is written.
    dtype = dtypes.uint8 if windows.volume <= 256 else dtypes.int32
    numbers = _numbers(windows, values, dtype)
    return min_over(where(found, numbers, windows.volume - 1), axes, keep=False)


@repeated
def _largest(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and the number of its first element that is it."""
    values = cut(x, windows, lowest(dtype_of(x)))
    out = max_over(values, _last(len(windows.size), len(shape_of(values))), keep=False)
    return out, _first_largest(values, out, windows)


@repeated
def _flat_positions(first: Tensor, windows: Windows) -> Tensor:
    """Where in the unpadded input the chosen elements lie, as int64 counted row by row."""
    rest: Any = cast(first, dtypes.int64)
    rank = len(shape_of(first))
    dims = len(windows.size)
    flat: Any = 0
    scale = 1
    for number in reversed(range(dims)):
        size = windows.size[number]
        offset = functions.remainder(rest, size)
        rest = functions.floor_divide(rest, size)
        shape = [1] * rank
        shape[rank - dims + number] = windows.count[number]
        start: Any = reshaped(iota(windows.count[number], first, dtypes.int64), shape)
        place = start * windows.step[number] - windows.low[number]
        place = place + offset * windows.dilation[number]
        # Only windows of minus infinities choose a padded element; keep it inside.
        place = smaller(larger(place, 0), windows.extents[number] - 1)
        flat = place * scale + flat
        scale *= windows.extents[number]
    return flat  # type: ignore[no-any-return]


def max_pool(
    dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    """The maximum of each window; with ``return_indices`` also where it was found."""
    function = f"max_pool{dims}d"
    sizes = _window_sizes(dims, kernel_size, stride, padding, dilation, function)
    x, had_batch = batched(input, dims, function)
    if dtype_of(x) is dtypes.bool_:
        raise NotImplementedError(f"\"{function}\" not implemented for 'Bool'")
    windows = _windows(x, *sizes, ceil_mode)
    out, first = _largest(x, windows)
    flat = _flat_positions(first, windows) if return_indices else None
    if flat is None:
        out = attach(out, _MAX_RULES[dims], (x,), (windows,), first)
    else:
        attach_many(
            (out, flat), _MAX_RULES[dims], (x,), (windows,), first, differentiable=(True, False)
        )
    results = [out] if flat is None else [out, flat]
    if not had_batch:
        results = [reshaped(result, shape_of(result)[1:]) for result in results]
    return tuple(results) if return_indices else results[0]


# Average ----------------------------------------------------------------------------------------


def _inside(windows: Windows, number: int, padded_too: bool, like: Tensor) -> Any:
    """How many elements of each window along an axis count for the mean."""
    extent, low = windows.extents[number], windows.low[number]
    step, size, found = windows.step[number], windows.size[number], windows.count[number]
    begin, end = (-low, extent + low) if padded_too else (0, extent)
    starts = [position * step - low for position in range(found)]
    counts = [min(start + size, end) - max(start, begin) for start in starts]
    if len(set(counts)) == 1:
        return counts[0]
    start = iota(found, like) * step - low  # type: ignore[operator]
    inside: Any = smaller(start + size, end) - larger(start, begin)
    dims = len(windows.size)
    shape = [1] * dims
    shape[number] = found
    return reshaped(inside, shape)


def _divisor(windows: Windows, padded_too: bool, override: int | None, like: Tensor) -> Any:
    if override is not None:
        return override
    product: Any = 1
    for number in range(len(windows.size)):
        product = _inside(windows, number, padded_too, like) * product
    return product if isinstance(product, int) else narrowed(product, like)


def average_gradient(g: Any, attrs: Any) -> Any:
    """The gradient of :func:`average`: each element gets its share from every window."""
    return _shared_out(g, *attrs)


@repeated_gradient
def _shared_out(g: Any, windows: Windows, padded_too: bool, override: int | None) -> Any:
    wide = widened(g)
    shape = shape_of(wide)
    dims = len(windows.size)
    part = wide / _divisor(windows, padded_too, override, wide)
    part = expanded(reshaped(part, (*shape, *(1,) * dims)), (*shape, *windows.size))
    return overlay(part, windows)


_AVERAGE_RULES = {dims: Rule(f"AvgPool{dims}DBackward0", (average_gradient,)) for dims in (1, 2, 3)}


def average(
    x: Tensor, windows: Windows, padded_too: bool, override: int | None, rule: Rule
) -> Tensor:
    """The mean of each window of x (n, c, ...)."""
    out = _means(x, windows, padded_too, override)
    return attach(out, rule, (x,), (windows, padded_too, override))


@repeated
def _means(x: Tensor, windows: Windows, padded_too: bool, override: int | None) -> Any:
    values = cut(widened(x), windows, 0)
    axes = _last(len(windows.size), len(shape_of(values)))
    total: Any = sum_over(values, axes, keep=False)
    divisor = _divisor(windows, padded_too, override, total)
    if dtype_of(x).kind == "f":
        return narrowed(total / divisor, x)
    return functions.div(total, divisor, rounding_mode="trunc")


def avg_pool(
    dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """The mean of each window."""
    function = f"avg_pool{dims}d"
    sizes = _window_sizes(dims, kernel_size, stride, padding, 1, function)
    x, had_batch = batched(input, dims, function)
    if dtype_of(x).kind != "f" and dtype_of(x) is not dtypes.int64:
        raise NotImplementedError(
            f"\"{function}\" not implemented for '{scalar_name(dtype_of(x))}'"
        )
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    windows = _windows(x, *sizes, ceil_mode)
    out = average(x, windows, count_include_pad, divisor_override, _AVERAGE_RULES[dims])
    return out if had_batch else reshaped(out, shape_of(out)[1:])


def lp_pool(
    dims: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    """The power mean without division: ``(sum of x ** p) ** (1 / p)`` of each window."""
    size = per_axis(kernel_size, dims, "kernel_size", f"lp_pool{dims}d")
    powers = functions.pow(input, norm_type)
    mean: Any = avg_pool(dims, powers, kernel_size, stride, 0, ceil_mode, True, None)
    signed = functions.sign(mean) * functions.relu(functions.abs(mean)) * count(size)
    return functions.pow(signed, 1.0 / norm_type)  # type: ignore[no-any-return]


# The functions ------------------------------------------------------------------------------------


_MAX_NAMES = {
    1: "SqueezeBackward1", 2: "MaxPool2DWithIndicesBackward0", 3: "MaxPool3DWithIndicesBackward0",
}  # fmt: skip


def _max_pools(dims: int) -> Any:
    def plain(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        return max_pool(
            dims, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )

    plain.__name__ = plain.__qualname__ = f"max_pool{dims}d"
    plain.__doc__ = (
        f"The maximum over windows of {dims} spatial axes of (N, C, ...) or (C, ...); with "
        "``return_indices`` also its flat position in the input."
    )

    def torch_form(
        input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> Any:  # fmt: skip
        return plain(input, kernel_size, stride, padding, dilation, ceil_mode)

    torch_form.__name__ = torch_form.__qualname__ = plain.__name__
    torch_form.__doc__ = plain.__doc__
    shown = shown_as(_MAX_NAMES[dims])
    public(method=False, out=False)(shown(torch_form))
    return shown(plain)


max_pool1d, max_pool2d, max_pool3d = (_max_pools(dims) for dims in (1, 2, 3))


def _with_indices(plain: Any, name: str) -> Any:
    def both(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        return plain(input, kernel_size, stride, padding, dilation, ceil_mode, True)

    both.__name__ = both.__qualname__ = name
    both.__doc__ = "The maximum of each window and its flat position in the input."
    return both


max_pool1d_with_indices = _with_indices(max_pool1d, "max_pool1d_with_indices")
max_pool2d_with_indices = _with_indices(max_pool2d, "max_pool2d_with_indices")
max_pool3d_with_indices = _with_indices(max_pool3d, "max_pool3d_with_indices")


@public(method=False)
@shown_as("SqueezeBackward1")
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The mean over windows of (N, C, L) or (C, L)."""
    return avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean over windows of (N, C, H, W) or (C, H, W).

    >>> avg_pool2d(ones(1, 1, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2])
    """
    return avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean over windows of (N, C, D, H, W) or (C, D, H, W)."""
    return avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pools(dims: int) -> Any:
    def pool(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None,
        ceil_mode: bool = False,
    ) -> Tensor:  # fmt: skip
        return lp_pool(dims, input, norm_type, kernel_size, stride, ceil_mode)

    pool.__name__ = pool.__qualname__ = f"lp_pool{dims}d"
    pool.__doc__ = "``(sum of x ** norm_type) ** (1 / norm_type)`` of each window."
    return pool


lp_pool1d, lp_pool2d, lp_pool3d = (_lp_pools(dims) for dims in (1, 2, 3))
