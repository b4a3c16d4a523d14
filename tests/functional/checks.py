"""Comparing functions of nn with PyTorch's: values, gradients, and gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.programs import compute

torch = pytest.importorskip("torch")


def random(*shape: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    """Normal numbers in float64, so that comparisons can be strict."""
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape) * scale


def strided(*shape: int, seed: int = 0) -> np.ndarray:
    """The same, transposed in memory: a non-contiguous array."""
    return np.asfortranarray(random(*shape, seed=seed))


def _wanted(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _tensors(module: Any, arrays: Sequence[Any]) -> list[Any]:
    made = []
    for array in arrays:
        if not isinstance(array, np.ndarray):
            made.append(array)
            continue
        # from_numpy keeps strides, so that views and layouts reach the function.
        tensor = module.from_numpy(array)
        made.append(tensor.requires_grad_() if _wanted(array) else tensor)
    return made


def _array(tensor: Any) -> np.ndarray:
    # PyTorch's zero gradients are tensors without memory until asked with force.
    return np.asarray(tensor.detach().numpy(force=True))


def _close(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    a, b = _array(ours), _array(theirs)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch has {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtype {a.dtype}, PyTorch has {b.dtype}"
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: Any,
    tolerance: float = 1e-9,
    gradient: bool = True,
    second: bool = True,
) -> None:
    """Both functions give the same on the same arrays, and so do their derivatives."""
    a, b = _tensors(lazytorch, arrays), _tensors(torch, arrays)
    x, y = ours(*a), theirs(*b)
    found = [(x, y, tolerance, "value")]
    if gradient and y.requires_grad:
        assert x.requires_grad
        found += _derivatives(x, y, a, b, tolerance, second)
    compute(*(mine for mine, *_ in found))
    for mine, right, allowed, what in found:
        _close(mine, right, allowed, what)


def _derivatives(
    x: Any, y: Any, a: Sequence[Any], b: Sequence[Any], tolerance: float, second: bool
) -> list[tuple[Any, Any, float, str]]:
    """(ours, PyTorch's, tolerance, name) of the gradients of ``x`` by ``a`` and ``y`` by ``b``."""
    sources_a = [t for t in a if hasattr(t, "requires_grad") and t.requires_grad]
    sources_b = [t for t in b if hasattr(t, "requires_grad") and t.requires_grad]
    seed = np.asarray(random(*y.shape, seed=7))
    g_a = lazytorch.from_numpy(seed).requires_grad_()
    g_b = torch.from_numpy(seed.copy()).requires_grad_()
    first_a = lazytorch.autograd.grad(x, sources_a, g_a, create_graph=second, allow_unused=True)
    first_b = torch.autograd.grad(y, sources_b, g_b, create_graph=second, allow_unused=True)
    found = [
        (p, q, 10 * tolerance, f"gradient {number}") for number, (p, q) in pairs(first_a, first_b)
    ]
    if not second:
        return found
    total_a = sum((p * random_like(lazytorch, q, n)).sum() for n, (p, q) in pairs(first_a, first_b))
    total_b = sum((q * random_like(torch, q, n)).sum() for n, (p, q) in pairs(first_a, first_b))
    if not (isinstance(total_b, torch.Tensor) and total_b.requires_grad):
        return found
    second_a = lazytorch.autograd.grad(total_a, [*sources_a, g_a], allow_unused=True)
    second_b = torch.autograd.grad(total_b, [*sources_b, g_b], allow_unused=True)
    for number, (p, q) in pairs(second_a, second_b):
        if p is not None or float(q.abs().max()) > 0:
            assert p is not None, f"second gradient {number} is missing"
            found.append((p, q, 100 * tolerance, f"second gradient {number}"))
    return found


def pairs(first: Any, second: Any) -> list[Any]:
    """Numbered pairs of gradients that exist."""
    return [(n, (p, q)) for n, (p, q) in enumerate(zip(first, second)) if q is not None]


def random_like(module: Any, like: Any, number: int) -> Any:
    """The same random weights for both libraries."""
    return module.from_numpy(np.asarray(random(*like.shape, seed=20 + number)))


def same_refusal(ours: Callable[[Any], Any], theirs: Callable[[Any], Any]) -> None:
    """Both raise, and lazytorch an exception that PyTorch's ``except`` would catch."""
    with pytest.raises(Exception) as expected:
        theirs(torch)
    with pytest.raises(expected.type) as raised:
        ours(lazytorch)
    assert str(raised.value)
