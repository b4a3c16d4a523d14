"""Functions of matrices: exponentials, powers, and products of several."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.equations import inv
from lazytorch.functional.host import call_host
from lazytorch.functional.linalg import c_name, matmul, mm, squared_repeatedly
from lazytorch.functional.matrices import adjoint_of, check_square
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# The exponential --------------------------------------------------------------------------------


def _exponential(array: np.ndarray) -> np.ndarray:
    from scipy.linalg import expm

    if not array.size:
        return array
    flat = array.reshape(-1, *array.shape[-2:])
    return np.stack([expm(matrix) for matrix in flat]).reshape(array.shape)


def _exponential_gradient(g: Tensor, x: Tensor) -> Tensor:
    """The upper right block of exp [[X^H, g], [0, X^H]] (Mathias, "A chain rule for matrix
    functions and applications", 1996)."""
    size = shape_of(x)[-1]
    turned = adjoint_of(x)
    above = functions.cat((turned, g), -1)
    below = functions.cat((functions.zeros_like(g), turned), -1)
    whole = matrix_exp(functions.cat((above, below), -2))
    block = functions.narrow(functions.narrow(whole, -2, 0, size), -1, size, size)
    return block  # type: ignore[no-any-return]


_exponential_rule = Rule(
    "LinalgMatrixExpBackward0", (_exponential_gradient,), joins_parts=True
)


@public()
def matrix_exp(input: Tensor) -> Tensor:
    """The exponential of each matrix of a batch (.., n, n).

    Float and complex dtypes; ``RuntimeError`` for others and matrices that are not square.

    >>> matrix_exp(zeros(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    name = "linalg.matrix_exp"
    check_square(input, name)
    dtype = dtype_of(input)
    if dtype.kind not in "fc":
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got "
            f"{scalar_name(dtype)}"
        )
    if dtype in (dtypes.float16, dtypes.bfloat16):
        return cast(matrix_exp(cast(input, dtypes.float32)), dtype)
    out = call_host("scipy.expm", _exponential, shape_of(input), dtype, input)
    return attach(out, _exponential_rule, (input,))


@with_out
def linalg_matrix_exp(A: Tensor) -> Tensor:
    """The exponential of each matrix of a batch (.., n, n)."""
    return matrix_exp(A)


# Products ---------------------------------------------------------------------------------------


_ZEROTH_POWER = Rule("CopyBackwards", (lambda g, f: f.zeros_like(g),))


@public()
def matrix_power(input: Tensor, n: int) -> Tensor:
    """Each square matrix of a batch multiplied ``n`` times, its inverse where n < 0."""
    check_square(input, "linalg.matrix_power")
    shape = shape_of(input)
    if n < 0:
        return matrix_power(inv(input), -n)
    if n == 0:
        one = functions.eye(shape[-1], dtype=dtype_of(input), device=input.device)
        return attach(functions.broadcast_to(one, shape).clone(), _ZEROTH_POWER, (input,))
    result = squared_repeatedly(input, n, matmul)
    return functions.clone(result) if result is input else result


def _check_chain(tensors: Sequence[Tensor]) -> None:
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    names = {0: "first", len(tensors) - 1: "last"}
    for place, tensor in enumerate(tensors):
        rank = len(shape_of(tensor))
        if place in names and rank not in (1, 2):
            raise RuntimeError(
                f"multi_dot(): the {names[place]} tensor must be 1D or 2D but got {rank}D"
            )
        if place not in names and rank != 2:
            raise RuntimeError(f"multi_dot(): tensor {place} must be 2D but got {rank}D")
        if dtype_of(tensor) is not dtype_of(tensors[0]):
            raise RuntimeError(
                "multi_dot(): all tensors must have be the same dtype but tensor 0 is "
                f"{c_name(dtype_of(tensors[0]))} and tensor {place} {c_name(dtype_of(tensor))}"
            )


def _cheapest(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to cut each run of matrices so that their product takes the fewest steps (Cormen et
    al., "Introduction to algorithms", section 14.2)."""
    number = len(sizes) - 1
    cost = {(i, i): 0 for i in range(number)}
    cuts = {}
    for length in range(1, number):
        for i in range(number - length):
            j = i + length
            cost[i, j], cuts[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return cuts


@with_out
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices, in the order that takes the fewest steps.

    The first and the last may be vectors. ``RuntimeError`` where neighbours do not fit.
    """
    _check_chain(tensors)
    first, last = tensors[0], tensors[-1]
    matrices = list(tensors)
    if first.ndim == 1:
        matrices[0] = functions.unsqueeze(first, 0)
    if last.ndim == 1:
        matrices[-1] = functions.unsqueeze(last, 1)
    shapes = [tuple(shape_of(matrix)) for matrix in matrices]
    for place, (one, other) in enumerate(itertools.pairwise(shapes)):
        if one[1] != other[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {place} and {place + 1} with shapes {list(one)} and "
                f"{list(other)} cannot be multiplied"
            )
    cuts = _cheapest([shapes[0][0], *(shape[1] for shape in shapes)])

    def product(i: int, j: int) -> Tensor:
        if i == j:
            return matrices[i]
        cut = cuts[i, j]
        return mm(product(i, cut), product(cut + 1, j))

    kept = ([shapes[0][0]] if first.ndim == 2 else []) + ([shapes[-1][1]] if last.ndim == 2 else [])
    result: Tensor = functions.reshape(product(0, len(matrices) - 1), tuple(kept))
    return result


@public(method=False)
def chain_matmul(*matrices: Any) -> Tensor:
    """The product of one or more matrices; the older form of :func:`linalg.multi_dot`."""
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)

