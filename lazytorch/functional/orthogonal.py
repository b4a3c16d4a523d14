"""QR factors and products of Householder reflections.

The gradient of QR is that of Walter and Lehmann, "Algorithmic differentiation of linear algebra
functions with application in optimum experimental design", 2012, for wide matrices Roberts and
Roberts, "QR and LQ decomposition matrix backpropagation algorithms", 2020. Reflections are
multiplied all at once in the form ``1 - V T V^H`` (Joffrain et al., "Accumulating Householder
transformations, revisited", 2006), made of functions that have gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach_many, label
from lazytorch.functional import lapack, results
from lazytorch.functional.equations import substitute
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    broadcast_batches,
    check_floating,
    check_matrix,
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

# QR ---------------------------------------------------------------------------------------------


def _joined_triangle(A: Tensor) -> Tensor:
    """``X + X^H`` for the upper triangle X of A, with the real part of its diagonal once."""
    upper = functions.triu(A)
    both = upper + adjoint_of(upper)
    return both - 0.5 * functions.diag_embed(diagonal_of(both))  # type: ignore[no-any-return]


def _tall_gradient(Q: Tensor, R: Tensor, gQ: Tensor | None, gR: Tensor | None) -> Tensor:
    """Where R is square: ``(gQ + Q sym(gR R^H - Q^H gQ)) R^-H``."""
    inner = None
    if gR is not None:
        inner = matmul(gR, adjoint_of(R))
    if gQ is not None:
        turned = matmul(adjoint_of(Q), gQ)
        inner = -turned if inner is None else inner - turned
    assert inner is not None
    total = matmul(Q, _joined_triangle(inner))
    if gQ is not None:
        total = total + gQ
    return adjoint_of(substitute(R, adjoint_of(total), True))


def _qr_gradient(g: Any, out: Any, A: Tensor, *, attrs: Any) -> Any:
    gQ, gR = g
    mode = attrs[0]
    rows, columns = shape_of(A)[-2:]
    if mode == "r":
        raise RuntimeError(
            "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please "
            "use linalg.qr(A, mode='reduced') if you are going to require gradients through "
            "linalg.qr."
        )
    if mode == "complete" and rows > columns:
        raise RuntimeError(
            "The QR decomposition is not differentiable when mode='complete' and nrows > ncols."
        )
    Q, R = out
    if gQ is None and gR is None:
        return (functions.zeros_like(A),)
    if rows >= columns:
        return (_tall_gradient(Q, R, gQ, gR),)
    # A = [X Y] and R = [U W] with X = Q U, W = Q^H Y: W's gradient is Y's and a part of Q's.
    rest = columns - rows
    if gR is None:
        g_square, g_rest = None, None
    else:
        g_square = functions.narrow(gR, -1, 0, rows)
        g_rest = functions.narrow(gR, -1, rows, rest)
        through = matmul(functions.narrow(A, -1, rows, rest), adjoint_of(g_rest))
        gQ = through if gQ is None else gQ + through
    first = _tall_gradient(Q, functions.narrow(R, -1, 0, rows), gQ, g_square)
    second = functions.narrow(A, -1, rows, rest) * 0 if g_rest is None else matmul(Q, g_rest)
    return (functions.cat((first, second), -1),)


_qr_rule = Rule("LinalgQrBackward0", _qr_gradient, joins_parts=True)


def _qr(A: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    check_matrix(A, "linalg.qr")
    check_floating(A, "linalg.qr", "geqrf_cpu")
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', "
            "or 'complete'"
        )
    array = look(A)
    Q: Any
    R: Any
    if mode == "r":
        Q, R = np.zeros(0, array.dtype), np.linalg.qr(array, mode="r")
    elif mode == "complete":
        Q, R = np.linalg.qr(array, mode="complete")
    else:
        Q, R = np.linalg.qr(array)
    outs = (on_device(Q, A), on_device(R, A))
    attach_many(outs, _qr_rule, (A,), (mode,), None, (mode != "r", True))
    return outs


@with_out
def linalg_qr(A: Tensor, mode: str = "reduced") -> Any:
    """(Q, R) with ``A = Q R``: orthonormal columns and an upper triangular matrix.

    A (.., m, n) of a float or complex dtype of 32 bits and more. With k = min(m, n) 'reduced' gives
    Q (.., m, k) and R (.., k, n), 'complete' Q (.., m, m) and R (.., m, n), 'r' an empty Q.

    >>> linalg_qr(tensor([[0., 2.], [1., 0.]])).R.abs()
    tensor([[1., 0.],
            [0., 2.]])
    """
    return results.LinalgQr(*_qr(A, mode))


@public()
def qr(input: Tensor, some: bool = True) -> Any:
    """The older form of :func:`linalg.qr`: reduced where ``some``, else complete."""
    return results.Qr(*_qr(input, "reduced" if some else "complete"))


@public()
def geqrf(input: Tensor) -> Any:
    """(a, tau): R above, the vectors of Householder reflections below a's diagonal, and their
    factors, as LAPACK has them. See :func:`linalg.householder_product`."""
    if len(shape_of(input)) < 2:
        raise RuntimeError("torch.geqrf: input must have at least 2 dimensions.")
    check_floating(input, "torch.geqrf", "geqrf_cpu")
    return results.Geqrf(*(on_device(found, input) for found in lapack.householder(look(input))))


# Products of reflections ------------------------------------------------------------------------


def _reflected(packed: Tensor, tau: Tensor, other: Tensor, adjoint: bool) -> Tensor:
    """``Q other`` or ``Q^H other`` for the product Q of all reflections, a square matrix.

    Q = 1 - V T V^H with ``T = diag(tau) (1 + striu(V^H V) diag(tau))^-1``.
    """
    rows, count = shape_of(packed)[-2], shape_of(tau)[-1]
    vectors = functions.tril(functions.narrow(packed, -1, 0, count), -1)
    vectors = vectors + identity(packed, rows, count)
    overlaps = functions.triu(matmul(adjoint_of(vectors), vectors), 1) * row(tau)
    right = matmul(adjoint_of(vectors), other)
    if adjoint:
        scaled = functions.conj(functions.unsqueeze(tau, -1)) * right
        system, scaled = broadcast_batches(adjoint_of(overlaps), scaled)
        inner = substitute(system, scaled, False, True)
    else:
        system, right = broadcast_batches(overlaps, right)
        inner = functions.unsqueeze(tau, -1) * substitute(system, right, True, True)
    return other - matmul(vectors, inner)


def _check_reflections(input: Tensor, tau: Tensor, function: str) -> None:
    if len(shape_of(input)) < 2:
        raise RuntimeError(f"{function}: input must have at least 2 dimensions.")
    if len(shape_of(input)) - len(shape_of(tau)) != 1:
        raise RuntimeError(
            f"{function}: Expected tau to have one dimension less than input, but got tau.ndim "
            f"equal to {len(shape_of(tau))} and input.ndim is equal to {len(shape_of(input))}"
        )
    if shape_of(input)[:-2] != shape_of(tau)[:-1]:
        raise RuntimeError(
            f"{function}: Expected batch dimensions of tau to be equal to input.shape[:-2], but "
            f"got {list(shape_of(tau)[:-1])}"
        )
    if dtype_of(tau) is not dtype_of(input):
        raise RuntimeError(
            f"{function}: tau dtype {scalar_name(dtype_of(tau))} does not match input dtype "
            f"{scalar_name(dtype_of(input))}"
        )


def _householder_product(input: Tensor, tau: Tensor) -> Tensor:
    name = "torch.linalg.householder_product"
    if len(shape_of(input)) < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    rows, columns = shape_of(input)[-2:]
    if rows < columns:
        raise RuntimeError(
            f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    if shape_of(tau) and columns < shape_of(tau)[-1]:
        raise RuntimeError(
            f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    _check_reflections(input, tau, name)
    check_floating(input, name, "orgqr_cpu")
    start = functions.broadcast_to(identity(input, rows, columns), shape_of(input))
    return label(_reflected(input, tau, start, False), "LinalgHouseholderProductBackward0")


@with_out
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of ``H_1 H_2 .. H_k``, where ``H_i = 1 - tau_i v_i v_i^H``.

    A (.., m, n) holds below its diagonal the vectors, whose first element is 1; tau (.., k) with
    k <= n.
    """
    return _householder_product(A, tau)


