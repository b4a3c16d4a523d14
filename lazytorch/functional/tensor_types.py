"""torch.FloatTensor and its like: classes of tensors of one dtype, for the programs that use them.

No object is made of these classes: calling one gives a Tensor, and a Tensor of the dtype is an
instance of it.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.tensor import formats
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.creation import of_type
from lazytorch.tensor.promotion import set_default_dtype
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor

_NAMES = {
    "float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor",
    "bfloat16": "BFloat16Tensor", "int64": "LongTensor", "int32": "IntTensor",
    "int16": "ShortTensor", "int8": "CharTensor", "uint8": "ByteTensor", "bool": "BoolTensor",
    "complex64": "ComplexFloatTensor", "complex128": "ComplexDoubleTensor",
    "uint16": "UInt16Tensor", "uint32": "UInt32Tensor", "uint64": "UInt64Tensor",
}  # fmt: skip


class TensorType(type):
    """The class of ``torch.FloatTensor``: ``isinstance`` asks for the dtype."""

    dtype: DType
    layout = formats.strided
    is_cuda = False
    is_sparse = False

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> TensorType:
        if bases:
            raise TypeError(f"type 'torch.{bases[0].__name__}' is not an acceptable base type")
        return super().__new__(cls, name, bases, body)

    def __call__(cls, *args: Any, **options: Any) -> Tensor:
        return of_type(cls.dtype, *args, **options)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and dtype_of(instance) is cls.dtype

    def __repr__(cls) -> str:
        return f"<class 'torch.{cls.__name__}'>"


_TYPES = {
    dtypes.by_name(dtype): TensorType(name, (), {"dtype": dtypes.by_name(dtype)})
    for dtype, name in _NAMES.items()
}
_BY_NAME = {f"torch.{kind.__name__}": kind for kind in _TYPES.values()}


@public("type", function=False)
def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's type, or the tensor as another type.

    ``dtype`` is a dtype, a class such as ``torch.LongTensor``, or the name of one.
    """
    if dtype is None:
        return f"torch.{_NAMES[dtype_of(self).name]}"
    if isinstance(dtype, str):
        if dtype not in _BY_NAME:
            raise ValueError(f"invalid type: '{dtype}'")
        dtype = _BY_NAME[dtype]
    if isinstance(dtype, TensorType):
        dtype = dtype.dtype
    if not isinstance(dtype, DType):
        raise TypeError(f"dtype must be a type, str, or dtype object, but got {dtype!r}")
    return cast(self, dtype)


@public(function=False)
def new(self: Tensor, *args: Any, **options: Any) -> Tensor:
    """A tensor of this one's dtype: uninitialised of the given extents, or of the given data."""
    options.setdefault("device", self._device)
    return of_type(dtype_of(self), *args, **options)


def set_default_tensor_type(t: Any) -> None:
    """Make the dtype of a class of tensors (or of the name of one) the default dtype.

    Deprecated in PyTorch in favour of ``set_default_dtype`` and ``set_default_device``. Raises
    ``TypeError`` for what is no floating-point type.
    """
    kind = _BY_NAME.get(t) if isinstance(t, str) else t
    if not isinstance(kind, TensorType):
        raise TypeError(f"invalid type object: expected torch.FloatTensor or its like, got {t!r}")
    if kind.dtype.kind != "f":
        raise TypeError("only floating-point types are supported as the default type")
    _warn_of_deprecation()
    set_default_dtype(kind.dtype)


@functools.cache
def _warn_of_deprecation() -> None:
    warnings.warn(
        "torch.set_default_tensor_type() is deprecated as of PyTorch 2.1, please use "
        "torch.set_default_dtype() and torch.set_default_device() as alternatives.",
        UserWarning,
        stacklevel=3,
    )


for _kind in _TYPES.values():
    if not _kind.__name__.startswith(("Complex", "UInt")):
        setattr(functions, _kind.__name__, _kind)
functions.set_default_tensor_type = set_default_tensor_type
