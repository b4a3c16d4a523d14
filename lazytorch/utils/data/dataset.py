"""Datasets: things with samples, by index or one after the other.

A dataset may offer ``collated(indices)``: a whole batch at once, as ``default_collate`` would
build it. Rows taken one by one from a tensor would make every batch another computation (other
offsets), to be compiled and used once.
"""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import lazytorch as torch
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor
from lazytorch.utils.data.collate import HOST_DEVICES, from_host

Sample = TypeVar("Sample", covariant=True)


class Dataset(Generic[Sample]):
    """Samples by index: a subclass defines ``__getitem__`` and mostly ``__len__``."""

    def __getitem__(self, index: Any) -> Sample:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample]):
    """Samples one after the other: a subclass defines ``__iter__``."""

    def __iter__(self) -> Iterator[Sample]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Any) -> Any:
        return ChainDataset([self, other])


class TensorDataset(Dataset[Any]):
    """Rows of tensors that all have the same first dimension.

    >>> data = TensorDataset(torch.arange(4), torch.arange(4) * 2)
    >>> data[3]
    (tensor(3), tensor(6))
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        if any(tensors[0].size(0) != tensor.size(0) for tensor in tensors):
            raise AssertionError(
                "Size mismatch between tensors: first dimensions are "
                f"{[tensor.size(0) for tensor in tensors]}"
            )
        self.tensors = tensors
        self._hosts = [HostRows() for _ in tensors]

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].size(0)  # type: ignore[no-any-return]

    def collated(self, indices: Sequence[int]) -> list[Tensor]:
        """The batch of the given rows."""
        places = np.asarray(indices, np.int64)
        return [host.rows(tensor, places) for host, tensor in zip(self._hosts, self.tensors)]


class HostRows:
    """Picks rows of a tensor: copied in memory on the host, gathered by one kernel elsewhere.

    The tensor's memory is looked up once for each version: looking waits for the device, and a
    training loop that waits in every step computes and records in turns instead of at once.
    """

    def __init__(self) -> None:
        self._array: Any = None
        self._seen: tuple[Any, int] = (None, -1)

    def rows(self, tensor: Any, places: np.ndarray) -> Tensor:
        if tensor.device.type not in HOST_DEVICES or tensor.requires_grad:
            return tensor[torch.from_numpy(places).to(device=tensor.device)]  # type: ignore[no-any-return]
        storage = tensor.untyped_storage()
        version = storage.version
        if self._seen[0] is not storage or self._seen[1] != version:
            self._array, self._seen = functions.peek(tensor), (storage, version)
        return from_host(self._array[places], tensor.device)

    def __getstate__(self) -> dict[str, Any]:
        return {"_array": None, "_seen": (None, -1)}


class StackDataset(Dataset[Any]):
    """Samples of several datasets side by side, as tuples or, given by name, as dicts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like "
                "input/output, but both types are given."
            )
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets: Any = args or kwargs
        lengths = [len(dataset) for dataset in (args or kwargs.values())]
        if any(length != lengths[0] for length in lengths):
            raise ValueError("Size mismatch between datasets")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several samples; each dataset gives them at once if it can."""
        named = isinstance(self.datasets, dict)
        columns = [
            _items(dataset, indices)
            for dataset in (self.datasets.values() if named else self.datasets)
        ]
        rows = zip(*columns)
        return [dict(zip(self.datasets, row)) for row in rows] if named else list(rows)

    def __len__(self) -> int:
        return self._length


def _items(dataset: Any, indices: list[int]) -> Sequence[Any]:
    if not callable(getattr(dataset, "__getitems__", None)):
        return [dataset[index] for index in indices]
    items: Sequence[Any] = dataset.__getitems__(indices)
    if len(items) != len(indices):
        raise ValueError(
            f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(items)}"
        )
    return items


class ConcatDataset(Dataset[Any]):
    """Datasets one after the other, by index."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise AssertionError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        """Where each dataset ends."""
        return list(itertools.accumulate(len(dataset) for dataset in sequence))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        place = bisect.bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[place - 1] if place else 0
        return self.datasets[place][index - start]


class ChainDataset(IterableDataset[Any]):
    """Iterable datasets one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError("ChainDataset only supports IterableDataset")
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


class Subset(Dataset[Any]):
    """The samples of a dataset at the given indices."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[place] for place in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        chosen = [self.indices[place] for place in indices]
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.dataset.__getitems__(chosen)  # type: ignore[no-any-return]
        return [self.dataset[index] for index in chosen]

    def __len__(self) -> int:
        return len(self.indices)

    def __getattr__(self, name: str) -> Any:
        # Offered exactly where the dataset below offers it.
        if name == "collated":
            below = self.dataset.collated
            return lambda places: below([self.indices[place] for place in places])
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Any = None
) -> list[Subset]:
    """Divide a dataset at random into parts of the given lengths, or fractions that sum to 1.

    >>> [len(part) for part in random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    sizes = _whole_lengths(len(dataset), lengths)
    if sum(sizes) != len(dataset):
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = torch.randperm(sum(sizes), generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes)]


def _whole_lengths(total: int, lengths: Sequence[int | float]) -> list[int]:
    if not (math.isclose(sum(lengths), 1) and sum(lengths) <= 1):
        return [int(length) for length in lengths]
    sizes = []
    for place, fraction in enumerate(lengths):
        if fraction < 0 or fraction > 1:
            raise ValueError(f"Fraction at index {place} is not between 0 and 1")
        sizes.append(math.floor(total * fraction))
    for place in range(total - sum(sizes)):
        sizes[place % len(sizes)] += 1
    for place, size in enumerate(sizes):
        if size == 0:
            warnings.warn(
                f"Length of split at index {place} is 0. This might result in an empty dataset.",
                stacklevel=3,
            )
    return sizes
