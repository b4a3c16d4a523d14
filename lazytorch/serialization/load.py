"""load: an object from a file in PyTorch's format, without ever running code from it.

Knows archives and how storages become tensors on devices. What the pickle inside may say is
decided in ``unpickling``.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError
from lazytorch.serialization.unpickling import StorageReference, Unpickler
from lazytorch.tensor.tensor import Tensor

_MAX_RECORDS = 1 << 20
MapLocation = Any


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
    called; everything that is wrong with a file raises ``CheckpointError``. ``weights_only=False``
    and ``pickle_module`` are refused; ``mmap`` changes nothing.

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
            return _load_stream(stream, map_location)
    if not (hasattr(f, "read") and hasattr(f, "seek")):
        raise TypeError(
            f"expected f to be a path or a binary file with read() and seek(), got "
            f"{type(f).__name__}"
        )
    return _load_stream(f, map_location)


def _load_stream(stream: Any, map_location: MapLocation) -> Any:
    try:
        archive = _Archive(stream)
        storages = _Storages(archive, map_location)
        return Unpickler(archive.read("data.pkl"), storages.tensor).load()
    except CheckpointError:
        raise
    except (
        zipfile.BadZipFile, ValueError, KeyError, IndexError, TypeError, OverflowError,
        EOFError, RecursionError, UnicodeDecodeError, NotImplementedError, AttributeError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"the file is damaged or no checkpoint: {type(error).__name__}: {error}"
        ) from error


class _Archive:
    """A zip archive whose records are checked before anything is read."""

    def __init__(self, stream: Any) -> None:
        stream = stream if stream.seekable() else io.BytesIO(stream.read())
        begin = stream.tell()
        magic = stream.read(4)
        stream.seek(0, io.SEEK_END)
        size = stream.tell() - begin
        stream.seek(begin)
        if magic != b"PK\x03\x04":
            raise CheckpointError(_not_a_zip(magic))
        self._zip = zipfile.ZipFile(stream)
        entries = self._zip.infolist()
        names = [entry.filename for entry in entries]
        if len(entries) > _MAX_RECORDS or len(set(names)) != len(names):
            raise CheckpointError("the file names a record twice, or too many records")
        if sum(entry.file_size for entry in entries) > size:
            raise CheckpointError("the file claims more bytes than it has")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError("the file holds compressed records; PyTorch stores them plain")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(
                "the zip file holds no data.pkl record in its folder, so it is no checkpoint"
            )
        self._root = pickles[0].removesuffix("data.pkl")
        self._names = set(names)
        if f"{self._root}constants.pkl" in self._names:
            raise CheckpointError(
                "the file is a TorchScript program, not a checkpoint; save the state_dict()"
            )
        order = self.read("byteorder") if self.holds("byteorder") else b"little"
        if order not in (b"little", b"big"):
            raise CheckpointError(f"unknown byte order {order[:20]!r}")
        self.big_endian = order == b"big"

    def holds(self, name: str) -> bool:
        """Whether there is a record of this name."""
        return self._root + name in self._names

    def read(self, name: str) -> bytes:
        """A record's bytes; its checksum is verified."""
        if not self.holds(name):
            raise CheckpointError(f"the file lacks the record {name!r}: it is not complete")
        return self._zip.read(self._root + name)


def _not_a_zip(magic: bytes) -> str:
    if magic[:1] == b"\x80":
        return (
            "the file is in PyTorch's old format, which is a bare pickle and refused; load it "
            "with PyTorch and save it again"
        )
    return "the file is no zip archive, so it is no checkpoint written by torch.save"


class _Storages:
    """Makes tensors of storages, each storage read once."""

    def __init__(self, archive: _Archive, map_location: MapLocation) -> None:
        self._archive = archive
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
        base = self._place(torch.from_numpy(array), reference.location)
        self._bases[key] = (base, elements)
        return base, elements

    def _array(self, reference: StorageReference, dtype: DType) -> np.ndarray:
        raw = bytearray(self._archive.read(f"data/{reference.key}"))
        if len(raw) != reference.elements * reference.itemsize or len(raw) % dtype.itemsize:
            raise CheckpointError(
                f"storage {reference.key!r} has {len(raw)} bytes where {reference.elements} "
                f"elements of {reference.itemsize} bytes were announced"
            )
        if self._archive.big_endian != (not np.little_endian) and dtype.itemsize > 1:
            swapped = np.frombuffer(raw, np.uint8).reshape(-1, dtype.itemsize)[:, ::-1]
            raw = bytearray(swapped.tobytes())
        array = np.frombuffer(raw, np.uint8).view(dtype.numpy)
        if dtype is dtypes.bool_ and len(raw) and max(raw) > 1:
            raise CheckpointError(f"storage {reference.key!r} holds bytes that are no booleans")
        return array


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
        result = map_location(base, location)
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
