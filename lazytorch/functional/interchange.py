"""Tensors beside NumPy and other array libraries: arrays, DLPack capsules, buffers, files.

Memory on the host is shared both ways. NumPy's arrays stand between a tensor and the outside:
what exports a tensor exports the array in its memory, what comes in is made an array first.
"""

from __future__ import annotations

import ctypes
import enum
import os
import warnings
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.functional.core import numpy_
from lazytorch.tensor import creation
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.creation import as_tensor, from_numpy, wants_grad
from lazytorch.tensor.device import as_device
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.storage import dtype_of, share_with_numpy
from lazytorch.tensor.tensor import Tensor, alias

# NumPy's protocols ----------------------------------------------------------------------------


@public("__array__", function=False)
def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy_(self)
    if copy:
        return np.array(array, dtype)
    if dtype is None or array.dtype == dtype:
        return array
    if copy is False:
        raise ValueError(
            f"Unable to avoid copy while creating an array of dtype {np.dtype(dtype)} from a "
            f"tensor of {dtype_of(self)!r}: leave copy out, or convert the tensor first"
        )
    return array.astype(dtype)


@public("__array_wrap__", function=False)
def _array_wrap(
    self: Tensor, array: np.ndarray, context: Any = None, return_scalar: bool = False
) -> Tensor:
    # What a NumPy function makes of a tensor is a tensor; truth values are uint8, as in PyTorch.
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return from_numpy(np.asarray(array))


# DLPack (https://dmlc.github.io/dlpack/latest/c_api.html) ---------------------------------------


class DLDeviceType(enum.IntEnum):
    """The kinds of devices that DLPack counts; those that tensors here may be exported from."""

    kDLCPU = 1
    kDLOpenCL = 4


_UNSIGNED, _BFLOAT = 1, 4  # DLDataTypeCode
# Where DLTensor's dtype (a code, bits and lanes) lies: behind data, device and ndim, and in a
# versioned capsule behind version, manager, deleter and flags too.
_DTYPE_PLACES = {b"dltensor": 20, b"dltensor_versioned": 52}
_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype, _capsule_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _type_code(capsule: Any) -> Any:
    """The byte of a capsule that tells the category of its elements, and the one of their bits."""
    name = _capsule_name(capsule)
    if name not in _DTYPE_PLACES:
        raise RuntimeError(
            "from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed "
            "only once, so you might have already constructed a tensor from it once."
        )
    place = _capsule_pointer(capsule, name) + _DTYPE_PLACES[name]
    return (ctypes.c_uint8 * 2).from_address(place)


@public("__dlpack_device__", function=False)
def _dlpack_device(self: Tensor) -> tuple[DLDeviceType, int]:
    if self._device.type in ("cpu", "numpy"):
        return DLDeviceType.kDLCPU, 0
    return DLDeviceType.kDLOpenCL, self._device.index or 0


@public("__dlpack__", function=False)
def _dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """The tensor's memory as a DLPack capsule (a copy of it if ``copy``)."""
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream not in (None, -1):
        raise BufferError(f"a tensor on the host is in no stream, but stream is {stream!r}")
    if dl_device is not None and tuple(dl_device) != (DLDeviceType.kDLCPU, 0):
        raise BufferError(
            f"cannot export to the device {tuple(dl_device)}: only to the host, (1, 0)"
        )
    source = alias(self)
    if self._device.type not in ("cpu", "numpy"):
        if dl_device is None or copy is False:
            raise BufferError(
                f"memory of {self._device} cannot be shared: use tensor.cpu(), or ask for "
                "dl_device=(1, 0)"
            )
        source = source.cpu()
    array = share_with_numpy(functions.clone(source) if copy else source)
    if dtype_of(self) is not dtypes.bfloat16:
        return array.__dlpack__(max_version=max_version)
    # NumPy does not export bfloat16: its bits are exported, under bfloat16's code.
    capsule = array.view(np.uint16).__dlpack__(max_version=max_version)
    _type_code(capsule)[0] = _BFLOAT
    return capsule


def to_dlpack(tensor: Tensor) -> Any:
    """The tensor's memory as a DLPack capsule, which may be consumed once.

    Libraries that take the tensor itself (it has ``__dlpack__``) need no capsule.
    """
    return _dlpack(tensor)


class _Holder:
    """A capsule as an object with the protocol's methods, which is what NumPy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor in the memory of another library's array, or of a DLPack capsule.

    Arrays on other devices than the host are asked for a copy on the host. Raises
    ``RuntimeError`` for a capsule that was used already and ``BufferError`` where the array
    cannot be given as asked.

    >>> import numpy
    >>> from_dlpack(numpy.arange(3))
    tensor([0, 1, 2])
    """
    capsule = ext_tensor
    if hasattr(ext_tensor, "__dlpack__"):
        kind, _ = ext_tensor.__dlpack_device__()
        wishes: dict[str, Any] = {} if kind == 1 else {"dl_device": (1, 0)}
        if copy is not None:
            wishes["copy"] = copy
        try:
            capsule = ext_tensor.__dlpack__(max_version=(1, 0), **wishes)
        except TypeError:
            # Exporters of the time before versions take no such arguments.
            capsule = ext_tensor.__dlpack__()
    elif type(ext_tensor).__name__ != "PyCapsule":
        raise RuntimeError(
            "from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed "
            "only once, so you might have already constructed a tensor from it once. Expected an "
            f"array with __dlpack__ or a capsule, but got {type(ext_tensor).__name__}"
        )
    code = _type_code(capsule)
    narrow = (code[0], code[1]) == (_BFLOAT, 16)
    if narrow:
        code[0] = _UNSIGNED
    array = np.from_dlpack(_Holder(capsule))
    made = from_numpy(array.view(dtypes.bfloat16.numpy) if narrow else array)
    return made if device is None else made.to(as_device(device))


