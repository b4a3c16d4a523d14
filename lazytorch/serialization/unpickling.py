"""A pickle reader that can build plain data and tensors, and nothing else.

It interprets the opcodes itself. A global name is looked up in the fixed table of ``rebuilding``;
nothing is imported, no attribute is looked up by a name from the file, no object but an
OrderedDict takes state. Everything unexpected raises ``CheckpointError``.

A few bytes of a pickle can ask for a container, a copy of a large one, or a view of a tensor, so
a file has a budget for these. Numbers and texts take what Python takes for them.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from lazytorch.errors import CheckpointError
from lazytorch.serialization.rebuilding import (
    STAND_INS,
    Call,
    MakeTensor,
    StorageClass,
    StorageReference,
    checked_key,
    known_names,
    size_of,
)

# A memo's slot with its number.
_MEMO_BYTES = 96
_SLOT_BYTES = 8


class Unpickler:
    """Reads one pickle; ``make_tensor`` builds a tensor from a checked storage reference,
    ``budget`` is what containers, copies and views may take, in bytes."""

    def __init__(self, data: bytes, make_tensor: MakeTensor, budget: int) -> None:
        self._data = data
        self._left = budget
        # What was pushed since the last mark, and what before each of the marks.
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._globals = known_names(make_tensor)

    def load(self) -> Any:
        """The object; ``CheckpointError`` for anything but plain data and tensors."""
        for opcode, argument, _ in pickletools.genops(self._data):
            if opcode.name == "STOP":
                break
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise CheckpointError(f"the file uses the pickle operation {opcode.name}: refused")
            handler(self, argument)
        if len(self._stack) != 1 or self._below:
            raise CheckpointError("the pickle in the file ends too early or leaves values behind")
        return _plain(self._stack[0])

    def _spend(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise CheckpointError(
                "the file would fill several times its own size with containers or views of "
                "tensors: refused. Numbers belong in tensors, and many views of one tensor are "
                "better saved as that tensor"
            )

    # Stack ------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_new(self, value: Any) -> None:
        self._spend(size_of(value))
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise CheckpointError("the pickle in the file takes a value that is not there")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self._below:
            raise CheckpointError("the pickle in the file lacks a mark")
        values = self._stack
        self._stack = self._below.pop()
        return values

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise CheckpointError(f"the pickle in the file fills something that is no {kind}")
        return self._stack[-1]

    # Operations -------------------------------------------------------------------------------

    def _ignore(self, argument: Any) -> None:
        if argument is not None and isinstance(argument, int) and argument < 0:
            raise CheckpointError("negative length in the pickle")

    def _mark(self, argument: Any) -> None:
        new: list[Any] = []
        self._spend(size_of(new) + _SLOT_BYTES)
        self._below.append(self._stack)
        self._stack = new

    def _pop_one(self, argument: Any) -> None:
        self._pop()

    def _tuple(self, argument: Any) -> None:
        self._push_new(tuple(self._pop_to_mark()))

    def _small_tuple(self, size: int) -> None:
        values = [self._pop() for _ in range(size)]
        self._push_new(tuple(reversed(values)))

    def _append(self, argument: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, argument: Any) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _add_items(self, argument: Any) -> None:
        values = self._pop_to_mark()
        self._top(set).update(map(checked_key, values))

    def _set_item(self, argument: Any) -> None:
        value = self._pop()
        key = self._pop()
        self._dict_on_top()[checked_key(key)] = value

    def _set_items(self, argument: Any) -> None:
        values = self._pop_to_mark()
        if len(values) % 2:
            raise CheckpointError("a dict in the file has a key without a value")
        target = self._dict_on_top()
        for place in range(0, len(values), 2):
            target[checked_key(values[place])] = values[place + 1]

    def _dict_on_top(self) -> Any:
        top = self._stack[-1] if self._stack else None
        if type(top) not in (dict, OrderedDict):
            raise CheckpointError("the pickle in the file fills something that is no dict")
        return top

    def _put(self, number: int) -> None:
        if not self._stack:
            raise CheckpointError("the pickle in the file remembers a value that is not there")
        if number not in self._memo:
            self._spend(_MEMO_BYTES)
        self._memo[number] = self._stack[-1]

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
                f"the file asks for {module[:100]}.{name[:100]}, which is no tensor, number, "
                "string or plain container: refused, because building it could run any code. Save "
                "plain data instead: for a model its state_dict(), for NumPy values .item() or "
                "torch.from_numpy()"
            ) from None

    def _reduce(self, argument: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Call) or type(arguments) is not tuple:
            raise CheckpointError("the file calls something that is no known function")
        self._push_new(function.function(*arguments))

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
            or not isinstance(identifier[1], StorageClass)
            or not all(type(entry) is str for entry in identifier[2:4])
            or type(identifier[4]) is not int
            or identifier[4] < 0
        ):
            raise CheckpointError("the file refers to something that is no storage")
        _, kind, key, location, elements = identifier
        self._push_new(StorageReference(kind.dtype, key, location, elements))


def _plain(value: Any) -> Any:
    """``value`` when it and what it holds are data, not stand-ins for classes and functions."""
    pending = [value]
    seen: set[int] = set()
    while pending:
        entry = pending.pop()
        if isinstance(entry, STAND_INS):
            raise CheckpointError("the file holds a bare class, function or storage as a value")
        if isinstance(entry, (list, tuple, dict)) and id(entry) not in seen:
            seen.add(id(entry))
            pending.extend(entry.values() if isinstance(entry, dict) else entry)
    return value


_HANDLERS: dict[str, Callable[[Unpickler, Any], None]] = {
    "PROTO": Unpickler._ignore,
    "FRAME": Unpickler._ignore,
    "POP": Unpickler._pop_one,
    "NONE": lambda reader, _: reader._push(None),
    "NEWTRUE": lambda reader, _: reader._push(True),
    "NEWFALSE": lambda reader, _: reader._push(False),
    "MARK": Unpickler._mark,
    "EMPTY_LIST": lambda reader, _: reader._push_new([]),
    "EMPTY_DICT": lambda reader, _: reader._push_new({}),
    "EMPTY_SET": lambda reader, _: reader._push_new(set()),
    "EMPTY_TUPLE": lambda reader, _: reader._push(()),
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
    _HANDLERS[_name] = Unpickler._push
