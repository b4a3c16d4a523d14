"""Gradients where more than one answer is defensible, or none is a slope: as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.functional.checks import compare

torch = pytest.importorskip("torch")

X = np.array([[1.5, 0.0, -2.0], [0.5, 3.0, 0.0]])
TWICE = [0, 0, 2]


def _indices(t: Any, nested: Any) -> Any:
    return t.tensor(nested, dtype=t.int64)


# Each gets the library, and X or parts of it.
CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    # A place written twice has one value.
    "index_fill": (lambda t, x, v: x.index_fill(1, _indices(t, TWICE), v), [X, np.array(2.0)]),
    # Of a product with one zero only the zero has a gradient.
    "products": (
        lambda t, x, s: x.scatter_reduce(1, _indices(t, [[0, 1, 1], [2, 1, 1]]), s, "prod"),
        [X, np.array([[2.0, 0.0, 0.0], [4.0, 0.0, 3.0]])],
    ),
    "products alone": (
        lambda t, x, s: x.index_reduce(1, _indices(t, TWICE), s, "prod", include_self=False),
        [X, np.array([[0.0, 3.0, 2.0], [4.0, 5.0, 0.0]])],
    ),
    # What is overwritten or does not matter has a gradient, of zeros.
    "fill": (lambda t, x: t.fill(x, 3), [X]),
    "fill with a tensor": (lambda t, x, v: t.fill(x, v), [X, np.array(2.0)]),
    "zeroth power": (lambda t, x: t.linalg.matrix_power(x, 0), [X[:, :2].copy()]),
    "nothing gathered": (lambda t, x: x.gather(0, t.zeros((0, 1, 2), dtype=t.int64)), [X]),
}


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", list(CASES))
def test_as_pytorch(name: str, each_device: str) -> None:
    function, arrays = CASES[name]

    def ours(*given: Any) -> Any:
        return function(lazytorch, *(one.to(each_device) for one in given)).to("cpu")

    compare(ours, lambda *given: function(torch, *given), *arrays, second=False)


def _drawn(t: Any, x: Any) -> list[Any]:
    return [t.normal(x, 1.0), t.normal(0.0, x), t.normal(x, x), t.bernoulli(x)]


def test_what_is_drawn_has_a_gradient_of_zeros(each_device: str) -> None:
    x = lazytorch.tensor([0.25, 0.5], requires_grad=True)
    y = torch.tensor([0.25, 0.5], requires_grad=True)
    for ours, theirs in zip(_drawn(lazytorch, x), _drawn(torch, y)):
        assert type(ours.grad_fn).__name__ == theirs.grad_fn.name()
        (gradient,) = lazytorch.autograd.grad(ours.sum(), x)
        assert gradient.tolist() == [0, 0]


@pytest.mark.parametrize("factors", [[0.0, 3.0, 5.0], [0.0, 0.0, 5.0]])
def test_zeros_among_factors_in_the_second_order(factors: list[float]) -> None:
    """The derivative by two factors, of which one or both are zero, is that of the others."""
    # The rule is the same everywhere, and here nothing is compiled.
    where: dict[str, Any] = {"device": "numpy"}
    index = lazytorch.zeros(3, dtype=lazytorch.int64, **where)
    kind = {"dtype": lazytorch.float64, "requires_grad": True, **where}

    def product(x: Any, s: Any) -> Any:
        return x.scatter_reduce(0, index, s, "prod")

    for first in (2.0, 0.0):
        x = lazytorch.tensor([first], **kind)
        s = lazytorch.tensor(factors, **kind)
        assert lazytorch.autograd.gradcheck(product, (x, s))
        if first or factors[1]:
            assert lazytorch.autograd.gradgradcheck(product, (x, s))
