"""A pickle reader that can build plain data and tensors, and nothing else.

It interprets the opcodes itself. A global name is looked up in a fixed table whose values are
functions of this module; nothing is imported, no attribute is looked up by a name from the
file, no object but an OrderedDict takes state. Everything unexpected raises ``CheckpointError``.
"""

from __future__ import annotations

import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError
from lazytorch.nn.parameter import Parameter
from lazytorch.serialization.layout import STORAGE_CLASSES, UNTYPED
from lazytorch.tensor.size import Size
from lazytorch.tensor.tensor import Tensor

MakeTensor = Callable[..., Tensor]


class StorageReference:
    """A storage as the pickle names it."""

    __slots__ = ("dtype", "elements", "itemsize", "key", "location")

    def __init__(self, dtype: DType | None, key: str, location: str, elements: int) -> None:
        self.dtype = dtype
        self.itemsize = 1 if dtype is None else dtype.itemsize
        self.key = key
        self.location = location
        self.elements = elements


class _StorageClass:
    """Stands for a storage class of PyTorch; ``dtype`` is None for plain bytes."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: DType | None) -> None:
        self.dtype = dtype


class _Call:
    """Stands for one of the few functions that a file may name."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class _TensorClass:
    """Stands for Tensor or Parameter as an argument."""


_MARK = object()


