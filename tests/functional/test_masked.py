"""torch.masked against NumPy's masked arrays, on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch

_generator = np.random.default_rng(7)
X = _generator.standard_normal((4, 5))
KEEP = _generator.random((4, 5)) > 0.4
KEEP[2] = False
KEEP[0] = True


def rows(function: Any) -> np.ndarray:
    """``function`` of what is kept of each row."""
    with np.errstate(all="ignore"):
        return np.array([function(x[keep]) for x, keep in zip(X, KEEP)])


EXPECTED = {
    "sum": rows(np.sum),
    "prod": rows(np.prod),
    "amax": rows(lambda x: x.max(initial=-np.inf)),
    "amin": rows(lambda x: x.min(initial=np.inf)),
    "mean": rows(lambda x: x.mean() if x.size else np.nan),
    "var": rows(lambda x: x.var(ddof=1) if x.size > 1 else np.nan),
    "std": rows(lambda x: x.std(ddof=1) if x.size > 1 else np.nan),
    "norm": rows(np.linalg.norm),
    "logsumexp": rows(lambda x: np.log(np.exp(x).sum())),
    "median": rows(lambda x: np.sort(x)[(x.size - 1) // 2] if x.size else np.nan),
}


def test_reductions_see_only_what_is_kept(each_device: str) -> None:
    x, mask = torch.tensor(X), torch.tensor(KEEP)
    for name, expected in EXPECTED.items():
        given = {"dim": 1}
        result = getattr(torch.masked, name)(x, mask=mask, **given).cpu().numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12, err_msg=name)


def test_scans_and_softmax(each_device: str) -> None:
    x, mask = torch.tensor(X), torch.tensor(KEEP)
    filled = np.where(KEEP, X, 0)
    sums = torch.masked.cumsum(x, 1, mask=mask).cpu().numpy()
    np.testing.assert_allclose(sums, filled.cumsum(1), rtol=1e-9)
    weights = torch.masked.softmax(x, 1, mask=mask).cpu().numpy()[[0, 1, 3]]
    shares = np.where(KEEP, np.exp(X), 0)[[0, 1, 3]]
    np.testing.assert_allclose(weights, shares / shares.sum(1, keepdims=True), rtol=1e-9)


def test_a_smaller_mask_broadcasts_and_a_larger_one_is_refused() -> None:
    x = torch.ones(2, 3)
    assert torch.masked.sum(x, mask=torch.tensor([True, False, True])).item() == 4
    with pytest.raises(IndexError, match="broadcasts"):
        torch.masked.sum(x, mask=torch.ones(1, 2, 3, dtype=torch.bool))


def test_masked_out_elements_get_no_gradient() -> None:
    x = torch.tensor(X, requires_grad=True)
    torch.masked.mean(x, 1, mask=torch.tensor(KEEP))[[0, 1, 3]].sum().backward()
    assert (x.grad.numpy()[~KEEP] == 0).all()
    np.testing.assert_allclose(x.grad.numpy()[0], 0.2)


def test_dtypes_and_errors() -> None:
    whole = torch.arange(4)
    assert torch.masked.sum(whole > 1).dtype is torch.int64
    assert torch.masked.argmax(torch.rand(3)).dtype is torch.float32
    with pytest.raises(ValueError, match="floating point or complex"):
        torch.masked.mean(whole)
    with pytest.raises(ValueError, match="fully masked out"):
        torch.masked.median(whole, mask=torch.zeros(4, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="multiple times"):
        torch.masked.sum(torch.ones(2, 2), (0, 0))
