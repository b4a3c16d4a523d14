"""The operators of Tensor: ``+``, ``==``, ``+=`` and the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.functional import elementwise
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

_NUMBERS = (Tensor, bool, int, float, np.number, np.bool_, np.ndarray)


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def operate(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    return operate


def _tolerant(function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Any]:
    """Comparisons with what is no number are answered by Python itself."""

    def operate(self: Tensor, other: Any) -> Any:
        if not isinstance(other, _NUMBERS):
            return NotImplemented
        return function(self, other)

    return operate


def _changing(function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    def operate(self: Tensor, other: Any) -> Tensor:
        result: Tensor = functions.assign_result(self, function(functions.snapshot(self), other))
        return result

    return operate


def install() -> None:
    """Give Tensor its operators."""
    plain: Any = elementwise
    members: Any = Tensor
    table: dict[str, Any] = {
        "add": plain.plain_add, "sub": plain.plain_sub, "mul": plain.plain_mul,
        "truediv": plain.plain_div, "floordiv": plain.floor_divide, "mod": plain.remainder,
        "pow": plain.pow, "and": plain.bitwise_and, "or": plain.bitwise_or,
        "xor": plain.bitwise_xor, "lshift": plain.bitwise_left_shift,
        "rshift": plain.bitwise_right_shift,
    }  # fmt: skip
    for name, function in table.items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", _reflected(function))
        setattr(Tensor, f"__i{name}__", _changing(function))
    members.__rsub__ = plain.rsub
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(Tensor, f"__{name}__", _tolerant(getattr(plain, f"plain_{name}")))
    members.__neg__ = plain.neg
    members.__pos__ = lambda self: self
    members.__abs__ = plain.abs
    members.__invert__ = plain.bitwise_not


install()
