"""conv1d to conv_transpose3d: PyTorch's arguments, checks and messages around convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.naming import if_unbatched, shown_as
from lazytorch.functional.composite import require_tensor, reshaped
from lazytorch.functional.convolution import Geometry, correlate, spread_back
from lazytorch.tensor.attach import public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]


def per_axis(value: Any, count: int, name: str, function: str) -> Shape:
    """One number for each spatial axis, from one number or a sequence of ``count``."""
    if isinstance(value, bool) or not isinstance(value, (int, Sequence)) or isinstance(value, str):
        if not hasattr(value, "__index__"):
            raise TypeError(
                f"{function}(): argument '{name}' must be tuple of ints, not {type(value).__name__}"
            )
        value = int(value)
    if isinstance(value, int):
        return (value,) * count
    numbers = tuple(int(item) for item in value)
    if len(numbers) == 1:
        return numbers * count
    if len(numbers) != count:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {count} values to match "
            f"the convolution dimensions, but got {name}={list(numbers)}"
        )
    return numbers


def _same_padding(kernel: Shape, dilation: Shape) -> tuple[tuple[int, int], ...]:
    pairs = []
    for size, step in zip(kernel, dilation):
        total = step * (size - 1)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def _pairs(
    padding: Any, kernel: Shape, stride: Shape, dilation: Shape, function: str
) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if padding != "same":
            raise RuntimeError(
                f"Invalid padding string: '{padding}'; expected 'same', 'valid' or integers"
            )
        if any(step != 1 for step in stride):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        return _same_padding(kernel, dilation)
    widths = per_axis(padding, len(kernel), "padding", function)
    if any(width < 0 for width in widths):
        raise RuntimeError("negative padding is not supported")
    return tuple((width, width) for width in widths)


def _check_types(input: Tensor, weight: Tensor, bias: Tensor | None, function: str) -> None:
    require_tensor(input, function, "input", 1)
    require_tensor(weight, function, "weight", 2)
    if dtype_of(input) is not dtype_of(weight):
        raise RuntimeError(
            f"Input type ({scalar_name(dtype_of(input))}) and weight type "
            f"({scalar_name(dtype_of(weight))}) should be the same: convert one with .to(dtype)"
        )
    if bias is not None and dtype_of(bias) is not dtype_of(input):
        raise RuntimeError(
            f"Input type ({scalar_name(dtype_of(input))}) and bias type "
            f"({scalar_name(dtype_of(bias))}) should be the same: convert one with .to(dtype)"
        )


def _batched(input: Tensor, weight: Tensor, dims: int, function: str) -> tuple[Tensor, bool]:
    rank = len(shape_of(input))
    given = len(shape_of(weight))
    if given != dims + 2:
        raise RuntimeError(
            f"Expected {given}-dimensional input for {given}-dimensional weight "
            f"{list(shape_of(weight))}, but got {rank}-dimensional input of size "
            f"{list(shape_of(input))} instead: {function} takes a weight of {dims + 2} dimensions"
        )
    if rank not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to {function}, but "
            f"got input of size: {list(shape_of(input))}"
        )
    if rank == dims + 2:
        return input, True
    return reshaped(input, (1, *shape_of(input))), False


def _check_numbers(stride: Shape, dilation: Shape, groups: int) -> None:
    if any(step <= 0 for step in stride):
        raise RuntimeError("non-positive stride is not supported")
    if any(step <= 0 for step in dilation):
        raise RuntimeError("dilation should be greater than zero")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")


def _check_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry
) -> None:
    shape, extents = shape_of(weight), shape_of(input)
    groups = geometry.groups
    if 0 in shape[2:]:
        raise RuntimeError("convolution: the kernel has an extent of 0")
    if shape[0] < groups or shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {list(shape)} instead"
        )
    if extents[1] != shape[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(shape)}, expected input"
            f"{list(extents)} to have {shape[1] * groups} channels, but got {extents[1]} channels "
            "instead"
        )
    _check_bias(bias, shape[0], groups, shape)
    reach = geometry.reach(shape[2:])
    padded = [extent + low + high for extent, (low, high) in zip(extents[2:], geometry.padding)]
    if any(have < need + 1 for have, need in zip(padded, reach)):
        have = " x ".join(map(str, padded))
        need = " x ".join(str(extent + 1) for extent in reach)
        raise RuntimeError(
            f"Calculated padded input size per channel: ({have}). Kernel size: ({need}). Kernel "
            "size can't be greater than actual input size"
        )


def _check_bias(bias: Tensor | None, channels: int, groups: int, weight: Shape) -> None:
    if bias is not None and shape_of(bias) != (channels,):
        raise RuntimeError(
            f"Given weight of size {list(weight)}, expected bias to be 1-dimensional with "
            f"{channels} elements, but got bias of size {list(shape_of(bias))} instead"
        )


def _convolve(
    dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    function = f"conv{dims}d"
    _check_types(input, weight, bias, function)
    input, batched = _batched(input, weight, dims, function)
    steps = per_axis(stride, dims, "stride", function)
    gaps = per_axis(dilation, dims, "dilation", function)
    _check_numbers(steps, gaps, groups)
    pairs = _pairs(padding, shape_of(weight)[2:], steps, gaps, function)
    geometry = Geometry(steps, pairs, gaps, groups)
    _check_convolution(input, weight, bias, geometry)
    out = correlate(input, weight, geometry, bias)
    return out if batched else reshaped(out, shape_of(out)[1:])


def _convolve_transposed(
    dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    function = f"conv_transpose{dims}d"
    _check_types(input, weight, bias, function)
    input, batched = _batched(input, weight, dims, function)
    steps = per_axis(stride, dims, "stride", function)
    gaps = per_axis(dilation, dims, "dilation", function)
    widths = per_axis(padding, dims, "padding", function)
    more = per_axis(output_padding, dims, "output_padding", function)
    _check_numbers(steps, gaps, groups)
    shape, extents = shape_of(weight), shape_of(input)
    if any(width < 0 for width in widths):
        raise RuntimeError("negative padding is not supported")
    if extents[1] != shape[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(shape)}, expected input{list(extents)} to "
            f"have {shape[0]} channels, but got {extents[1]} channels instead"
        )
    if shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {list(shape)} instead"
        )
    if any(extra < 0 or extra >= max(step, gap) for extra, step, gap in zip(more, steps, gaps)):
        raise RuntimeError(
            "output padding must be smaller than either stride or dilation, but got "
            f"output_padding: {list(more)}, stride: {list(steps)}, dilation: {list(gaps)}"
        )
    _check_bias(bias, shape[1] * groups, groups, shape)
    geometry = Geometry(steps, tuple((width, width) for width in widths), gaps, groups)
    reach = geometry.reach(shape[2:])
    result = tuple(
        (extent - 1) * step - 2 * width + far + extra + 1
        for extent, step, width, far, extra in zip(extents[2:], steps, widths, reach, more)
    )
    if any(extent < 1 for extent in result):
        raise RuntimeError(
            f"Given input size per channel: ({' x '.join(map(str, extents[2:]))}). Calculated "
            f"output size per channel: ({' x '.join(map(str, result))}). Output size is too small"
        )
    out = spread_back(input, weight, result, geometry, bias)
    return out if batched else reshaped(out, shape_of(out)[1:])


@public(method=False)
@shown_as(if_unbatched(1))
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide ``weight`` (O, C / groups, k) over ``input`` (N, C, L) or (C, L).

    ``padding`` is a number, 'valid' or 'same'. Channels that do not fit, or a kernel larger
    than the padded input, raise RuntimeError.
    """
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


@public(method=False)
@shown_as(if_unbatched(2))
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide ``weight`` (O, C / groups, kh, kw) over ``input`` (N, C, H, W) or (C, H, W).

    >>> conv2d(ones(1, 1, 3, 3), ones(1, 1, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


@public(method=False)
@shown_as(if_unbatched(3))
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Slide ``weight`` (O, C / groups, kd, kh, kw) over ``input`` (N, C, D, H, W)."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


@public(method=False)
@shown_as(if_unbatched(1))
def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv1d`` by its input, used forwards; weight (C, O / groups, k)."""
    return _convolve_transposed(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public(method=False)
@shown_as(if_unbatched(2))
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv2d`` by its input, used forwards; weight (C, O / groups, kh, kw)."""
    return _convolve_transposed(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@public(method=False)
@shown_as(if_unbatched(3))
def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv3d`` by its input, used forwards; weight (C, O / groups, ...)."""
    return _convolve_transposed(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
