"""Window functions of signal processing: weights that fall towards the ends of a frame.

Made in float64 on the host and rounded once. Formulas: F. J. Harris, "On the use of windows for
harmonic analysis with the discrete Fourier transform", Proceedings of the IEEE 66, 1978; the
window of Kaiser by the modified Bessel function I0 (DLMF 10.25.2).

A symmetric window ends with the number it begins with; a periodic one is a symmetric one that is
longer by one element, which is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ops.elementwise import scipy_special
from lazytorch.tensor.attach import functions
from lazytorch.tensor.creation import wants_grad
from lazytorch.tensor.device import as_device
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.tensor import Tensor, fresh

# (positions 0, 1, ..., distance from the first to the last weight of a symmetric window)
Formula = Callable[[np.ndarray, float], np.ndarray]


def _made(
    length: int, symmetric: bool, formula: Formula, dtype: DType | None, place: Any, grad: bool
) -> Tensor:
    span = length - 1 if symmetric or length <= 1 else length
    numbers = np.arange(length, dtype=np.float64)
    values = formula(numbers, float(span)) if length > 1 else np.ones(length)
    array = np.ascontiguousarray(values, (dtype or get_default_dtype()).numpy)
    chosen = as_device(place)
    return wants_grad(fresh(engine.leaf_from_array(array, chosen.runtime), chosen), grad)


# Formulas -------------------------------------------------------------------------------------


def cosines(coefficients: Sequence[float]) -> Formula:
    """``a[0] - a[1] cos(t) + a[2] cos(2 t) - ...`` over one turn."""

    def formula(n: np.ndarray, span: float) -> np.ndarray:
        turn = n * (2 * math.pi / span)
        terms = [(-1) ** k * a * np.cos(k * turn) for k, a in enumerate(coefficients)]
        return np.asarray(sum(terms))

    return formula


def _triangle(n: np.ndarray, span: float) -> np.ndarray:
    return 1 - np.abs(n * (2 / span) - 1)


def _half_wave(n: np.ndarray, span: float) -> np.ndarray:
    return np.sin((n + 0.5) * (math.pi / (span + 1)))


def _bell(deviation: float) -> Formula:
    return lambda n, span: np.exp(-(((n - span / 2) / deviation) ** 2) / 2)


def _decay(center: float | None, tau: float) -> Formula:
    return lambda n, span: np.exp(-np.abs(n - (span / 2 if center is None else center)) / tau)


def _kaiser(beta: float) -> Formula:
    def formula(n: np.ndarray, span: float) -> np.ndarray:
        inside = np.maximum(1 - (n * (2 / span) - 1) ** 2, 0)
        bessel = scipy_special("i0")
        return np.asarray(bessel(beta * np.sqrt(inside)) / bessel(np.float64(beta)))

    return formula


# torch.signal.windows -------------------------------------------------------------------------


def _symmetric(
    name: str, length: int, sym: bool, formula: Formula, *, dtype: DType | None = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    if length < 0:
        raise ValueError(f"{name} requires non-negative window length, got M={length}")
    if layout not in (None, "torch.strided") and str(layout) != "torch.strided":
        raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    chosen = dtype or get_default_dtype()
    if chosen not in (dtypes.float32, dtypes.float64):
        raise ValueError(f"{name} expects float32 or float64 dtypes, got: {chosen!r}")
    return _made(length, sym, formula, chosen, device, requires_grad)


def bartlett(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """A triangle from 0 to 1 and back.

    >>> bartlett(5)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """
    return _symmetric("bartlett", M, sym, _triangle, **options)


def blackman(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Three cosines with the coefficients 0.42, 0.5 and 0.08."""
    return _symmetric("blackman", M, sym, cosines((0.42, 0.5, 0.08)), **options)


def cosine(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Half a wave of the sine, taken between the samples."""
    return _symmetric("cosine", M, sym, _half_wave, **options)


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, **options: Any
) -> Tensor:
    """``exp(-|n - center| / tau)``; the centre can be given for periodic windows only."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    return _symmetric("exponential", M, sym, _decay(center, tau), **options)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, **options: Any) -> Tensor:
    """A normal curve with the standard deviation ``std`` in samples."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    return _symmetric("gaussian", M, sym, _bell(std), **options)


def general_cosine(M: int, *, a: Any, sym: bool = True, **options: Any) -> Tensor:
    """A sum of cosines with the coefficients ``a`` and alternating signs."""
    if not isinstance(a, (list, tuple)):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return _symmetric("general_cosine", M, sym, cosines(a), **options)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, **options: Any) -> Tensor:
    """``alpha - (1 - alpha) cos(t)`` over one turn."""
    return _symmetric("general_hamming", M, sym, cosines((alpha, 1 - alpha)), **options)


def hamming(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """``0.54 - 0.46 cos(t)`` over one turn."""
    return _symmetric("hamming", M, sym, cosines((0.54, 0.46)), **options)


def hann(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """``(1 - cos(t)) / 2`` over one turn.

    >>> hann(5)
    tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
    """
    return _symmetric("hann", M, sym, cosines((0.5, 0.5)), **options)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, **options: Any) -> Tensor:
    """``I0(beta sqrt(1 - x^2)) / I0(beta)`` for x from -1 to 1."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _symmetric("kaiser", M, sym, _kaiser(beta), **options)


def nuttall(M: int, *, sym: bool = True, **options: Any) -> Tensor:
    """Four cosines with the coefficients of Nuttall (IEEE ASSP 29, 1981)."""
    terms = (0.3635819, 0.4891775, 0.1365995, 0.0106411)
    return _symmetric("nuttall", M, sym, cosines(terms), **options)


# torch.*_window -------------------------------------------------------------------------------


def _core(
    name: str, window_length: int, periodic: bool, formula: Formula, *,
    dtype: DType | None = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    if isinstance(window_length, bool) or not isinstance(window_length, int):
        raise TypeError(
            f"{name}(): argument 'window_length' (position 1) must be int, not "
            f"{type(window_length).__name__}"
        )
    if window_length < 0:
        raise RuntimeError(
            f"{name} requires non-negative window_length, got window_length={window_length}"
        )
    chosen = dtype or get_default_dtype()
    if chosen.kind != "f":
        raise RuntimeError(f"{name} expects floating point dtypes, got: {chosen!r}")
    return _made(window_length, not periodic, formula, chosen, device, requires_grad)


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """A triangle from 0 to 1 and back; periodic unless told otherwise."""
    return _core("bartlett_window", window_length, periodic, _triangle, **options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """Three cosines with the coefficients 0.42, 0.5 and 0.08."""
    formula = cosines((0.42, 0.5, 0.08))
    return _core("blackman_window", window_length, periodic, formula, **options)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46,
    **options: Any,
) -> Tensor:  # fmt: skip
    """``alpha - beta cos(t)`` over one turn."""
    return _core("hamming_window", window_length, periodic, cosines((alpha, beta)), **options)


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """``(1 - cos(t)) / 2`` over one turn.

    >>> hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return _core("hann_window", window_length, periodic, cosines((0.5, 0.5)), **options)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any
) -> Tensor:
    """``I0(beta sqrt(1 - x^2)) / I0(beta)`` for x from -1 to 1."""
    return _core("kaiser_window", window_length, periodic, _kaiser(beta), **options)


for _window in (bartlett_window, blackman_window, hamming_window, hann_window, kaiser_window):
    setattr(functions, _window.__name__, _window)
