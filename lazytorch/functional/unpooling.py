"""Max unpooling: values put back where max pooling found them, zeros elsewhere."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.tape import named
from lazytorch.functional.composite import checked_positions, reshaped
from lazytorch.functional.conv_arguments import per_axis
from lazytorch.functional.pooling import batched
from lazytorch.ops import indexing
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import apply
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]
_RULES = {dims: named(indexing.SCATTER, f"MaxUnpool{dims}DBackward0") for dims in (1, 2, 3)}


def _extents(input: Tensor, size: Shape, step: Shape, pad: Shape, output_size: Any) -> Shape:
    dims = len(size)
    usual = tuple(
        (extent - 1) * stride + width - 2 * around
        for extent, stride, width, around in zip(shape_of(input)[-dims:], step, size, pad)
    )
    wanted = usual if output_size is None else tuple(output_size)
    if len(wanted) == dims + 2:
        wanted = wanted[2:]
    if len(wanted) != dims:
        raise ValueError(
            f"output_size should be a sequence containing {dims} or {dims + 2} elements, but it "
            f"has a length of '{len(wanted)}'"
        )
    for axis, (extent, middle, stride) in enumerate(zip(wanted, usual, step)):
        if output_size is not None and not middle - stride < extent < middle + stride:
            raise ValueError(
                f'invalid output_size "{list(wanted)}" (dim {axis} must be between '
                f"{middle - stride} and {middle + stride})"
            )
        if extent < 0:
            raise ValueError(
                "max_unpooling: output_size must contain non-negative spatial dimensions, but got "
                f"output_size[{axis}]={extent}"
            )
    return wanted


def _unpooled(input: Tensor, indices: Tensor, extents: Shape, function: str) -> Tensor:
    dims = len(extents)
    if dtype_of(indices) is not dtypes.int64:
        raise RuntimeError(
            f"elements in indices should be type int64 but got: {dtype_of(indices).name}"
        )
    if shape_of(indices) != shape_of(input):
        raise RuntimeError(
            f"Expected shape of indices to be same as that of the input tensor "
            f"({list(shape_of(input))}) but got indices tensor with shape: "
            f"{list(shape_of(indices))}"
        )
    if dtype_of(input).kind not in "fiu":
        raise NotImplementedError(f'"{function}" not implemented for {dtype_of(input)!r}')
    x, had_batch = batched(input, dims, function)
    batch, channels, *inner = shape_of(x)
    room, given = count(extents), count(tuple(inner))

    def complain(place: int) -> Exception:
        volume = "x".join(map(str, extents))
        return RuntimeError(
            f"Found an invalid max index: {place} (output volumes are of size {volume})"
        )

    places = checked_positions(reshaped(indices, (batch, channels, given)), room, complain)
    base = x.new_zeros((batch, channels, room))  # type: ignore[attr-defined]
    values = reshaped(x, (batch, channels, given))
    out = apply(indexing.SCATTER, (base, places, values), (2, "set"), _RULES[dims])
    out = reshaped(out, (batch, channels, *extents))
    return out if had_batch else reshaped(out, shape_of(out)[1:])


def _unpools(dims: int) -> Any:
    name = f"max_unpool{dims}d"

    def unpool(
        input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:  # fmt: skip
        size = per_axis(kernel_size, dims, "kernel_size", name)
        step = size if stride is None else per_axis(stride, dims, "stride", name)
        pad = per_axis(padding, dims, "padding", name)
        extents = _extents(input, size, step, pad, output_size)
        return _unpooled(input, indices, extents, name)

    unpool.__name__ = unpool.__qualname__ = name
    unpool.__doc__ = (
        f"The inverse of ``max_pool{dims}d``: each value of (N, C, ...) at its flat position in "
        "``indices``, zeros elsewhere.\n\n"
        "``output_size`` names the extents that pooling rounded away; sizes no pooling could have "
        "come from raise ValueError, positions outside RuntimeError."
    )
    shown = "SqueezeBackward1" if dims == 1 else f"MaxUnpool{dims}DBackward0"
    return shown_as(shown)(unpool)


max_unpool1d, max_unpool2d, max_unpool3d = (_unpools(dims) for dims in (1, 2, 3))
