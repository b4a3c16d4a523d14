"""Making one batch of many samples.

What becomes of samples of a type says a table, ``default_collate_fn_map``, which users may add
their types to; containers are put together entry by entry.
"""

from __future__ import annotations

import collections.abc
import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.functional.bounds import remember_range
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

HOST_DEVICES = ("cpu", "numpy")
Collate = Callable[..., Any]
CollateMap = dict[Any, Collate]


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples put together along a new first dimension.

    Tensors, NumPy arrays and numbers become tensors; tuples, lists and dicts are put together
    entry by entry; strings and bytes stay lists. Raises ``TypeError`` for anything else,
    ``RuntimeError`` when samples have different lengths.

    >>> default_collate([(1, 2.0), (3, 4.0)])
    [tensor([1, 3]), tensor([2., 4.], dtype=torch.float64)]
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Any:
    """Samples put together by the function that the table has for their type, or the first in it
    for a class they are instances of; containers entry by entry.

    The function is called with the list of samples and the table as ``collate_fn_map``.

    >>> collate([(1, "a"), (2, "b")], collate_fn_map={int: lambda batch, **_: sum(batch),
    ...     str: lambda batch, **_: "".join(batch)})
    [3, 'ab']
    """
    first = batch[0]
    table = collate_fn_map or {}
    chosen = table.get(type(first))
    if chosen is None:
        chosen = next((table[kind] for kind in table if isinstance(first, kind)), None)
    if chosen is not None:
        return chosen(batch, collate_fn_map=collate_fn_map)

    def together(samples: Iterable[Any]) -> Any:
        return collate(list(samples), collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return _mapping_like(first, {key: together(s[key] for s in batch) for key in first})
    if not isinstance(first, collections.abc.Sequence):
        raise TypeError(_unknown(type(first)))
    if any(len(sample) != len(first) for sample in batch):
        raise RuntimeError("each element in list of batch should be of equal size")
    return _sequence_like(first, [together(column) for column in zip(*batch)])


def default_convert(data: Any) -> Any:
    """NumPy arrays become tensors, at any depth; the rest stays as it is.

    >>> default_convert({"x": np.arange(2), "name": "two"})
    {'x': tensor([0, 1]), 'name': 'two'}
    """
    if isinstance(data, (Tensor, str, bytes)):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUO" else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _mapping_like(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, collections.abc.Sequence):
        return _sequence_like(data, [default_convert(entry) for entry in data])
    return data


# Containers -----------------------------------------------------------------------------------


def _mapping_like(example: Mapping[Any, Any], built: dict[Any, Any]) -> Any:
    """``built`` as the example's own class, with whatever else the example has, if that can be."""
    try:
        if isinstance(example, MutableMapping):
            copied: Any = copy.copy(example)
            copied.update(built)
            return copied
        make: Callable[[Any], Any] = type(example)
        return make(built)
    except TypeError:
        return built


def _sequence_like(example: Sequence[Any], built: list[Any]) -> Any:
    """The same for sequences; tuples without names become lists, as in PyTorch."""
    if isinstance(example, tuple):
        named: Any = type(example)
        return named(*built) if hasattr(example, "_fields") else built
    try:
        if isinstance(example, MutableSequence):
            copied: Any = copy.copy(example)
            for place, entry in enumerate(built):
                copied[place] = entry
            return copied
        make: Callable[[Any], Any] = type(example)
        return make(built)
    except TypeError:
        return built


# Types ----------------------------------------------------------------------------------------


def stack_tensors(batch: Sequence[Tensor], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """Tensors along a new first dimension."""
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
    return with_range(made, array)


def with_range(made: Tensor, array: np.ndarray) -> Tensor:
    """``made``, which has the array's values, with the range of integers noted."""
    if array.dtype.kind in "iu" and array.size:
        remember_range(made, int(array.min()), int(array.max()))
    return made


def _stack_arrays(
    batch: Sequence[np.ndarray], *, collate_fn_map: CollateMap | None = None
) -> Tensor:
    if batch[0].dtype.kind in "SUO":
        raise TypeError(_unknown(batch[0].dtype))
    return from_host(np.stack(list(batch)), "cpu")


def _join_scalars(batch: Sequence[Any], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return from_host(np.array(batch), "cpu")


def _join_floats(batch: Sequence[float], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return functions.tensor(list(batch), dtype=dtypes.float64)  # type: ignore[no-any-return]


def _join_ints(batch: Sequence[int], *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return functions.tensor(list(batch))  # type: ignore[no-any-return]


def _as_it_is(batch: Any, *, collate_fn_map: CollateMap | None = None) -> Any:
    return batch


default_collate_fn_map: CollateMap = {
    Tensor: stack_tensors,
    np.ndarray: _stack_arrays,
    (np.bool_, np.number, np.object_): _join_scalars,
    float: _join_floats,
    int: _join_ints,
    str: _as_it_is,
    bytes: _as_it_is,
}


def _unknown(kind: Any) -> str:
    return (
        "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
        f"found {kind}"
    )
