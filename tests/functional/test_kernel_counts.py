"""How many kernels a function of nn becomes, forward and with its gradient: may not grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
import lazytorch.nn.functional as F
from lazytorch import engine
from lazytorch.ir.kernel import Kernel
from lazytorch.tensor.storage import node_of

Function = Callable[..., Any]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def launches(*tensors: Any) -> int:
    """Kernels launched to compute all tensors together."""
    before = torch.stats()["kernels_launched"]
    engine.realize([node_of(tensor) for tensor in tensors])
    return int(torch.stats()["kernels_launched"] - before)


TARGET = np.arange(64) % 10
IMAGE = values(8, 16, 10, 10)
ROWS = values(64, 100)
CASES: dict[str, tuple[Function, list[np.ndarray], int, int]] = {
    "softmax": (lambda x: F.softmax(x, 1), [ROWS], 1, 1),
    "softmax over columns": (lambda x: F.softmax(x, 0), [values(2048, 512)], 1, 1),
    "log_softmax": (lambda x: F.log_softmax(x, 1), [ROWS], 1, 1),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (100,), w, b), [ROWS, values(100), values(100)], 1, 3,
    ),
    "rms_norm": (lambda x, w: F.rms_norm(x, (100,), w), [ROWS, values(100)], 1, 3),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        [IMAGE, values(16), values(16)], 1, 2,
    ),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 4, w, b), [IMAGE, values(16), values(16)], 1, 4,
    ),
    "gelu": (F.gelu, [ROWS], 1, 1),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), [ROWS], 1, 1),
    "dropout": (lambda x: F.dropout(x, 0.3), [ROWS], 1, 1),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, torch.from_numpy(TARGET)), [values(64, 10)], 2, 2,
    ),
    "max_pool": (lambda x: F.max_pool2d(x, 2), [IMAGE], 1, 2),
    "overlapping max_pool": (lambda x: F.max_pool2d(x, 3, 2, 1), [IMAGE], 1, 2),
    "avg_pool": (lambda x: F.avg_pool2d(x, 2), [IMAGE], 1, 3),
    "embedding": (lambda w: F.embedding(torch.from_numpy(TARGET), w), [values(10, 32)], 1, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_forward(name: str) -> None:
    function, arrays, forward, _ = CASES[name]
    assert launches(function(*(torch.tensor(array) for array in arrays))) <= forward


@pytest.mark.parametrize("name", list(CASES))
def test_forward_and_gradient(name: str) -> None:
    function, arrays, _, both = CASES[name]
    sources = [torch.tensor(array).requires_grad_() for array in arrays]
    out = function(*sources)
    gradients = torch.autograd.grad(out, sources, torch.ones_like(out))
    assert launches(out, *gradients) <= both


def test_convolution_is_one_contraction_with_its_epilogue() -> None:
    x, w, b = (torch.tensor(a) for a in (IMAGE, values(16, 16, 3, 3), values(16)))
    # Packing may need a launch of its own.
    assert launches(F.relu(F.conv2d(x, w, b, padding=1))) <= 2


def test_probability_and_slope_change_no_plan() -> None:
    for _ in range(2):
        launches(F.leaky_relu(F.dropout(torch.tensor(ROWS), 0.3), 0.2))
    missed = torch.stats()["plans_missed"]
    for p in (0.1, 0.4, 0.7):
        launches(F.leaky_relu(F.dropout(torch.tensor(ROWS), p), p))
    assert torch.stats()["plans_missed"] == missed


def test_strided_convolution_gradient_is_stored_where_it_belongs() -> None:
    """The phases of the input's gradient are put together by the contraction's own stores."""
    x, w = torch.rand(2, 16, 8, 8).realize(), torch.rand(32, 16, 3, 3).realize()
    x.requires_grad_()
    y = F.conv2d(x, w, stride=2, padding=1)
    g = torch.rand(2, 32, 4, 4).realize()
    assert launches(torch.autograd.grad(y, x, g)[0]) <= 2


def test_depthwise_convolution_reads_its_padding_from_nowhere() -> None:
    x, w = torch.rand(2, 16, 8, 8).realize(), torch.rand(16, 1, 3, 3).realize()
    assert launches(F.conv2d(x, w, padding=1, groups=16)) == 1


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_behind_a_product_stores_its_value_and_its_slope(approximate: str) -> None:
    """Neither the product nor what both are made of is stored."""
    arrays = [values(64, 100), values(100, 72), values(72), values(72, 40)]
    x, w, b, v = leaves = [torch.tensor(array).requires_grad_() for array in arrays]
    y = F.gelu(x @ w + b, approximate=approximate)
    gradients = torch.autograd.grad(y @ v, leaves, torch.ones(64, 40))
    written: set[int] = set()
    scheduled = engine.plan_for([node_of(gradient) for gradient in gradients])
    for step in scheduled.steps:
        assert isinstance(step, Kernel)
        written.update(step.writes())
    large = [n for n in written if scheduled.graph.shapes[n] == (64, 72)]
    # The gradient of the product is the third.
    assert len(large) == 3


def test_gather_reads_an_array_in_another_shape() -> None:
    """The product is stored once, not its reshaped copy too."""
    x, w = (torch.tensor(array) for array in (values(4, 16, 24), values(24, 10)))
    picked = (x @ w).reshape(64, 10).gather(1, torch.from_numpy(TARGET)[:, None])
    wanted = (values(4, 16, 24) @ values(24, 10)).reshape(64, 10)[np.arange(64), TARGET]
    assert launches(picked) <= 2
    np.testing.assert_allclose(picked.numpy()[:, 0], wanted, rtol=1e-4, atol=1e-5)
