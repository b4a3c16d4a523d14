"""Linear equations and inverses.

Gradients: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008; for complex matrices with conjugate transposes (Boeddeker et al., "On the
computation of complex-valued gradients", 2017). All are written with functions that can be
differentiated again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional import lapack, results
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
    column,
    look,
    look_at_both,
    on_device,
    raise_at,
    transposed,
)
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_SINGULAR = (
    "The diagonal element {} is zero, the inversion could not be completed because the input "
    "matrix is singular."
)
_NO_SOLUTION = "The solver failed because the input matrix is singular."


# Inverses ---------------------------------------------------------------------------------------


def _inverse_gradient(g: Tensor, out: Tensor) -> Tensor:
    turned = adjoint_of(out)
    return -matmul(turned, matmul(g, turned))


_inverse_rule = Rule("LinalgInvExBackward0", (_inverse_gradient,), joins_parts=True)


def _inverted(a: np.ndarray) -> np.ndarray:
    return lapack.inverse(a)[0]


def unchecked_inverse(A: Tensor) -> Tensor:
    """The inverse as a node of the graph; infinities and NaN where there is none."""
    out = call_host("lapack.inverse", _inverted, shape_of(A), dtype_of(A), A)
    return attach(out, _inverse_rule, (A,))


def _inverse(A: Tensor) -> tuple[Tensor, Any]:
    check_square(A, "linalg.inv")
    check_floating(A, "linalg.inv")
    found, info = lapack.inverse(look(A))
    return attach(on_device(found, A), _inverse_rule, (A,)), info


@with_out
def inv(A: Tensor) -> Tensor:
    """The inverse of each matrix of a batch (.., n, n).

    Float and complex dtypes of 32 bits and more. ``LinAlgError`` where a matrix is singular,
    ``RuntimeError`` for matrices that are not square.

    >>> inv(tensor([[2., 0.], [0., 4.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    out, info = _inverse(A)
    raise_at(info, "linalg.inv", _SINGULAR)
    return out


@with_out
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """(inverse, info): info is 0, or the number of a zero on the diagonal of the factor U."""
    out, info = _inverse(A)
    if check_errors:
        raise_at(info, "linalg.inv_ex", _SINGULAR)
    return results.LinalgInvEx(out, on_device(info, A))


@public()
def inverse(input: Tensor) -> Tensor:
    """The same as :func:`linalg.inv`."""
    return inv(input)


@with_out
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of a tensor seen as a matrix: the first ``ind`` dimensions are its rows.

    (a, b, c) with a = b * c and ``ind=1`` gives (b, c, a).
    """
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    shape = tuple(shape_of(A))
    rows, columns = math.prod(shape[:ind]), math.prod(shape[ind:])
    if rows != columns:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            f"prod(self.shape[:ind]), but got {columns} != {rows}"
        )
    matrix = functions.reshape(A, (rows, columns))
    out, info = _inverse(matrix)
    raise_at(info, "inv", _SINGULAR)
    result: Tensor = functions.reshape(out, shape[ind:] + shape[:ind])
    return result


# Equations --------------------------------------------------------------------------------------


def _solve_gradient(g: Tensor, out: Tensor, needs: Any, A: Tensor) -> Any:
    """B's gradient solves the equation of the adjoint; A's is made of it and X."""
    right = unchecked_solve(adjoint_of(A), g)
    return (-matmul(right, adjoint_of(out)) if needs[0] else None), right


_solve_rule = Rule("LinalgSolveExBackward0", _solve_gradient, joins_parts=True)


def _solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return lapack.solve(a, b)[0]


def unchecked_solve(A: Tensor, B: Tensor) -> Tensor:
    """X of ``A X = B`` (matrices of equal batches) as a node of the graph."""
    out = call_host("lapack.solve", _solved, shape_of(B), dtype_of(B), A, B)
    return attach(out, _solve_rule, (A, B))


def check_equation(A: Tensor, B: Tensor, left: bool, function: str) -> None:
    """Matrices whose shapes fit ``A X = B`` or, from the right, ``X A = B``."""
    a, b = shape_of(A), shape_of(B)
    if a[-2 if left else -1] != b[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{function}: Incompatible shapes of A and B for the equation {equation} "
            f"({a[-2]}x{a[-1]} and {b[-2]}x{b[-1]})"
        )


def _is_vector(A: Tensor, B: Tensor) -> bool:
    a, b = tuple(shape_of(A)), tuple(shape_of(B))
    return len(b) == 1 or (len(a) - 1 == len(b) and a[:-1] == b)


def _solve(A: Tensor, B: Tensor, left: bool) -> tuple[Tensor, Any]:
    check_square(A, "linalg.solve")
    check_floating(A, "linalg.solve")
    check_same_dtype(A, B, "linalg.solve")
    vector = _is_vector(A, B)
    right = column(B) if vector else B
    check_matrix(right, "linalg.solve", "B")
    check_equation(A, right, left, "linalg.solve")
    if vector and not left:
        raise RuntimeError(
            "linalg.solve: Vector broadcasting of the left hand side is not supported for "
            "left=False. In this case linalg.solve is equivalent to B / A.squeeze(-1)"
        )
    matrix, right = broadcast_batches(A, right)
    if not left:
        matrix, right = transposed(matrix), transposed(right)
    found, info = lapack.solve(*look_at_both(matrix, right))
    out = attach(on_device(found, matrix, right), _solve_rule, (matrix, right))
    # Only A's own batch is told of: broadcasting repeats what is wrong.
    own, batch = shape_of(A)[:-2], len(shape_of(matrix)) - 2
    first: Any = (..., *(0,) * (batch - len(own)), *(slice(None),) * len(own))
    inside: Any = (..., *(slice(extent) for extent in own))
    info = info[first][inside]
    if not left:
        out = transposed(out)
    return (functions.squeeze(out, -1) if vector else out), info


@with_out
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X of ``A X = B``, or of ``X A = B`` where not ``left``.

    A (.., n, n); B (.., n, k), or a batch of vectors (.., n). Batches broadcast. Float and complex
    dtypes of 32 bits and more. ``LinAlgError`` where a matrix is singular.

    >>> solve(tensor([[2., 0.], [0., 4.]]), tensor([2., 2.]))
    tensor([1.0000, 0.5000])
    """
    out, info = _solve(A, B, left)
    raise_at(info, "torch.linalg.solve", _NO_SOLUTION)
    return out


@with_out
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """(solution, info): info is 0, or the number of a zero on the diagonal of the factor U."""
    out, info = _solve(A, B, left)
    if check_errors:
        raise_at(info, "torch.linalg.solve_ex", _NO_SOLUTION)
    return results.LinalgSolveEx(out, on_device(info, A, B))


@with_out
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with ``tensordot(A, X, X.ndim) == B``; ``dims`` of A are moved behind its others first."""
    if dims is not None:
        moved = sorted(axis % len(shape_of(A)) for axis in dims)
        A = functions.movedim(A, moved, list(range(len(shape_of(A)) - len(moved), A.ndim)))
    shape, rows = tuple(shape_of(A)), len(shape_of(B))
    have, wanted = math.prod(shape[rows:]), math.prod(shape[:rows])
    if have != wanted:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {have} != {wanted}"
        )
    found = solve(functions.reshape(A, (wanted, have)), functions.reshape(B, (-1,)))
    result: Tensor = functions.reshape(found, shape[rows:])
    return result


# Triangular equations ---------------------------------------------------------------------------


def _triangle(A: Tensor, upper: bool, unit: bool) -> Tensor:
    if upper:
        return functions.triu(A, 1 if unit else 0)  # type: ignore[no-any-return]
    return functions.tril(A, -1 if unit else 0)  # type: ignore[no-any-return]


def _triangular_gradient(g: Tensor, out: Tensor, needs: Any, A: Tensor, *, attrs: Any) -> Any:
    upper, unit = attrs
    right = substitute(adjoint_of(A), g, not upper, unit)
    matrix = _triangle(-matmul(right, adjoint_of(out)), upper, unit) if needs[0] else None
    return matrix, right


_triangular_rule = Rule("LinalgSolveTriangularBackward0", _triangular_gradient, joins_parts=True)


def substitute(A: Tensor, B: Tensor, upper: bool, unit: bool = False) -> Tensor:
    """X of ``A X = B`` with a triangular A (matrices of equal batches), a node of the graph."""

    def compute(a: Any, b: Any) -> Any:
        return lapack.solve_triangular(a, b, upper, unit)

    key = f"lapack.solve_triangular {upper} {unit}"
    out = call_host(key, compute, shape_of(B), dtype_of(B), A, B)
    return attach(out, _triangular_rule, (A, B), (upper, unit))


@with_out
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X of ``A X = B`` (or ``X A = B`` where not ``left``) with triangular matrices (.., n, n).

    Only the ``upper`` or lower triangle is read; with ``unitriangular`` its diagonal counts as
    ones. A zero on the diagonal gives infinities and NaN.
    """
    name = "linalg.solve_triangular"
    check_square(A, name)
    check_matrix(B, name, "B")
    check_equation(A, B, left, name)
    check_kernel(A, "triangular_solve_cpu")
    check_same_dtype(A, B, name)
    matrix, right = broadcast_batches(A, B)
    if left:
        return substitute(matrix, right, upper, unitriangular)
    return transposed(substitute(transposed(matrix), transposed(right), not upper, unitriangular))


@public()
@shown_as("TriangularSolveBackward0")
def triangular_solve(
    input: Tensor, A: Tensor, upper: bool = True, transpose: bool = False,
    unitriangular: bool = False,
) -> Any:  # fmt: skip
    """(X of ``A X = input``, a copy of A) with triangular matrices A (.., n, n).

    See :func:`linalg.solve_triangular`.
    """
    check_matrix(input, "torch.triangular_solve", "b")
    check_matrix(A, "torch.triangular_solve")
    check_solvable(input, A, "triangular_solve")
    check_same_dtype(input, A, "triangular_solve", "b and A")
    matrix, right = broadcast_batches(A, input)
    turned = transposed(matrix) if transpose else matrix
    out = substitute(turned, right, upper is not transpose, unitriangular)
    return results.TriangularSolve(label(out, "TriangularSolveBackward0"), matrix.clone())


def check_solvable(B: Tensor, A: Tensor, function: str) -> None:
    """The shapes of the older functions, which take B first."""
    a, b = shape_of(A), shape_of(B)
    if a[-2] != a[-1]:
        raise RuntimeError(
            f"A must be batches of square matrices, but they are {a[-2]} by {a[-1]} matrices"
        )
    if a[-1] != b[-2]:
        raise RuntimeError(
            f"Incompatible matrix sizes for {function}: each A matrix is {a[-1]} by {a[-1]} but "
            f"each b matrix is {b[-2]} by {b[-1]}"
        )
