"""Element types: their NumPy and OpenCL names, and PyTorch's promotion rules.

A :class:`DType` prints as in PyTorch (``torch.float32``), because programs compare that text.
bfloat16 has no NumPy type of its own; ``ml_dtypes`` supplies it.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


class DType:
    """The type of a tensor's elements.

    ``kind`` is 'b' (bool), 'u' or 'i' (integers), 'f' (floating point), 'c'
    (complex: two floating-point numbers side by side). ``compute`` is the type
    in which kernels do arithmetic: float16 and bfloat16 are computed in float32 and rounded
    after each operation, as PyTorch does on a CPU.
    """

    __slots__ = ("_rank", "c_name", "itemsize", "kind", "name", "numpy")
    __module__, __qualname__ = "torch", "dtype"  # What its class prints as.

    def __init__(
        self, name: str = "", kind: str = "", numpy_type: Any = None, c_name: str = "",
        rank: int = 0,
    ) -> None:  # fmt: skip
        if not name:
            raise TypeError("cannot create 'torch.dtype' instances")
        self.name = name
        self.kind = kind
        self.numpy = np.dtype(numpy_type)
        self.itemsize = self.numpy.itemsize
        self.c_name = c_name
        self._rank = rank

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_signed(self) -> bool:
        return self.kind in "ifc"

    @property
    def real(self) -> DType:
        """The type of the real and the imaginary part; a real type itself."""
        return _PARTS.get(self, self)

    def to_real(self) -> DType:
        """The real type of the same precision."""
        return self.real

    def to_complex(self) -> DType:
        """The complex type of the same precision; ``RuntimeError`` for integers and bools."""
        if self.kind == "c":
            return self
        if self.kind != "f":
            raise RuntimeError(f"Unknown Complex ScalarType for {self!r}")
        return complex128 if self is float64 else complex64

    @property
    def compute(self) -> DType:
        return float32 if self in (float16, bfloat16) else self

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (by_name, (self.name,))


bool_ = DType("bool", "b", np.bool_, "uchar", 0)
uint8 = DType("uint8", "u", np.uint8, "uchar", 1)
int8 = DType("int8", "i", np.int8, "char", 2)
int16 = DType("int16", "i", np.int16, "short", 3)
int32 = DType("int32", "i", np.int32, "int", 4)
int64 = DType("int64", "i", np.int64, "long", 5)
float16 = DType("float16", "f", np.float16, "half", 6)
bfloat16 = DType("bfloat16", "f", ml_dtypes.bfloat16, "ushort", 7)
float32 = DType("float32", "f", np.float32, "float", 8)
float64 = DType("float64", "f", np.float64, "double", 9)
uint32 = DType("uint32", "u", np.uint32, "uint", 4)
uint64 = DType("uint64", "u", np.uint64, "ulong", 5)
uint16 = DType("uint16", "u", np.uint16, "ushort", 3)
complex64 = DType("complex64", "c", np.complex64, "float2", 10)
complex128 = DType("complex128", "c", np.complex128, "double2", 11)
_PARTS = {complex64: float32, complex128: float64}

ALL = (
    bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64,
    uint16, uint32, uint64, complex64, complex128,
)  # fmt: skip
_BY_NAME = {dtype.name: dtype for dtype in ALL}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL}


def by_name(name: str) -> DType:
    """The dtype called ``name``; ``KeyError`` when there is none."""
    return _BY_NAME[name]


def from_numpy(numpy_type: Any) -> DType:
    """The dtype of a NumPy array's elements; ``TypeError`` when PyTorch has none."""
    dtype = _BY_NUMPY.get(np.dtype(numpy_type).newbyteorder("="))
    if dtype is None:
        kind = np.dtype(numpy_type).type
        raise TypeError(
            f"can't convert np.ndarray of type {kind.__module__}.{kind.__name__}. The only "
            "supported types are: float64, float32, float16, complex64, complex128, int64, int32, "
            "int16, int8, uint64, uint32, uint16, uint8, and bool."
        )
    return dtype


_SIGNED_ABOVE_UINT8 = {1: int16, 2: int16}


def promote(first: DType, second: DType) -> DType:
    """The type in which PyTorch combines two tensors of the same category.

    >>> promote(uint8, int8)
    torch.int16
    >>> promote(float16, bfloat16)
    torch.float32
    """
    if first is second:
        return first
    if first.kind == "c" or second.kind == "c":
        return complex128 if {first, second} & {float64, complex128} else complex64
    if first.kind == "f" or second.kind == "f":
        if first.kind != "f":
            return second
        if second.kind != "f":
            return first
        if {first, second} == {float16, bfloat16}:
            return float32
        return first if first._rank > second._rank else second
    if first is bool_:
        return second
    if second is bool_:
        return first
    if first is uint8 or second is uint8:
        other = second if first is uint8 else first
        return int16 if other is int8 else other
    if {first.kind, second.kind} == {"u", "i"}:
        raise RuntimeError(
            "Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
            f"{first!r} and {second!r}; convert one of them first"
        )
    return first if first._rank > second._rank else second
