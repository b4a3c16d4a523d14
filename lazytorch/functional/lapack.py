"""LAPACK on batches of NumPy matrices: what decompositions compute, without tensors.

NumPy's own functions take batches; SciPy's LAPACK takes one matrix, so those are called for each.
Functions that can fail return LAPACK's ``info`` beside their result (0: it worked) instead of
raising, because some callers want to know and others to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Form = tuple[tuple[int, ...], Any]


def each(function: Callable[..., Any], forms: Sequence[Form], *batches: Array) -> list[Array]:
    """``function`` of each matrix of equal batches; ``forms`` has its results' shapes and dtypes.

    Matrices without elements are left out: their results are zeros.
    """
    batch = batches[0].shape[:-2]
    outs = [np.zeros(batch + shape, dtype) for shape, dtype in forms]
    if any(0 in array.shape for array in batches):
        return outs
    for place in np.ndindex(*batch):
        found = function(*(array[place] for array in batches))
        for out, value in zip(outs, found if isinstance(found, tuple) else (found,)):
            out[place] = value
    return outs


def routine(name: str, dtype: Any) -> Callable[..., Any]:
    """The LAPACK routine ``?name`` for a dtype."""
    from scipy.linalg import get_lapack_funcs

    return get_lapack_funcs(name, dtype=dtype)


# Factors ----------------------------------------------------------------------------------------


def lu_factor(a: Array) -> list[Array]:
    """(L and U in one matrix, pivots counted from 1, info)."""
    getrf = routine("getrf", a.dtype)

    def factor(matrix: Array) -> Any:
        lu, pivots, info = getrf(matrix)
        return lu, pivots + 1, info

    short = min(a.shape[-2:])
    return each(factor, ((a.shape[-2:], a.dtype), ((short,), np.int32), ((), np.int32)), a)


def permutation_of(pivots: Array, size: int) -> Array:
    """Rows in the order that successive exchanges with ``pivots`` (counted from 1) leave."""
    order = np.broadcast_to(np.arange(size), (*pivots.shape[:-1], size)).copy()
    for step in range(pivots.shape[-1]):
        other = pivots[..., step, None].astype(np.int64) - 1
        taken = np.take_along_axis(order, other, -1)
        np.put_along_axis(order, other, order[..., step, None], -1)
        order[..., step] = taken[..., 0]
    return order


def permutation_matrix(pivots: Array, size: int, dtype: Any) -> Array:
    """The matrix P of ``A = P L U``."""
    order = permutation_of(pivots, size)
    return np.eye(size, dtype=dtype)[order].swapaxes(-2, -1)


def cholesky(a: Array, upper: bool) -> list[Array]:
    """(triangular factor, info); reads the triangle it writes."""
    potrf = routine("potrf", a.dtype)

    def factor(matrix: Array) -> Any:
        return potrf(matrix, lower=not upper, clean=True)

    return each(factor, ((a.shape[-2:], a.dtype), ((), np.int32)), a)


def ldl_factor(a: Array, hermitian: bool) -> list[Array]:
    """(L and D in one matrix, pivots as LAPACK has them, info) of a symmetric matrix."""
    name = "hetrf" if hermitian and a.dtype.kind == "c" else "sytrf"
    sytrf = routine(name, a.dtype)

    def factor(matrix: Array) -> Any:
        ld, pivots, info = sytrf(matrix, lower=True)
        # SciPy counts pivots of single columns from 0 in some versions; LAPACK never has a 0.
        return np.tril(ld), pivots, info

    size = a.shape[-1]
    return each(factor, ((a.shape[-2:], a.dtype), ((size,), np.int32), ((), np.int32)), a)


def ldl_solve(ld: Array, pivots: Array, b: Array, hermitian: bool) -> Array:
    """X of ``A X = B`` from what :func:`ldl_factor` gave: each column's exchange, elimination and
    1x1 or 2x2 block in turn, and the same backwards."""
    turn = np.conj if hermitian else np.asarray
    x = b.copy()
    blocks = []
    column = 0
    size = ld.shape[-1]
    while column < size:
        width = 1 if pivots[column] > 0 else 2
        last = column + width - 1
        other = abs(int(pivots[column])) - 1
        x[[last, other]] = x[[other, last]]
        below = ld[column + width :, column : column + width]
        x[column + width :] -= below @ x[column : column + width]
        block = ld[column : column + width, column : column + width].copy()
        if width == 2:
            block[0, 1] = turn(block[1, 0])
        x[column : column + width] = np.linalg.solve(block, x[column : column + width])
        blocks.append((column, width, last, other))
        column += width
    for column, width, last, other in reversed(blocks):
        below = ld[column + width :, column : column + width]
        x[column : column + width] -= turn(below.T) @ x[column + width :]
        x[[last, other]] = x[[other, last]]
    return x


def householder(a: Array) -> tuple[Array, Array]:
    """(R above the reflections' vectors, their factors), as ``geqrf`` leaves them."""
    if 0 in a.shape:
        return a.copy(), np.zeros((*a.shape[:-2], min(a.shape[-2:])), a.dtype)
    packed, factors = np.linalg.qr(a, mode="raw")
    return packed.swapaxes(-2, -1), factors


# Equations --------------------------------------------------------------------------------------


def solve(a: Array, b: Array) -> tuple[Array, Array]:
    """(X of ``A X = B``, info). Where A is singular X holds infinities and NaN."""
    info = np.zeros(a.shape[:-2], np.int32)
    if 0 in a.shape or 0 in b.shape:
        return np.zeros(b.shape, b.dtype), info
    try:
        return np.linalg.solve(a, b), info
    except np.linalg.LinAlgError:
        factors, pivots, info = lu_factor(a)
        low = solve_triangular(factors, _exchanged(b, pivots), False, True)
        return solve_triangular(factors, low, True, False), info


def _exchanged(b: Array, pivots: Array) -> Array:
    order = permutation_of(pivots, b.shape[-2])
    return np.take_along_axis(b, order[..., None], -2)


def solve_triangular(a: Array, b: Array, upper: bool, unit: bool) -> Array:
    """X of ``A X = B`` by substitution, reading one triangle of A."""
    from scipy.linalg import get_blas_funcs

    trsm = get_blas_funcs("trsm", dtype=a.dtype)

    def substitute(matrix: Array, right: Array) -> Array:
        found: Array = trsm(1.0, matrix, right, lower=not upper, diag=unit)
        return found

    return each(substitute, ((b.shape[-2:], b.dtype),), a, b)[0]


def inverse(a: Array) -> tuple[Array, Array]:
    """(inverse, info)."""
    one = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    return solve(a, one)


# Determinants -----------------------------------------------------------------------------------


def determinant(a: Array) -> Array:
    """The product of U's diagonal, negated where rows were exchanged an odd number of times."""
    size = a.shape[-1]
    if size == 0:
        return np.ones(a.shape[:-2], a.dtype)
    factors, pivots, _ = lu_factor(a)
    diagonal = np.diagonal(factors, axis1=-2, axis2=-1)
    odd = (pivots != np.arange(1, size + 1)).sum(-1) % 2
    product: Array = diagonal.prod(-1)
    return np.where(odd, -product, product)


def adjugate_adjoint(a: Array) -> Array:
    """The conjugate transpose of the adjugate, also of singular matrices.

    With ``A = U S V^H`` the adjugate is ``det(U V^H) V adj(S) U^H``, and adj(S) holds the products
    of all other singular values (Higham, "What is the adjugate of a matrix?", 2020).
    """
    if 0 in a.shape:
        return a.copy()
    if not np.isfinite(a).all():
        return np.full_like(a, np.nan)
    u, s, vh = np.linalg.svd(a)
    others = np.repeat(s[..., None, :], s.shape[-1], -2)
    places = np.arange(s.shape[-1])
    others[..., places, places] = 1
    turn = np.conj(determinant(u @ vh))
    found: Array = turn[..., None, None] * ((u * others.prod(-1)[..., None, :]) @ vh)
    return found


def sign_and_log(a: Array) -> tuple[Array, Array]:
    """(sign, logarithm of the absolute value) of the determinant."""
    sign, size = np.linalg.slogdet(a)
    return np.asarray(sign), np.asarray(size)
