"""Initial distributions, and helpers on gradients and parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn


def drawn(fill, shape=(200, 100), **options) -> np.ndarray:
    torch.manual_seed(0)
    return fill(torch.empty(*shape), **options).numpy()


@pytest.mark.parametrize(
    ("fill", "deviation", "bound"),
    [
        (nn.init.xavier_uniform_, math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (nn.init.xavier_normal_, math.sqrt(2 / 300), None),
        (nn.init.kaiming_uniform_, math.sqrt(2 / 100), math.sqrt(6 / 100)),
        (nn.init.kaiming_normal_, math.sqrt(2 / 100), None),
        (nn.init.uniform_, math.sqrt(1 / 12), 1.0),
        (nn.init.normal_, 1.0, None),
        (nn.init.trunc_normal_, 0.8796, 2.0),
    ],
)
def test_distributions(fill, deviation: float, bound: float | None) -> None:
    values = drawn(fill)
    assert abs(values.std() / deviation - 1) < 0.03
    if bound is not None:
        assert np.abs(values).max() <= bound and np.abs(values).max() > 0.97 * bound


def test_structured() -> None:
    values = drawn(nn.init.orthogonal_, (6, 4), gain=2.0)
    np.testing.assert_allclose(values.T @ values, 4 * np.eye(4), atol=1e-5)
    assert np.array_equal(drawn(nn.init.eye_, (2, 3)), np.eye(2, 3, dtype=np.float32))
    x = torch.randn(1, 3, 5)
    kept = nn.functional.conv1d(x, nn.init.dirac_(torch.empty(3, 3, 3)), padding=1)
    np.testing.assert_allclose(kept.numpy(), x.numpy(), atol=1e-6)
    sparse = drawn(nn.init.sparse_, (10, 4), sparsity=0.3)
    assert ((sparse == 0).sum(0) == 3).all()
    assert nn.init.constant_(torch.empty(2), 3.5).tolist() == [3.5, 3.5]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="Unsupported nonlinearity x"):
        nn.init.calculate_gain("x")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_uniform_(torch.empty(3))
    with pytest.raises(ValueError, match="Mode x not supported"):
        nn.init.kaiming_uniform_(torch.empty(3, 3), mode="x")


def test_layers_start_where_pytorchs_do() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(100, 200)
    weights = layer.weight.detach().numpy()
    assert np.abs(weights).max() <= 0.1 and abs(weights.std() - 0.1 / math.sqrt(3)) < 0.002
    convolution = nn.Conv2d(4, 50, 5).weight.detach().numpy()
    assert np.abs(convolution).max() <= 0.1 and np.abs(convolution).max() > 0.098


def with_gradients() -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    parameters[0].grad = torch.full((3,), 2.0)
    parameters[1].grad = torch.full((2, 2), -1.0)
    return [*parameters, nn.Parameter(torch.zeros(1))]


def test_clipping() -> None:
    parameters = with_gradients()
    assert nn.utils.clip_grad_norm_(parameters, 1.0).item() == pytest.approx(4.0)
    norm = math.sqrt(sum((p.grad.numpy() ** 2).sum() for p in parameters[:2]))
    assert norm == pytest.approx(1.0, rel=1e-4)
    parameters = with_gradients()
    assert nn.utils.clip_grad_norm_(parameters, 100.0, norm_type=math.inf).item() == 2.0
    assert parameters[0].grad.tolist() == [2.0] * 3
    nn.utils.clip_grad_value_(parameters, 0.5)
    assert parameters[1].grad.tolist() == [[-0.5, -0.5], [-0.5, -0.5]]
    parameters[0].grad[0] = math.nan
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)


def test_vectors() -> None:
    model = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert tuple(vector.shape) == (9,)
    nn.utils.vector_to_parameters(torch.arange(9.0), model.parameters())
    assert model.bias.tolist() == [6.0, 7.0, 8.0]
