"""load: an object from a file in PyTorch's format, without ever running code from it.

Knows archives and how storages become tensors on devices. What the pickle inside may say is
decided in ``unpickling``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError, OutOfMemoryError
from lazytorch.serialization.archive import Archive
from lazytorch.serialization.rebuilding import StorageReference
from lazytorch.serialization.unpickling import Unpickler
from lazytorch.tensor.creation import in_given_memory
from lazytorch.tensor.tensor import Tensor

MapLocation = Any
# What the objects of a pickle may take for each byte of the file, and for any file.
_BUDGET_PER_BYTE, _BUDGET = 2, 12 << 20
_NEWEST_VERSION = 10


def load(
    f: Any,
    map_location: MapLocation = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """What :func:`save` (or PyTorch's own) wrote: tensors, numbers, strings, containers of them.

    ``f`` is a path or a binary file. ``map_location`` is a device, a dict from saved to wanted
    device names, or a function of (1-d tensor of the storage on the CPU, saved device name) that
    returns the tensor on another device or None. Nothing named by the file is imported or
    called; everything that is wrong with a file raises ``CheckpointError``, also where a checksum
    shows that only data changed. ``weights_only=False`` and ``pickle_module`` are refused. With
    ``mmap=True`` tensors lie in the mapped file (which must be a path, and stays as it is).

    >>> torch.save({"w": torch.ones(2)}, "checkpoint.pt")
    >>> torch.load("checkpoint.pt")
    {'w': tensor([1., 1.])}
    """
    if weights_only is False:
        raise CheckpointError(
            "weights_only=False would let the file run any code: refused; load without it (plain "
            "data and tensors need nothing more), or save the state_dict() with PyTorch first"
        )
    if pickle_module is not None or pickle_load_args:
        raise CheckpointError(
            "pickle_module and pickle options are not supported: files are read by a reader of "
            "their own"
        )
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as stream:
            return _load_stream(stream, map_location, bool(mmap))
    if mmap:
        raise ValueError(
            f"f must be a file name to be mapped with mmap=True, got {type(f).__name__}"
        )
    if not (hasattr(f, "read") and hasattr(f, "seek")):
        raise TypeError(
            f"expected f to be a path or a binary file with read() and seek(), got "
            f"{type(f).__name__}"
        )
    return _load_stream(f, map_location, False)


def _load_stream(stream: Any, map_location: MapLocation, mapped: bool) -> Any:
    try:
        archive = Archive(stream, mapped)
        storages = _Storages(archive, map_location, _is_big_endian(archive))
        budget = _BUDGET_PER_BYTE * archive.size + _BUDGET
        return Unpickler(archive.read("data.pkl"), storages.tensor, budget).load()
    except (CheckpointError, OutOfMemoryError):
        raise
    except _Raised as wrapped:
        raise wrapped.error from None
    except (
        ValueError, KeyError, IndexError, TypeError, OverflowError, EOFError, RecursionError,
        NotImplementedError, AttributeError, RuntimeError, struct.error,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"the file is damaged or no checkpoint: {type(error).__name__}: {error}"
        ) from error


class _Raised(BaseException):
    """Carries what the user's ``map_location`` raised past those who would blame the file."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _is_big_endian(archive: Archive) -> bool:
    """The byte order of the tensors, after a look at what kind of file this is."""
    if archive.holds("constants.pkl"):
        raise CheckpointError(
            "the file is a TorchScript program, not a checkpoint; save the state_dict()"
        )
    if archive.holds("version"):
        version = archive.read("version")
        if not version.strip().isdigit() or int(version[:9]) > _NEWEST_VERSION:
            raise CheckpointError(f"the file has the unknown format version {version[:20]!r}")
    order = archive.read("byteorder") if archive.holds("byteorder") else b"little"
    if order not in (b"little", b"big"):
        raise CheckpointError(f"unknown byte order {order[:20]!r}")
    return order == b"big"


class _Storages:
    """Makes tensors of storages, each storage read once."""

    def __init__(self, archive: Archive, map_location: MapLocation, big_endian: bool) -> None:
        self._archive = archive
        self._swapped = big_endian == np.little_endian
        self._place = _placement(map_location)
        self._bases: dict[tuple[str, DType], tuple[Tensor, int]] = {}

    def tensor(
        self,
        reference: StorageReference,
        dtype: DType,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Tensor:
        """The part of a storage that a tensor shows, its bounds already checked."""
        base, elements = self._base(reference, dtype, shape, offset, strides)
        check_bounds(elements, offset, shape, strides)
        if tuple(base.shape) == shape and base.stride() == strides and offset == 0:
            return base.detach()  # type: ignore[attr-defined,no-any-return]
        return torch.as_strided(base, shape, strides, offset).detach()  # type: ignore[no-any-return]

    def _base(
        self,
        reference: StorageReference,
        dtype: DType,
        shape: tuple[int, ...],
        offset: int,
        strides: tuple[int, ...],
    ) -> tuple[Tensor, int]:
        key = (reference.key, dtype)
        if key in self._bases:
            return self._bases[key]
        if any(known == reference.key for known, _ in self._bases):
            raise CheckpointError(f"storage {reference.key!r} is used with two dtypes")
        array = self._array(reference, dtype)
        elements = array.size
        if offset == 0 and strides == _row_major(shape) and _count(shape) == elements:
            # The usual case, a tensor that is its whole storage, needs no view.
            array = array.reshape(shape)
        base = self._place(in_given_memory(array, torch.device("cpu")), reference.location)
        self._bases[key] = (base, elements)
        return base, elements

    def _array(self, reference: StorageReference, dtype: DType) -> np.ndarray:
        raw = self._archive.array(f"data/{reference.key}")
        if len(raw) != reference.elements * reference.itemsize or len(raw) % dtype.itemsize:
            raise CheckpointError(
                f"storage {reference.key!r} has {len(raw)} bytes where {reference.elements} "
                f"elements of {reference.itemsize} bytes were announced"
            )
        if dtype is dtypes.bool_ and len(raw) and raw.max() > 1:
            raise CheckpointError(f"storage {reference.key!r} holds bytes that are no booleans")
        if raw.ctypes.data % dtype.itemsize:
            raw = raw.copy()  # A mapped file of somebody who does not align.
        if self._swapped:
            # The two parts of a complex number are two numbers.
            size = dtype.itemsize // (2 if dtype.is_complex else 1)
            raw.view(f"u{size}").byteswap(inplace=True)
        return raw.view(dtype.numpy)


def check_bounds(
    elements: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Refuse a tensor that would read outside its storage."""
    if 0 in shape:
        return
    last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides))
    if last >= elements or _count(shape) >= 1 << 62:
        raise CheckpointError(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit "
            f"into its storage of {elements} elements"
        )


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= max(extent, 1)
    return tuple(strides)


def _placement(map_location: MapLocation) -> Callable[[Tensor, str], Tensor]:
    """The function that brings a storage on the CPU to where it belongs."""
    if map_location is None:
        return lambda base, location: _moved(base, location)
    if isinstance(map_location, dict):
        return lambda base, location: _moved(base, map_location.get(location, location))
    if isinstance(map_location, (str, torch.device)):
        return lambda base, location: _moved(base, map_location)

    def placed(base: Tensor, location: str) -> Tensor:
        try:
            result = map_location(base, location)
        except Exception as error:
            raise _Raised(error) from error
        return _moved(base, location) if result is None else result

    return placed


def _moved(base: Tensor, device: Any) -> Tensor:
    try:
        return base.to(device=torch.device(device))  # type: ignore[attr-defined,no-any-return]
    except RuntimeError as error:
        raise CheckpointError(
            f"the file's tensors belong to device {str(device)!r}, which cannot be used here "
            f"({error}); load with map_location='cpu'"
        ) from error
