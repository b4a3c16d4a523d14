"""Activations against PyTorch, with gradients of the first two orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random, strided

torch = pytest.importorskip("torch")
TF = torch.nn.functional

PLAIN = [
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "elu", "selu", "celu", "leaky_relu",
    "softplus", "softsign", "hardtanh", "hardswish", "hardsigmoid", "mish", "logsigmoid", "glu",
    "tanhshrink", "softshrink", "hardshrink", "rrelu",
]  # fmt: skip
WITH_ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("gelu", {"approximate": "tanh"}), ("elu", {"alpha": 0.7}), ("celu", {"alpha": 1.7}),
    ("leaky_relu", {"negative_slope": 0.3}), ("softplus", {"beta": 2.5, "threshold": 3}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2}), ("softshrink", {"lambd": 0.9}),
    ("hardshrink", {"lambd": 0.1}), ("threshold", {"threshold": 0.3, "value": -7.0}),
    ("glu", {"dim": 0}), ("softmax", {"dim": 1}), ("log_softmax", {"dim": 0}),
    ("softmin", {"dim": -1}),
]  # fmt: skip


def precision(name: str) -> float:
    """PyTorch keeps some constants of these in float32, whatever the dtype."""
    return 1e-7 if name in ("hardsigmoid", "hardswish", "celu", "elu", "selu") else 1e-9


@pytest.mark.parametrize("name", PLAIN)
def test_plain(name: str) -> None:
    # PyTorch has no second derivative of hardsigmoid.
    compare(
        getattr(F, name), getattr(TF, name), random(4, 6), tolerance=precision(name),
        second=name != "hardsigmoid",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), WITH_ARGUMENTS)
def test_arguments(name: str, arguments: dict[str, Any]) -> None:
    compare(
        lambda x: getattr(F, name)(x, **arguments),
        lambda x: getattr(TF, name)(x, **arguments),
        strided(4, 6),
        tolerance=precision(name),
    )


@pytest.mark.parametrize("name", [*PLAIN, "softmax"])
def test_extremes_are_finite_or_as_in_pytorch(name: str) -> None:
    values = np.array([-1e4, -200.0, -90.0, -20.0, -0.0, 0.0, 20.0, 90.0, 200.0, 1e4])
    arguments = {"dim": 0} if name == "softmax" else {}
    compare(
        lambda x: getattr(F, name)(x, **arguments),
        lambda x: getattr(TF, name)(x, **arguments),
        values,
        tolerance=precision(name),
        # PyTorch's second derivative of mish is NaN far out; it is 0.
        second=name not in ("softshrink", "hardshrink", "mish", "hardsigmoid"),
    )


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("glu", "rrelu")])
def test_nan_stays(name: str) -> None:
    values = np.array([np.nan, 1.0])
    compare(getattr(F, name), getattr(TF, name), values, second=False)


@pytest.mark.parametrize("shape", [(), (0, 4), (1,), (2, 3, 4, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    for name in ("relu", "gelu", "silu", "elu"):
        compare(getattr(F, name), getattr(TF, name), np.asarray(random(*shape)), second=False)


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "elu", "selu", "celu", "leaky_relu", "silu", "hardswish", "mish"]
)
def test_in_place(name: str) -> None:
    def both(module: Any, function: Any) -> Any:
        def run(x: Any) -> Any:
            held = x * 1
            out = getattr(function, name)(held, inplace=True)
            assert out is held
            return held * 2

        return run

    compare(both(lazytorch, F), both(torch, TF), random(3, 4), second=False)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 4), (3,)])
def test_prelu(shape: tuple[int, ...]) -> None:
    if len(shape) > 1:
        compare(F.prelu, TF.prelu, random(*shape), random(3))
    compare(F.prelu, TF.prelu, random(*shape), random(1))


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_dims(name: str, dim: int) -> None:
    compare(
        lambda x: getattr(F, name)(x, dim), lambda x: getattr(TF, name)(x, dim), random(2, 3, 4)
    )


@pytest.mark.parametrize("dim", [0, 1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_logsumexp(dim: Any, keepdim: bool) -> None:
    compare(
        lambda x: lazytorch.logsumexp(x, dim, keepdim),
        lambda x: torch.logsumexp(x, dim, keepdim),
        random(2, 3, 4),
    )


def test_rows_of_infinities() -> None:
    values = np.array([[-np.inf, -np.inf], [np.inf, 1.0], [-np.inf, 2.0]])
    for name in ("softmax", "log_softmax"):
        compare(
            lambda x, name=name: getattr(F, name)(x, 1),
            lambda x, name=name: getattr(TF, name)(x, 1),
            values,
            gradient=False,
        )
    compare(
        lambda x: lazytorch.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), values, gradient=False
    )


def test_half_precision_rounds_once() -> None:
    values = random(64, 8).astype(np.float32)
    for name in ("gelu", "silu", "softplus", "mish"):
        ours = getattr(F, name)(lazytorch.tensor(values).bfloat16()).float().numpy()
        theirs = getattr(TF, name)(torch.tensor(values).bfloat16()).float().numpy()
        np.testing.assert_array_less(np.abs(ours - theirs), 0.01 * np.abs(theirs) + 1e-6)


def test_implicit_softmax_dimension_warns() -> None:
    with pytest.warns(UserWarning, match="Implicit dimension"):
        F.softmax(lazytorch.ones(2, 2))


def test_gumbel_softmax_is_a_distribution() -> None:
    logits = lazytorch.zeros(50, 4).requires_grad_()
    soft = F.gumbel_softmax(logits, tau=0.5)
    np.testing.assert_allclose(soft.sum(1).detach().numpy(), 1, rtol=1e-5)
    hard = F.gumbel_softmax(logits, hard=True)
    assert set(np.unique(np.round(hard.detach().numpy(), 5))) <= {0.0, 1.0}
    hard.sum().backward()
    assert logits.grad is not None
