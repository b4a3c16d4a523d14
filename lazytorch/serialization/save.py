"""save: an object into a file, so that the old file or the whole new one is there afterwards."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lazytorch import engine
from lazytorch.serialization.layout import ALIGNMENT, VERSION
from lazytorch.serialization.pickling import Pickler
from lazytorch.serialization.replacing import replacing
from lazytorch.tensor.storage import Storage

_CHUNK = 1 << 24


def save(
    obj: Any,
    f: Any,
    pickle_module: Any = None,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write tensors, numbers, strings and containers of them in PyTorch's file format.

    ``f`` is a path or a binary file. A path is written beside its place first, flushed to the
    disk and then put there in one step: whatever happens, either the old or the new file is
    whole; what a killed process leaves is removed by the next ``save`` to this path.
    ``torch.load(f, weights_only=True)`` of PyTorch opens the file. Tensors that share
    memory still do after loading. Raises ``CheckpointError`` for other objects (save a model's
    ``state_dict()``), ``OSError`` when the file cannot be written.

    >>> torch.save({"step": 3, "w": torch.ones(2)}, "checkpoint.pt")
    """
    if pickle_module is not None or not _use_new_zipfile_serialization:
        raise NotImplementedError(
            "only PyTorch's zip format is written: leave out pickle_module and "
            "_use_new_zipfile_serialization=False"
        )
    if pickle_protocol != 2:
        raise NotImplementedError(f"pickle_protocol must be 2, got {pickle_protocol}")
    pickler = Pickler()
    pickle = pickler.dump(obj)
    engine.realize([storage.node for storage in pickler.storages])
    if isinstance(f, (str, os.PathLike)):
        with replacing(f) as stream:
            name = Path(os.path.realpath(f)).stem or "archive"
            _write_archive(stream, name, pickle, pickler.storages)
    elif hasattr(f, "write"):
        _write_archive(f, "archive", pickle, pickler.storages)
    else:
        raise TypeError(f"expected f to be a path or a file with write(), got {type(f).__name__}")


def _write_archive(stream: Any, root: str, pickle: bytes, storages: list[Storage]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _write_record(archive, f"{root}/data.pkl", memoryview(pickle))
        _write_record(archive, f"{root}/byteorder", memoryview(b"little"))
        for key, storage in enumerate(storages):
            _write_record(archive, f"{root}/data/{key}", _bytes_of(storage))
        _write_record(archive, f"{root}/version", memoryview(VERSION))


def _write_record(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    info = zipfile.ZipInfo(name)
    info.file_size = len(content)
    # Data begins at a multiple of 64 bytes, so that a reader may map the file.
    start = archive.start_dir + 30 + len(name.encode()) + 4
    padding = -start % ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    with archive.open(info, "w") as record:
        for begin in range(0, len(content), _CHUNK):
            record.write(content[begin : begin + _CHUNK])


def _bytes_of(storage: Storage) -> memoryview:
    """The storage's memory, little-endian."""
    if storage.host_shared and storage.host is not None:
        array = np.ascontiguousarray(storage.host)
    else:
        array = np.ascontiguousarray(engine.to_array(storage.node))
    raw: Any = array.reshape(-1).view(np.uint8)
    if np.little_endian or array.itemsize == 1:
        return memoryview(raw)
    swapped: Any = raw.reshape(-1, array.itemsize)[:, ::-1].tobytes()
    return memoryview(swapped)
