"""Singular values and vectors, and what is made of them: pseudoinverses and low-rank factors.

Gradients: Townsend, "Differentiating the singular value decomposition", 2016, and for complex
matrices Wan and Zhang, "Automatic differentiation for complex valued SVD", 2019; of the
pseudoinverse Golub and Pereyra, 1973.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, attach_many
from lazytorch.errors import LinAlgError
from lazytorch.functional import results
from lazytorch.functional.complex import joined
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    check_floating,
    check_matrix,
    column,
    diagonal_of,
    identity,
    look,
    look_with_bounds,
    on_device,
    row,
)
from lazytorch.functional.orthogonal import linalg_qr
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# The decomposition on the host ------------------------------------------------------------------


def _complain(array: np.ndarray) -> None:
    """Raise for the first matrix of a batch whose decomposition does not exist or converge."""
    for place, where in enumerate(np.ndindex(*array.shape[:-2])):
        which = f"(Batch element {place}): " if array.ndim > 2 else ""
        if not np.isfinite(array[where]).all():
            raise LinAlgError(
                f"linalg.svd: {which}The algorithm failed to converge because the input matrix "
                "contained non-finite values."
            )
        try:
            np.linalg.svd(array[where], compute_uv=False)
        except np.linalg.LinAlgError:
            raise LinAlgError(
                f"linalg.svd: {which}The algorithm failed to converge because the input matrix is "
                "ill-conditioned or has too many repeated singular values."
            ) from None


def singular(array: Any, full: bool = False, vectors: bool = True) -> list[np.ndarray]:
    """[U, S, V^H], or [S] without ``vectors``; ``LinAlgError`` where that does not converge."""
    found: Any
    try:
        if vectors:
            found = np.linalg.svd(array, full_matrices=full)
        else:
            found = np.linalg.svd(array, compute_uv=False)
    except np.linalg.LinAlgError:
        _complain(array)
        raise
    values = found[1] if vectors else found
    if np.isnan(values).any():
        _complain(array)
    return list(found) if vectors else [found]


# Gradients --------------------------------------------------------------------------------------


def _differences(S: Tensor) -> Tensor:
    """``S_j^2 - S_i^2`` at (i, j), with ones on the diagonal where nothing is divided by it."""
    gaps = (row(S) - column(S)) * (row(S) + column(S))
    return gaps + identity(S, shape_of(S)[-1])


def _turns(gU: Tensor | None, U: Tensor, gaps: Tensor) -> Tensor | None:
    """``(U^H gU - gU^H U) / gaps``: what of a gradient turns the vectors among each other."""
    if gU is None:
        return None
    inner = matmul(adjoint_of(U), gU)
    return (inner - adjoint_of(inner)) / gaps


def _outside(g: Tensor, U: Tensor, S: Tensor) -> Tensor:
    """``(1 - U U^H) g S^-1``: what of a gradient leads out of the space of the vectors."""
    scaled = g / row(S)
    return scaled - matmul(U, matmul(adjoint_of(U), scaled))


def _check_phases(gU: Tensor | None, U: Tensor, gV: Tensor | None, V: Tensor) -> None:
    """A loss may not depend on the common phase of a left and a right vector."""
    total: Any = 0.0
    scale = 1.0
    for g, vectors in ((gU, U), (gV, V)):
        if g is not None:
            inner = look(functions.sum(functions.conj(vectors) * g, -2))
            total = total + inner.imag
            scale = max(scale, float(np.abs(inner).max(initial=0.0)))
    if np.abs(total).max(initial=0.0) > 1e-2 * scale:
        raise RuntimeError(
            "svd_backward: The singular vectors in the complex case are specified up to "
            "multiplication by e^{i phi}. The specified loss function depends on this quantity, so "
            "it is ill-defined."
        )


def _svd_gradient(g: Any, out: Any, A: Tensor) -> Any:
    gU, gS, gVh = g
    rows, columns = shape_of(A)[-2:]
    short = min(rows, columns)
    U, S = functions.narrow(out[0], -1, 0, short), out[1]
    Vh = functions.narrow(out[2], -2, 0, short)
    V = adjoint_of(Vh)
    gU = None if gU is None else functions.narrow(gU, -1, 0, short)
    gV = None if gVh is None else adjoint_of(functions.narrow(gVh, -2, 0, short))
    if gU is None and gV is None:
        return (matmul(U * row(gS), Vh) if gS is not None else functions.zeros_like(A),)
    complex_ = dtype_of(A).kind == "c"
    if complex_:
        _check_phases(gU, U, gV, V)
    gaps = _differences(S)
    left, right = _turns(gU, U, gaps), _turns(gV, V, gaps)
    inner = functions.diag_embed(functions.zeros_like(S) if gS is None else gS)
    if left is not None:
        inner = inner + left * row(S)
        if complex_:
            # The phases are not free where U and V are seen together.
            phase = functions.imaginary_part(functions.sum(functions.conj(U) * gU, -2)) / S
            phases = joined(functions.zeros_like(phase), phase)
            inner = inner + functions.diag_embed(phases - diagonal_of(left * row(S)))
    if right is not None:
        inner = inner + column(S) * right
        if complex_:
            inner = inner - functions.diag_embed(diagonal_of(column(S) * right))
    total = matmul(matmul(U, inner), Vh)
    if gU is not None and rows > short:
        total = total + matmul(_outside(gU, U, S), Vh)
    if gV is not None and columns > short:
        total = total + matmul(U, adjoint_of(_outside(gV, V, S)))
    return (total,)


_svd_rule = Rule("LinalgSvdBackward0", _svd_gradient, joins_parts=True)


# Singular values and vectors --------------------------------------------------------------------


def _check(A: Tensor) -> None:
    check_matrix(A, "linalg.svd")
    check_floating(A, "linalg.svd", "linalg_svd_cpu")


@with_out
def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with ``A = U diag(S) Vh``; S holds real numbers in falling order.

    A (.., m, n) of a float or complex dtype of 32 bits and more. U is (.., m, m) and Vh (.., n, n),
    or (.., m, k) and (.., k, n) with k = min(m, n) without ``full_matrices``. ``LinAlgError`` where
    A holds infinities or NaN. Gradients of the vectors exist where singular values differ.

    >>> linalg_svd(tensor([[3., 0.], [0., 2.]])).S
    tensor([3., 2.])
    """
    if driver is not None:
        raise RuntimeError(
            "torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with "
            "cuSOLVER backend."
        )
    _check(A)
    return results.LinalgSvd(*_decomposed(A, full_matrices))


