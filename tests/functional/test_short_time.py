"""torch.stft and torch.istft against PyTorch on every device, gradients too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.functional.checks import compare, random, same_refusal

torch = pytest.importorskip("torch")

_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)
_SIGNALS = (random(20), random(3, 21), np.asfortranarray(random(2, 30)))
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"hop_length": 3, "win_length": 5},
    {"center": False, "normalized": True},
    {"center": False, "win_length": 4, "align_to_window": True},
    {"onesided": False, "pad_mode": "constant"},
)


@pytest.mark.parametrize("options", _OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_transform(each_device: str, options: dict[str, Any]) -> None:
    for signal in _SIGNALS:
        expected = torch.stft(torch.from_numpy(signal), 8, return_complex=True, **options)
        result = lazytorch.stft(lazytorch.tensor(signal), 8, return_complex=True, **options)
        np.testing.assert_allclose(result.cpu().numpy(), expected.numpy(), atol=1e-12)


def test_windows_and_complex_signals(each_device: str) -> None:
    signal = random(24) + 1j * random(24, seed=1)
    for array, window in ((signal, _HANN), (signal.real.copy(), _HANN * (1 + 1j))):
        expected = torch.stft(torch.from_numpy(array), 8, window=torch.from_numpy(window))
        result = lazytorch.tensor(array).stft(8, window=lazytorch.tensor(window))
        np.testing.assert_allclose(result.cpu().numpy(), expected.numpy(), atol=1e-12)


def test_parts_as_a_last_axis(each_device: str) -> None:
    signal = lazytorch.ones(16)
    parts = lazytorch.stft(signal, 4, return_complex=False)
    assert parts.shape == (3, 17, 2)
    whole = lazytorch.stft(signal, 4, return_complex=True)
    np.testing.assert_array_equal(
        parts.cpu().numpy(), lazytorch.view_as_real(whole).cpu().numpy()
    )


@pytest.mark.parametrize("onesided", (True, False))
def test_inverse(each_device: str, onesided: bool) -> None:
    spectra = torch.stft(
        torch.from_numpy(_SIGNALS[1]), 8, window=torch.from_numpy(_HANN), return_complex=True,
        onesided=onesided,
    )  # fmt: skip
    for options in ({}, {"length": 17}, {"normalized": True}, {"length": 30}):
        with pytest.warns(UserWarning) if options.get("length") == 30 else _silent():
            result = lazytorch.istft(
                lazytorch.tensor(spectra.numpy()), 8, window=lazytorch.tensor(_HANN), **options
            )
        expected = torch.istft(spectra, 8, window=torch.from_numpy(_HANN), **options)
        np.testing.assert_allclose(result.cpu().numpy(), expected.numpy(), atol=1e-12)


class _silent:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: Any) -> None: ...


def test_inverse_of_a_complex_signal(each_device: str) -> None:
    signal = random(2, 24) + 1j * random(2, 24, seed=1)
    spectra = lazytorch.stft(lazytorch.tensor(signal), 8, hop_length=2)
    result = lazytorch.istft(spectra, 8, hop_length=2, return_complex=True)
    np.testing.assert_allclose(result.cpu().numpy(), signal, atol=1e-12)


def test_gradients() -> None:
    def there(module: Any) -> Any:
        return lambda x, w: module.view_as_real(
            module.stft(x, 8, window=w, return_complex=True, hop_length=3)
        )

    compare(there(lazytorch), there(torch), random(2, 20), _HANN + 0.1)

    def back(module: Any) -> Any:
        return lambda parts: module.istft(
            module.complex(parts[0], parts[1]), 8, window=module.from_numpy(_HANN)
        )

    compare(back(lazytorch), back(torch), random(2, 2, 5, 6))


_REFUSED = (
    lambda m: m.stft(m.ones(20), 8),
    lambda m: m.stft(m.ones(20, dtype=m.int32), 8, return_complex=True),
    lambda m: m.stft(m.ones(1, 1, 20), 8, return_complex=True),
    lambda m: m.stft(m.ones(20), 21, center=False, return_complex=True),
    lambda m: m.stft(m.ones(20), 8, hop_length=0, return_complex=True),
    lambda m: m.stft(m.ones(20), 8, win_length=9, return_complex=True),
    lambda m: m.stft(m.ones(20), 8, window=m.ones(5), return_complex=True),
    lambda m: m.stft(m.ones(20) * 1j, 8, onesided=True),
    lambda m: m.stft(m.ones(3), 8, return_complex=True),
    lambda m: m.stft(m.ones(20), 8, align_to_window=True, return_complex=True),
    lambda m: m.istft(m.ones(5, 4), 8),
    lambda m: m.istft(m.ones(1, 2, 5, 4) * 1j, 8),
    lambda m: m.istft(m.ones(5, 0) * 1j, 8),
    lambda m: m.istft(m.ones(5, 4) * 1j, 10),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, onesided=False),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, hop_length=9),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, window=m.ones(5)),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, window=m.zeros(8)),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, return_complex=True),
    lambda m: m.istft(m.ones(5, 4) * 1j, 8, length=0),
)


@pytest.mark.parametrize("number", range(len(_REFUSED)))
def test_refusals(number: int) -> None:
    same_refusal(_REFUSED[number], _REFUSED[number])


def test_the_inverse_looks_at_half_of_a_spectrum_for_a_real_signal(each_device: str) -> None:
    spectra = random(2, 8, 5) + 1j * random(2, 8, 5, seed=1)
    expected = torch.istft(torch.from_numpy(spectra), 8, onesided=False)
    result = lazytorch.istft(lazytorch.tensor(spectra), 8, onesided=False)
    np.testing.assert_allclose(result.cpu().numpy(), expected.numpy(), atol=1e-12)
