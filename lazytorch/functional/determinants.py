"""Determinants and their logarithms.

Gradients: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008. The determinant's own is its adjugate, which exists for singular matrices.
"""

from __future__ import annotations

from typing import Any

from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, attach_many, label
from lazytorch.functional import lapack, results
from lazytorch.functional.complex import joined
from lazytorch.functional.equations import unchecked_inverse
from lazytorch.functional.host import call_host
from lazytorch.functional.linalg import matmul
from lazytorch.functional.matrices import (
    adjoint_of,
    check_floating,
    check_square,
    column,
    identity,
    look,
    on_device,
    row,
)
from lazytorch.functional.singular_values import linalg_svd
from lazytorch.tensor.attach import functions, public, with_out
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _spread(factor: Tensor) -> Tensor:
    return column(column(factor))


def _differentiable_adjugate(A: Tensor, determinant: Tensor) -> Tensor:
    """The conjugate transpose of the adjugate in terms of functions with gradients."""
    if look(determinant != 0).all():
        return _spread(functions.conj(determinant)) * adjoint_of(unchecked_inverse(A))
    U, S, Vh = linalg_svd(A)
    size = shape_of(S)[-1]
    one = identity(S, size)
    others = functions.prod(row(S) * (1 - one) + one, -1)
    turn = functions.conj(det(matmul(U, Vh)))
    return _spread(turn) * matmul(U * row(others), Vh)


def _det_gradient(g: Tensor, out: Tensor, A: Tensor) -> Tensor:
    if mode.enabled:
        return _spread(g) * _differentiable_adjugate(A, out)
    adjugate = call_host(
        "lapack.adjugate_adjoint", lapack.adjugate_adjoint, shape_of(A), dtype_of(A), A
    )
    return _spread(g) * adjugate


_det_rule = Rule("LinalgDetBackward0", _det_gradient, joins_parts=True)


@public()
def det(input: Tensor) -> Tensor:
    """The determinant of each matrix of a batch (.., n, n), of shape (..); 1 of empty matrices.

    Float and complex dtypes of 32 bits and more.

    >>> det(tensor([[1., 2.], [3., 4.]]))
    tensor(-2.0000)
    """
    check_square(input, "linalg.det")
    check_floating(input, "linalg.det", "lu_cpu")
    shape = tuple(shape_of(input)[:-2])
    out = call_host("lapack.determinant", lapack.determinant, shape, dtype_of(input), input)
    return attach(out, _det_rule, (input,))


@with_out
def linalg_det(A: Tensor) -> Tensor:
    """The determinant of each matrix of a batch (.., n, n), of shape (..); 1 of empty matrices."""
    return det(A)


def _slogdet_gradient(g: Any, out: Any, A: Tensor) -> Any:
    """With t = tr(A^-1 dA), the logarithm changes by Re t and the sign by i Im t times itself."""
    weight = g[1]
    if dtype_of(A).kind == "c" and g[0] is not None:
        turn = -functions.imaginary_part(functions.conj(g[0]) * out[0])
        weight = joined(functions.zeros_like(turn) if weight is None else weight, turn)
    if weight is None:
        return (functions.zeros_like(A),)
    return (_spread(weight) * adjoint_of(unchecked_inverse(A)),)


_slogdet_rule = Rule("LinalgSlogdetBackward0", _slogdet_gradient, joins_parts=True)


def _sign_and_log(A: Tensor, function: str) -> tuple[Tensor, Tensor]:
    check_square(A, function)
    check_floating(A, function)
    sign, size = (on_device(found, A) for found in lapack.sign_and_log(look(A)))
    attach_many((sign, size), _slogdet_rule, (A,))
    return sign, size


@with_out
def linalg_slogdet(A: Tensor) -> Any:
    """(sign, logarithm of the absolute value) of determinants; 0 and -inf of singular matrices."""
    return results.LinalgSlogdet(*_sign_and_log(A, "linalg.slogdet"))


@public()
def slogdet(input: Tensor) -> Any:
    """The same as :func:`linalg.slogdet`."""
    return results.Slogdet(*_sign_and_log(input, "linalg.slogdet"))


@public()
def logdet(input: Tensor) -> Tensor:
    """The logarithm of determinants; NaN of negative ones, -inf of 0."""
    sign, size = _sign_and_log(input, "logdet")
    if dtype_of(input).kind == "c":
        return size + functions.log(sign)
    return label(functions.where(sign == -1, float("nan"), size), "LogdetBackward0")
