"""Cholesky and LDL factors, and equations solved with them.

The gradient of a Cholesky factor is that of Murray, "Differentiation of the Cholesky
decomposition", 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.errors import LinAlgError
from lazytorch.functional import lapack, results
from lazytorch.functional.equations import check_solvable, substitute
from lazytorch.functional.host import call_host
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    broadcast_batches,
    check_floating,
    check_kernel,
    check_matrix,
    check_same_dtype,
    check_square,
    diagonal_of,
    identity,
    look,
    on_device,
    raise_at,
)
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_NOT_POSITIVE = (
    "The factorization could not be completed because the input is not positive-definite (the "
    "leading minor of order {} is not positive-definite)."
)


def _factor_gradient(g: Tensor, out: Tensor, attrs: Any) -> Tensor:
    """With S = L^-H Phi(L^H g) L^-1, where Phi takes the lower triangle and half the diagonal,
    the gradient of a Hermitian matrix is (S + S^H) / 2."""
    lower = adjoint_of(out) if attrs[0] else out
    incoming = adjoint_of(g) if attrs[0] else g
    inner = functions.tril(matmul(adjoint_of(lower), incoming))
    inner = inner - 0.5 * functions.diag_embed(diagonal_of(inner))
    half = 0.5 * (inner + adjoint_of(inner))
    turned = adjoint_of(lower)
    left = substitute(turned, half, True)
    return adjoint_of(substitute(turned, adjoint_of(left), True))


_factor_rule = Rule("LinalgCholeskyExBackward0", (_factor_gradient,), joins_parts=True)


def _factor(A: Tensor, upper: bool, function: str) -> tuple[Tensor, np.ndarray]:
    check_square(A, function)
    check_floating(A, function, "cholesky_cpu")
    found, info = lapack.cholesky(look(A), upper)
    return attach(on_device(found, A), _factor_rule, (A,), (upper,)), info


@with_out
def linalg_cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with ``A = L L^H`` (or the upper triangular L^H) of positive definite matrices (.., n, n).

    Float and complex dtypes of 32 bits and more; only one triangle is read. ``LinAlgError`` where
    a matrix is not positive definite.

    >>> linalg_cholesky(tensor([[4., 2.], [2., 5.]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    out, info = _factor(A, upper, "linalg.cholesky")
    raise_at(info, "linalg.cholesky", _NOT_POSITIVE)
    return out


@with_out
def linalg_cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info): info is 0, or the order of the first minor that is not positive definite."""
    out, info = _factor(A, upper, "linalg.cholesky")
    if check_errors:
        raise_at(info, "linalg.cholesky_ex", _NOT_POSITIVE)
    return results.LinalgCholeskyEx(out, on_device(info, A))


@public()
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The older name of :func:`linalg.cholesky`."""
    out, info = _factor(input, upper, "cholesky")
    raise_at(info, "cholesky", _NOT_POSITIVE)
    return label(out, "CholeskyBackward0")


@public()
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of the matrix whose triangular factor is given: ``(L L^H)^-1``."""
    check_square(input, "cholesky_inverse")
    check_floating(input, "cholesky_inverse", "cholesky_inverse_cpu")
    zeros = look(diagonal_of(functions.detach(input)) == 0)
    # The number of the first zero of each diagonal, counted from 1.
    first = np.where(zeros, np.arange(zeros.shape[-1], 0, -1), 0).max(-1, initial=0)
    raise_at(
        np.where(first > 0, zeros.shape[-1] + 1 - first, 0), "cholesky_inverse",
        "The diagonal element {} is zero, the inversion could not be completed because the input "
        "matrix is singular.",
    )  # fmt: skip
    one = functions.broadcast_to(identity(input, shape_of(input)[-1]), shape_of(input))
    with no_grad():
        out = _solved(input, one, upper)
    return attach(out, _inverse_rule, (input,), (upper,))


# The gradients of what a factor makes take it for a full matrix, as PyTorch does: the elements of
# the triangle that is not read get one too.


def _inverse_gradient(g: Tensor, out: Tensor, x: Tensor, attrs: Any) -> Tensor:
    both = matmul(matmul(out, g + adjoint_of(g)), out)
    return -matmul(x, both) if attrs[0] else -matmul(both, x)


