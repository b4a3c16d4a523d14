"""Making one batch of many samples."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.functional.bounds import remember_range
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

HOST_DEVICES = ("cpu", "numpy")


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples put together along a new first dimension.

    Tensors, NumPy arrays and numbers become tensors; tuples, lists and dicts are put together
    entry by entry; strings and bytes stay lists. Raises ``TypeError`` for anything else,
    ``RuntimeError`` when samples have different lengths.

    >>> default_collate([(1, 2.0), (3, 4.0)])
    [tensor([1, 3]), tensor([2., 4.], dtype=torch.float64)]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack_tensors(batch)
    if isinstance(first, np.ndarray):
        if first.dtype.kind in "SUO":
            raise TypeError(_unknown(first.dtype))
        return from_host(np.stack(list(batch)), "cpu")
    if isinstance(first, np.generic):
        return from_host(np.array(batch), "cpu")
    if isinstance(first, float):
        return functions.tensor(list(batch), dtype=dtypes.float64)
    if isinstance(first, int):
        return functions.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([s[key] for s in batch]) for key in first})
    if isinstance(first, collections.abc.Sequence):
        return _collate_sequences(batch)
    raise TypeError(_unknown(type(first)))


def _collate_sequences(batch: Sequence[Any]) -> Any:
    first = batch[0]
    if any(len(sample) != len(first) for sample in batch):
        raise RuntimeError("each element in list of batch should be of equal size")
    columns = [default_collate(list(column)) for column in zip(*batch)]
    if hasattr(first, "_fields"):
        return type(first)(*columns)
    # Tuples become lists, as in PyTorch.
    return columns if isinstance(first, tuple) else _like(first, columns)


def _stack_tensors(batch: Sequence[Tensor]) -> Tensor:
    first = batch[0]
    if first.device.type in HOST_DEVICES and not any(tensor.requires_grad for tensor in batch):
        if any(tensor.shape != first.shape for tensor in batch):
            place = next(p for p, tensor in enumerate(batch) if tensor.shape != first.shape)
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first.shape)} at "
                f"entry 0 and {list(batch[place].shape)} at entry {place}"
            )
        # On the host: rows of a tensor in memory would otherwise make every batch another
        # computation (other offsets), to be compiled and used once.
        stacked = np.stack([functions.peek(tensor) for tensor in batch])
        return from_host(stacked, first.device)
    return torch.stack(list(batch))


def from_host(array: np.ndarray, device: Any) -> Tensor:
    """An array as a tensor; the range of integers is noted, so that checks of labels and
    indices need not wait for the device to look at them again."""
    made: Tensor = functions.tensor(array, device=device)
    if array.dtype.kind in "iu" and array.size:
        remember_range(made, int(array.min()), int(array.max()))
    return made


def default_convert(data: Any) -> Any:
    """NumPy arrays become tensors, at any depth; the rest stays as it is."""
    if isinstance(data, (Tensor, str, bytes)):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(default_convert(entry) for entry in data))
    if isinstance(data, tuple):
        return [default_convert(entry) for entry in data]
    if isinstance(data, collections.abc.Sequence):
        return _like(data, [default_convert(entry) for entry in data])
    return data


def _like(example: Any, built: Any) -> Any:
    """``built`` in the example's own class, where that can be made from it."""
    make: Callable[[Any], Any] = type(example)
    try:
        return make(built)
    except TypeError:
        return built


def _unknown(kind: Any) -> str:
    return (
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {kind}"
    )
