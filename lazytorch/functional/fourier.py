"""Discrete Fourier transforms as nodes of the graph, computed by SciPy on the host.

What ``torch.fft`` and the short-time transforms share: arguments, the three transforms (complex
to complex, real to half a spectrum, and back) and their gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.dtypes import DType
from lazytorch.functional.host import call_host
from lazytorch.ops.shapes import count, existing_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import get_default_dtype, scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Axes = tuple[int, ...]
SWAPPED_NORM = {"forward": "backward", "backward": "forward", "ortho": "ortho"}


# Arguments --------------------------------------------------------------------------------------


def norm_of(norm: str | None) -> str:
    """A normalization by its name; ``RuntimeError`` for others."""
    chosen = norm or "backward"
    if chosen not in SWAPPED_NORM:
        raise RuntimeError(
            f"Invalid normalization mode: {norm!r}: use 'forward', 'backward' or 'ortho'"
        )
    return chosen


def floating_input(input: Tensor, name: str) -> Tensor:
    """The input as real or complex numbers; integers in the default dtype, 16 bits refused."""
    dtype = dtype_of(input)
    if dtype in (dtypes.float16, dtypes.bfloat16):
        raise RuntimeError(
            f"Unsupported dtype {scalar_name(dtype)}: {name} takes float32 or float64"
        )
    return input if dtype.kind in "fc" else cast(input, get_default_dtype())


def complex_input(input: Tensor, name: str) -> Tensor:
    """The input as complex numbers."""
    values = floating_input(input, name)
    return cast(values, dtype_of(values).to_complex())


def real_input(input: Tensor, name: str) -> Tensor:
    """The input as real numbers; ``RuntimeError`` for a complex one."""
    if dtype_of(input).kind == "c":
        raise RuntimeError(
            f"{name} expects a real input tensor, but got {scalar_name(dtype_of(input))}"
        )
    return floating_input(input, name)


def axes_and_sizes(input: Tensor, s: Any, dim: Any) -> tuple[Axes, list[int | None]]:
    """The axes to transform, and for each the size to bring it to (``None``: as it is)."""
    rank = len(shape_of(input))
    given = () if s is None else sequence_of(s)
    sizes: list[int | None] = [None if n == -1 else n for n in given]
    if dim is not None:
        axes = tuple(existing_axis(axis, rank) for axis in sequence_of(dim))
        if len(set(axes)) != len(axes):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(sizes) != len(axes):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(sizes) > rank:
            raise RuntimeError(
                f"Got shape with {len(sizes)} values but input tensor only has {rank} dimensions."
            )
        axes = tuple(range(rank - len(sizes), rank))
    else:
        axes = tuple(range(rank))
    return axes, sizes or [None] * len(axes)


def sequence_of(value: Any) -> Sequence[int]:
    """One number or several, as several."""
    return (value,) if isinstance(value, int) else tuple(value)


def resized(input: Tensor, axes: Axes, sizes: Sequence[int | None]) -> Tensor:
    """The input cropped or padded with zeros at the end of each axis."""
    for axis, size in zip(axes, sizes):
        have = shape_of(input)[axis]
        wanted = have if size is None else size
        if wanted < 1:
            raise RuntimeError(f"Invalid number of data points ({wanted}) specified")
        if wanted < have:
            input = functions.narrow(input, axis, 0, wanted)
        elif wanted > have:
            edges = [0, 0] * (len(shape_of(input)) - axis)
            edges[-1] = wanted - have
            input = functions.constant_pad_nd(input, edges)
    return input


# The three transforms that SciPy computes -------------------------------------------------------


def transformed(input: Tensor, axes: Axes, norm: str, inverse: bool) -> Tensor:
    """Complex to complex."""
    if not axes:
        return input
    rule = _inverse_rule if inverse else _forward_rule
    out = _host("ifftn" if inverse else "fftn", input, axes, norm, shape_of(input), dtype_of(input))
    return attach(out, rule, (input,), (axes, norm))


def half_spectrum(input: Tensor, axis: int, norm: str) -> Tensor:
    """Real to complex: the non-negative frequencies."""
    shape = list(shape_of(input))
    points = shape[axis]
    shape[axis] = points // 2 + 1
    out = _host("rfftn", input, (axis,), norm, tuple(shape), dtype_of(input).to_complex())
    return attach(out, _half_rule, (input,), (axis, norm, points))


def from_half_spectrum(input: Tensor, axis: int, norm: str, points: int) -> Tensor:
    """Complex to real: ``input`` holds the non-negative frequencies of ``points`` real numbers."""
    shape = list(shape_of(input))
    shape[axis] = points
    out = _host("irfftn", input, (axis,), norm, tuple(shape), dtype_of(input).real, (points,))
    return attach(out, _from_half_rule, (input,), (axis, norm, points))


def _host(
    name: str, input: Tensor, axes: Axes, norm: str, shape: tuple[int, ...], dtype: DType,
    sizes: Axes | None = None,
) -> Tensor:  # fmt: skip
    def compute(array: np.ndarray) -> Any:
        from scipy import fft

        if not count(shape):
            return np.zeros(shape, dtype.numpy)
        return getattr(fft, name)(array, s=sizes, axes=axes, norm=norm)

    plain = fresh(node_of(input), input._device)
    return call_host(f"fft.{name} {axes} {norm} {sizes}", compute, shape, dtype, plain)


# The matrix F of a transform is symmetric, so the gradient (the tape conjugates around it) is the
# transform itself. The half transforms leave out columns that conjugate symmetry gives back.


def _forward_gradient(g: Tensor, attrs: Any) -> Tensor:
    axes, norm = attrs
    return transformed(g, axes, norm, False)


def _inverse_gradient(g: Tensor, attrs: Any) -> Tensor:
    axes, norm = attrs
    return transformed(g, axes, norm, True)


def _half_gradient(g: Tensor, attrs: Any, f: Any) -> Tensor:
    axis, norm, points = attrs
    full = resized(g, (axis,), (points,))
    return f.real_part(transformed(full, (axis,), norm, False))


def _from_half_gradient(g: Tensor, attrs: Any, f: Any) -> Tensor:
    axis, norm, points = attrs
    spectrum = half_spectrum(g, axis, SWAPPED_NORM[norm])
    # All frequencies stand for two but the first and, of an even number of points, the last.
    twice = np.full(points // 2 + 1, 2.0)
    twice[0] = 1.0
    if points % 2 == 0:
        twice[-1] = 1.0
    shape = [1] * len(shape_of(spectrum))
    shape[axis] = len(twice)
    weights = f.tensor(twice, dtype=dtype_of(g), device=g.device).reshape(shape)
    return spectrum * weights


_forward_rule = Rule("FftC2CBackward0", (_forward_gradient,))
_inverse_rule = Rule("FftC2CBackward0", (_inverse_gradient,))
_half_rule = Rule("FftR2CBackward0", (_half_gradient,))
_from_half_rule = Rule("FftC2RBackward0", (_from_half_gradient,))
