"""LU factors with partial pivoting, equations solved with them, and determinants.

The gradients follow from ``dL`` and ``dU`` of ``P^H A = L U``: with F = L^-1 P^H dA U^-1, ``dL`` is
L times the part of F below the diagonal and ``dU`` the rest of F times U (Walter and Lehmann,
"Algorithmic differentiation of linear algebra functions with application in optimum experimental
design", 2012; Giles, 2008, for determinants).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach_many, label
from lazytorch.functional import lapack, results
from lazytorch.functional.equations import check_equation, substitute
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    broadcast_batches,
    check_kernel,
    check_matrix,
    check_same_dtype,
    identity,
    look,
    on_device,
    transposed,
)
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# Factors ----------------------------------------------------------------------------------------


def _lower(A: Tensor, below: int = -1) -> Tensor:
    return functions.tril(A, below)  # type: ignore[no-any-return]


def _upper(A: Tensor) -> Tensor:
    return functions.triu(A)  # type: ignore[no-any-return]


def _factors_of(LU: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = shape_of(LU)[-2:]
    short = min(rows, columns)
    low = _lower(functions.narrow(LU, -1, 0, short)) + identity(LU, rows, short)
    return low, _upper(functions.narrow(LU, -2, 0, short))


def _from_inside(L: Tensor, inside: Tensor, U: Tensor) -> Tensor:
    """``L^-H inside U^-H``: what lies between the factors carried to the matrix."""
    left = substitute(adjoint_of(L), inside, True, True)
    return adjoint_of(substitute(U, adjoint_of(left), True))


def _cut(A: Tensor, axis: int, size: int) -> tuple[Tensor, Tensor]:
    rest = shape_of(A)[axis] - size
    return functions.narrow(A, axis, 0, size), functions.narrow(A, axis, size, rest)


def _permuted_gradient(L: Tensor, U: Tensor, gL: Tensor, gU: Tensor) -> Tensor:
    """The gradient of ``P^H A`` for square, wide and tall matrices."""
    rows, columns = shape_of(L)[-2], shape_of(U)[-1]
    short = min(rows, columns)
    if rows == columns:
        inside = _lower(matmul(adjoint_of(L), gL)) + _upper(matmul(gU, adjoint_of(U)))
        return _from_inside(L, inside, U)
    if columns > rows:
        square, rest = _cut(U, -1, short)
        g_square, g_rest = _cut(gU, -1, short)
        below = matmul(adjoint_of(L), gL) - matmul(g_rest, adjoint_of(rest))
        inside = _lower(below) + _upper(matmul(g_square, adjoint_of(square)))
        first = _from_inside(L, inside, square)
        second = substitute(adjoint_of(L), g_rest, True, True)
        return functions.cat((first, second), -1)  # type: ignore[no-any-return]
    top, rest = _cut(L, -2, short)
    g_top, g_rest = _cut(gL, -2, short)
    above = matmul(gU, adjoint_of(U)) - matmul(adjoint_of(rest), g_rest)
    inside = _lower(matmul(adjoint_of(top), g_top)) + _upper(above)
    first = _from_inside(top, inside, U)
    second = adjoint_of(substitute(U, adjoint_of(g_rest), True))
    return functions.cat((first, second), -2)  # type: ignore[no-any-return]


def _packed_gradient(g: Any, out: Any, extra: Tensor) -> Any:
    if g[0] is None:
        return (None,)
    low, high = _factors_of(out[0])
    short = shape_of(low)[-1]
    g_low = _lower(functions.narrow(g[0], -1, 0, short))
    g_high = _upper(functions.narrow(g[0], -2, 0, short))
    return (matmul(extra, _permuted_gradient(low, high, g_low, g_high)),)


_packed_rule = Rule("LinalgLuFactorExBackward0", _packed_gradient, joins_parts=True)


def _check(A: Tensor, pivot: bool, function: str) -> None:
    if len(shape_of(A)) < 2:
        raise RuntimeError(
            f"{function}: Expected tensor with 2 or more dimensions. Got size: "
            f"{list(shape_of(A))} instead"
        )
    check_kernel(A, "lu_cpu")
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")


def _permutation(pivots: np.ndarray, like: Tensor, source: Tensor) -> Tensor:
    """The matrix of the pivots, which were read of ``source``, for factors like ``like``."""
    size = shape_of(like)[-2]
    return on_device(lapack.permutation_matrix(pivots, size, dtype_of(like).numpy), source)


def _factor(A: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
    """(LU, pivots, info); the tape keeps the permutation as a matrix."""
    packed, pivots, info = lapack.lu_factor(look(A))
    outs = (on_device(packed, A), on_device(pivots, A))
    wanted = mode.enabled and A._requires_grad
    attach_many(outs, _packed_rule, (A,), (), _permutation(pivots, A, A) if wanted else None,
                (True, False))  # fmt: skip
    return *outs, info


@with_out
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """(LU, pivots): L below and U on and above the diagonal of one matrix, pivots from 1.

    A (.., m, n) of a float or complex dtype of 32 bits and more; pivots (.., min(m, n)) int32.
    ``RuntimeError`` where U has a zero on its diagonal.
    """
    _check(A, pivot, "torch.lu_factor")
    packed, pivots, info = _factor(A)
    if info.any():
        place = int(np.flatnonzero(info)[0])
        number = info.reshape(-1)[place]
        where = f"(Batch element {place}): " if info.ndim else ""
        raise RuntimeError(
            f"torch.linalg.lu_factor: {where}U[{number},{number}] is zero and using it on lu_solve "
            "would result in a division by zero. If you still want to perform the factorization, "
            "consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
        )
    return results.LinalgLuFactor(packed, pivots)


@with_out
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info): info is 0, or the number of a zero on U's diagonal."""
    _check(A, pivot, "torch.lu_factor")
    if check_errors:
        packed, pivots = lu_factor(A)
        info = np.zeros(tuple(shape_of(A)[:-2]), np.int32)
    else:
        packed, pivots, info = _factor(A)
    return results.LinalgLuFactorEx(packed, pivots, on_device(info, A))


