"""pad in every mode, and the rearrangements of pixels and blocks: moves, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.naming import shown_as
from lazytorch.functional.composite import (
    expanded,
    flipped,
    joined,
    padded,
    part,
    permuted,
    require_tensor,
    reshaped,
)
from lazytorch.functional.conv_arguments import per_axis
from lazytorch.functional.windows import Windows, cut, overlay
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

# pad ----------------------------------------------------------------------------------------------


def _repeated(tensor: Tensor, axis: int, start: int, times: int) -> Tensor:
    """One slice along ``axis``, ``times`` times."""
    shape = list(shape_of(tensor))
    shape[axis] = times
    edge = part(tensor, axis, start, 1)
    return expanded(edge, shape)


def _reflected(x: Tensor, axis: int, low: int, high: int) -> Tensor:
    extent = shape_of(x)[axis]
    if low >= extent or high >= extent:
        raise RuntimeError(
            "Argument #4: Padding size should be less than the corresponding input dimension, "
            f"but got: padding ({low}, {high}) at dimension {axis} of input {list(shape_of(x))}"
        )
    pieces = [x]
    if low:
        pieces.insert(0, flipped(part(x, axis, 1, low), (axis,)))
    if high:
        pieces.append(flipped(part(x, axis, extent - 1 - high, high), (axis,)))
    return joined(pieces, axis)


def _replicated(x: Tensor, axis: int, low: int, high: int) -> Tensor:
    extent = shape_of(x)[axis]
    if extent == 0:
        raise RuntimeError(
            f"Expected a non-empty dimension to replicate, but got input {list(shape_of(x))}"
        )
    pieces = [x]
    if low:
        pieces.insert(0, _repeated(x, axis, 0, low))
    if high:
        pieces.append(_repeated(x, axis, extent - 1, high))
    return joined(pieces, axis)


def _wrapped(x: Tensor, axis: int, low: int, high: int) -> Tensor:
    extent = shape_of(x)[axis]
    if low > extent or high > extent:
        raise RuntimeError("Padding value causes wrapping around more than once.")
    pieces = [x]
    if low:
        pieces.insert(0, part(x, axis, extent - low, low))
    if high:
        pieces.append(part(x, axis, 0, high))
    return joined(pieces, axis)


_MODES = {"reflect": _reflected, "replicate": _replicated, "circular": _wrapped}


def _constant_name(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    return "ConstantPadNdBackward0" if mode == "constant" else None


@shown_as(_constant_name)
def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Elements added around the last dimensions; ``pad`` begins with the last one's two sides.

    Modes: 'constant' (with ``value``), 'reflect', 'replicate', 'circular'. Negative widths cut
    off.

    >>> pad(tensor([1., 2.]), (1, 0))
    tensor([0., 1., 2.])
    """
    require_tensor(input, "pad", "input", 1)
    sides = tuple(int(width) for width in pad)
    shape = shape_of(input)
    if len(sides) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(sides) // 2 > len(shape):
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(sides)} and input of dimension {len(shape)}"
        )
    widths = [(0, 0)] * len(shape)
    for number in range(len(sides) // 2):
        widths[len(shape) - 1 - number] = (sides[2 * number], sides[2 * number + 1])
    for axis, (low, high) in enumerate(widths):
        if shape[axis] + low + high < 0:
            raise RuntimeError(
                f"The input size {shape[axis]}, plus negative padding {low} and {high} resulted in "
                f"a negative output size, which is invalid. Check dimension {axis} of your input."
            )
    if mode == "constant":
        out = padded(input, widths, 0 if value is None else value)
        return functions.clone(input) if out is input else out  # type: ignore[no-any-return]
    if mode not in _MODES:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value not in (None, 0):
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    return _pad_by_mode(input, widths, mode, len(sides) // 2)


def _pad_name(input: Tensor, widths: Any, mode: str, spatial: int) -> str | None:
    kind = {"reflect": "Reflection", "replicate": "Replication"}.get(mode)
    return kind and f"{kind}Pad{spatial}DBackward0"


@shown_as(_pad_name)
def _pad_by_mode(input: Tensor, widths: list[tuple[int, int]], mode: str, spatial: int) -> Tensor:
    shape = shape_of(input)
    if spatial > 3 or (spatial and len(shape) not in (spatial, spatial + 1, spatial + 2)):
        raise NotImplementedError(
            "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now"
        )
    extend = _MODES[mode]
    cropped = [(min(low, 0), min(high, 0)) for low, high in widths]
    # What wraps around is what is left; edges and mirror images are those of the whole input.
    x = padded(input, cropped) if mode == "circular" else input
    for axis, (low, high) in enumerate(widths):
        if low > 0 or high > 0:
            x = extend(x, axis, max(low, 0), max(high, 0))
    x = x if mode == "circular" else padded(x, cropped)
    return functions.clone(input) if x is input else x  # type: ignore[no-any-return]


@public(method=False)
@shown_as("ConstantPadNdBackward0")
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """``pad`` with a constant."""
    return _pad(input, pad, "constant", value)


_pad = pad

# Pixels ---------------------------------------------------------------------------------------


@public(method=False)
@shown_as("PixelShuffleBackward0")
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(*, C r², H, W) rearranged to (*, C, H r, W r)."""
    shape, r = shape_of(input), upscale_factor
    if len(shape) < 3:
        raise RuntimeError(
            "pixel_shuffle expects input to have at least 3 dimensions, but got input with "
            f"{len(shape)} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, channels, height, width = shape
    if channels % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}"
        )
    n = len(lead)
    split = reshaped(input, (*lead, channels // (r * r), r, r, height, width))
    moved = permuted(split, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshaped(moved, (*lead, channels // (r * r), height * r, width * r))


@public(method=False)
@shown_as("PixelUnshuffleBackward0")
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(*, C, H r, W r) rearranged to (*, C r², H, W)."""
    shape, r = shape_of(input), downscale_factor
    if len(shape) < 3:
        raise RuntimeError(
            "pixel_unshuffle expects input to have at least 3 dimensions, but got input with "
            f"{len(shape)} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, channels, height, width = shape
    for extent, name, axis in ((height, "height", -2), (width, "width", -1)):
        if extent % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but "
                f"input.size({axis})={extent} is not divisible by {r}"
            )
    n = len(lead)
    split = reshaped(input, (*lead, channels, height // r, r, width // r, r))
    moved = permuted(split, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshaped(moved, (*lead, channels * r * r, height // r, width // r))


@public(method=False)
@shown_as("ChannelShuffleBackward0")
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, g * k, ...) with the groups interleaved."""
    shape = shape_of(input)
    if len(shape) < 3:
        raise RuntimeError(
            f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}"
        )
    if groups <= 0 or shape[1] % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {shape[1]} channels and "
            f"{groups} groups."
        )
    split = reshaped(input, (shape[0], groups, shape[1] // groups, *shape[2:]))
    order = (0, 2, 1, *range(3, len(shape) + 1))
    return reshaped(permuted(split, order), shape)


# Blocks ---------------------------------------------------------------------------------------


def _block_windows(
    extents: Shape, kernel: Any, dilation: Any, padding: Any, stride: Any, name: str
) -> Windows:
    size = per_axis(kernel, 2, "kernel_size", name)
    gap = per_axis(dilation, 2, "dilation", name)
    width = per_axis(padding, 2, "padding", name)
    step = per_axis(stride, 2, "stride", name)
    if min(size) <= 0 or min(step) <= 0 or min(gap) <= 0 or min(width) < 0:
        raise RuntimeError(
            f"{name}: kernel_size, stride and dilation should be greater than zero and padding not "
            f"negative, but got {size}, {step}, {gap}, {width}"
        )
    found = tuple(
        (extent + 2 * low - d * (k - 1) - 1) // s + 1
        for extent, low, d, k, s in zip(extents, width, gap, size, step)
    )
    if any(number < 1 for number in found):
        raise RuntimeError(
            f"{name}: given spatial size {extents}, kernel_size={size}, dilation={gap}, "
            f"padding={width}, stride={step}, calculated shape of the array of sliding blocks as "
            f"{found}, but its components must be at least one."
        )
    return Windows(tuple(extents), size, step, gap, found, width)


@shown_as("Im2ColBackward0")
def unfold(
    input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Every block of (N, C, H, W) as a column: (N, C kh kw, number of blocks)."""
    shape = shape_of(input)
    if len(shape) not in (3, 4):
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor for input, but got: {list(shape)}"
        )
    x = input if len(shape) == 4 else reshaped(input, (1, *shape))
    windows = _block_windows(shape[-2:], kernel_size, dilation, padding, stride, "unfold")
    blocks = permuted(cut(x, windows, 0), (0, 1, 4, 5, 2, 3))
    batch, channels = shape_of(x)[:2]
    number = windows.count[0] * windows.count[1]
    out = reshaped(blocks, (batch, channels * windows.volume, number))
    return out if len(shape) == 4 else reshaped(out, shape_of(out)[1:])


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
    stride: Any = 1,
) -> Tensor:  # fmt: skip
    """Columns of blocks (N, C kh kw, L) summed into (N, C, H, W)."""
    shape = shape_of(input)
    if len(shape) not in (2, 3):
        raise RuntimeError(
            f"Expected 2D or 3D (batch mode) tensor for input, but got: {list(shape)}"
        )
    x = input if len(shape) == 3 else reshaped(input, (1, *shape))
    extents = per_axis(output_size, 2, "output_size", "fold")
    windows = _block_windows(extents, kernel_size, dilation, padding, stride, "fold")
    batch, columns, number = shape_of(x)
    if columns % windows.volume:
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={columns} and kernel_size={windows.size}."
        )
    if number != windows.count[0] * windows.count[1]:
        raise RuntimeError(
            f"Given output_size={extents}, kernel_size={windows.size}, dilation={windows.dilation}"
            f", padding={windows.low}, stride={windows.step}, expected size of input's dimension 2 "
            f"to match the calculated number of sliding blocks {windows.count[0]} * "
            f"{windows.count[1]} = {windows.count[0] * windows.count[1]}, but got {number}."
        )
    split = reshaped(x, (batch, columns // windows.volume, *windows.size, *windows.count))
    out = overlay(permuted(split, (0, 1, 4, 5, 2, 3)), windows)
    return out if len(shape) == 3 else reshaped(out, shape_of(out)[1:])
