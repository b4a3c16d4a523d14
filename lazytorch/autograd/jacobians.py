"""Jacobians for ``gradcheck``: by differences, and by passes through the tape.

A Jacobian of an output by an input is an array (elements of the output, elements of the input).
Outputs are real here: of a complex one, its real and its imaginary part are outputs of their own.
By a complex input a + ib the derivative is that by a plus i times that by b, which is what a
gradient is in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch.autograd import forward_ad
from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

Array = np.ndarray
Outputs = Callable[[], list[Tensor]]


def values(tensor: Tensor) -> Array:
    """A tensor's elements in a line, in double precision."""
    array = np.asarray(functions.peek(tensor))
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64).reshape(-1)


def overwrite(target: Tensor, line: Array) -> None:
    """Write elements given in a line into a tensor, unseen by its tape."""
    array = line.reshape(tuple(target.shape))
    with no_grad():
        target.copy_(functions.tensor(array, dtype=target.dtype))  # type: ignore[attr-defined]


def difference(outputs: Outputs, leaf: Tensor, direction: Array, eps: float) -> list[Array]:
    """How each output changes along a direction of an input, by central differences."""
    start = values(leaf)
    sides = []
    for step in (eps, -eps):
        overwrite(leaf, start + step * direction)
        sides.append([values(out) for out in outputs()])
    overwrite(leaf, start)
    return [(above - below) / (2 * eps) for above, below in zip(*sides)]


def numerical(outputs: Outputs, leaf: Tensor, eps: float) -> list[Array]:
    """The Jacobian of each output by an input, a column for each element."""
    start = values(leaf)
    columns: list[list[Array]] = []
    for place in range(start.size):
        unit = np.zeros(start.size, start.dtype)
        unit[place] = 1
        column = difference(outputs, leaf, unit, eps)
        if start.dtype.kind == "c":
            turned = difference(outputs, leaf, 1j * unit, eps)
            column = [real + 1j * imaginary for real, imaginary in zip(column, turned)]
        columns.append(column)
    if not columns:
        return [np.zeros((out.numel(), 0), start.dtype) for out in outputs()]
    return [np.stack(parts, 1) for parts in zip(*columns)]


def pulled(out: Tensor, leaves: Sequence[Tensor], seed: Array) -> list[Tensor | None]:
    """The gradients of the inputs for a seed given in a line; ``None`` where none arrives."""
    given = functions.tensor(seed.reshape(tuple(out.shape)), dtype=out.dtype, device=out.device)
    return list(grad(out, list(leaves), given, retain_graph=True, allow_unused=True))


def line_of(found: Tensor | None, leaf: Tensor) -> Array:
    """A gradient as a line; zeros where there is none."""
    return np.zeros(leaf.numel()) if found is None else values(found)


def analytical(out: Tensor, leaves: Sequence[Tensor]) -> list[Array]:
    """The Jacobian of an output by each input, a row for each pass."""
    rows: list[list[Array]] = []
    for seed in np.eye(out.numel()):
        found = pulled(out, leaves, seed)
        rows.append([line_of(one, leaf) for one, leaf in zip(found, leaves)])
    if not rows:
        return [np.zeros((0, leaf.numel())) for leaf in leaves]
    return [np.stack(parts) for parts in zip(*rows)]


def batched(out: Tensor, leaves: Sequence[Tensor]) -> list[Array]:
    """The Jacobian of an output by each input, all rows by one pass for a batch of seeds."""
    size = out.numel()
    seeds = functions.tensor(
        np.eye(size).reshape(size, *out.shape), dtype=out.dtype, device=out.device
    )
    found = grad(
        out, list(leaves), seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
    )
    return [
        np.zeros((size, leaf.numel())) if one is None else values(one).reshape(size, leaf.numel())
        for one, leaf in zip(found, leaves)
    ]


def forward(
    function: Callable[..., Any], given: Sequence[Any], leaf: Tensor, places: Sequence[int]
) -> list[Array]:
    """The Jacobian of the results at ``places`` by an input, a column for each dual tensor.

    A complex result gives a complex Jacobian; of a complex input only real directions are taken.
    """
    columns: list[list[Array]] = []
    for unit in np.eye(leaf.numel()):
        tangent = functions.tensor(
            unit.reshape(tuple(leaf.shape)), dtype=leaf.dtype, device=leaf.device
        )
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(leaf, tangent)
            made = function(*[dual if value is leaf else value for value in given])
            results = made if isinstance(made, (tuple, list)) else (made,)
            tensors = [value for value in results if isinstance(value, Tensor)]
            pairs = [forward_ad.unpack_dual(tensors[place]) for place in places]
            columns.append([line_of(pair.tangent, pair.primal) for pair in pairs])
    if not columns:
        return [np.zeros((0, 0)) for _ in places]
    return [np.stack(parts, 1) for parts in zip(*columns)]
