"""Which dtype an operation computes in: PyTorch's rules for tensors, 0-d tensors and numbers.

Operands fall into three ranks: tensors with dimensions, 0-d tensors, Python numbers. A lower
rank changes the result only when its category (bool < integer < floating point < complex) is
higher than that of every higher rank.
"""

from __future__ import annotations

import threading
from typing import Any

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


class _Defaults(threading.local):
    dtype = dtypes.float32


_defaults = _Defaults()


def get_default_dtype() -> DType:
    """The floating-point dtype of new tensors made from Python numbers."""
    return _defaults.dtype


def set_default_dtype(dtype: DType) -> None:
    """Make a floating-point dtype the default; ``TypeError`` for another."""
    if not isinstance(dtype, DType) or dtype.kind != "f":
        raise TypeError(
            f"only floating-point types are supported as the default type, but got {dtype!r}"
        )
    # A class attribute is what threads without a setting of their own see.
    _Defaults.dtype = dtype
    _defaults.dtype = dtype


def number_dtype(value: Any) -> DType:
    """The dtype that a Python number stands for.

    >>> number_dtype(1.5)
    torch.float32
    """
    if isinstance(value, bool):
        return dtypes.bool_
    if isinstance(value, int):
        return dtypes.int64
    if isinstance(value, float):
        return _defaults.dtype
    if isinstance(value, complex):
        return _defaults.dtype.to_complex()
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return number_dtype(value.item())
    raise TypeError(f"expected a number or a Tensor, but got {type(value).__name__}")


def result_type(*operands: Any) -> DType:
    """The dtype in which PyTorch combines tensors and numbers.

    >>> result_type(1, 2.5)
    torch.float32
    """
    ranks: list[DType | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, Tensor):
            rank = 0 if shape_of(operand) else 1
            dtype = dtype_of(operand)
        elif isinstance(operand, DType):
            rank, dtype = 0, operand
        else:
            rank, dtype = 2, number_dtype(operand)
        known = ranks[rank]
        ranks[rank] = dtype if known is None else dtypes.promote(known, dtype)
    return _combine_ranks(ranks)


def _combine_ranks(ranks: list[DType | None]) -> DType:
    result = ranks[0]
    for dtype in ranks[1:]:
        if dtype is None:
            continue
        if result is None or _CATEGORY[dtype.kind] > _CATEGORY[result.kind]:
            # A complex number beside float64 keeps float64's precision.
            floating = result is not None and result.kind == "f"
            result = result.to_complex() if floating and result is not None else dtype
    if result is None:
        raise ValueError("result_type expects at least one operand")
    return result


def promote_types(first: DType, second: DType) -> DType:
    """The smallest dtype to which both convert."""
    return dtypes.promote(first, second)


def can_cast(source: DType, target: DType) -> bool:
    """Whether a result of dtype ``source`` may be stored in ``target``."""
    return _CATEGORY[source.kind] <= _CATEGORY[target.kind]


_NAMES = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
    "int64": "Long", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float",
    "float64": "Double", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
    "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def scalar_name(dtype: DType) -> str:
    """The name PyTorch's error messages use (``Float`` for float32)."""
    return _NAMES[dtype.name]


def check_storable(source: DType, target: DType) -> None:
    """Raise ``RuntimeError`` when an in-place result does not fit its target's category."""
    if not can_cast(source, target):
        raise RuntimeError(
            f"result type {scalar_name(source)} can't be cast to the desired output type "
            f"{scalar_name(target)}"
        )