def _solution_gradient(
    g: Tensor, out: Tensor, needs: Any, B: Tensor, L: Tensor, *, attrs: Any
) -> Any:
    right = cholesky_solve(g, L, attrs[0])
    if not needs[1]:
        return right, None
    both = matmul(right, adjoint_of(out))
    both = both + adjoint_of(both)
    return right, -matmul(L, both) if attrs[0] else -matmul(both, L)


_inverse_rule = Rule("CholeskyInverseBackward0", (_inverse_gradient,), joins_parts=True)
_solution_rule = Rule("CholeskySolveBackward0", _solution_gradient, joins_parts=True)


def _solved(factor: Tensor, B: Tensor, upper: bool) -> Tensor:
    """X of ``L L^H X = B`` by two substitutions."""
    if upper:
        return substitute(factor, substitute(adjoint_of(factor), B, False), True)
    return substitute(adjoint_of(factor), substitute(factor, B, False), True)


@public()
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X of ``A X = input`` (.., n, k), where ``L`` (.., n, n) is the triangular factor of A."""
    check_matrix(input, "cholesky_solve", "b")
    check_matrix(L, "cholesky_solve", "u")
    check_solvable(input, L, "cholesky_solve")
    check_same_dtype(input, L, "cholesky_solve", "b and A")
    check_kernel(input, "cholesky_solve_cpu")
    factor, right = broadcast_batches(L, input)
    with no_grad():
        out = _solved(factor, right, upper)
    return attach(out, _solution_rule, (right, factor), (upper,))


# Symmetric indefinite matrices ------------------------------------------------------------------


def _ldl(A: Tensor, hermitian: bool) -> list[Any]:
    check_square(A, "torch.linalg.ldl_factor_ex")
    check_floating(A, "torch.linalg.ldl_factor_ex", "ldl_factor_kernel_cpu")
    return lapack.ldl_factor(look(A), hermitian)


@with_out
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """(LD, pivots) of symmetric (or Hermitian) matrices (.., n, n), in LAPACK's compact form.

    Reads the lower triangle. Has no gradient. ``RuntimeError`` where D would be singular.
    """
    packed, pivots, info = _ldl(A, hermitian)
    if info.any():
        place = int(np.flatnonzero(info)[0])
        raise LinAlgError(
            f"torch.linalg.ldl_factor: the factor D is singular: its element "
            f"{info.reshape(-1)[place]} is zero (batch element {place})"
        )
    return results.LinalgLdlFactor(on_device(packed, A), on_device(pivots, A))


@with_out
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """(LD, pivots, info): info is 0, or the number of a zero on the diagonal of D."""
    if check_errors:
        packed, pivots = ldl_factor(A, hermitian=hermitian)
        info = functions.zeros(shape_of(A)[:-2], dtype=dtype_of(pivots), device=A._device)
        return results.LinalgLdlFactorEx(packed, pivots, info)
    return results.LinalgLdlFactorEx(*(on_device(found, A) for found in _ldl(A, hermitian)))


@with_out
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X of ``A X = B`` from what :func:`ldl_factor` gave. Has no gradient."""
    name = "torch.linalg.ldl_solve"
    check_square(LD, name)
    if dtype_of(pivots).kind not in "iu":
        raise RuntimeError(
            f"{name}: Expected pivots to be integers. Got {scalar_name(dtype_of(pivots))}"
        )
    if len(shape_of(B)) < 2:
        raise RuntimeError(f"{name}: Expected B to have at least 2 dimensions")
    a, b = shape_of(LD), shape_of(B)
    if a[-1] != b[-2]:
        raise RuntimeError(
            f"Incompatible matrix sizes for {name}: each A matrix is {a[-1]} by {a[-1]} but each "
            f"b matrix is {b[-2]} by {b[-1]}"
        )
    check_same_dtype(LD, B, name, "LD and B")
    matrix, right = broadcast_batches(LD, B)
    order = functions.broadcast_to(pivots, shape_of(matrix)[:-1])
    shape = shape_of(right)

    def compute(ld: np.ndarray, numbers: np.ndarray, given: np.ndarray) -> np.ndarray:
        def one(ld: np.ndarray, numbers: np.ndarray, given: np.ndarray) -> np.ndarray:
            return lapack.ldl_solve(ld, numbers[:, 0], given, hermitian)

        return lapack.each(one, ((shape[-2:], ld.dtype),), ld, numbers[..., None], given)[0]

    return call_host(f"lapack.ldl_solve {hermitian}", compute, shape, dtype_of(B), matrix, order,
                     right)  # fmt: skip
