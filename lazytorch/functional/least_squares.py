"""Least squares.

The gradient is that of the pseudoinverse (Golub and Pereyra, "The differentiation of
pseudo-inverses and nonlinear least squares problems whose variables separate", 1973).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach_many
from lazytorch.functional import lapack, results
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    broadcast_batches,
    column,
    look_at_both,
    on_device,
    row,
)
from lazytorch.functional.singular_values import pinv, pinv_gradient
from lazytorch.tensor.attach import functions, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def _gradient(g: Any, out: Any, needs: Any, A: Tensor, B: Tensor) -> Any:
    g_solution, g_residuals = g[:2]
    solution = out[0]
    first: Any = 0
    second: Any = 0
    if g_solution is not None:
        inverse = pinv(A)
        if needs[0]:
            first = pinv_gradient(matmul(g_solution, adjoint_of(B)), inverse, A)
        second = matmul(adjoint_of(inverse), g_solution)
    if g_residuals is not None:
        # At the solution a change of it leaves the residuals as they are.
        gap = (matmul(A, solution) - B) * (2 * row(g_residuals))
        first = first + matmul(gap, adjoint_of(solution))
        second = second - gap
    return first, second


_rule = Rule("LinalgLstsqBackward0", _gradient, joins_parts=True)


def _solved(a: np.ndarray, b: np.ndarray, rcond: float, driver: str) -> list[np.ndarray]:
    """[X, rank, singular values] of each matrix."""
    from scipy import linalg

    rows, columns = a.shape[-2:]
    short = min(rows, columns)

    def solve(matrix: np.ndarray, right: np.ndarray) -> Any:
        if driver == "gels":
            padded = np.zeros((max(rows, columns), right.shape[-1]), right.dtype)
            padded[:rows] = right
            _, found, _ = lapack.routine("gels", matrix.dtype)(matrix, padded)
            return found[:columns], short, 0
        found, _, rank, values = linalg.lstsq(
            matrix, right, cond=rcond, lapack_driver=driver, check_finite=False
        )
        return found, rank, 0 if values is None else values

    real = a.real.dtype
    forms = (((columns, b.shape[-1]), a.dtype), ((), np.int64), ((short,), real))
    return lapack.each(solve, forms, a, b)


def _check(A: Tensor, B: Tensor, driver: str | None) -> bool:
    """Raise for what does not fit; whether B is a batch of vectors."""
    name = "torch.linalg.lstsq"
    a, b = tuple(shape_of(A)), tuple(shape_of(B))
    if len(a) < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if len(b) < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if dtype_of(A) is not dtype_of(B):
        raise RuntimeError(
            f"{name}: Expected input and other to have the same dtype, but got input's dtype "
            f"{scalar_name(dtype_of(A))} and other's dtype {scalar_name(dtype_of(B))}"
        )
    if dtype_of(A).kind not in "fc" or dtype_of(A).name in ("float16", "bfloat16"):
        raise RuntimeError("This function doesn't handle types other than float and double")
    vector = len(b) == 1 or (len(a) - 1 == len(b) and a[:-1] == b)
    if a[-2] != b[-1 if vector else -2]:
        side = "-1" if vector else "-2"
        raise RuntimeError(f"{name}: input.size(-2) should match other.size({side})")
    if driver is not None and driver not in _DRIVERS:
        raise RuntimeError(
            f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)"
        )
    return vector


@with_out
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """(solution, residuals, rank, singular_values): X with the smallest ``|A X - B|``.

    A (.., m, n); B (.., m, k), or a batch of vectors (.., m); float and complex dtypes of 32 bits
    and more. ``driver`` is 'gelsy' (the default), 'gelsd', 'gelss', or 'gels' for matrices of full
    rank; singular values below ``rcond`` times the largest count as 0. What a driver does not tell
    is empty: residuals need m > n, full rank and another driver than 'gelsy', singular values
    'gelsd' or 'gelss'.

    >>> lstsq(tensor([[1.], [1.]]), tensor([[1.], [3.]])).solution
    tensor([[2.0000]])
    """
    vector = _check(A, B, driver)
    if isinstance(rcond, str):
        raise TypeError("linalg_lstsq(): argument 'rcond' must be float, not str")
    matrix, right = broadcast_batches(A, column(B) if vector else B)
    rows, columns = shape_of(A)[-2:]
    chosen = driver or "gelsy"
    usual = float(np.finfo(dtype_of(A).numpy).eps) * max(rows, columns)
    bound = usual if rcond is None else float(rcond)
    a, b = look_at_both(matrix, right)
    batch = a.shape[: a.ndim - len(shape_of(matrix))]
    solution, rank, values = _solved(a, b, bound, chosen)
    nothing = np.zeros((*batch, 0), values.dtype)
    residuals = nothing
    if rows > columns and chosen != "gelsy" and (rank == columns).all():
        residuals = (np.abs(a @ solution - b) ** 2).sum(-2).astype(values.dtype)
    outs = [
        on_device(found, A, B)
        for found in (
            solution, residuals,
            np.zeros((*batch, 0), np.int64) if chosen == "gels" else rank,
            values if chosen in ("gelsd", "gelss") else nothing,
        )
    ]  # fmt: skip
    kept = (True, residuals.size > 0, False, False)
    attach_many(outs, _rule, (matrix, right), (), None, kept)
    if vector:
        outs[0] = functions.squeeze(outs[0], -1)
    return results.LinalgLstsq(*outs)
