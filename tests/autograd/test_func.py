"""torch.func and autograd.functional beside PyTorch's: one expression, both libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]
FIRST = np.array([0.5, -1.5, 2.0])
SECOND = np.array([[1.0, 0.3, -0.7], [2.0, 0.1, 0.4]])


def _scalar(t: Any) -> Callable[..., Any]:
    return lambda x, y: (t.sin(x) * y).prod(1).sum()


def _several(t: Any) -> Callable[..., Any]:
    return lambda x, y: {"product": y @ x, "pair": (x**3, y[0] * 2)}


CASES: dict[str, Callable[..., Any]] = {
    "grad": lambda t, x, y: t.func.grad(_scalar(t))(x, y),
    "both": lambda t, x, y: t.func.grad(_scalar(t), argnums=(1, 0))(x, y),
    "aux": lambda t, x, y: t.func.grad_and_value(lambda x: ((x**2).sum(), x + 1), has_aux=True)(x),
    "container": lambda t, x, y: t.func.grad(lambda d: (d["x"] * d["y"][0]).sum())(
        {"x": x, "y": (y,)}
    ),
    "second": lambda t, x, y: t.func.grad(lambda x: t.func.grad(_scalar(t))(x, y).sum())(x),
    "independent": lambda t, x, y: t.func.grad(lambda x: y.sum())(x),
    "vjp": lambda t, x, y: t.func.vjp(lambda x, y: (y @ x, y[1]), x, y)[1]((x[:2], x)),
    "jvp": lambda t, x, y: t.func.jvp(_several(t), (x, y), (x + 1, y * y)),
    "jacrev": lambda t, x, y: t.func.jacrev(_several(t), (0, 1))(x, y),
    "jacfwd": lambda t, x, y: t.func.jacfwd(_several(t), (0, 1))(x, y),
    "hessian": lambda t, x, y: t.func.hessian(_scalar(t), (0, 1))(x, y),
    "linearize": lambda t, x, y: t.func.linearize(lambda x: y @ x**2, x)[1](x),
    "of a scalar": lambda t, x, y: t.func.jacfwd(t.func.jacrev(t.sin))(x[0]),
    "jacobian": lambda t, x, y: t.autograd.functional.jacobian(
        lambda x, y: (y @ x, x.sum()), (x, y)
    ),
    "forward": lambda t, x, y: t.autograd.functional.jacobian(
        lambda x: y @ x, x, strategy="forward-mode", vectorize=True
    ),
    "hessians": lambda t, x, y: t.autograd.functional.hessian(_scalar(t), (x, y)),
    "products": lambda t, x, y: [
        t.autograd.functional.vhp(_scalar(t), (x, y), (x + 1, y)),
        t.autograd.functional.hvp(_scalar(t), (x, y), (x + 1, y)),
        t.autograd.functional.vjp(lambda x: y @ x, x, x[:2]),
        t.autograd.functional.jvp(lambda x: y @ x, x, x),
    ],
}


def _arrays(value: Any) -> Any:
    """A nested result with arrays in the place of tensors, none of which may have a tape."""
    if isinstance(value, dict):
        return {key: _arrays(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_arrays(part) for part in value]
    assert not value.requires_grad
    return value.numpy()


def _same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            _same(a, b)
        return
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(CASES))
def test_as_pytorch(name: str) -> None:
    results = [
        _arrays(CASES[name](library, library.tensor(FIRST), library.tensor(SECOND)))
        for library in (lazytorch, torch)
    ]
    _same(*results)


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
def test_results_belong_to_the_tape_around_them(library: Any) -> None:
    w = library.tensor([2.0, 3.0], requires_grad=True)
    x = library.tensor([1.0, 2.0])
    by_x = library.func.grad(lambda x: (x**2 * w).sum())(x)
    by_x.sum().backward()
    assert w.grad.tolist() == [2, 4] and x.grad is None
    twice = library.func.grad(lambda w: (w**3).sum())(w)
    assert library.autograd.grad(twice.sum(), w)[0].tolist() == [12, 18]
    with library.no_grad():
        gradient = library.func.grad(lambda w: (w**3).sum())(w)
    assert not gradient.requires_grad and gradient.tolist() == [12, 27]


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
def test_modules_as_functions(library: Any) -> None:
    layer = library.nn.Linear(2, 1)
    before = layer.weight
    given = {"weight": library.ones(1, 2), "bias": library.zeros(1)}

    def loss(parameters: Any) -> Any:
        return library.func.functional_call(layer, parameters, library.ones(2)).sum()

    assert loss(given).item() == 2 and layer.weight is before
    gradient = library.func.grad(loss)(given)
    assert gradient["weight"].tolist() == [[1, 1]] and gradient["bias"].tolist() == [1]
    stacked, _ = library.func.stack_module_state([layer, library.nn.Linear(2, 1)])
    assert tuple(stacked["weight"].shape) == (2, 1, 2) and stacked["weight"].requires_grad


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
def test_a_batch_of_seeds(library: Any) -> None:
    x = library.tensor([1.0, 2.0], requires_grad=True)
    (rows,) = library.autograd.grad(x * x, x, library.eye(2), is_grads_batched=True)
    assert rows.tolist() == [[2, 0], [0, 4]]


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
def test_refusals(library: Any) -> None:
    x, functional = library.ones(2), library.autograd.functional
    with pytest.raises(RuntimeError, match="return a scalar Tensor"):
        library.func.grad(lambda x: x)(x)
    with pytest.raises(RuntimeError, match="Got argnum=1, but only 1"):
        library.func.grad(lambda x: x.sum(), argnums=1)(x)
    with pytest.raises(RuntimeError, match="aux"):
        library.func.grad(lambda x: x.sum(), has_aux=True)(x)
    with pytest.raises(TypeError, match="either a Tensor or a tuple of Tensors"):
        functional.jacobian(lambda x: x, 1)
    with pytest.raises(RuntimeError, match="The vector v can only be None"):
        functional.vjp(lambda x: x, x)
    with pytest.raises(RuntimeError, match="invalid size"):
        functional.jvp(lambda x: x, x, library.ones(3))
    with pytest.raises(RuntimeError, match="single element"):
        functional.hessian(lambda x: x, x)
    with pytest.raises(RuntimeError, match="strict mode"):
        functional.vjp(lambda x: library.ones(1), x, strict=True)