class Unpickler:
    """Reads one pickle; ``make_tensor`` builds a tensor from a checked storage reference."""

    def __init__(self, data: bytes, make_tensor: MakeTensor) -> None:
        self._data = data
        self._make_tensor = make_tensor
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._globals = self._known_globals()

    def load(self) -> Any:
        """The object; ``CheckpointError`` for anything but plain data and tensors."""
        for opcode, argument, _ in pickletools.genops(self._data):
            if opcode.name == "STOP":
                break
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise CheckpointError(f"the file uses the pickle operation {opcode.name}: refused")
            handler(self, argument)
        if len(self._stack) != 1:
            raise CheckpointError("the pickle in the file ends too early or leaves values behind")
        return _plain(self._stack[0])

    # Stack ------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise CheckpointError("the pickle in the file takes a value that is not there")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise CheckpointError("the pickle in the file lacks a mark")

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise CheckpointError(f"the pickle in the file fills something that is no {kind}")
        return self._stack[-1]

    # Operations -------------------------------------------------------------------------------

    def _ignore(self, argument: Any) -> None:
        if argument is not None and isinstance(argument, int) and argument < 0:
            raise CheckpointError("negative length in the pickle")

    def _constant(self, argument: Any) -> None:
        self._push(argument)

    def _none(self, argument: Any) -> None:
        self._push(None)

    def _true(self, argument: Any) -> None:
        self._push(True)

    def _false(self, argument: Any) -> None:
        self._push(False)

    def _mark(self, argument: Any) -> None:
        self._push(_MARK)

    def _empty_list(self, argument: Any) -> None:
        self._push([])

    def _empty_dict(self, argument: Any) -> None:
        self._push({})

    def _empty_set(self, argument: Any) -> None:
        self._push(set())

    def _tuple(self, argument: Any) -> None:
        self._push(tuple(self._pop_to_mark()))

    def _small_tuple(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._push(tuple(reversed(values)))

    def _append(self, argument: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, argument: Any) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _add_items(self, argument: Any) -> None:
        values = self._pop_to_mark()
        self._top(set).update(values)

    def _set_item(self, argument: Any) -> None:
        value = self._pop()
        key = self._pop()
        self._dict_on_top()[_checked_key(key)] = value

    def _set_items(self, argument: Any) -> None:
        values = self._pop_to_mark()
        if len(values) % 2:
            raise CheckpointError("a dict in the file has a key without a value")
        target = self._dict_on_top()
        for key, value in zip(values[::2], values[1::2]):
            target[_checked_key(key)] = value

    def _dict_on_top(self) -> Any:
        top = self._stack[-1] if self._stack else None
        if type(top) not in (dict, OrderedDict):
            raise CheckpointError("the pickle in the file fills something that is no dict")
        return top

    def _put(self, number: int) -> None:
        value = self._pop()
        self._push(value)
        self._memo[number] = value

    def _memoize(self, argument: Any) -> None:
        self._put(len(self._memo))

    def _get(self, number: int) -> None:
        if number not in self._memo:
            raise CheckpointError("the pickle in the file refers to a value that is not there")
        self._push(self._memo[number])

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push(self._named(module, name))

    def _stack_global(self, argument: Any) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise CheckpointError("a name in the pickle is no string")
        self._push(self._named(module, name))

    def _named(self, module: str, name: str) -> Any:
        try:
            return self._globals[module, name]
        except KeyError:
            raise CheckpointError(
                f"the file asks for {module}.{name}, which is no tensor, number, string or plain "
                "container: refused, because building it could run any code. Save plain data "
                "instead, for a model its state_dict()"
            ) from None

    def _reduce(self, argument: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Call) or type(arguments) is not tuple:
            raise CheckpointError("the file calls something that is no known function")
        self._push(function.function(*arguments))

    def _build(self, argument: Any) -> None:
        state = self._pop()
        target = self._top(OrderedDict)
        # A state dict carries the versions of its modules in this attribute.
        if type(state) is dict and "_metadata" in state:
            target._metadata = _plain(state["_metadata"])

    def _persistent(self, argument: Any) -> None:
        identifier = self._pop()
        if (
            type(identifier) is not tuple
            or len(identifier) != 5
            or identifier[0] != "storage"
            or not isinstance(identifier[1], _StorageClass)
            or not all(type(entry) is str for entry in identifier[2:4])
            or type(identifier[4]) is not int
            or identifier[4] < 0
        ):
            raise CheckpointError("the file refers to something that is no storage")
        _, kind, key, location, elements = identifier
        self._push(StorageReference(kind.dtype, key, location, elements))

    # The names a file may use ------------------------------------------------------------------

    def _known_globals(self) -> dict[tuple[str, str], Any]:
        table: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): _Call(_ordered_dict),
            ("collections", "Counter"): _Call(_counter),
            ("_codecs", "encode"): _Call(_latin1_bytes),
            ("torch", "Size"): _Call(_size),
            ("torch", "device"): _Call(_device),
            ("torch", "Tensor"): _TensorClass(),
            ("torch.nn.parameter", "Parameter"): _TensorClass(),
            ("torch._utils", "_rebuild_tensor"): _Call(self._rebuild_tensor),
            ("torch._utils", "_rebuild_tensor_v2"): _Call(self._rebuild_tensor),
            ("torch._utils", "_rebuild_tensor_v3"): _Call(self._rebuild_untyped),
            ("torch._utils", "_rebuild_parameter"): _Call(_rebuild_parameter),
            ("torch._utils", "_rebuild_parameter_with_state"): _Call(_rebuild_parameter),
            ("torch._tensor", "_rebuild_from_type_v2"): _Call(_rebuild_from_type),
            ("torch.storage", UNTYPED): _StorageClass(None),
        }
        for builtins in ("builtins", "__builtin__"):
            table[builtins, "set"] = _Call(_set)
            table[builtins, "complex"] = _Call(_complex)
        for dtype in dtypes.ALL:
            table["torch", dtype.name] = dtype
        for name, dtype in STORAGE_CLASSES.items():
            table["torch", name] = _StorageClass(dtype)
        return table

    def _rebuild_tensor(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        requires_grad: Any = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> Tensor:
        if not isinstance(storage, StorageReference) or storage.dtype is None:
            raise CheckpointError("a tensor in the file has no storage of a known dtype")
        return self._tensor(storage, storage.dtype, offset, shape, strides, requires_grad)

    def _rebuild_untyped(
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
        if not isinstance(storage, StorageReference) or not isinstance(dtype, DType):
            raise CheckpointError("a tensor in the file has no storage of a known dtype")
        return self._tensor(storage, dtype, offset, shape, strides, requires_grad)

    def _tensor(
        self, storage: StorageReference, dtype: DType, offset: Any, shape: Any, strides: Any,
        requires_grad: Any,
    ) -> Tensor:  # fmt: skip
        for what in (shape, strides):
            if not isinstance(what, tuple) or not all(_is_extent(entry) for entry in what):
                raise CheckpointError(f"a tensor in the file has the shape or strides {what!r}")
        if len(shape) != len(strides) or len(shape) > 64 or not _is_extent(offset):
            raise CheckpointError("a tensor in the file has strides or an offset that cannot be")
        made = self._make_tensor(storage, dtype, offset, tuple(shape), tuple(strides))
        return _with_grad(made, requires_grad)


def _is_extent(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _with_grad(tensor: Any, requires_grad: Any) -> Any:
    if requires_grad is True:
        return tensor.requires_grad_(True)
    return tensor


def _ordered_dict(*arguments: Any) -> OrderedDict[Any, Any]:
    if arguments and type(arguments[0]) is not list:
        raise CheckpointError("an OrderedDict in the file is not made from pairs")
    pairs = arguments[0] if arguments else []
    return OrderedDict((_checked_key(key), value) for key, value in pairs)


def _counter(counts: Any = None) -> Counter[Any]:
    if type(counts) is not dict:
        raise CheckpointError("a Counter in the file is not made from a dict")
    return Counter(counts)


def _latin1_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("bytes in the file are not written as latin1 text")
    return text.encode("latin1")


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
    return {_checked_key(value) for value in values}


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise CheckpointError("a complex number in the file is not made from two floats")
    return complex(real, imaginary)


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any = None, state: Any = None) -> Any:
    if not isinstance(data, Tensor):
        raise CheckpointError("a Parameter in the file has no tensor")
    return Parameter(data, requires_grad=requires_grad is True)


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    if (
        not isinstance(function, _Call)
        or not isinstance(kind, _TensorClass)
        or type(arguments) is not tuple
    ):
        raise CheckpointError("the file holds an instance of a subclass of Tensor: refused")
    made = function.function(*arguments)
    if not isinstance(made, Tensor):
        raise CheckpointError("the file makes a tensor from something else")
    return made


_KEY_TYPES = (str, int, float, bool, bytes, type(None), complex)


def _checked_key(key: Any) -> Any:
    entries = key if type(key) is tuple else (key,)
    if not all(type(entry) in _KEY_TYPES for entry in entries) and not isinstance(
        key, (Size, DType)
    ):
        raise CheckpointError(f"a dict in the file has a key of type {type(key).__name__}")
    return key


def _plain(value: Any) -> Any:
    """``value`` when it and what it holds are data, not stand-ins for classes and functions."""
    pending = [value]
    seen: set[int] = set()
    while pending:
        entry = pending.pop()
        if isinstance(entry, (_Call, _StorageClass, _TensorClass, StorageReference)):
            raise CheckpointError("the file holds a bare class, function or storage as a value")
        if isinstance(entry, (list, tuple, dict)) and id(entry) not in seen:
            seen.add(id(entry))
            pending.extend(entry.values() if isinstance(entry, dict) else entry)
    return value


_HANDLERS: dict[str, Callable[[Unpickler, Any], None]] = {
    "PROTO": Unpickler._ignore,
    "FRAME": Unpickler._ignore,
    "POP": lambda reader, _: reader._stack and reader._stack.pop(),  # type: ignore[dict-item]
    "NONE": Unpickler._none,
    "NEWTRUE": Unpickler._true,
    "NEWFALSE": Unpickler._false,
    "MARK": Unpickler._mark,
    "EMPTY_LIST": Unpickler._empty_list,
    "EMPTY_DICT": Unpickler._empty_dict,
    "EMPTY_SET": Unpickler._empty_set,
    "EMPTY_TUPLE": lambda reader, _: reader._small_tuple(0),
    "TUPLE1": lambda reader, _: reader._small_tuple(1),
    "TUPLE2": lambda reader, _: reader._small_tuple(2),
    "TUPLE3": lambda reader, _: reader._small_tuple(3),
    "TUPLE": Unpickler._tuple,
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._appends,
    "ADDITEMS": Unpickler._add_items,
    "SETITEM": Unpickler._set_item,
    "SETITEMS": Unpickler._set_items,
    "BINPUT": Unpickler._put,
    "LONG_BINPUT": Unpickler._put,
    "MEMOIZE": Unpickler._memoize,
    "BINGET": Unpickler._get,
    "LONG_BINGET": Unpickler._get,
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent,
}
for _name in (
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "SHORT_BINSTRING", "BINSTRING",
):  # fmt: skip
    _HANDLERS[_name] = Unpickler._constant
