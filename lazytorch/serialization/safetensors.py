"""Files of the safetensors format: a flat dict of named tensors, and texts beside them.

The ``safetensors`` library reads and writes the format; here its arrays become tensors, and what
it finds wrong with a file a ``CheckpointError``. The names are those of ``safetensors.torch``.
The format has no checksums: changed data is not noticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.errors import CheckpointError
from lazytorch.serialization.replacing import replacing
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

DTYPES: dict[str, DType] = {
    "F64": dtypes.float64,
    "F32": dtypes.float32,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "I64": dtypes.int64,
    "I32": dtypes.int32,
    "I16": dtypes.int16,
    "I8": dtypes.int8,
    "U64": dtypes.uint64,
    "U32": dtypes.uint32,
    "U16": dtypes.uint16,
    "U8": dtypes.uint8,
    "BOOL": dtypes.bool_,
    "C64": dtypes.complex64,
}


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a file by name.

    >>> save_file({"w": torch.ones(2)}, "model.safetensors")
    >>> load_file("model.safetensors")
    {'w': tensor([1., 1.])}
    """
    with open(filename, "rb") as stream:
        return load(stream.read(), device)


def load(data: bytes, device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors of a file's bytes by name; ``CheckpointError`` for anything else."""
    pairs = _checked(lambda: safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    return {name: _tensor(name, facts).to(device=device) for name, facts in pairs}  # type: ignore[attr-defined]


def save_file(
    tensors: Mapping[str, Tensor],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors, and texts beside them. The old file or the whole new one is there
    afterwards, whatever happens."""
    data = save(tensors, metadata)
    with replacing(filename) as stream:
        stream.write(data)


def save(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file as bytes. Tensors are written one by one: ``RuntimeError`` for those that share
    memory, which the format cannot express."""
    owners: dict[int, str] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"Key `{name}` is invalid, expected torch.Tensor but received "
                f"{type(tensor).__name__}"
            )
        storage = id(tensor.untyped_storage())  # type: ignore[attr-defined]
        if storage in owners:
            raise RuntimeError(
                f"Some tensors share memory: {owners[storage]!r} and {name!r}; save one of them, "
                "or a clone() of the second"
            )
        owners[storage] = name
        if tensor.dtype not in DTYPES.values():
            raise CheckpointError(f"the safetensors format has no {tensor.dtype} (key {name!r})")
        detached = tensor.detach()  # type: ignore[attr-defined]
        # ascontiguousarray would make one dimension of none.
        arrays[name] = np.asarray(functions.peek(detached), order="C")
    texts = None if metadata is None else dict(metadata)
    written: bytes = _checked(lambda: safetensors.numpy.save(arrays, texts))
    return written


def _checked(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"no safetensors file, or a damaged one: {error}") from error


def _tensor(name: str, facts: Mapping[str, Any]) -> Tensor:
    dtype = DTYPES.get(facts["dtype"])
    if dtype is None:
        raise CheckpointError(
            f"tensor {name!r} has the dtype {facts['dtype']}, which lazytorch does not have"
        )
    raw = np.frombuffer(facts["data"], np.uint8)
    if dtype is dtypes.bool_ and len(raw) and raw.max() > 1:
        raise CheckpointError(f"tensor {name!r} holds bytes that are no booleans")
    if not raw.flags.writeable:
        raw = raw.copy()
    array = raw.view(dtype.numpy).reshape(facts["shape"])
    return torch.from_numpy(array)  # type: ignore[no-any-return]