@public("lu", function=True, out=False)
def lu_with_pivots(
    input: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None
) -> Any:
    """(LU, pivots) and, with ``get_infos``, info: the older form of :func:`linalg.lu_factor_ex`."""
    found = lu_factor_ex(input, pivot=pivot, out=out)
    return found if get_infos else tuple(found[:2])


def _both_gradients(g: Any, out: Any) -> Any:
    permutation, low, high = out
    if g[1] is None and g[2] is None:
        return (None,)
    g_low = functions.zeros_like(low) if g[1] is None else _lower(g[1])
    g_high = functions.zeros_like(high) if g[2] is None else _upper(g[2])
    return (matmul(permutation.detach(), _permuted_gradient(low, high, g_low, g_high)),)


_both_rule = Rule("LinalgLuBackward0", _both_gradients, joins_parts=True)


@with_out
def linalg_lu(A: Tensor, *, pivot: bool = True) -> Any:
    """(P, L, U) with ``A = P L U``: a permutation (.., m, m), L (.., m, k) and U (.., k, n)."""
    _check(A, pivot, "linalg.lu")
    packed, pivots, _ = lapack.lu_factor(look(A))
    short = min(packed.shape[-2:])
    low = np.tril(packed[..., :short], -1) + np.eye(packed.shape[-2], short, dtype=packed.dtype)
    high = np.triu(packed[..., :short, :])
    outs = (_permutation(pivots, A, A), on_device(low, A), on_device(high, A))
    attach_many(outs, _both_rule, (A,), (), None, (False, True, True))
    return results.LinalgLu(*outs)


@public(method=False)
@shown_as("LuUnpackBackward0")
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """(P, L, U) from what :func:`linalg.lu_factor` gave; what is not unpacked is empty."""
    if dtype_of(LU_pivots) is not dtypes.int32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype."
            "\nNote: this function is intended to be used with the output produced by "
            "torch.linalg.lu_factor"
        )
    permutation = low = high = None
    if unpack_pivots:
        permutation = _permutation(_checked_pivots(LU_pivots, LU_data), LU_data, LU_pivots)
    if unpack_data:
        low, high = _factors_of(LU_data)
    empty = functions.empty(0, dtype=dtype_of(LU_data), device=LU_data._device)
    return results.LuUnpack(*(empty if part is None else part for part in (permutation, low, high)))


def _checked_pivots(pivots: Tensor, LU: Tensor) -> np.ndarray:
    numbers = look(pivots)
    if numbers.size and (numbers.min() < 1 or numbers.max() > shape_of(LU)[-2]):
        raise RuntimeError(
            "pivots passed to lu_unpack must be between 1 and LU.size(-2) inclusive. "
            "Did you properly pass the result of lu_factor?"
        )
    return numbers


# Equations --------------------------------------------------------------------------------------


@with_out
def linalg_lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X of ``A X = B`` (``X A = B`` where not ``left``) from A's LU factors; ``adjoint`` takes A^H.

    LU (.., n, n), pivots (.., n), B (.., n, k); batches broadcast.
    """
    name = "linalg.lu_solve"
    check_matrix(LU, name, "LU")
    check_matrix(B, name, "B")
    check_same_dtype(LU, B, name, "LU and B")
    if dtype_of(pivots) is not dtypes.int32:
        raise RuntimeError(f"{name}: pivots should be a Tensor of scalar type torch.int32")
    a = shape_of(LU)
    if a[-1] != a[-2]:
        raise RuntimeError(
            f"torch.{name}: A must be batches of square matrices, but they are {a[-2]} by {a[-1]} "
            "matrices"
        )
    check_equation(LU, B, left, name)
    if shape_of(pivots)[-1] != a[-1]:
        raise RuntimeError(
            f"{name}: Number of pivots per batch should be same as the dimension of the matrix"
        )
    if tuple(shape_of(pivots)[:-1]) != tuple(a[:-2]):
        raise RuntimeError(
            f"{name}: Expected LU.shape[:-1] and pivots.shape to be the same, but got pivots with "
            f"shape {list(shape_of(pivots))} instead"
        )
    permutation = _permutation(_checked_pivots(pivots, LU), LU, pivots)
    out = _solved(LU, permutation, B if left else adjoint_of(B), adjoint == left)
    return label(out if left else adjoint_of(out), "LinalgLuSolveBackward0")


def _solved(LU: Tensor, permutation: Tensor, B: Tensor, turned: bool) -> Tensor:
    """X of ``P L U X = B``, or of ``U^H L^H P^H X = B`` where ``turned``."""
    matrix, right = broadcast_batches(LU, B)
    if turned:
        low = substitute(adjoint_of(matrix), right, False)
        return matmul(permutation, substitute(adjoint_of(matrix), low, True, True))
    low = substitute(matrix, matmul(transposed(permutation), right), False, True)
    return substitute(matrix, low, True)


@public()
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X of ``A X = input`` from A's LU factors: the older form of :func:`linalg.lu_solve`."""
    return linalg_lu_solve(LU_data, LU_pivots, input)
