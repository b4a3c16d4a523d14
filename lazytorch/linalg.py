"""torch.linalg: decompositions, equations, norms and products of matrices.

Decompositions run in NumPy's and SciPy's LAPACK on the host, on a CPU device in the same memory.
Functions that can fail for some values (``inv``, ``solve``, ``cholesky``, ``eigh``, ``svd``, ...)
and those with several results look at their input when they are called; the others (``det``,
``solve_triangular``, ``matrix_exp``, products and norms made of sums) are nodes of the graph.
"""

from __future__ import annotations

from typing import Any

from lazytorch.errors import LinAlgError
from lazytorch.functional.cholesky import ldl_factor, ldl_factor_ex, ldl_solve
from lazytorch.functional.cholesky import linalg_cholesky as cholesky
from lazytorch.functional.cholesky import linalg_cholesky_ex as cholesky_ex
from lazytorch.functional.determinants import linalg_det as det
from lazytorch.functional.determinants import linalg_slogdet as slogdet
from lazytorch.functional.eigen import eig, eigh, eigvals, eigvalsh
from lazytorch.functional.equations import (
    inv,
    inv_ex,
    solve,
    solve_ex,
    solve_triangular,
    tensorinv,
    tensorsolve,
)
from lazytorch.functional.least_squares import lstsq
from lazytorch.functional.linalg import matmul as _matmul
from lazytorch.functional.lu import linalg_lu as lu
from lazytorch.functional.lu import linalg_lu_solve as lu_solve
from lazytorch.functional.lu import lu_factor, lu_factor_ex
from lazytorch.functional.matrix_functions import linalg_matrix_exp as matrix_exp
from lazytorch.functional.matrix_functions import matrix_power as _matrix_power
from lazytorch.functional.matrix_functions import multi_dot
from lazytorch.functional.matrix_norms import cond, matrix_norm, matrix_rank
from lazytorch.functional.matrix_norms import linalg_norm as norm
from lazytorch.functional.orthogonal import householder_product
from lazytorch.functional.orthogonal import linalg_qr as qr
from lazytorch.functional.singular_values import linalg_svd as svd
from lazytorch.functional.singular_values import pinv, svdvals
from lazytorch.functional.special import cross as _cross
from lazytorch.functional.vector_norms import vector_norm as _vector_norm
from lazytorch.tensor.attach import functions, with_out
from lazytorch.tensor.autocast import casting_all as _casting_all
from lazytorch.tensor.overrides import make_overridable as _make_overridable
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

matmul = with_out(_matmul)
matrix_power = with_out(_matrix_power)
vector_norm = with_out(_vector_norm)


@with_out
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product over a dimension of size 3; the other dimensions broadcast."""
    a, b = shape_of(input), shape_of(other)
    if len(a) != len(b):
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    rank = len(a)
    if not -rank <= dim < rank:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got "
            f"{dim})"
        )
    if a[dim] != 3 or b[dim] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {a[dim]} and {b[dim]}"
        )
    return _cross(input, other, dim)


@with_out
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of products over a dimension, the first factor conjugated; the others broadcast."""
    if dtype_of(x) is not dtype_of(y):
        raise RuntimeError(
            "linalg.vecdot: Expected x and y to have the same dtype, but found x of type "
            f"{scalar_name(dtype_of(x))} and y of type {scalar_name(dtype_of(y))} instead"
        )
    return functions.sum(functions.mul(functions.conj(x), y), dim)  # type: ignore[no-any-return]


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices, as views."""
    result: Tensor = functions.diagonal(A, offset, dim1, dim2)
    return result


def vander(x: Tensor, N: int | None = None) -> Tensor:
    """Powers 0, 1, .., N - 1 of elements (.., n) in a new last dimension; N is n unless given."""
    x = x if shape_of(x) else functions.reshape(x, (1,))
    count = shape_of(x)[-1] if N is None else N
    if count <= 1:
        raise RuntimeError("N must be greater than 1.")
    exponents: Any = functions.arange(count, device=x._device)
    return functions.pow(functions.unsqueeze(x, -1), exponents)  # type: ignore[no-any-return]


__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh",
    "eigvals", "eigvalsh", "householder_product", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex",
    "ldl_solve", "lstsq", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matmul", "matrix_exp",
    "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet",
    "solve", "solve_ex", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve",
    "vander", "vecdot", "vector_norm",
]  # fmt: skip


_casting_all(globals(), "linalg_")
_make_overridable(globals())
