"""torch.fft against NumPy on every device; gradients against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch

_generator = np.random.default_rng(1)
Z = _generator.standard_normal((3, 6, 5)) + 1j * _generator.standard_normal((3, 6, 5))
R = _generator.standard_normal((3, 6, 5))


CASES: list[tuple[str, np.ndarray, dict[str, Any]]] = [
    *((name, array, {"norm": norm}) for name, array in (
        ("fft", Z), ("ifft", Z), ("rfft", R), ("irfft", Z), ("hfft", Z), ("ihfft", R),
    ) for norm in ("backward", "forward", "ortho")),
    *((name, array, {"n": n, "axis": 1}) for name, array in (
        ("fft", Z), ("ifft", R), ("rfft", R), ("irfft", Z), ("hfft", Z), ("ihfft", R),
    ) for n in (4, 7)),
    *((name, array, {}) for name, array in (
        ("fft2", Z), ("ifft2", Z), ("rfft2", R), ("irfft2", Z), ("fftn", R), ("ifftn", Z),
        ("rfftn", R), ("irfftn", Z),
    )),
    *((name, array, {"s": (4, 8), "axes": (0, 2)}) for name, array in (
        ("fftn", Z), ("ifftn", R), ("rfftn", R), ("irfftn", Z),
    )),
]  # fmt: skip


def test_transforms(each_device: str) -> None:
    for name, array, options in CASES:
        expected = getattr(np.fft, name)(array, **options)
        given = {("dim" if key in ("axis", "axes") else key): v for key, v in options.items()}
        result = getattr(torch.fft, name)(torch.tensor(array), **given).cpu().numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_precision_follows_the_input() -> None:
    assert torch.fft.fft(torch.ones(4)).dtype is torch.complex64
    assert torch.fft.rfft(torch.ones(4, dtype=torch.float64)).dtype is torch.complex128
    assert torch.fft.irfft(torch.ones(4, dtype=torch.complex64)).dtype is torch.float32
    assert torch.fft.fft(torch.arange(4)).dtype is torch.complex64
    assert torch.fft.fft(torch.ones(0, 4)).shape == (0, 4)


def test_frequencies_and_shifts() -> None:
    for n in (4, 5):
        np.testing.assert_allclose(torch.fft.fftfreq(n, 0.5).numpy(), np.fft.fftfreq(n, 0.5))
        np.testing.assert_allclose(torch.fft.rfftfreq(n, 2).numpy(), np.fft.rfftfreq(n, 2))
    x = torch.arange(15).reshape(3, 5)
    shifted = torch.fft.fftshift(x)
    np.testing.assert_array_equal(shifted.numpy(), np.fft.fftshift(x.numpy()))
    np.testing.assert_array_equal(torch.fft.ifftshift(shifted).numpy(), x.numpy())


def test_errors() -> None:
    with pytest.raises(RuntimeError, match=r"Invalid number of data points \(0\)"):
        torch.fft.fft(torch.ones(3), n=0)
    with pytest.raises(IndexError, match="Dimension out of range"):
        torch.fft.fft(torch.ones(3), dim=2)
    with pytest.raises(RuntimeError, match="unique"):
        torch.fft.fftn(torch.ones(3, 3), dim=(0, 0))
    with pytest.raises(RuntimeError, match="real input"):
        torch.fft.rfft(torch.ones(3) * 1j)
    with pytest.raises(RuntimeError, match="normalization"):
        torch.fft.fft(torch.ones(3), norm="none")
    with pytest.raises(RuntimeError, match="Unsupported dtype"):
        torch.fft.fft(torch.ones(3, dtype=torch.bfloat16))


DIFFERENTIABLE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "rfftn", "irfft2")


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_follow_pytorch(name: str) -> None:
    peer = pytest.importorskip("torch")
    array = R if name in ("rfft", "ihfft", "rfftn") else Z
    sizes = {} if name.endswith(("n", "2")) else {"n": 7}
    mine, other = torch.tensor(array, requires_grad=True), peer.tensor(array, requires_grad=True)
    result = getattr(torch.fft, name)(mine, norm="ortho", **sizes)
    expected = getattr(peer.fft, name)(other, norm="ortho", **sizes)
    weights = _generator.standard_normal(tuple(expected.shape))
    weights = weights * (1 - 2j) if expected.is_complex() else weights
    result.backward(torch.tensor(weights))
    expected.backward(peer.tensor(weights))
    np.testing.assert_allclose(mine.grad.numpy(), other.grad.resolve_conj().numpy(), rtol=1e-9)
