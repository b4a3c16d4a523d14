"""Dropout: shares, scales, gradients through the same mask, and independence of draws."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale(p: float) -> None:
    lazytorch.manual_seed(0)
    out = F.dropout(lazytorch.ones(100, 100), p).numpy()
    assert abs((out == 0).mean() - p) < 0.02
    np.testing.assert_allclose(out[out != 0], 1 / (1 - p), rtol=1e-5)


def test_gradient_uses_the_same_mask() -> None:
    x = lazytorch.ones(50, 40).requires_grad_()
    out = F.dropout(x, 0.4)
    seen = out.detach().numpy().copy()
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), seen, rtol=1e-6)


def test_gradient_uses_the_same_mask_without_looking() -> None:
    x = lazytorch.ones(50, 40).requires_grad_()
    out = F.dropout(x * 1, 0.4)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), out.detach().numpy(), rtol=1e-6)


def test_draws_differ_and_the_seed_repeats_them() -> None:
    lazytorch.manual_seed(3)
    first, second = (F.dropout(lazytorch.ones(64, 8)).numpy() for _ in range(2))
    assert (first != second).any()
    lazytorch.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(lazytorch.ones(64, 8)).numpy(), first)


def test_evaluation_and_extremes() -> None:
    x = lazytorch.ones(4, 4)
    assert F.dropout(x, 0.5, training=False) is x
    assert (F.dropout(x, 1.0).numpy() == 0).all()
    np.testing.assert_array_equal(F.dropout(x, 0.0).numpy(), x.numpy())


@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (8, 6, 5)), ("dropout2d", (8, 6, 4, 3)),
                        ("dropout3d", (8, 6, 2, 3, 2))]
)  # fmt: skip
def test_whole_channels(name: str, shape: tuple[int, ...]) -> None:
    out = getattr(F, name)(lazytorch.ones(*shape), 0.5).numpy().reshape(8, 6, -1)
    assert ((out == 0).all(2) | (out == 2).all(2)).all()
    assert 0 < (out == 0).mean() < 1
    unbatched = F.dropout1d(lazytorch.ones(40, 5), 0.5).numpy()
    assert ((unbatched == 0).all(1) | (unbatched == 2).all(1)).all()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    lazytorch.manual_seed(1)
    x = lazytorch.randn(400, 100)
    out = F.alpha_dropout(x, 0.3, training=True).numpy()
    assert abs(out.mean()) < 0.03 and abs(out.std() - 1) < 0.05
    channels = F.feature_alpha_dropout(lazytorch.zeros(8, 6, 4), 0.5, training=True).numpy()
    assert (channels == channels[:, :, :1]).all()


def test_in_place() -> None:
    x = lazytorch.ones(100)
    out = F.dropout(x, 0.5, inplace=True)
    assert out is x and set(np.unique(x.numpy())) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_bad_probability(p: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        F.dropout(lazytorch.ones(2), p)
