"""gradcheck: the tape's gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor


class GradcheckError(RuntimeError):
    """A gradient of the tape and its finite difference disagree."""


def _tensors(values: Any) -> list[Tensor]:
    given = values if isinstance(values, (tuple, list)) else (values,)
    return [value for value in given if isinstance(value, Tensor)]


def _numeric(
    function: Callable[..., Any], inputs: Sequence[Any], wanted: Tensor, eps: float
) -> list[np.ndarray]:
    """The Jacobians of all outputs by central differences, one column an element."""
    start = np.array(functions.peek(wanted), np.float64)
    columns: list[list[np.ndarray]] = []
    for place in np.ndindex(start.shape):
        sides = []
        for step in (eps, -eps):
            moved = start.copy()
            moved[place] += step
            _overwrite(wanted, moved)
            made = _differentiable(function(*inputs))
            sides.append([np.array(functions.peek(out), np.float64).reshape(-1) for out in made])
        columns.append([(a - b) / (2 * eps) for a, b in zip(*sides)])
    _overwrite(wanted, start)
    count = len(columns[0]) if columns else 0
    return [np.stack([column[number] for column in columns], 1) for number in range(count)]


def _overwrite(target: Tensor, array: np.ndarray) -> None:
    with no_grad():
        target.copy_(functions.tensor(array, dtype=target.dtype))  # type: ignore[attr-defined]


def _differentiable(values: Any) -> list[Tensor]:
    return [value for value in _tensors(values) if value._requires_grad]


def _analytic(out: Tensor, wanted: Tensor) -> np.ndarray:
    rows = []
    for place in range(out.numel()):
        seed = np.zeros(out.numel())
        seed[place] = 1
        gradient = functions.tensor(
            seed.reshape(tuple(out.shape)), dtype=out.dtype, device=out.device
        )
        (found,) = grad(out, wanted, gradient, retain_graph=True, allow_unused=True)
        row = np.zeros(wanted.numel()) if found is None else functions.peek(found).reshape(-1)
        rows.append(row)
    return np.array(rows, np.float64).reshape(out.numel(), wanted.numel())


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    **_: Any,
) -> bool:
    """Compare gradients with finite differences; inputs should be float64 leaves.

    >>> gradcheck(lambda x: x * x, (tensor([1.0, 2.0], dtype=float64, requires_grad=True),))
    True
    """
    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    leaves = _differentiable(given)
    if not leaves:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the "
            "them have requires_grad=True."
        )
    outputs = _differentiable(func(*given))
    for leaf in leaves:
        numeric = _numeric(func, given, leaf, eps)
        for number in range(len(outputs)):
            analytic = _analytic(out_again(func, given, number), leaf)
            if not np.allclose(analytic, numeric[number], rtol, atol):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"Jacobian mismatch for output {number} with respect to an input of shape "
                    f"{list(leaf.shape)},\nnumerical:{numeric[number]}\nanalytical:{analytic}\n"
                )
    return True


def out_again(func: Callable[..., Any], inputs: Sequence[Any], number: int) -> Tensor:
    """An output computed anew: finite differences have written into the inputs."""
    return _differentiable(func(*inputs))[number]


def gradgradcheck(
    func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, **options: Any
) -> bool:
    """Compare gradients of gradients with finite differences."""
    given = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
    leaves = _differentiable(given)
    outputs = _differentiable(func(*given))
    if grad_outputs is None:
        seeds = [
            functions.tensor(
                np.random.default_rng(number).standard_normal(tuple(out.shape)),
                dtype=out.dtype, device=out.device, requires_grad=True,
            )
            for number, out in enumerate(outputs)
        ]  # fmt: skip
    else:
        seeds = _tensors(grad_outputs)

    def first_order(*arguments: Any) -> tuple[Any, ...]:
        own, weights = arguments[: len(given)], arguments[len(given) :]
        made = _differentiable(func(*own))
        found = grad(made, leaves, list(weights), create_graph=True, allow_unused=True)
        return tuple(value for value in found if value is not None and value._requires_grad)

    return gradcheck(first_order, (*given, *seeds), **options)
