"""torch.linalg: norms and products of matrices."""

from __future__ import annotations

from typing import Any

from lazytorch.functional.linalg import matmul, matrix_power
from lazytorch.functional.reduction import vector_norm
from lazytorch.functional.special import cross, vander
from lazytorch.ops.shapes import normalize_axis
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False, *,
    dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of matrices: 'fro', 1, -1, inf, -inf."""
    rank = len(shape_of(A))
    first, second = (normalize_axis(axis, rank) for axis in dim)
    if ord == "fro":
        return vector_norm(A, 2, (first, second), keepdim, dtype=dtype)
    if ord not in (1, -1, float("inf"), float("-inf")):
        raise NotImplementedError(f"linalg.matrix_norm: ord={ord!r} needs singular values")
    along, across = (first, second) if abs(ord) == 1 else (second, first)
    sums = functions.sum(functions.abs(A), along, keepdim=True, dtype=dtype)
    reduce = functions.amax if ord > 0 else functions.amin
    out = reduce(sums, across, keepdim=True)
    return out if keepdim else functions.squeeze(out, (first, second))


def norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, out: Any = None,
    dtype: Any = None,
) -> Tensor:  # fmt: skip
    """The norm of vectors or matrices, by the number of dimensions given."""
    if ord is None:
        result = vector_norm(A, 2, dim, keepdim, dtype=dtype)
    elif isinstance(dim, int) or (dim is None and len(shape_of(A)) == 1):
        result = vector_norm(A, ord, dim, keepdim, dtype=dtype)
    elif dim is None and len(shape_of(A)) != 2:
        raise RuntimeError(
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
            f"{len(shape_of(A))}D."
        )
    else:
        result = matrix_norm(A, ord, dim or (0, 1), keepdim, dtype=dtype)
    if out is None:
        return result
    functions.copy_out(out, result)
    return out  # type: ignore[no-any-return]


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of products over a dimension."""
    return functions.sum(functions.mul(x, y), dim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, as views."""
    return functions.diagonal(A, offset, dim1, dim2)


def multi_dot(tensors: Any) -> Tensor:
    """The product of several matrices."""
    result = tensors[0]
    for tensor in tensors[1:]:
        result = matmul(result, tensor)
    return result


__all__ = [
    "cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "multi_dot", "norm", "vander",
    "vecdot", "vector_norm",
]  # fmt: skip
