"""DataLoader: batches of a dataset, made in this process or in workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lazytorch as torch
from lazytorch.utils.data.collate import default_collate, default_convert
from lazytorch.utils.data.dataset import IterableDataset
from lazytorch.utils.data.fetching import Fetching
from lazytorch.utils.data.parallel import Options, ParallelIterator, context_of
from lazytorch.utils.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from lazytorch.utils.data.worker import Entry, Job

_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class DataLoader:
    """Iterates over a dataset in batches; a new iteration begins a new pass.

    ``shuffle`` takes a new order each pass (from ``generator``), ``sampler`` or ``batch_sampler``
    decide the order themselves, ``drop_last`` leaves out a shorter last batch, ``collate_fn``
    makes the batch of a list of samples, ``batch_size=None`` yields single samples. Options that
    contradict each other raise ``ValueError``; ``pin_memory`` changes nothing.

    With ``num_workers`` processes each keeps ``prefetch_factor`` batches (default 2) ahead.
    Batches come in the sampler's order, with ``in_order=False`` as they are finished. Worker i
    starts with the seed "base + i" for this package, ``random`` and NumPy, calls
    ``worker_init_fn(i)`` and then serves one pass, with ``persistent_workers`` all of them. An
    iterable dataset is read whole by every worker unless it asks :func:`get_worker_info` for its
    part. ``multiprocessing_context`` is how they start: "fork", "spawn", "forkserver". A worker
    computes with NumPy: it may use tensors of the ``cpu`` device, but opens no OpenCL device. Its
    exceptions are raised here with its traceback; when one dies, or a batch takes longer than
    ``timeout`` seconds, ``RuntimeError``.

    >>> data = TensorDataset(torch.arange(5))
    >>> [batch[0].tolist() for batch in DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        if multiprocessing_context is not None:
            _check_context(num_workers, multiprocessing_context)
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            _check_iterable(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, "
                    "sampler, and drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with "
                "drop_last"
            )
        if sampler is None and not iterable:
            sampler = (
                RandomSampler(dataset, generator=generator)
                if shuffle
                else SequentialSampler(dataset)
            )
        if batch_size is not None and batch_sampler is None and not iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self._iterable = iterable
        self._batches = batch_size is not None or batch_sampler is not None
        if collate_fn is None:
            collate_fn = default_collate if self._batches else default_convert
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        self._iterator: ParallelIterator | None = None
        self._initialized = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and self.__dict__.get("_initialized"):
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            )
        super().__setattr__(name, value)

    def __len__(self) -> int:
        if not self._iterable:
            return len(self.batch_sampler if self._batches else self.sampler)
        size = len(self.dataset)
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        # Drawn without workers too: the order of samples must not depend on their number.
        seed = _random_seed(self.generator)
        fetching = Fetching(
            self.collate_fn, self._iterable, self._batches, self.batch_size, self.drop_last
        )
        if self.num_workers == 0:
            return self._here(fetching)
        before = self._iterator
        if before is not None and before.usable:
            before.begin()
            return before
        job = Job(Entry(), self.dataset, fetching, self.num_workers, seed, self.worker_init_fn)
        # The loader itself is kept out of it: a persistent iterator belongs to its loader, and
        # both must end with their last user.
        options = Options(
            self.prefetch_factor or 2,
            self.persistent_workers,
            self.in_order,
            self.timeout,
            self.multiprocessing_context,
        )
        made = ParallelIterator(job, self._source(), options)
        if self.persistent_workers:
            self._iterator = made
        return made

    def _here(self, fetching: Fetching) -> Iterator[Any]:
        if fetching.iterable:
            return fetching.stream(self.dataset)
        fetch = fetching.of(self.dataset)
        return (fetch(indices) for indices in self._source())

    def _source(self) -> Any:
        """What yields the indices of each batch, or single ones; None for an iterable dataset."""
        if self._iterable:
            return None
        return self.batch_sampler if self._batches else self.sampler

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None}


def _random_seed(generator: Any) -> int:
    drawn = torch.randint(0, 1 << 62, (), dtype=torch.int64, generator=generator, device="numpy")
    return int(drawn.item())


def _check_workers(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool
) -> None:
    if num_workers < 0:
        raise ValueError(
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing."
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers > 0:
        if prefetch_factor is not None and prefetch_factor < 1:
            raise ValueError("prefetch_factor option should be positive")
        return
    if prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if persistent:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_context(num_workers: int, context: Any) -> None:
    if num_workers == 0:
        raise ValueError(
            "multiprocessing_context can only be used with multi-process loading (num_workers > "
            f"0), but got num_workers={num_workers}"
        )
    context_of(context)


def _check_iterable(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    for name, value, unset in (
        ("shuffle", shuffle, (None, False)),
        ("sampler", sampler, (None,)),
        ("batch_sampler", batch_sampler, (None,)),
    ):
        if not any(value is default for default in unset):
            raise ValueError(
                f"DataLoader with IterableDataset: expected unspecified {name} option, "
                f"but got {name}={value}"
            )
