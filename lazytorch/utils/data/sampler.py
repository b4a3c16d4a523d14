"""Samplers: the order in which a loader takes samples, and how they form batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

import lazytorch as torch
from lazytorch import dtypes

Index = TypeVar("Index", covariant=True)


class Sampler(Generic[Index]):
    """A source of indices: a subclass defines ``__iter__`` and mostly ``__len__``."""

    def __init__(self, data_source: Any = None) -> None:
        """Nothing to keep; the argument is PyTorch's and unused."""

    def __iter__(self) -> Iterator[Index]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """A new random order each time, or draws with ``replacement``.

    ``num_samples`` defaults to the size of the data; more than that goes through several orders.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        _check_flag("replacement", replacement)
        _check_positive("num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many indices one pass yields; follows the data when not given."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        size, left = len(self.data_source), self.num_samples
        if self.replacement:
            drawn = torch.randint(0, size, (left,), dtype=dtypes.int64, generator=self.generator)
            yield from drawn.tolist()
            return
        while left > 0:
            order = torch.randperm(size, generator=self.generator).tolist()
            yield from order[:left]
            left -= size

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in a new random order each time."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for place in torch.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[place]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """``num_samples`` indices drawn with the given weights, which need not sum to one."""

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ) -> None:
        _check_positive("num_samples", num_samples)
        _check_flag("replacement", replacement)
        values = torch.as_tensor(weights, dtype=dtypes.float64)
        if values.dim() != 1:
            raise ValueError(
                "weights should be a 1d sequence but given weights have shape "
                f"{tuple(values.shape)}"
            )
        self.weights = values
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        weights = self.weights.numpy()
        if self.replacement:
            draws = torch.rand(self.num_samples, generator=self.generator).numpy()
            shares = np.cumsum(weights) / weights.sum()
            places = np.searchsorted(shares, draws.astype(np.float64), side="right")
        else:
            possible = int(np.count_nonzero(weights))
            if self.num_samples > possible:
                raise RuntimeError(
                    f"cannot draw {self.num_samples} samples without replacement from {possible} "
                    "indices of non-zero weight"
                )
            draws = torch.rand(len(weights), generator=self.generator).numpy()
            # The smallest of exponential draws with these rates come first with these weights.
            with np.errstate(divide="ignore"):
                times = -np.log1p(-draws.astype(np.float64)) / weights
            places = np.argsort(times, kind="stable")[: self.num_samples]
        return iter(np.minimum(places, len(weights) - 1).tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices of another sampler; the last may be shorter.

    >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        _check_positive("batch_size", batch_size)
        _check_flag("drop_last", drop_last)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def _check_positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{name} should be a positive integer value, but got {name}={value}")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        kind = ValueError if name == "drop_last" else TypeError
        raise kind(f"{name} should be a boolean value, but got {name}={value}")
