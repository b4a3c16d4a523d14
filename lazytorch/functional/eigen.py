"""Eigenvalues and eigenvectors.

Gradients: Giles, 2008, for Hermitian matrices; Boeddeker et al., "On the computation of
complex-valued gradients with application to statistically optimum beamforming", 2017, for general
ones, whose vectors have length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach_many
from lazytorch.errors import LinAlgError
from lazytorch.functional import results
from lazytorch.functional.equations import unchecked_solve
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    check_kernel,
    check_square,
    column,
    diagonal_of,
    identity,
    look,
    on_device,
    row,
)
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _without_diagonal(A: Tensor) -> Tensor:
    return A * (1 - identity(A, shape_of(A)[-1]))


def _gaps(L: Tensor) -> Tensor:
    """``L_j - L_i`` at (i, j), 1 on the diagonal."""
    return row(L) - column(L) + identity(L, shape_of(L)[-1])


def _check_phases(inner: Tensor, function: str) -> None:
    """A loss may not depend on the phases of complex eigenvectors."""
    array = look(inner)
    diagonal = np.diagonal(array, axis1=-2, axis2=-1).imag
    scale = max(1.0, float(np.abs(array).max(initial=0.0)))
    if np.abs(diagonal).max(initial=0.0) > 1e-2 * scale:
        raise RuntimeError(
            f"{function}: The eigenvectors in the complex case are specified up to multiplication "
            "by e^{i phi}. The specified loss function depends on this quantity, so it is "
            "ill-defined."
        )


# Hermitian matrices -----------------------------------------------------------------------------


def _hermitian_gradient(g: Any, out: Any) -> Any:
    """The Hermitian part of ``V (diag(gL) + (V^H gV) / (L_j - L_i)) V^H``."""
    gL, gV = g
    L, V = out
    if gV is None:
        inner = V * row(gL) if gL is not None else V * 0
        return (matmul(inner, adjoint_of(V)),)
    turns = matmul(adjoint_of(V), gV)
    if dtype_of(V).kind == "c":
        _check_phases(turns, "linalg_eigh_backward")
    inner = _without_diagonal(turns / _gaps(L))
    inner = 0.5 * (inner + adjoint_of(inner))
    if gL is not None:
        inner = inner + functions.diag_embed(gL)
    return (matmul(V, matmul(inner, adjoint_of(V))),)


_eigh_rule = Rule("LinalgEighBackward0", _hermitian_gradient, joins_parts=True)


def _complain(array: np.ndarray, UPLO: Any) -> None:
    for place, where in enumerate(np.ndindex(*array.shape[:-2])):
        which = f"(Batch element {place}): " if array.ndim > 2 else ""
        reason = "is ill-conditioned or has too many repeated eigenvalues"
        try:
            values = np.linalg.eigvalsh(array[where], UPLO)
            if not np.isnan(values).any():
                continue
            reason = "contained non-finite values"
        except np.linalg.LinAlgError:
            pass
        raise LinAlgError(
            f"linalg.eigh: {which}The algorithm failed to converge because the input matrix "
            f"{reason}."
        )


def _hermitian(A: Tensor, UPLO: Any, vectors: bool) -> tuple[Any, Any]:
    check_square(A, "linalg.eigh")
    check_kernel(A, "linalg_eigh_cpu")
    if str(UPLO).upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    array = look(A)
    values: Any
    found: Any = None
    try:
        if vectors:
            values, found = np.linalg.eigh(array, UPLO)
        else:
            values = np.linalg.eigvalsh(array, UPLO)
    except np.linalg.LinAlgError:
        _complain(array, UPLO)
        raise
    if np.isnan(values).any():
        _complain(array, UPLO)
    return values, found


@with_out
def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """(eigenvalues in rising order, eigenvectors as columns) of Hermitian matrices (.., n, n).

    Float and complex dtypes of 32 bits and more; only the triangle ``UPLO`` is read. Eigenvalues
    are real. Gradients of the vectors exist where the eigenvalues differ. ``LinAlgError`` where A
    holds infinities or NaN.

    >>> eigh(tensor([[2., 0.], [0., 1.]])).eigenvalues
    tensor([1., 2.])
    """
    outs = [on_device(found, A) for found in _hermitian(A, UPLO, True)]
    attach_many(outs, _eigh_rule, (A,))
    return results.LinalgEigh(*outs)


@with_out
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices (.., n, n), of shape (.., n), in rising order."""
    if mode.enabled and A._requires_grad:
        values: Tensor = eigh(A, UPLO)[0]
        return values
    return on_device(_hermitian(A, UPLO, False)[0], A)


# General matrices -------------------------------------------------------------------------------


def _general_gradient(g: Any, out: Any, A: Tensor) -> Any:
    """``V^-H (diag(gL) + (V^H gV - V^H V diag(Re V^H gV)) / conj(L_j - L_i)) V^H``.

    The second product comes of the vectors' length, which is 1.
    """
    gL, gV = g
    L, V = out
    turned = adjoint_of(V)
    if gV is None:
        inner = functions.zeros_like(V) if gL is None else functions.diag_embed(gL)
    else:
        turns = matmul(turned, gV)
        _check_phases(turns, "linalg_eig_backward")
        along = functions.real_part(diagonal_of(turns))
        turns = turns - matmul(turned, V * row(along))
        inner = _without_diagonal(turns / functions.conj(_gaps(L)))
        if gL is not None:
            inner = inner + functions.diag_embed(gL)
    total = unchecked_solve(turned, matmul(inner, turned))
    return (total if dtype_of(A).kind == "c" else functions.real_part(total),)


_eig_rule = Rule("LinalgEigBackward0", _general_gradient, joins_parts=True)


