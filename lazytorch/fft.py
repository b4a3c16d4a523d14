"""torch.fft: discrete Fourier transforms, computed by SciPy on the host.

Conventions are PyTorch's and NumPy's: ``norm`` 'backward' (the default) divides the inverse
transform by the number of points, 'forward' divides the forward one, and 'ortho' divides both by
its root. Sizes that are given crop the input or pad it with zeros at the end.
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
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import get_default_dtype, scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Axes = tuple[int, ...]
_SWAPPED = {"forward": "backward", "backward": "forward", "ortho": "ortho"}


# Arguments --------------------------------------------------------------------------------------


def _norm(norm: str | None) -> str:
    chosen = norm or "backward"
    if chosen not in _SWAPPED:
        raise RuntimeError(
            f"Invalid normalization mode: {norm!r}: use 'forward', 'backward' or 'ortho'"
        )
    return chosen


def _floating(input: Tensor, name: str) -> Tensor:
    dtype = dtype_of(input)
    if dtype in (dtypes.float16, dtypes.bfloat16):
        raise RuntimeError(
            f"Unsupported dtype {scalar_name(dtype)}: {name} takes float32 or float64"
        )
    return input if dtype.kind in "fc" else cast(input, get_default_dtype())


def _complex(input: Tensor, name: str) -> Tensor:
    values = _floating(input, name)
    return cast(values, dtype_of(values).to_complex())


def _real(input: Tensor, name: str) -> Tensor:
    if dtype_of(input).kind == "c":
        raise RuntimeError(
            f"{name} expects a real input tensor, but got {scalar_name(dtype_of(input))}"
        )
    return _floating(input, name)


def _axes(input: Tensor, s: Any, dim: Any) -> tuple[Axes, list[int | None]]:
    """The axes to transform, and for each the size to bring it to (``None``: as it is)."""
    rank = len(shape_of(input))
    given = () if s is None else _sequence(s)
    sizes: list[int | None] = [None if n == -1 else n for n in given]
    if dim is not None:
        axes = tuple(normalize_axis(axis, rank) for axis in _sequence(dim))
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


def _sequence(value: Any) -> Sequence[int]:
    return (value,) if isinstance(value, int) else tuple(value)


def _resized(input: Tensor, axes: Axes, sizes: Sequence[int | None]) -> Tensor:
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


def _transformed(input: Tensor, axes: Axes, norm: str, inverse: bool) -> Tensor:
    """Complex to complex."""
    if not axes:
        return input
    rule = _inverse_rule if inverse else _forward_rule
    out = _host("ifftn" if inverse else "fftn", input, axes, norm, shape_of(input), dtype_of(input))
    return attach(out, rule, (input,), (axes, norm))


def _half_spectrum(input: Tensor, axis: int, norm: str) -> Tensor:
    """Real to complex: the non-negative frequencies."""
    shape = list(shape_of(input))
    points = shape[axis]
    shape[axis] = points // 2 + 1
    out = _host("rfftn", input, (axis,), norm, tuple(shape), dtype_of(input).to_complex())
    return attach(out, _half_rule, (input,), (axis, norm, points))


def _from_half(input: Tensor, axis: int, norm: str, points: int) -> Tensor:
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
    return _transformed(g, axes, norm, False)


def _inverse_gradient(g: Tensor, attrs: Any) -> Tensor:
    axes, norm = attrs
    return _transformed(g, axes, norm, True)


def _half_gradient(g: Tensor, attrs: Any, f: Any) -> Tensor:
    axis, norm, points = attrs
    full = _resized(g, (axis,), (points,))
    return f.real_part(_transformed(full, (axis,), norm, False))


def _from_half_gradient(g: Tensor, attrs: Any, f: Any) -> Tensor:
    axis, norm, points = attrs
    spectrum = _half_spectrum(g, axis, _SWAPPED[norm])
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


# One dimension ----------------------------------------------------------------------------------


def _stored(result: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return result
    functions.copy_out(out, result)
    return out


def _one(input: Tensor, dim: int) -> Axes:
    return (normalize_axis(dim, len(shape_of(input))),)


def fft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The discrete Fourier transform along ``dim``: ``sum(x[k] * exp(-2 pi i k j / n))``.

    >>> fft(tensor([1., 0., 0., 0.]))
    tensor([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    axes = _one(input, dim)
    values = _resized(_complex(input, "fft"), axes, (n,))
    return _stored(_transformed(values, axes, _norm(norm), False), out)


def ifft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`fft`."""
    axes = _one(input, dim)
    values = _resized(_complex(input, "ifft"), axes, (n,))
    return _stored(_transformed(values, axes, _norm(norm), True), out)


def rfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The non-negative frequencies of the transform of real numbers: ``n // 2 + 1`` of them."""
    (axis,) = _one(input, dim)
    values = _resized(_real(input, "rfft"), (axis,), (n,))
    return _stored(_half_spectrum(values, axis, _norm(norm)), out)


