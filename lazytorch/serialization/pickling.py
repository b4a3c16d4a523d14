"""A pickle writer for containers of tensors, numbers and strings: protocol 2, by hand.

Python's own pickler would need PyTorch's classes to name them. Knows the pickle opcodes and
PyTorch's rebuild functions by name; it must not know archives.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import lazytorch as torch
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError
from lazytorch.nn.parameter import Parameter
from lazytorch.serialization.layout import STORAGE_NAMES, UNTYPED
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import Storage, storage_of
from lazytorch.tensor.tensor import Tensor

_MAX_DEPTH = 400


class Pickler:
    """Writes one object; ``storages`` lists the storages met, in the order of their keys."""

    def __init__(self) -> None:
        self.storages: list[Storage] = []
        self._keys: dict[int, str] = {}
        self._dtypes: dict[str, DType] = {}
        self._parts: list[bytes] = [b"\x80\x02"]
        self._memo: dict[int, int] = {}
        # Objects whose identity is in the memo must live as long as it does.
        self._kept: list[Any] = []
        self._path: list[str] = []

    def dump(self, value: Any) -> bytes:
        """The pickle of ``value``."""
        self._write(value)
        self._parts.append(b".")
        return b"".join(self._parts)

    def _write(self, value: Any) -> None:
        writer = _WRITERS.get(type(value))
        if writer is None:
            if isinstance(value, Tensor):
                writer = Pickler._write_tensor
            elif type(value).__module__ == "numpy":
                raise self._refusal(
                    value, "convert NumPy values with .item() or torch.from_numpy()"
                )
            else:
                raise self._refusal(value, "save plain data: a model's state_dict(), not a model")
        if id(value) in self._memo:
            self._emit_get(self._memo[id(value)])
            return
        writer(self, value)

    def _refusal(self, value: Any, advice: str) -> CheckpointError:
        return CheckpointError(
            f"cannot save {self._place()}: it is a {type(value).__module__}."
            f"{type(value).__qualname__}; expected tensors, numbers, strings, bytes, None, "
            f"and lists, tuples, sets and dicts of them; {advice}"
        )

    def _place(self) -> str:
        return "".join(self._path) or "the object itself"

    def _enter(self, place: str, value: Any) -> None:
        self._path.append(place)
        if len(self._path) > _MAX_DEPTH:
            raise CheckpointError(f"cannot save containers nested deeper than {_MAX_DEPTH} levels")
        self._write(value)
        self._path.pop()

    # Memo -------------------------------------------------------------------------------------

    def _remember(self, value: Any) -> None:
        number = len(self._kept)
        self._memo[id(value)] = number
        self._kept.append(value)
        self._emit_number(b"q", b"r", number)

    def _emit_get(self, number: int) -> None:
        self._emit_number(b"h", b"j", number)

    def _emit_number(self, short: bytes, long: bytes, number: int) -> None:
        self._parts.append(
            short + bytes([number]) if number < 256 else long + struct.pack("<I", number)
        )

    # Scalars ----------------------------------------------------------------------------------

    def _write_none(self, value: None) -> None:
        self._parts.append(b"N")

    def _write_bool(self, value: bool) -> None:
        self._parts.append(b"\x88" if value else b"\x89")

    def _write_int(self, value: int) -> None:
        if 0 <= value < 256:
            self._parts.append(b"K" + bytes([value]))
        elif -(1 << 31) <= value < 1 << 31:
            self._parts.append(b"J" + struct.pack("<i", value))
        else:
            body = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(body) > 255:
                raise CheckpointError("cannot save an integer of more than 2040 bits")
            self._parts.append(b"\x8a" + bytes([len(body)]) + body)

    def _write_float(self, value: float) -> None:
        self._parts.append(b"G" + struct.pack(">d", value))

    def _write_complex(self, value: complex) -> None:
        self._write_call("__builtin__", "complex", (value.real, value.imag))

    def _write_str(self, value: str) -> None:
        text = value.encode("utf-8", "surrogatepass")
        self._parts.append(b"X" + struct.pack("<I", len(text)) + text)
        self._remember(value)

    def _write_bytes(self, value: bytes) -> None:
        self._write_call("_codecs", "encode", (value.decode("latin1"), "latin1"))

    def _write_bytearray(self, value: bytearray) -> None:
        self._write_call("__builtin__", "bytearray", (bytes(value),))

    # Containers -------------------------------------------------------------------------------

    def _write_tuple(self, value: tuple[Any, ...]) -> None:
        if len(value) > 3:
            self._parts.append(b"(")
        for place, entry in enumerate(value):
            self._enter(f"[{place}]", entry)
        self._parts.append({0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t"))
        self._remember(value)

    def _write_list(self, value: list[Any]) -> None:
        self._parts.append(b"]")
        self._remember(value)
        if value:
            self._parts.append(b"(")
            for place, entry in enumerate(value):
                self._enter(f"[{place}]", entry)
            self._parts.append(b"e")

    def _write_set(self, value: set[Any]) -> None:
        self._write_call("__builtin__", "set", (list(value),))

    def _write_dict(self, value: dict[Any, Any]) -> None:
        self._parts.append(b"}")
        self._remember(value)
        self._write_items(value.items())

    def _write_ordered_dict(self, value: OrderedDict[Any, Any]) -> None:
        self._write_call("collections", "OrderedDict", ())
        self._remember(value)
        self._write_items(value.items())
        metadata = getattr(value, "_metadata", None)
        if metadata is not None:
            self._write({"_metadata": metadata})
            self._parts.append(b"b")

    def _write_counter(self, value: Counter[Any]) -> None:
        self._write_call("collections", "Counter", (dict(value),))

    def _write_items(self, items: Iterable[tuple[Any, Any]]) -> None:
        self._parts.append(b"(")
        for key, entry in items:
            self._enter(f"[{key!r}] (the key)", key)
            self._enter(f"[{key!r}]", entry)
        self._parts.append(b"u")

    # Calls ------------------------------------------------------------------------------------

    def _write_global(self, module: str, name: str) -> None:
        self._parts.append(f"c{module}\n{name}\n".encode())

    def _write_call(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self._write_global(module, name)
        self._write(arguments)
        self._parts.append(b"R")

    def _write_size(self, value: Size) -> None:
        self._write_call("torch", "Size", (tuple(value),))

    def _write_dtype(self, value: DType) -> None:
        self._write_global("torch", value.name)

    def _write_device(self, value: Any) -> None:
        arguments = (value.type,) if value.index is None else (value.type, value.index)
        self._write_call("torch", "device", arguments)

    # Tensors ----------------------------------------------------------------------------------

    def _write_tensor(self, value: Tensor) -> None:
        if isinstance(value, Parameter):
            self._write_global("torch._utils", "_rebuild_parameter")
            self._parts.append(b"(")
            self._write_plain_tensor(value.detach())  # type: ignore[attr-defined]
            self._write_bool(value.requires_grad)  # type: ignore[attr-defined]
            self._write_call("collections", "OrderedDict", ())
            self._parts.append(b"tR")
        else:
            self._write_plain_tensor(value)
        self._remember(value)

    def _write_plain_tensor(self, value: Tensor) -> None:
        untyped = value.dtype not in STORAGE_NAMES
        name = "_rebuild_tensor_v3" if untyped else "_rebuild_tensor_v2"
        self._write_global("torch._utils", name)
        self._parts.append(b"(")
        self._write_storage(value, untyped)
        self._write_int(value.storage_offset())
        self._write_tuple(tuple(value.shape))
        self._write_tuple(tuple(value.stride()))
        self._write_bool(value.requires_grad)  # type: ignore[attr-defined]
        self._write_call("collections", "OrderedDict", ())
        if untyped:
            self._write_dtype(value.dtype)
        self._parts.append(b"tR")

    def _write_storage(self, tensor: Tensor, untyped: bool) -> None:
        storage = storage_of(tensor)
        key = self._keys.get(id(storage))
        if key is None:
            key = self._keys[id(storage)] = str(len(self.storages))
            self.storages.append(storage)
        if self._dtypes.setdefault(key, tensor.dtype) is not tensor.dtype:
            raise CheckpointError(
                f"cannot save {self._place()}: it views the memory of another tensor as another "
                "dtype, which the format cannot express; save a clone() of it"
            )
        self._parts.append(b"(")
        self._write("storage")
        if untyped:
            self._write_global("torch.storage", UNTYPED)
        else:
            self._write_global("torch", STORAGE_NAMES[tensor.dtype])
        self._write(key)
        self._write(_location(tensor.device))
        self._write_int(storage.node.nbytes // (1 if untyped else tensor.itemsize))
        self._parts.append(b"tQ")


def _location(place: Any) -> str:
    """The device as PyTorch writes it; devices it does not know are written as ``cpu``."""
    if place.type in ("cuda", "xpu"):
        return f"{place.type}:{place.index or 0}"
    return "mps" if place.type == "mps" else "cpu"


_WRITERS: dict[type, Callable[[Pickler, Any], None]] = {
    type(None): Pickler._write_none,
    bool: Pickler._write_bool,
    int: Pickler._write_int,
    float: Pickler._write_float,
    complex: Pickler._write_complex,
    str: Pickler._write_str,
    bytes: Pickler._write_bytes,
    bytearray: Pickler._write_bytearray,
    tuple: Pickler._write_tuple,
    list: Pickler._write_list,
    set: Pickler._write_set,
    dict: Pickler._write_dict,
    defaultdict: Pickler._write_dict,
    OrderedDict: Pickler._write_ordered_dict,
    Counter: Pickler._write_counter,
    Size: Pickler._write_size,
    DType: Pickler._write_dtype,
    torch.device: Pickler._write_device,
}