def _general(A: Tensor, function: str) -> np.ndarray:
    check_square(A, function)
    dtype = dtype_of(A)
    if dtype.kind not in "fc":
        raise RuntimeError(f"Unknown Complex ScalarType for {scalar_name(dtype)}")
    check_kernel(A, "linalg_eig_out_cpu")
    array = look(A)
    if not np.isfinite(array).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    return array


@with_out
def eig(A: Tensor) -> Any:
    """(eigenvalues, eigenvectors as columns of length 1) of matrices (.., n, n), both complex.

    Float and complex dtypes of 32 bits and more. The eigenvalues have no certain order.

    >>> eig(tensor([[0., 1.], [-1., 0.]])).eigenvalues.imag.abs()
    tensor([1., 1.])
    """
    kind = dtype_of(A).to_complex().numpy if dtype_of(A).kind in "fc" else None
    found = np.linalg.eig(_general(A, "linalg.eig"))
    outs = [on_device(np.asarray(part, kind), A) for part in found]
    attach_many(outs, _eig_rule, (A,))
    return results.LinalgEig(*outs)


@with_out
def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of matrices (.., n, n), complex, of shape (.., n), in no certain order."""
    if mode.enabled and A._requires_grad:
        _general(A, "linalg.eigvals")
        values: Tensor = eig(A)[0]
        return values
    array = _general(A, "linalg.eigvals")
    return on_device(np.asarray(np.linalg.eigvals(array), dtype_of(A).to_complex().numpy), A)


# A few eigenpairs of a large matrix -------------------------------------------------------------


@public(method=False, out=False)
def lobpcg(
    A: Tensor, k: int | None = None, B: Tensor | None = None, X: Tensor | None = None,
    n: int | None = None, iK: Tensor | None = None, niter: int | None = None,
    tol: float | None = None, largest: bool | None = None, method: str | None = None,
    tracker: Any = None, ortho_iparams: Any = None, ortho_fparams: Any = None,
    ortho_bparams: Any = None,
) -> Any:  # fmt: skip
    """(values, vectors): the ``k`` largest (smallest) eigenpairs of symmetric positive definite A.

    With ``B`` of ``A x = lambda B x``. ``X`` are first guesses, ``iK`` approximates A's inverse,
    ``niter`` and ``tol`` end the iteration (Knyazev, 2001; SciPy's ``lobpcg``). A is real,
    (.., m, m) with m >= 3 k. Has a gradient through a full decomposition where ``B`` is not given.
    """
    shape = tuple(shape_of(A))
    if shape[-1] != shape[-2]:
        raise AssertionError(f"A must be square, got shape {A.shape}")
    count = (1 if X is None else shape_of(X)[-1]) if k is None else k
    if n is not None or X is None:
        start = count if n is None else n
        X = functions.randn(*shape[:-1], start, dtype=dtype_of(A), device=A._device)
    if shape[-1] < 3 * count:
        raise ValueError(
            f"LOBPCG algorithm is not applicable when the number of A rows (={shape[-1]}) is "
            f"smaller than 3 x the number of requested eigenpairs (={count})"
        )
    values, vectors = _iterated(A, count, B, X, iK, niter, tol, largest is None or largest)
    outs = (on_device(values, A), on_device(vectors, A))
    if mode.enabled and A._requires_grad:
        if B is not None:
            raise ValueError("lobpcg.backward: `B` != I is not supported: call it without grad")
        attach_many(outs, _lobpcg_rule, (A,), (largest is None or largest,))
    return outs


def _iterated(
    A: Tensor, count: int, B: Any, X: Tensor, iK: Any, niter: Any, tol: Any, largest: bool
) -> tuple[np.ndarray, np.ndarray]:
    """SciPy's iteration on each matrix of a batch."""
    from scipy.sparse.linalg import lobpcg as iterate

    array, guesses = look(A), look(X)
    others = [None if other is None else np.broadcast_to(look(other), array.shape)
              for other in (B, iK)]  # fmt: skip
    bound = tol if tol is not None else float(np.finfo(array.dtype).eps) ** 0.5
    batch = array.shape[:-2]
    values = np.empty((*batch, count), array.dtype)
    vectors = np.empty((*batch, array.shape[-1], count), array.dtype)
    guesses = np.broadcast_to(guesses, (*batch, *guesses.shape[-2:]))
    for where in np.ndindex(*batch):
        metric, inverse = (None if other is None else other[where] for other in others)
        found, basis = iterate(
            array[where], guesses[where].copy(), B=metric, M=inverse, tol=bound,
            maxiter=1000 if niter is None or niter < 0 else niter, largest=largest,
        )  # fmt: skip
        values[where], vectors[where] = found[:count], basis[:, :count]
    return values, vectors


def _lobpcg_gradient(g: Any, out: Any, A: Tensor, *, attrs: Any) -> Any:
    """That of Hermitian matrices, where the pairs not sought come from a full decomposition."""
    gL, gV = g
    L, V = out
    count, size = shape_of(V)[-1], shape_of(A)[-1]
    total: Any = 0
    if gL is not None:
        total = matmul(V * row(gL), adjoint_of(V))
    if gV is not None:
        values, vectors = eigh(A)
        rest = (0 if attrs[0] else count, size - count)
        values, vectors = functions.narrow(values, -1, *rest), functions.narrow(vectors, -1, *rest)
        among = _without_diagonal(matmul(adjoint_of(V), gV) / _gaps(L))
        beside = matmul(adjoint_of(vectors), gV) / (row(L) - column(values))
        turns = matmul(matmul(V, among) + matmul(vectors, beside), adjoint_of(V))
        total = total + 0.5 * (turns + adjoint_of(turns))
    return (total,)


_lobpcg_rule = Rule("LOBPCGAutogradFunctionBackward", _lobpcg_gradient, joins_parts=True)