def _decomposed(A: Tensor, full: bool) -> list[Tensor]:
    outs = [on_device(found, A) for found in singular(look(A), full)]
    attach_many(outs, _svd_rule, (A,))
    return outs


@with_out
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values of each matrix (.., m, n), of shape (.., min(m, n)), falling."""
    _check(A)
    if mode.enabled and A._requires_grad:
        return _decomposed(A, False)[1]
    return on_device(singular(look(A), vectors=False)[0], A)


@public()
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with ``input = U diag(S) V^H``; zeros for U and V without ``compute_uv``."""
    shape = tuple(shape_of(input))
    if len(shape) < 2:
        raise RuntimeError(
            f"linalg.svd: input should have at least 2 dimensions, but has {len(shape)} "
            "dimensions instead"
        )
    _check(input)
    if compute_uv:
        U, S, Vh = _decomposed(input, not some)
        return results.Svd(U, S, adjoint_of(Vh))
    rows, columns = (shape[:-2] + (size, size) for size in shape[-2:])
    kind: dict[str, Any] = {"dtype": dtype_of(input), "device": input._device}
    return results.Svd(functions.zeros(rows, **kind), svdvals(input),
                       functions.zeros(columns, **kind))  # fmt: skip


# The pseudoinverse ------------------------------------------------------------------------------


def pinv_gradient(g: Tensor, out: Tensor, x: Tensor) -> Tensor:
    """The gradient of x from that of its pseudoinverse ``out``."""
    turned, incoming = adjoint_of(out), adjoint_of(g)
    first = matmul(turned, matmul(g, turned))
    second = matmul(matmul(incoming, out), turned)
    second = second - matmul(x, matmul(out, second))
    third = matmul(turned, matmul(out, incoming))
    third = third - matmul(matmul(third, out), x)
    return second + third - first


_pinv_rule = Rule("LinalgPinvBackward0", (pinv_gradient,), joins_parts=True)


