"""Functions of complex tensors against PyTorch on every device: values, dtypes and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import engine
from lazytorch.tensor.storage import node_of

torch = pytest.importorskip("torch")


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    return values.astype(np.complex64)


X, Y, REAL = drawn(3, 4), drawn(3, 4, seed=1), drawn(3, 4, seed=2).real
FUNCTIONS = {
    "corrcoef": lambda m, x, y, r: m.corrcoef(x),
    "float_power": lambda m, x, y, r: m.float_power(x, y),
    "float_power of a real one": lambda m, x, y, r: m.float_power(r, 2 + 1j),
    "isreal": lambda m, x, y, r: m.isreal(m.complex(r, m.where(r > 0, r, 0))),
    "lerp": lambda m, x, y, r: m.lerp(x, y, 0.2 - 0.9j),
    "lerp near the start": lambda m, x, y, r: m.lerp(x, y, 0.2j),
    "logaddexp": lambda m, x, y, r: m.logaddexp(x * 20, y * 20),
    "logcumsumexp": lambda m, x, y, r: m.exp(m.logcumsumexp(x, 1)),
    "logsumexp": lambda m, x, y, r: m.logsumexp(x * 60, 1, keepdim=True),
    "logsumexp of two": lambda m, x, y, r: m.logsumexp(x, (0, 1)),
    "l1_loss": lambda m, x, y, r: m.nn.functional.l1_loss(x, y),
    "rms_norm": lambda m, x, y, r: m.nn.functional.rms_norm(x, (4,), y[0]),
    "silu": lambda m, x, y, r: m.nn.functional.silu(x),
}


def test_values(each_device: str) -> None:
    arrays = (X, Y, REAL)
    found = {
        name: function(lazytorch, *map(lazytorch.tensor, arrays))
        for name, function in FUNCTIONS.items()
    }
    engine.realize([node_of(value) for value in found.values()])  # one program
    for name, function in FUNCTIONS.items():
        wanted = function(torch, *map(torch.tensor, arrays))
        assert str(found[name].dtype) == str(wanted.dtype), name
        mine = found[name].cpu().numpy()
        np.testing.assert_allclose(mine, wanted.numpy(), 2e-4, 1e-5, err_msg=name)


def test_empty_and_masked_sums(each_device: str) -> None:
    x = lazytorch.tensor(X)
    assert lazytorch.logsumexp(x[:, :0], 1).tolist() == torch.logsumexp(
        torch.tensor(X)[:, :0], 1
    ).tolist()  # fmt: skip
    mask = REAL > 0
    wanted = torch.masked.logsumexp(torch.tensor(X), 1, mask=torch.tensor(mask))
    found = lazytorch.masked.logsumexp(x, 1, mask=lazytorch.tensor(mask))
    np.testing.assert_allclose(found.cpu().numpy(), wanted.numpy(), 1e-4, 1e-5)


def test_convolutions(each_device: str) -> None:
    """Contractions know real numbers only: the parts are convolved."""
    image, kernel, bias = drawn(2, 4, 6, 6), drawn(6, 2, 3, 3, seed=1), drawn(6, seed=2)
    line, back = drawn(2, 4, 9), drawn(4, 3, 3, seed=3)

    def results(m: Any) -> list[Any]:
        x, w, b = (m.tensor(a, requires_grad=True) for a in (image, kernel, bias))
        y = m.nn.functional.conv2d(x, w, b, stride=2, padding=1, groups=2)
        gradients = m.autograd.grad(m.abs(y).sum(), (x, w, b))
        turned = m.nn.functional.conv_transpose1d(m.tensor(line), m.tensor(back), stride=2)
        return [y.detach(), *gradients, turned]

    found = results(lazytorch)
    engine.realize([node_of(value) for value in found])
    for mine, other in zip(found, results(torch)):
        np.testing.assert_allclose(mine.cpu().numpy(), other.numpy(), 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["rms_norm", "logsumexp", "l1_loss", "logaddexp"])
def test_gradients(name: str) -> None:
    def results(m: Any) -> list[Any]:
        x, y = (m.tensor(a, requires_grad=True) for a in (X, Y))
        out = FUNCTIONS[name](m, x, y, m.tensor(REAL))
        found = m.autograd.grad(m.abs(out).sum(), (x, y), allow_unused=True)
        return [gradient for gradient in found if gradient is not None]

    before = lazytorch.get_default_device()
    lazytorch.set_default_device("numpy")
    try:
        for mine, other in zip(results(lazytorch), results(torch), strict=True):
            np.testing.assert_allclose(mine.numpy(), other.numpy(), 2e-3, 1e-4)
    finally:
        lazytorch.set_default_device(before)


def test_drawn_numbers(each_device: str) -> None:
    """Complex normal numbers have variance 1, uniform ones parts in [0, 1)."""
    lazytorch.manual_seed(0)
    normal = lazytorch.randn(4000, dtype=lazytorch.complex64).cpu().numpy()
    uniform = lazytorch.rand(4000, dtype=lazytorch.complex128).cpu().numpy()
    assert normal.dtype == np.complex64 and uniform.dtype == np.complex128
    for part in (normal.real, normal.imag):
        assert abs(part.mean()) < 0.05 and abs(part.var() - 0.5) < 0.05
    for part in (uniform.real, uniform.imag):
        assert part.min() >= 0 and part.max() < 1 and abs(part.mean() - 0.5) < 0.03
    assert lazytorch.randn_like(lazytorch.tensor(X)).dtype is lazytorch.complex64