# Buffers and files ----------------------------------------------------------------------------


def _warn_of_read_only() -> None:
    warnings.warn(
        "The given buffer is not writable, and tensors are: writing into this one raises. Copy "
        "the data (for instance with bytearray(...)) to write into it.",
        UserWarning,
        stacklevel=3,
    )


def frombuffer(
    buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A vector in the memory of an object with Python's buffer protocol.

    ``count`` elements (all, if negative) from the byte ``offset`` on. Raises ``ValueError`` where
    the buffer is too short for them.

    >>> frombuffer(bytearray([1, 0, 2, 0]), dtype=int16)
    tensor([1, 2], dtype=torch.int16)
    """
    try:
        memory = memoryview(buffer)
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    size, item = memory.nbytes, dtype.itemsize
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(
            f"offset ({offset} bytes) must be non-negative and no greater than buffer length "
            f"({size} bytes) minus 1"
        )
    if count < 0 and (size - offset) % item:
        raise ValueError(
            f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a "
            f"multiple of element size ({item})"
        )
    wanted = (size - offset) // item if count < 0 else count
    if offset + wanted * item > size:
        raise ValueError(
            f"requested buffer length ({wanted} * {item} bytes) after offset ({offset} bytes) "
            f"must not be greater than actual buffer length ({size} bytes)"
        )
    if memory.readonly:
        _warn_of_read_only()
    array = np.frombuffer(buffer, np.uint8, wanted * item, offset).view(dtype.numpy)
    return wants_grad(creation.in_memory_of(array), requires_grad)


def from_file(
    filename: str | os.PathLike[str],
    shared: bool | None = None,
    size: int | None = 0,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A vector in the memory of a file.

    Writes reach the file if ``shared``, which is made or lengthened to ``size`` elements where it
    is shorter. Raises ``RuntimeError`` for a file shorter than that which is not shared.
    """
    chosen = dtype or get_default_dtype()
    length = (size or 0) * chosen.itemsize
    present = os.path.getsize(filename) if os.path.exists(filename) else 0
    if present < length:
        if not shared:
            raise RuntimeError(
                f"file {os.fspath(filename)} has {present} bytes, but {size} elements of "
                f"{chosen!r} are {length}: give a smaller size, or shared=True to lengthen it"
            )
        with open(filename, "ab") as file:
            file.truncate(length)
    if not length:
        return functions.empty((0,), dtype=chosen, requires_grad=requires_grad)  # type: ignore[no-any-return]
    memory = np.memmap(filename, np.uint8, "r+" if shared else "c", shape=(length,))
    made = creation.in_memory_of(np.asarray(memory).view(chosen.numpy))
    return wants_grad(made if device is None else made.to(as_device(device)), requires_grad)


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """``obj`` as a tensor: tensors, arrays, DLPack exporters, buffers, numbers and sequences.

    Memory is shared where it can be, never if ``copy``; ``copy=False`` raises ``ValueError``
    where it cannot be.
    """
    made = _sharing(obj, dtype)
    if made is None:
        if copy is False:
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        return functions.tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)  # type: ignore[no-any-return]
    result = as_tensor(made, dtype, made._device if device is None else device)
    if copy is False and result is not made:
        raise ValueError(
            f"can't alias tensor with dtype '{made.dtype!r}' on '{made.device}' into dtype "
            f"'{result.dtype!r}' on '{result.device}'."
        )
    if copy and result is made:
        result = functions.clone(made)
    if isinstance(obj, Tensor) and result.requires_grad and not requires_grad:
        result = result.detach()
    if requires_grad and result is obj:
        return result.requires_grad_()
    return wants_grad(result, requires_grad)


def _sharing(obj: Any, dtype: DType | None) -> Tensor | None:
    """A tensor in the memory of ``obj``, or None where there is no such memory."""
    if isinstance(obj, Tensor):
        return obj
    if isinstance(obj, np.ndarray):
        return from_numpy(obj)
    if isinstance(obj, np.generic):
        return from_numpy(np.asarray(obj))
    if hasattr(obj, "__dlpack__") or type(obj).__name__ == "PyCapsule":
        return from_dlpack(obj)
    if isinstance(obj, (bytes, bytearray, memoryview)) or hasattr(obj, "__array_interface__"):
        if hasattr(obj, "__array_interface__"):
            return from_numpy(np.asarray(obj))
        return frombuffer(obj, dtype=dtype or get_default_dtype())
    return None


for _function in (to_dlpack, from_dlpack, frombuffer, from_file, asarray):
    setattr(functions, _function.__name__, _function)
