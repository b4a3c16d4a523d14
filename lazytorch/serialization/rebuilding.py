"""What a file may name, and what stands behind each name: functions of this module.

They make plain data and tensors of arguments that they check. Nothing else can be called by a
file; knows nothing about opcodes or archives.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError
from lazytorch.nn.parameter import Parameter
from lazytorch.serialization.layout import STORAGE_CLASSES, UNTYPED
from lazytorch.tensor.size import Size
from lazytorch.tensor.tensor import Tensor


class MakeTensor(Protocol):
    """Builds a tensor from a storage; its bounds are checked there."""

    def __call__(
        self,
        reference: StorageReference,
        dtype: DType,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Tensor: ...


class StorageReference:
    """A storage as the pickle names it."""

    __slots__ = ("dtype", "elements", "itemsize", "key", "location")

    def __init__(self, dtype: DType | None, key: str, location: str, elements: int) -> None:
        self.dtype = dtype
        self.itemsize = 1 if dtype is None else dtype.itemsize
        self.key = key
        self.location = location
        self.elements = elements


class StorageClass:
    """Stands for a storage class of PyTorch; ``dtype`` is None for plain bytes."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: DType | None) -> None:
        self.dtype = dtype


class Call:
    """Stands for one of the few functions that a file may name."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class TensorClass:
    """Stands for Tensor or Parameter as an argument."""


STAND_INS = (Call, StorageClass, TensorClass, StorageReference)


def known_names(make_tensor: MakeTensor) -> dict[tuple[str, str], Any]:
    """What a file may name, by module and name."""
    rebuild = _TensorRebuilding(make_tensor)
    table: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): Call(_ordered_dict),
        ("collections", "Counter"): Call(_counter),
        ("_codecs", "encode"): Call(_latin1_bytes),
        ("torch", "Size"): Call(_size),
        ("torch", "device"): Call(_device),
        ("torch", "Tensor"): TensorClass(),
        ("torch.nn.parameter", "Parameter"): TensorClass(),
        ("torch._utils", "_rebuild_tensor"): Call(rebuild.typed),
        ("torch._utils", "_rebuild_tensor_v2"): Call(rebuild.typed),
        ("torch._utils", "_rebuild_tensor_v3"): Call(rebuild.untyped),
        ("torch._utils", "_rebuild_parameter"): Call(_rebuild_parameter),
        ("torch._utils", "_rebuild_parameter_with_state"): Call(_rebuild_parameter),
        ("torch._tensor", "_rebuild_from_type_v2"): Call(_rebuild_from_type),
        ("torch.storage", UNTYPED): StorageClass(None),
    }
    for builtins in ("builtins", "__builtin__"):
        table[builtins, "set"] = Call(_set)
        table[builtins, "complex"] = Call(_complex)
        table[builtins, "bytearray"] = Call(_bytearray)
    for dtype in dtypes.ALL:
        table["torch", dtype.name] = dtype
    for name, dtype in STORAGE_CLASSES.items():
        table["torch", name] = StorageClass(dtype)
    return table


def size_of(value: Any) -> int:
    """Bytes of memory a called function's result takes, for the reader's budget.

    A tensor's own elements are bytes of the file; what is counted is the object over them.
    """
    return TENSOR_BYTES if isinstance(value, Tensor) else sys.getsizeof(value)


# A view of a storage, its geometry and its gradient state, measured.
TENSOR_BYTES = 640


# Tensors --------------------------------------------------------------------------------------


class _TensorRebuilding:
    def __init__(self, make_tensor: MakeTensor) -> None:
        self._make_tensor = make_tensor

    def typed(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        requires_grad: Any = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Tensor:
        """A tensor whose storage says its dtype."""
        if not isinstance(storage, StorageReference) or storage.dtype is None:
            raise CheckpointError("a tensor in the file has no storage of a known dtype")
        made = self._tensor(storage, storage.dtype, offset, shape, strides)
        return _with_state(made, requires_grad, metadata)

    def untyped(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        requires_grad: Any,
        hooks: Any,
        dtype: Any,
        metadata: Any = None,
    ) -> Tensor:
        """A tensor over bytes, with its dtype beside them."""
        if not isinstance(storage, StorageReference) or not isinstance(dtype, DType):
            raise CheckpointError("a tensor in the file has no storage of a known dtype")
        made = self._tensor(storage, dtype, offset, shape, strides)
        return _with_state(made, requires_grad, metadata)

    def _tensor(
        self, storage: StorageReference, dtype: DType, offset: Any, shape: Any, strides: Any
    ) -> Tensor:
        for what in (shape, strides):
            if not isinstance(what, tuple) or not all(_is_extent(entry) for entry in what):
                raise CheckpointError(f"a tensor in the file has the shape or strides {what!r}")
        if len(shape) != len(strides) or len(shape) > 64 or not _is_extent(offset):
            raise CheckpointError("a tensor in the file has strides or an offset that cannot be")
        return self._make_tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _is_extent(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _with_state(tensor: Any, requires_grad: Any, metadata: Any) -> Any:
    """The tensor as it was used: conjugated or negated when read, a leaf that wants a gradient."""
    if metadata is not None:
        if type(metadata) is not dict or not {"conj", "neg"}.issuperset(metadata):
            raise CheckpointError(f"a tensor in the file has the unknown state {metadata!r}")
        if metadata.get("conj") is True:
            tensor = tensor.conj().resolve_conj()
        if metadata.get("neg") is True:
            tensor = -tensor
    return tensor.requires_grad_(True) if requires_grad is True else tensor


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any = None, state: Any = None) -> Any:
    if not isinstance(data, Tensor):
        raise CheckpointError("a Parameter in the file has no tensor")
    return Parameter(data, requires_grad=requires_grad is True)


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    if (
        not isinstance(function, Call)
        or not isinstance(kind, TensorClass)
        or type(arguments) is not tuple
    ):
        raise CheckpointError("the file holds an instance of a subclass of Tensor: refused")
    made = function.function(*arguments)
    if not isinstance(made, Tensor):
        raise CheckpointError("the file makes a tensor from something else")
    return made


# Plain data -----------------------------------------------------------------------------------


def _ordered_dict(*arguments: Any) -> OrderedDict[Any, Any]:
    if len(arguments) > 1 or (arguments and type(arguments[0]) is not list):
        raise CheckpointError("an OrderedDict in the file is not made from pairs")
    pairs = arguments[0] if arguments else []
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _counter(counts: Any = None) -> Counter[Any]:
    if type(counts) is not dict:
        raise CheckpointError("a Counter in the file is not made from a dict")
    return Counter(counts)


def _latin1_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("bytes in the file are not written as latin1 text")
    return text.encode("latin1")


def _bytearray(content: Any = b"", encoding: Any = "latin1") -> bytearray:
    if type(content) is bytes:
        return bytearray(content)
    return bytearray(_latin1_bytes(content, encoding))


def _size(extents: Any) -> Size:
    if type(extents) not in (tuple, list) or not all(_is_extent(entry) for entry in extents):
        raise CheckpointError("a torch.Size in the file is no list of sizes")
    return Size(extents)


def _device(*arguments: Any) -> Any:
    if len(arguments) not in (1, 2) or type(arguments[0]) is not str:
        raise CheckpointError("a torch.device in the file has no name")
    return torch.device(*arguments)


def _set(values: Any = None) -> set[Any]:
    if type(values) is not list:
        raise CheckpointError("a set in the file is not made from a list")
    return {checked_key(value) for value in values}


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise CheckpointError("a complex number in the file is not made from two floats")
    return complex(real, imaginary)


_KEY_TYPES = (str, int, float, bool, bytes, type(None), complex)


def checked_key(key: Any) -> Any:
    """A key, if it is of plain data: its hash and its comparison must run no code of the file's
    choosing, and not take exponential time."""
    entries = key if type(key) is tuple else (key,)
    if not all(type(entry) in _KEY_TYPES for entry in entries) and not isinstance(
        key, (Size, DType)
    ):
        raise CheckpointError(f"a dict in the file has a key of type {type(key).__name__}")
    return key