@public()
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """The same as :func:`linalg.householder_product`."""
    return _householder_product(input, input2)


@public()
def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """``Q other`` (``other Q`` where not ``left``), Q the product of all reflections of ``input``.

    ``transpose`` takes Q's conjugate transpose. input (.., m, n), tau (.., k).
    """
    name = "torch.ormqr"
    for argument, tensor in (("input", input), ("other", other)):
        if len(shape_of(tensor)) < 2:
            raise RuntimeError(f"{name}: {argument} must have at least 2 dimensions.")
    side = -2 if left else -1
    size, rows = shape_of(other)[side], shape_of(input)[-2]
    if size != rows:
        raise RuntimeError(f"{name}: other.shape[{side}] must be equal to input.shape[-2]")
    if shape_of(tau) and shape_of(tau)[-1] > shape_of(input)[-1]:
        raise RuntimeError(
            f"{name}: tau.shape[-1] must be equal to min(other.shape[{side}], input.shape[-1])"
        )
    _check_reflections(input, tau, name)
    if dtype_of(other) is not dtype_of(input):
        raise RuntimeError(
            f"{name}: Expected input and other to have the same dtype, but got input's dtype "
            f"{scalar_name(dtype_of(input))} and other's dtype {scalar_name(dtype_of(other))}"
        )
    check_floating(input, name, "ormqr_cpu")
    if left:
        out = _reflected(input, tau, other, transpose)
    else:
        # X Q = (Q^H X^H)^H
        out = adjoint_of(_reflected(input, tau, adjoint_of(other), not transpose))
    return label(out, "OrmqrBackward0")
