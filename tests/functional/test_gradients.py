"""Rules against finite differences and NumPy, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
import lazytorch.nn.functional as F

Function = Callable[..., Any]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Distinct values with gaps, so that maxima stay where they are under small steps."""
    generator = np.random.default_rng(seed + len(shape))
    size = int(np.prod(shape))
    values = generator.permutation(size) - size / 2 + 0.25
    return (values / max(size / 6, 1)).reshape(shape)


def check(function: Function, *arrays: np.ndarray, order: int = 2, tolerance: float = 2e-6) -> None:
    """The gradient of a random weighting of the result agrees with central differences, and so
    does the gradient of a random weighting of the gradient."""
    generator = np.random.default_rng(5)
    weights: dict[Any, np.ndarray] = {}

    def weight(key: Any, shape: tuple[int, ...]) -> Any:
        if key not in weights:
            weights[key] = generator.standard_normal(shape)
        return torch.tensor(weights[key])

    def value(*tensors: Any) -> Any:
        out = function(*tensors)
        return (out * weight("out", tuple(out.shape))).sum()

    def slope(*tensors: Any) -> Any:
        gradients = torch.autograd.grad(value(*tensors), tensors, create_graph=True)
        return sum((g * weight(number, tuple(g.shape))).sum() for number, g in enumerate(gradients))

    for differentiated in (value, slope)[:order]:
        _against_differences(differentiated, arrays, tolerance)


def _against_differences(
    function: Function, arrays: tuple[np.ndarray, ...], tolerance: float
) -> None:
    tensors = [torch.tensor(array).requires_grad_() for array in arrays]
    total = function(*tensors)
    if not total.requires_grad:
        return
    exact = torch.autograd.grad(total, tensors, allow_unused=True)
    step = 1e-5
    for number, array in enumerate(arrays):
        places = np.random.default_rng(1).permutation(array.size)[:6]
        for place in places:
            moved = []
            for direction in (1, -1):
                shifted = [other.copy() for other in arrays]
                shifted[number].reshape(-1)[place] += direction * step
                sources = [torch.tensor(other).requires_grad_() for other in shifted]
                moved.append(function(*sources).item())
            expected = (moved[0] - moved[1]) / (2 * step)
            found = exact[number]
            actual = 0.0 if found is None else found.numpy().reshape(-1)[place]
            assert abs(actual - expected) < tolerance * (1 + abs(expected)) * 10, (number, place)


TARGET = np.array([1, 0, 3, 2])
CASES: dict[str, tuple[Function, list[np.ndarray]]] = {
    "softmax": (lambda x: F.softmax(x, 1), [numbers(4, 5)]),
    "log_softmax": (lambda x: F.log_softmax(x, 0), [numbers(4, 5)]),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), [numbers(4, 5)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.tensor(TARGET)), [numbers(4, 5)]),
    "smoothed": (
        lambda x: F.cross_entropy(x, torch.tensor(TARGET), label_smoothing=0.2), [numbers(4, 5)],
    ),
    "gelu": (F.gelu, [numbers(3, 4)]),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), [numbers(3, 4)]),
    "silu": (F.silu, [numbers(3, 4)]),
    "mish": (F.mish, [numbers(3, 4)]),
    "elu": (F.elu, [numbers(3, 4)]),
    "glu": (F.glu, [numbers(3, 4)]),
    "softplus": (lambda x: F.softplus(x, 2.0), [numbers(3, 4)]),
    "logsigmoid": (F.logsigmoid, [numbers(3, 4)]),
    "prelu": (F.prelu, [numbers(3, 4), numbers(4)]),
    "mse": (F.mse_loss, [numbers(3, 4), numbers(3, 4, seed=2)]),
    "huber": (lambda x, t: F.huber_loss(x, t, delta=1.37), [numbers(3, 4), numbers(3, 4, seed=2)]),
    "logits": (
        lambda x: F.binary_cross_entropy_with_logits(x, torch.full_like(x.detach(), 0.3)),
        [numbers(3, 4)],
    ),
    "layer_norm": (
        lambda x, w, b: F.layer_norm(x, (5,), w, b),
        [numbers(4, 5), numbers(5), numbers(5, seed=3)],
    ),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        [numbers(4, 3, 2), numbers(3), numbers(3, seed=3)],
    ),
    "group_norm": (
        lambda x, w, b: F.group_norm(x, 2, w, b),
        [numbers(2, 4, 3), numbers(4), numbers(4, seed=3)],
    ),
    "rms_norm": (lambda x, w: F.rms_norm(x, (5,), w), [numbers(4, 5), numbers(5)]),
    "max_pool": (lambda x: F.max_pool2d(x, 2), [numbers(1, 2, 4, 6)]),
    "overlapping_max": (lambda x: F.max_pool2d(x, 3, 2, 1), [numbers(1, 2, 5, 6)]),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), [numbers(1, 2, 5, 6)]),
    "convolution": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        [numbers(2, 3, 5, 4), numbers(2, 3, 3, 2), numbers(2)],
    ),
    "grouped_convolution": (
        lambda x, w: F.conv2d(x, w, groups=2, dilation=2),
        [numbers(1, 4, 6, 5), numbers(4, 2, 2, 2)],
    ),
    "transposed_convolution": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        [numbers(1, 3, 3, 4), numbers(3, 2, 3, 3)],
    ),
    "embedding": (lambda w: F.embedding(torch.tensor(TARGET), w), [numbers(5, 3)]),
    "attention": (
        F.scaled_dot_product_attention, [numbers(2, 3, 4), numbers(2, 5, 4), numbers(2, 5, 2)],
    ),
    "interpolate": (
        lambda x: F.interpolate(x, (5, 7), mode="bilinear"), [numbers(1, 2, 3, 4)],
    ),
    "cosine": (F.cosine_similarity, [numbers(3, 4), numbers(3, 4, seed=2)]),
    "fold": (lambda x: F.fold(x, (4, 5), 2, 1, 1), [numbers(1, 8, 30)]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_rule(name: str) -> None:
    function, arrays = CASES[name]
    check(function, *arrays)


def test_looking_at_values_changes_no_gradient() -> None:
    def run(look: bool) -> np.ndarray:
        x = torch.tensor(numbers(2, 3, 6, 6)).requires_grad_()
        w = torch.tensor(numbers(4, 3, 3, 3)).requires_grad_()
        y = F.conv2d(x, w, padding=1)
        z = F.max_pool2d(F.relu(F.batch_norm(y, None, None, None, None, True)), 2)
        loss = F.cross_entropy(z.flatten(1), torch.tensor([3, 5]))
        if look:
            y.detach().numpy(), z.detach().numpy(), loss.item()
        loss.backward()
        return np.concatenate([x.grad.numpy().ravel(), w.grad.numpy().ravel()])

    np.testing.assert_allclose(run(True), run(False), rtol=1e-9, atol=1e-12)


def test_convolution_of_numpy() -> None:
    x, w = numbers(2, 3, 6, 5), numbers(4, 3, 3, 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(2, 3))
    expected = np.einsum("nchwij,ocij->nohw", windows, w)
    np.testing.assert_allclose(F.conv2d(torch.tensor(x), torch.tensor(w)).numpy(), expected)


def test_norm_and_softmax_of_numpy() -> None:
    x = numbers(4, 6)
    powers = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(
        F.softmax(torch.tensor(x), 1).numpy(), powers / powers.sum(1, keepdims=True)
    )
    scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(F.layer_norm(torch.tensor(x), (6,)).numpy(), scaled)
