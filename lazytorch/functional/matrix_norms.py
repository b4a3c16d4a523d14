"""Norms of matrices, and what is told by singular values: condition and rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.functional.eigen import eigvalsh
from lazytorch.functional.equations import inv_ex
from lazytorch.functional.matrices import (
    check_matrix,
    check_square,
    look,
    look_with_bounds,
    on_device,
)
from lazytorch.functional.singular_values import svdvals, tolerance
from lazytorch.functional.vector_norms import vector_norm
from lazytorch.ops.shapes import normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_INFINITY = float("inf")


def _pair(A: Tensor, dim: Any) -> tuple[int, int]:
    axes = (dim,) if isinstance(dim, int) else tuple(dim)
    if len(axes) != 2:
        listed = " ".join(str(axis) for axis in axes)
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {listed}")
    rank = len(shape_of(A))
    first, second = (normalize_axis(axis, rank) for axis in axes)
    if first == second:
        raise RuntimeError(
            f"linalg.matrix_norm: dims must be different. Got ({axes[0]}, {axes[1]})"
        )
    return first, second


def _extreme(sizes: Tensor, axis: int, largest: bool, keepdim: bool) -> Tensor:
    """The largest (of nothing: 0) or smallest of norms."""
    if not largest:
        return functions.amin(sizes, axis, keepdim)  # type: ignore[no-any-return]
    if shape_of(sizes)[axis] == 0:
        return functions.sum(sizes, axis, keepdim)  # type: ignore[no-any-return]
    return functions.amax(sizes, axis, keepdim)  # type: ignore[no-any-return]


def _matrix_norm(A: Tensor, ord: Any, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    name = "linalg.matrix_norm"
    check_matrix(A, name)
    if dtype_of(A).kind not in "fc":
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got "
            f"{scalar_name(dtype_of(A))}"
        )
    first, second = _pair(A, dim)
    if dtype is not None:
        if dtype.kind not in "fc":
            raise RuntimeError(
                f"{name}: dtype should be floating point or complex, but got {scalar_name(dtype)}"
            )
        A = cast(A, dtype)
    if ord == "fro":
        return vector_norm(A, 2, (first, second), keepdim)
    if ord == "nuc" or (not isinstance(ord, str) and abs(ord) == 2):
        values = svdvals(functions.movedim(A, (first, second), (-2, -1)))
        if ord == "nuc":
            out = functions.sum(values, -1)
        else:
            out = _extreme(values, -1, ord > 0, False)
        if keepdim:
            for axis in sorted((first, second)):
                out = functions.unsqueeze(out, axis)
        return out  # type: ignore[no-any-return]
    if isinstance(ord, str) or abs(ord) not in (1, _INFINITY):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    along, across = (first, second) if abs(ord) == 1 else (second, first)
    sums = functions.sum(functions.abs(A), along, keepdim=True)
    out = _extreme(sums, across, ord > 0, True)
    return out if keepdim else functions.squeeze(out, (first, second))  # type: ignore[no-any-return]


@with_out
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices in two dimensions of A: 'fro', 'nuc', 1, -1, 2, -2, inf or -inf.

    1 and inf are the largest sum of magnitudes of a column and of a row, 2 is the largest singular
    value and 'nuc' their sum; with a minus sign the smallest. Float and complex dtypes, the result
    is real. ``RuntimeError`` for other orders and dtypes.

    >>> matrix_norm(tensor([[1., 2.], [3., 4.]]), 1)
    tensor(6.)
    """
    return _matrix_norm(A, ord, dim, keepdim, dtype)


@with_out
def linalg_norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of vectors or matrices, by the number of dimensions given (or A's own).

    Without ``ord`` the root of the sum of squares over ``dim`` (all unless given).
    """
    rank = len(shape_of(A))
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        return _matrix_norm(A, ord, (0, 1) if dim is None else dim, keepdim, dtype)
    axes = (dim,) if isinstance(dim, int) else dim
    if axes is not None and len(axes) not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(axes)}"
        )
    if axes is None and rank not in (1, 2):
        raise RuntimeError(
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
            f"{rank}D."
        )
    if (rank if axes is None else len(axes)) == 2:
        return _matrix_norm(A, ord, (0, 1) if axes is None else axes, keepdim, dtype)
    return vector_norm(A, ord, axes, keepdim, dtype=dtype)


@public(method=False)
def nuclear_norm(input: Tensor, dim: Any = (-2, -1), keepdim: bool = False) -> Tensor:
    """The sum of the singular values of matrices in two dimensions."""
    return _matrix_norm(input, "nuc", dim, keepdim, None)


functions.matrix_norm = _matrix_norm


@with_out
def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number ``|A| |A^-1|`` in the norm ``p`` of :func:`matrix_norm` (2 unless
    given); infinite where A is singular. 2 and -2 take matrices that are not square."""
    shape = tuple(shape_of(A))
    if len(shape) < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if isinstance(p, str):
        valid = p in ("fro", "nuc")
    else:
        valid = p is None or abs(p) in (1, 2, _INFINITY)
    if not valid:
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    if p is None or (not isinstance(p, str) and abs(p) == 2):
        values = svdvals(A)
        if 0 in shape[-2:]:
            return functions.sum(values, -1)  # type: ignore[no-any-return]
        large, small = functions.select(values, -1, 0), functions.select(values, -1, -1)
        return small / large if p == -2 else large / small
    check_square(A, f"linalg.cond(ord={p})")
    inverse, info = inv_ex(A)
    if 0 in shape[-2:]:
        return functions.sum(functions.abs(A), (-2, -1))  # type: ignore[no-any-return]
    norms = _matrix_norm(A, p, (-2, -1), False, None)
    singular = look(info) != 0
    if singular.any():
        broken = on_device(singular, A)
        inverse = functions.where(broken[..., None, None], 0, inverse)
        product = norms * _matrix_norm(inverse, p, (-2, -1), False, None)
        return functions.where(broken, _INFINITY, product)  # type: ignore[no-any-return]
    return norms * _matrix_norm(inverse, p, (-2, -1), False, None)


@with_out
def matrix_rank(
    A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """The number of singular values above the larger of ``atol`` and ``rtol`` times the largest.

    int64, of shape (..) for A (.., m, n). ``tol`` is the same as ``atol``; ``rtol`` is the machine
    precision times the larger dimension where nothing is given.

    >>> matrix_rank(tensor([[1., 2.], [2., 4.]]))
    tensor(1)
    """
    check_matrix(A, "torch.linalg.matrix_rank", "input")
    dtype = dtype_of(A)
    if dtype.kind not in "fc" or dtype.name in ("float16", "bfloat16"):
        raise RuntimeError("This function doesn't handle types other than float and double")
    if tol is not None:
        atol, rtol = tol, 0.0
    plain = A.detach()
    sizes = functions.abs(eigvalsh(plain)) if hermitian else svdvals(plain)
    # Rows of one matrix each, as bounds are for matrices.
    values, least, share = look_with_bounds(functions.unsqueeze(sizes, -2), atol, rtol)
    values = values[..., 0, :]
    bound = tolerance(values, shape_of(A), dtype, least, share)
    sources = [A, *(bound for bound in (atol, rtol) if isinstance(bound, Tensor))]
    return on_device((values > bound).sum(-1, dtype=np.int64), *sources)
