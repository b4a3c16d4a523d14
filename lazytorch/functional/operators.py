"""The operators of Tensor: ``+``, ``==``, ``+=`` and the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.autograd.tape import named
from lazytorch.functional import elementwise, unary
from lazytorch.ops import elementwise as ops
from lazytorch.tensor.apply import binary, unless_foreign
from lazytorch.tensor.attach import functions
from lazytorch.tensor.autocast import cast_method
from lazytorch.tensor.tensor import Tensor


def _reflected(
    function: Callable[[Any, Any], Any], name: str = "__rtruediv__"
) -> Callable[[Tensor, Any], Any]:
    def operate(self: Tensor, other: Any) -> Any:
        if not isinstance(self, Tensor):
            raise TypeError(
                f"descriptor '{name}' for 'Tensor' objects doesn't apply to a "
                f"'{type(self).__name__}' object"
            )
        return function(other, self)

    return operate


def _changing(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    """``a += b``: NotImplemented where the operator is, and then Python tries ``a = a + b``."""

    def operate(self: Tensor, other: Any) -> Any:
        value = function(functions.snapshot(self), other)
        return value if value is NotImplemented else functions.assign_result(self, value)

    return operate


# PyTorch multiplies with the reciprocal, and its gradients are named after that.
_reciprocal_rule = named(ops.DIV, "MulBackward0")
_divide = _reflected(binary(ops.DIV, _reciprocal_rule, floating=True, operator=True))


def _divided_by(self: Tensor, other: Any) -> Any:
    """``other / self``; with an array of NumPy's, its product with the reciprocal."""
    if isinstance(other, np.ndarray):
        return elementwise.reciprocal(self) * other
    return _divide(self, other)


def _times_matrix(self: Tensor, other: Any) -> Any:
    """``other @ self``; NotImplemented for a number, as of PyTorch's operator."""
    return functions.matmul(other, self) if isinstance(other, Tensor) else NotImplemented


def _equality(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    """``==`` compares with the elements of an array of NumPy's too; ``!=`` does not."""
    compare = unless_foreign(function)

    def operate(self: Tensor, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = functions.as_tensor(other, device=self._device)
        return compare(self, other)

    return operate


def install() -> None:
    """Give Tensor its operators."""
    plain: Any = elementwise
    members: Any = Tensor
    table: dict[str, Any] = {
        "add": plain.operator_add, "sub": plain.operator_sub, "mul": plain.operator_mul,
        "truediv": plain.operator_div,
    }
    for name, function in (
        ("floordiv", plain.floor_divide), ("mod", plain.remainder), ("pow", plain.pow),
        ("and", plain.bitwise_and), ("or", plain.bitwise_or), ("xor", plain.bitwise_xor),
        ("lshift", plain.bitwise_left_shift), ("rshift", plain.bitwise_right_shift),
    ):  # fmt: skip
        table[name] = unless_foreign(function)
    for name, function in table.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", _reflected(function, f"__r{name}__"))
        setattr(Tensor, f"__i{name}__", _changing(function))
    cast_method("__pow__", "pow")
    cast_method("__rpow__", "pow")
    members.__rsub__ = unless_foreign(plain.rsub)
    members.__rtruediv__ = _divided_by
    members.__rdiv__ = _divide
    members.__rmatmul__ = _times_matrix
    members.__eq__ = _equality(plain.plain_eq)
    for name in ("ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", unless_foreign(getattr(plain, f"plain_{name}")))
    members.__neg__ = unary.neg
    members.__pos__ = lambda self: self
    members.__abs__ = unary.abs
    members.__invert__ = plain.bitwise_not


install()
