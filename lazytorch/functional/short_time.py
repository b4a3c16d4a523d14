"""Short-time Fourier transforms: the spectra of overlapping pieces of a signal, and back.

J. B. Allen and L. R. Rabiner, "A unified approach to short-time Fourier analysis and synthesis",
Proceedings of the IEEE 65(11), 1977; the inverse is the overlap-add of D. W. Griffin and J. S. Lim,
"Signal estimation from modified short-time Fourier transform", IEEE TASSP 32(2), 1984, equation 6.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lazytorch.functional.composite import detached, expanded, padded, part, permuted, reshaped
from lazytorch.functional.fourier import from_half_spectrum, half_spectrum, transformed
from lazytorch.functional.padding import pad
from lazytorch.functional.windows import Windows, cut, overlay
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# Less than this, and a sample of the signal cannot be told from its windowed pieces.
_LEAST_COVER = 1e-11


class _Frames:
    """The sizes of the pieces, checked: ``points`` a piece, one every ``hop`` samples."""

    __slots__ = ("call", "hop", "points", "width")

    def __init__(
        self, name: str, input: Tensor, points: int, hop: int | None, width: int | None
    ) -> None:
        self.points = points
        self.hop = points // 4 if hop is None else hop
        self.width = points if width is None else width
        self.call = (
            f"{name}({dtype_of(input).name}{list(shape_of(input))}, n_fft={points}, "
            f"hop_length={self.hop}, win_length={self.width})"
        )

    def refuse(self, reason: str) -> RuntimeError:
        return RuntimeError(f"{self.call}: {reason}")

    def windows(self, number: int) -> Windows:
        extent = self.points + self.hop * (number - 1)
        return Windows((extent,), (self.points,), (self.hop,), (1,), (number,), (0,))

    def check_window(self, window: Tensor | None) -> None:
        if not 0 < self.width <= self.points:
            raise self.refuse(f"expected 0 < win_length <= n_fft, but got win_length={self.width}")
        if window is not None and shape_of(window) != (self.width,):
            raise self.refuse(
                f"expected a 1D window tensor of size equal to win_length={self.width}, but got "
                f"window with size {list(shape_of(window))}"
            )

    def centred(self, window: Tensor) -> Tensor:
        """The window with zeros on both sides, as long as a piece."""
        left = (self.points - self.width) // 2
        return padded(window, [(left, self.points - self.width - left)])


def _is_complex(tensor: Tensor | None) -> bool:
    return tensor is not None and dtype_of(tensor).kind == "c"


def _spectra(pieces: Tensor, onesided: bool, norm: str) -> Tensor:
    axis = len(shape_of(pieces)) - 1
    if onesided:
        return half_spectrum(pieces, axis, norm)
    return transformed(cast(pieces, dtype_of(pieces).to_complex()), (axis,), norm, False)


def _centred_signal(input: Tensor, points: int, mode: str) -> Tensor:
    """The signal with half a piece on each side, so that pieces are centred on their samples."""
    shape = shape_of(input)
    flat = reshaped(input, (1,) * (3 - len(shape)) + shape)
    wide = pad(flat, (points // 2, points // 2), mode)
    return reshaped(wide, shape_of(wide)[3 - len(shape) :])


@public(out=False)
def stft(
    input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, center: bool = True, pad_mode: str = "reflect",
    normalized: bool = False, onesided: bool | None = None, return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:  # fmt: skip
    """The short-time Fourier transform of a signal (L) or a batch (B, L).

    Returns (B, frequencies, pieces), complex; with ``return_complex=False`` real, with a last
    axis of the two parts. ``onesided`` (the default for real numbers) keeps ``n_fft // 2 + 1``
    frequencies. ``window`` (win_length) is centred in a piece of ``n_fft``; ``hop_length`` is
    ``n_fft // 4`` unless given. ``center`` pads the signal by ``pad_mode``; ``normalized``
    divides by the root of ``n_fft``.

    Raises ``RuntimeError`` for sizes that do not fit, and for a real input without
    ``return_complex``.

    >>> stft(ones(8), 4, center=False, return_complex=True).shape
    torch.Size([3, 5])
    """
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    frames = _Frames("stft", input, n_fft, hop_length, win_length)
    if dtype_of(input).kind not in "fc":
        raise frames.refuse("expected a tensor of floating point or complex values")
    rank = len(shape_of(input))
    if rank not in (1, 2):
        raise frames.refuse(f"expected a 1D or 2D tensor, but got {rank} dimensions")
    has_complex = _is_complex(input) or _is_complex(window)
    if return_complex is None and not has_complex:
        raise RuntimeError(
            "stft requires the return_complex parameter be given for real inputs: pass "
            "return_complex=True (and view_as_real for the two parts)"
        )
    signal = _centred_signal(input, n_fft, pad_mode) if center else input
    if rank == 1:
        signal = reshaped(signal, (1, *shape_of(signal)))
    if align_to_window:
        edge = max(n_fft - frames.width, 0) // 2
        signal = padded(signal, [(0, 0), (edge, edge)])
    spectra = _transform(signal, frames, window, normalized, onesided, has_complex)
    if rank == 1:
        spectra = reshaped(spectra, shape_of(spectra)[1:])
    if return_complex is False:
        return functions.view_as_real(spectra)
    return spectra


def _transform(
    signal: Tensor, frames: _Frames, window: Tensor | None, normalized: bool,
    onesided: bool | None, has_complex: bool,
) -> Tensor:  # fmt: skip
    """(B, L) to (B, frequencies, pieces)."""
    length = shape_of(signal)[1]
    if not 0 < frames.points <= length:
        raise frames.refuse(f"expected 0 < n_fft <= {length}, but got n_fft={frames.points}")
    if frames.hop <= 0:
        raise frames.refuse(f"expected hop_length > 0, but got hop_length={frames.hop}")
    frames.check_window(window)
    if onesided and has_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    number = 1 + (length - frames.points) // frames.hop
    windows = frames.windows(number)
    pieces: Any = cut(part(signal, 1, 0, windows.extents[0]), windows, 0)
    if window is None and frames.width < frames.points:
        window = functions.ones((frames.width,), dtype=dtype_of(signal), device=signal.device)
    if window is not None:
        pieces = pieces * frames.centred(window)
    half = not has_complex if onesided is None else onesided
    spectra = _spectra(pieces, half, "ortho" if normalized else "backward")
    return permuted(spectra, (0, 2, 1))


@public(out=False)
def istft(
    input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, center: bool = True, normalized: bool = False,
    onesided: bool | None = None, length: int | None = None, return_complex: bool = False,
) -> Tensor:  # fmt: skip
    """The signal whose :func:`stft` is nearest to ``input`` (B, frequencies, pieces).

    Settings are those that the transform was made with; ``length`` crops the signal, or pads it
    with zeros. The windows must cover each sample: that is looked at when the function is called.

    Raises ``RuntimeError`` for a real input, for sizes that do not fit and for windows that leave
    a sample uncovered.
    """
    frames = _Frames("istft", input, n_fft, hop_length, win_length)
    half = _checked_inverse(input, frames, window, onesided, return_complex)
    rank = len(shape_of(input))
    spectra = input if rank == 3 else reshaped(input, (1, *shape_of(input)))
    norm = "ortho" if normalized else "backward"
    spectra = permuted(spectra, (0, 2, 1))
    if return_complex:
        pieces: Any = transformed(spectra, (2,), norm, True)
    else:
        # A real signal is in the first half; what the other one holds is not looked at.
        first = spectra if half else part(spectra, 2, 0, n_fft // 2 + 1)
        pieces = from_half_spectrum(first, 2, norm, n_fft)
    if window is None:
        window = functions.ones((frames.width,), dtype=dtype_of(pieces).real, device=input.device)
    shaped = frames.centred(window)  # type: ignore[arg-type]
    windows = frames.windows(shape_of(pieces)[1])
    signal: Any = overlay(pieces * shaped, windows)
    cover = _cover(shaped, windows)
    full = windows.extents[0]
    start = n_fft // 2 if center else 0
    if length is not None:
        end = start + length
    else:
        end = full - n_fft // 2 if center else full
    stop = min(end, full)
    if stop <= start:
        raise frames.refuse(f"nothing is left of {full} samples from {start} to {end}")
    _require_cover(frames, cover, start, stop)
    signal = part(signal, 1, start, stop - start) / part(cover, 0, start, stop - start)
    if end > full:
        warnings.warn(
            "The length of signal is shorter than the length parameter. Result is being padded "
            "with zeros in the tail. Please check your center and hop_length settings.",
            stacklevel=2,
        )
        signal = padded(signal, [(0, 0), (0, end - full)])
    return signal if rank == 3 else reshaped(signal, shape_of(signal)[1:])


def _cover(shaped: Tensor, windows: Windows) -> Tensor:
    """The sum of the squared windows over each sample."""
    squares: Any = shaped * shaped  # type: ignore[operator]
    number = windows.count[0]
    laid = expanded(reshaped(squares, (1, *shape_of(squares))), (number, windows.volume))
    return overlay(laid, windows)


def _require_cover(frames: _Frames, cover: Tensor, start: int, stop: int) -> None:
    least = float(np.abs(every_value(detached(cover)[start:stop])).min())
    if least < _LEAST_COVER:
        raise frames.refuse(
            f"window overlap add min: {least:g}: the windows leave samples uncovered; use a window "
            "without zeros at its ends, center=True, or a smaller hop_length"
        )


def _checked_inverse(
    input: Tensor, frames: _Frames, window: Tensor | None, onesided: bool | None, complex_out: bool
) -> bool:
    """Whether the input holds half of the frequencies; raises what cannot be inverted."""
    shape, points = shape_of(input), frames.points
    if not _is_complex(input):
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with "
            "return_complex=True."
        )
    if 0 in shape:
        raise frames.refuse("input tensor cannot be empty.")
    if len(shape) not in (2, 3):
        raise frames.refuse(f"expected a tensor with 2 or 3 dimensions, but got {len(shape)}")
    half = shape[-2] != points if onesided is None else onesided
    wanted = points // 2 + 1 if half else points
    if shape[-2] != wanted:
        raise frames.refuse(
            "expected the frequency dimension of the input tensor to match "
            f"{'n_fft / 2 + 1' if half else 'n_fft'} ({wanted}) when onesided={half}, but got "
            f"{shape[-2]}"
        )
    if not 0 < frames.hop <= frames.width:
        raise frames.refuse("expected 0 < hop_length <= win_length")
    frames.check_window(window)
    if complex_out and half:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if not complex_out and _is_complex(window):
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    return half
