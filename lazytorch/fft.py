"""torch.fft: discrete Fourier transforms, computed by SciPy on the host.

Conventions are PyTorch's and NumPy's: ``norm`` 'backward' (the default) divides the inverse
transform by the number of points, 'forward' divides the forward one, and 'ortho' divides both by
its root. Sizes that are given crop the input or pad it with zeros at the end.
"""

from __future__ import annotations

from typing import Any

from lazytorch.functional.fourier import (
    SWAPPED_NORM,
    Axes,
    axes_and_sizes,
    complex_input,
    from_half_spectrum,
    half_spectrum,
    norm_of,
    real_input,
    resized,
    sequence_of,
    transformed,
)
from lazytorch.ops.shapes import existing_axis, normalize_axis
from lazytorch.tensor.attach import functions
from lazytorch.tensor.autocast import casting_all as _casting_all
from lazytorch.tensor.overrides import make_overridable as _make_overridable
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

# One dimension ----------------------------------------------------------------------------------


def _stored(result: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return result
    functions.copy_out(out, result)
    return out


def _one(input: Tensor, dim: int) -> Axes:
    return (existing_axis(dim, len(shape_of(input))),)


def fft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The discrete Fourier transform along ``dim``: ``sum(x[k] * exp(-2 pi i k j / n))``.

    >>> fft(tensor([1., 0., 0., 0.]))
    tensor([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    axes = _one(input, dim)
    values = resized(complex_input(input, "fft"), axes, (n,))
    return _stored(transformed(values, axes, norm_of(norm), False), out)


def ifft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`fft`."""
    axes = _one(input, dim)
    values = resized(complex_input(input, "ifft"), axes, (n,))
    return _stored(transformed(values, axes, norm_of(norm), True), out)


def rfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The non-negative frequencies of the transform of real numbers: ``n // 2 + 1`` of them."""
    (axis,) = _one(input, dim)
    values = resized(real_input(input, "rfft"), (axis,), (n,))
    return _stored(half_spectrum(values, axis, norm_of(norm)), out)


def _real_points(input: Tensor, axis: int, n: int | None) -> tuple[Tensor, int]:
    """The half spectrum brought to the size that ``n`` real points need, and ``n``."""
    points = 2 * (shape_of(input)[axis] - 1) if n is None else n
    if points < 1:
        raise RuntimeError(f"Invalid number of data points ({points}) specified")
    return resized(input, (axis,), (points // 2 + 1,)), points


def irfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`rfft`; ``n`` is the number of real points (even unless given)."""
    (axis,) = _one(input, dim)
    half, points = _real_points(complex_input(input, "irfft"), axis, n)
    return _stored(from_half_spectrum(half, axis, norm_of(norm), points), out)


def hfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The real transform of a signal with conjugate symmetry, of which one half is given."""
    values = functions.conj(complex_input(input, "hfft"))
    return irfft(values, n, dim, SWAPPED_NORM[norm_of(norm)], out=out)


def ihfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`hfft`."""
    half = rfft(real_input(input, "ihfft"), n, dim, SWAPPED_NORM[norm_of(norm)])
    return _stored(functions.conj(half), out)


# Several dimensions -----------------------------------------------------------------------------


def fftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The transform along several dimensions (all unless given)."""
    axes, sizes = axes_and_sizes(input, s, dim)
    values = resized(complex_input(input, "fftn"), axes, sizes)
    return _stored(transformed(values, axes, norm_of(norm), False), out)


def ifftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`fftn`."""
    axes, sizes = axes_and_sizes(input, s, dim)
    values = resized(complex_input(input, "ifftn"), axes, sizes)
    return _stored(transformed(values, axes, norm_of(norm), True), out)


def _no_axes(axes: Axes, name: str) -> None:
    if not axes:
        raise RuntimeError(f"{name} must transform at least one axis")


def rfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The transform of real numbers; half of the last dimension's frequencies are left out."""
    axes, sizes = axes_and_sizes(input, s, dim)
    _no_axes(axes, "rfftn")
    values = resized(real_input(input, "rfftn"), axes, sizes)
    half = half_spectrum(values, axes[-1], norm_of(norm))
    return _stored(transformed(half, axes[:-1], norm_of(norm), False), out)


def irfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`rfftn`."""
    axes, sizes = axes_and_sizes(input, s, dim)
    _no_axes(axes, "irfftn")
    values = resized(complex_input(input, "irfftn"), axes[:-1], sizes[:-1])
    values = transformed(values, axes[:-1], norm_of(norm), True)
    half, points = _real_points(values, axes[-1], sizes[-1])
    return _stored(from_half_spectrum(half, axes[-1], norm_of(norm), points), out)


def hfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """:func:`hfft` along the last dimension after :func:`fft` along the others."""
    values = functions.conj(complex_input(input, "hfftn"))
    return irfftn(values, s, dim, SWAPPED_NORM[norm_of(norm)], out=out)


def ihfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The inverse of :func:`hfftn`."""
    half = rfftn(real_input(input, "ihfftn"), s, dim, SWAPPED_NORM[norm_of(norm)])
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
    return tuple(normalize_axis(axis, rank) for axis in sequence_of(dim))


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


_casting_all(globals(), "fft_")
_make_overridable(globals())