def tolerance(values: np.ndarray, shape: Any, dtype: Any, atol: Any, rtol: Any) -> np.ndarray:
    """What singular values must exceed: the larger of ``atol`` and ``rtol`` times the largest.

    ``rtol`` is the machine precision times the larger dimension unless one of them is given.
    """
    absolute = 0.0 if atol is None else atol
    if rtol is None:
        given = np.asarray(absolute)
        usual = np.finfo(dtype.numpy).eps * max(shape[-2:])
        rtol = np.where(given > 0, 0.0, usual)
    bounds = [
        np.asarray(bound, values.dtype) for bound in (absolute, rtol)
    ]
    largest = values.max(-1, initial=0.0)
    return np.asarray(np.maximum(bounds[0], bounds[1] * largest))[..., None]


@with_out
def pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """The pseudoinverse (.., n, m) of matrices (.., m, n): singular values that are nearly 0 count
    as 0. ``hermitian`` says that A is, and may read one triangle only.

    >>> pinv(tensor([[2., 0.], [0., 0.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    dtype, shape = dtype_of(A), tuple(shape_of(A))
    if len(shape) < 2 or dtype.kind not in "fc" or dtype.name in ("float16", "bfloat16"):
        raise RuntimeError(
            f"linalg.pinv({scalar_name(dtype)}{{{list(shape)}}}): expected a tensor with 2 or more "
            "dimensions of float, double, cfloat or cdouble types"
        )
    relative = rcond if rtol is None else rtol
    array, least, share = look_with_bounds(A, atol, relative)
    if 0 in shape:
        found = np.zeros((*array.shape[:-2], shape[-1], shape[-2]), array.dtype)
    else:
        found = _pseudoinverse(array, dtype, hermitian, least, share)
    sources = [A, *(bound for bound in (atol, relative) if isinstance(bound, Tensor))]
    return attach(on_device(found.astype(array.dtype), *sources), _pinv_rule, (A,))


def _pseudoinverse(array: np.ndarray, dtype: Any, hermitian: bool, atol: Any, rtol: Any) -> Any:
    if hermitian:
        values, vectors = np.linalg.eigh(array)
        sizes, U, Vh = np.abs(values), vectors, np.conj(vectors.swapaxes(-2, -1))
    else:
        U, sizes, Vh = singular(array)
        values = sizes
    bound = tolerance(sizes, array.shape, dtype, atol, rtol)
    kept = sizes > bound
    inverted = np.where(kept, 1 / np.where(kept, values, 1), 0)
    turned = np.conj(Vh.swapaxes(-2, -1)) * inverted[..., None, :]
    return turned @ np.conj(U.swapaxes(-2, -1))


@public()
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The older form of :func:`linalg.pinv`."""
    return pinv(input, rcond)


# Low-rank factors -------------------------------------------------------------------------------


def _range_of(A: Tensor, q: int, iterations: int) -> Tensor:
    """An orthonormal basis that nearly holds A's range (Halko, Martinsson and Tropp, 2011)."""
    sketch = functions.randn(shape_of(A)[-1], q, dtype=dtype_of(A), device=A._device)
    basis: Tensor = linalg_qr(matmul(A, sketch)).Q
    for _ in range(iterations):
        other = linalg_qr(matmul(adjoint_of(A), basis)).Q
        basis = linalg_qr(matmul(A, other)).Q
    return basis


@public(method=False, out=False)
def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Any = None) -> Any:
    """(U, S, V) of nearly the ``q`` largest singular values of A (less M), by random projection."""
    size = 6 if q is None else q
    matrix = A if M is None else A - functions.broadcast_to(M, shape_of(A))
    rows, columns = shape_of(matrix)[-2:]
    size = min(size, rows, columns)
    turned = adjoint_of(matrix) if rows < columns else matrix
    basis = _range_of(turned, size, 2 if niter is None else niter)
    U, S, Vh = linalg_svd(matmul(adjoint_of(basis), turned), full_matrices=False)
    U, V = matmul(basis, U), adjoint_of(Vh)
    return (V, S, U) if rows < columns else (U, S, V)


@public(method=False, out=False)
def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """:func:`svd_lowrank` of A (rows of observations), less the mean of each column."""
    rows, columns = shape_of(A)[-2:]
    if q is None:
        q = min(6, rows, columns)
    elif not 0 <= q <= min(rows, columns):
        raise ValueError(
            f"q(={q}) must be non-negative integer and not greater than min(m, n)="
            f"{min(rows, columns)}"
        )
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    mean = functions.mean(A, -2, keepdim=True) if center else None
    return svd_lowrank(A, q, niter, mean)
