"""Norms of vectors: values and gradients against PyTorch's, also at 0, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices

ORDERS = (0, 0.5, 1, 1.5, 2, 3, -0.5, -1, -2, float("inf"), float("-inf"))


@pytest.mark.parametrize("place", available_devices())
def test_values(place: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5))
    tensor = lazytorch.tensor(x, device=place)
    for order in ORDERS if place == "numpy" else (0.5, 2, float("inf")):
        found = lazytorch.linalg.vector_norm(tensor, order, dim=1).cpu().numpy()
        np.testing.assert_allclose(found, np.linalg.norm(x, order, 1), rtol=1e-9)


@pytest.mark.parametrize("place", available_devices())
def test_of_nothing(place: str) -> None:
    """A norm over no elements is 0, whatever is kept of the dimensions."""
    empty = lazytorch.zeros(5, 0, device=place)
    assert lazytorch.linalg.norm(empty, keepdim=True).tolist() == [[0.0]]
    assert lazytorch.linalg.vector_norm(empty, 2, 1, keepdim=True).tolist() == [[0.0]] * 5


@pytest.mark.parametrize("order", ORDERS)
def test_gradients(order: float) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(1)
    smooth = generator.standard_normal((2, 4))
    with_zeros = smooth * [[1, 0, 1, 0], [0, 0, 0, 0]]
    for array in (smooth, with_zeros, smooth + 1j * smooth[::-1]):
        found = []
        for module in (lazytorch, torch):
            place = "numpy" if module is lazytorch else "cpu"
            x = module.tensor(array, device=place).requires_grad_()
            weights = module.tensor([[1.0], [3.0]], dtype=module.float64, device=place)
            (module.linalg.vector_norm(x, order, dim=1, keepdim=True) * weights).sum().backward()
            # PyTorch has no gradient at all of the count of elements.
            found.append(np.zeros(x.shape) if x.grad is None else x.grad.numpy())
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)


REFUSALS: tuple[Any, ...] = (
    lambda m: m.linalg.vector_norm(m.ones(3, dtype=m.int64)),
    lambda m: m.linalg.vector_norm(m.ones(3), "x"),
    lambda m: m.linalg.vector_norm(m.ones(3), dtype=m.int32),
    lambda m: m.linalg.vector_norm(m.ones(3), dtype=m.complex64),
    lambda m: m.linalg.vector_norm(m.ones(3, dtype=m.complex64), dtype=m.float32),
    lambda m: m.linalg.vector_norm(m.ones(3).double(), dtype=m.float32),
    lambda m: m.linalg.vector_norm(m.zeros(0), float("inf")),
    lambda m: m.linalg.vector_norm(m.zeros(3, 0), -1, dim=1),
)


@pytest.mark.parametrize("number", range(len(REFUSALS)))
def test_refusals(number: int) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as expected:
        REFUSALS[number](torch)
    with pytest.raises(expected.type) as raised:
        REFUSALS[number](lazytorch)
    assert str(raised.value)[:40] == str(expected.value)[:40]


def test_norms_of_nothing() -> None:
    nothing = lazytorch.zeros(0, 5)
    assert lazytorch.linalg.vector_norm(nothing).item() == 0
    assert lazytorch.linalg.vector_norm(lazytorch.zeros(3, 0), float("inf"), dim=0).shape == (0,)
    assert lazytorch.linalg.norm(nothing, float("inf")).item() == 0
    assert lazytorch.linalg.norm(nothing, 2).item() == 0
