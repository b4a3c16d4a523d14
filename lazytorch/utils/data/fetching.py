"""Making the next batch of a dataset, in whatever process that happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from lazytorch.tensor.tensor import Tensor
from lazytorch.utils.data.collate import default_collate, default_collate_fn_map, stack_tensors
from lazytorch.utils.data.dataset import HostRows


class Fetching(NamedTuple):
    """How a loader makes batches: ``batches`` says that there are batches at all, ``batch_size``
    is looked at for ``iterable`` datasets only, where no sampler makes lists of indices."""

    collate: Callable[[Any], Any]
    iterable: bool
    batches: bool
    batch_size: int | None
    drop_last: bool

    def of(self, dataset: Any) -> Callable[[Any], Any]:
        """The function that makes a batch of what the sampler says.

        For an iterable dataset it takes the next samples, whatever it is given, and raises
        ``StopIteration`` at the end.
        """
        if self.iterable:
            stream = self.stream(dataset)
            return lambda _: next(stream)
        if not self.batches:
            return lambda index: self.collate(dataset[index])
        collated = getattr(dataset, "collated", None)
        if isinstance(dataset, Tensor):
            rows, collated = HostRows(), lambda indices: rows.rows(dataset, np.asarray(indices))
        return lambda indices: self._batch(dataset, indices, collated)

    def stream(self, dataset: Any) -> Iterator[Any]:
        """The batches of an iterable dataset."""
        samples = iter(dataset)
        if self.batch_size is None:
            for sample in samples:
                yield self.collate(sample)
            return
        while batch := list(islice(samples, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield self.collate(batch)

    def _batch(self, dataset: Any, indices: Any, collated: Callable[[Any], Any] | None) -> Any:
        if collated is not None and self.collate is default_collate:
            if default_collate_fn_map[Tensor] is stack_tensors:
                return collated(indices)
        if callable(getattr(dataset, "__getitems__", None)):
            return self.collate(dataset.__getitems__(indices))
        return self.collate([dataset[index] for index in indices])
