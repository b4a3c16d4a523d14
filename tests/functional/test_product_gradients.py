"""Gradients of products up to the third order, with any number of zeros, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices

torch = pytest.importorskip("torch")

FACTORS = [
    [2.0, 3.0, 4.0],
    [1.0, 0.0, 2.0, 3.0],
    [1.0, 0.0, 2.0, 0.0, 3.0],
    [0.0, 0.0, 0.0],
    [[1.0, 0.0], [0.0, 2.0], [3.0, -1.0]],
    [1 + 1j, 0, 2 - 1j],
    [5.0],
]
FUNCTIONS = ["cumprod(x, 0)", "prod(x, 0)", "prod(x)"]


def orders(library: Any, function: str, factors: Any, device: str) -> list[Any]:
    """The gradient, and the gradients of weighted sums of each, as lists."""
    x = library.from_numpy(np.array(factors)).to(device).requires_grad_()
    value = eval(f"lib.{function}", {"lib": library, "x": x})
    found: list[Any] = []
    for _ in range(3):
        weights = np.linspace(0.5, 1.5, value.numel()).reshape(tuple(value.shape))
        total = (value * library.from_numpy(weights).to(device)).sum()
        if not total.requires_grad:
            break
        (value,) = library.autograd.grad(
            total.real if x.is_complex() else total, x, create_graph=True, materialize_grads=True
        )
        found.append(value.detach().resolve_conj().tolist())
    return found


# The graphs of higher orders are large: elsewhere than on NumPy one case each is compiled.
CASES = [(factors, "numpy") for factors in FACTORS]
CASES += [(FACTORS[2], place) for place in available_devices() if place in ("cpu", "opencl:0")]


@pytest.mark.parametrize(("factors", "device"), CASES)
def test_every_order(factors: Any, device: str) -> None:
    for function in FUNCTIONS:
        ours = orders(lazytorch, function, factors, device)
        theirs = orders(torch, function, factors, "cpu")
        for number, wanted in enumerate(theirs):
            # Where nothing depends on the factors any more, the tape may end sooner or later.
            got = ours[number] if number < len(ours) else np.zeros(np.shape(wanted))
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12, err_msg=function)