def _real_points(input: Tensor, axis: int, n: int | None) -> tuple[Tensor, int]:
    """The half spectrum brought to the size that ``n`` real points need, and ``n``."""
    points = 2 * (shape_of(input)[axis] - 1) if n is None else n
    if points < 1:
        raise RuntimeError(f"Invalid number of data points ({points}) specified")
    return _resized(input, (axis,), (points // 2 + 1,)), points


def irfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`rfft`; ``n`` is the number of real points (even unless given)."""
    (axis,) = _one(input, dim)
    half, points = _real_points(_complex(input, "irfft"), axis, n)
    return _stored(_from_half(half, axis, _norm(norm), points), out)


def hfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The real transform of a signal with conjugate symmetry, of which one half is given."""
    return irfft(functions.conj(_complex(input, "hfft")), n, dim, _SWAPPED[_norm(norm)], out=out)


def ihfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`hfft`."""
    half = rfft(_real(input, "ihfft"), n, dim, _SWAPPED[_norm(norm)])
    return _stored(functions.conj(half), out)


# Several dimensions -----------------------------------------------------------------------------


def fftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The transform along several dimensions (all unless given)."""
    axes, sizes = _axes(input, s, dim)
    values = _resized(_complex(input, "fftn"), axes, sizes)
    return _stored(_transformed(values, axes, _norm(norm), False), out)


def ifftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`fftn`."""
    axes, sizes = _axes(input, s, dim)
    values = _resized(_complex(input, "ifftn"), axes, sizes)
    return _stored(_transformed(values, axes, _norm(norm), True), out)


def _no_axes(axes: Axes, name: str) -> None:
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")


def rfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The transform of real numbers; half of the last dimension's frequencies are left out."""
    axes, sizes = _axes(input, s, dim)
    _no_axes(axes, "rfftn")
    values = _resized(_real(input, "rfftn"), axes, sizes)
    half = _half_spectrum(values, axes[-1], _norm(norm))
    return _stored(_transformed(half, axes[:-1], _norm(norm), False), out)


def irfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`rfftn`."""
    axes, sizes = _axes(input, s, dim)
    _no_axes(axes, "irfftn")
    values = _resized(_complex(input, "irfftn"), axes[:-1], sizes[:-1])
    values = _transformed(values, axes[:-1], _norm(norm), True)
    half, points = _real_points(values, axes[-1], sizes[-1])
    return _stored(_from_half(half, axes[-1], _norm(norm), points), out)


def hfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`hfft` along the last dimension after :func:`fft` along the others."""
    values = functions.conj(_complex(input, "hfftn"))
    return irfftn(values, s, dim, _SWAPPED[_norm(norm)], out=out)


def ihfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`hfftn`."""
    half = rfftn(_real(input, "ihfftn"), s, dim, _SWAPPED[_norm(norm)])
    return _stored(functions.conj(half), out)


def _two_dimensional(name: str, transform: Any) -> Any:
    def function(
        input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None, *,
        out: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        result: Tensor = transform(input, s, dim, norm, out=out)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{transform.__name__}`` along two dimensions, the last ones unless given."
    return function


fft2 = _two_dimensional("fft2", fftn)
ifft2 = _two_dimensional("ifft2", ifftn)
rfft2 = _two_dimensional("rfft2", rfftn)
irfft2 = _two_dimensional("irfft2", irfftn)
hfft2 = _two_dimensional("hfft2", hfftn)
ihfft2 = _two_dimensional("ihfft2", ihfftn)


# Frequencies ------------------------------------------------------------------------------------


def fftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, **options: Any) -> Tensor:
    """The frequencies of :func:`fft` with ``n`` points ``d`` apart.

    >>> fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    numbers = functions.arange(n, **_frequency_options(options))
    half = (n + 1) // 2
    signed = functions.where(numbers < half, numbers, numbers - n)
    return _stored(signed / (n * d), out)


def rfftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, **options: Any) -> Tensor:
    """The frequencies of :func:`rfft` with ``n`` points ``d`` apart."""
    return _stored(functions.arange(n // 2 + 1, **_frequency_options(options)) / (n * d), out)


def _frequency_options(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "dtype": options.get("dtype") or get_default_dtype()}


def _shift_axes(input: Tensor, dim: Any) -> Axes:
    rank = len(shape_of(input))
    if dim is None:
        return tuple(range(rank))
    return tuple(normalize_axis(axis, rank) for axis in _sequence(dim))


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """Frequencies in rising order: zero in the middle."""
    axes = _shift_axes(input, dim)
    if not axes:
        return input
    return functions.roll(input, [shape_of(input)[axis] // 2 for axis in axes], list(axes))


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of :func:`fftshift`."""
    axes = _shift_axes(input, dim)
    if not axes:
        return input
    return functions.roll(input, [(shape_of(input)[axis] + 1) // 2 for axis in axes], list(axes))


__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2",
    "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft",
    "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip
