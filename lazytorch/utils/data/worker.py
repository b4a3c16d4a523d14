"""What runs in a loader's worker process: it fetches batches until the line is cut.

The process computes with NumPy alone. It ends when the loader hangs up, and soon after the
loader's process has died.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch.tensor.device import use_numpy_only
from lazytorch.utils.data.channel import PATIENCE_SECONDS, Channel, Message
from lazytorch.utils.data.fetching import Fetching

# Kinds of messages: to the worker, and from it.
BEGIN, FETCH = 0, 1
BATCH, END, ERROR = 2, 3, 4
_BARRED = (
    "in a worker of a DataLoader, which computes with NumPy. Keep data on 'cpu' in the dataset "
    "and move the batch in the training loop."
)


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker this is: its number of how many, its seed, and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """What a dataset may ask about the worker it runs in; None in the main process.

    >>> get_worker_info() is None
    True
    """
    return _info


class Entry:
    """Travels in front of the dataset: reading it bars the process from OpenCL, so that the
    dataset's tensors are made with NumPy."""

    def __reduce__(self) -> Any:
        return _enter, ()


def _enter() -> Entry:
    use_numpy_only(_BARRED)
    return Entry()


@dataclass(frozen=True)
class Job:
    """What every worker of a loader is told."""

    entry: Entry
    dataset: Any
    fetching: Fetching
    num_workers: int
    base_seed: int
    init: Callable[[int], None] | None


@dataclass(frozen=True)
class WorkerError:
    """An exception of a worker, to be raised again in the main process."""

    kind: type[BaseException]
    text: str

    @classmethod
    def of(cls, error: BaseException, number: int) -> WorkerError:
        """The exception with its traceback, as text: frames do not travel."""
        trace = "".join(traceback.format_exception(error))
        name = type(error).__name__
        return cls(
            type(error),
            f"Caught {name} in DataLoader worker process {number}.\nOriginal {trace}",
        )

    def error(self) -> BaseException:
        """The exception again; ``RuntimeError`` where its class wants more than a text."""
        if self.kind is KeyError:
            return _KeyErrorWithText(self.text)
        try:
            return self.kind(self.text)
        except Exception:
            return RuntimeError(self.text)


class _KeyErrorWithText(KeyError):
    """A KeyError that shows its text as it is, lines and all."""

    def __str__(self) -> str:
        return str(self.args[0])


def run(job: Job, number: int, channel: Channel, foreign: Sequence[Channel]) -> None:
    """A worker's life. ``foreign`` are lines of the loader that a fork left open here."""
    _enter()
    # Ctrl-C reaches every process of a terminal; the loader decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in foreign:
        line.close()
    worker = _Worker(job, number, channel)
    try:
        worker.serve()
    except (EOFError, ConnectionError):
        # The loader hung up, or is no more.
        channel.close()


class _Worker:
    def __init__(self, job: Job, number: int, channel: Channel) -> None:
        self._job = job
        self._number = number
        self._channel = channel
        self._waiting: deque[Message] = deque()
        self._parent = os.getppid()
        self._fetch: Callable[[Any], Any] = _nothing
        self._failed: WorkerError | None = None
        self._try(self._prepare)

    def _prepare(self) -> None:
        global _info
        job, number = self._job, self._number
        seed = job.base_seed + number
        random.seed(seed)
        torch.manual_seed(seed)
        np.random.seed(np.random.SeedSequence([job.base_seed, number]).generate_state(4))
        _info = WorkerInfo(number, job.num_workers, seed, job.dataset)
        if job.init is not None:
            job.init(number)

    def _try(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception as error:
            self._failed = WorkerError.of(error, self._number)

    def _begin(self) -> None:
        self._fetch = self._job.fetching.of(self._job.dataset)

    def serve(self) -> None:
        """Answer until the line is cut."""
        while True:
            message = self._waiting.popleft() if self._waiting else self._next()
            if message.kind == BEGIN:
                if self._failed is None:
                    self._try(self._begin)
                continue
            kind, value = self._answer(message)
            self._channel.wait_until_writable(self._meanwhile)
            self._send(message, kind, value)

    def _next(self) -> Message:
        while not self._channel.connection.poll(PATIENCE_SECONDS):
            self._check_loader()
        return self._channel.receive()

    def _meanwhile(self) -> None:
        """While there is no room for an answer: questions are taken in, or the loader would wait
        for room as well."""
        if self._channel.connection.poll():
            self._waiting.append(self._channel.receive())
        else:
            self._check_loader()

    def _check_loader(self) -> None:
        """Another process may hold a dead loader's end of the line."""
        if os.getppid() != self._parent:
            raise EOFError

    def _answer(self, message: Message) -> tuple[int, Any]:
        if self._failed is not None:
            return ERROR, self._failed
        try:
            return BATCH, self._fetch(message.value())
        except StopIteration as error:
            if self._job.fetching.iterable:
                return END, None
            return ERROR, WorkerError.of(error, self._number)
        except Exception as error:
            return ERROR, WorkerError.of(error, self._number)

    def _send(self, message: Message, kind: int, value: Any) -> None:
        place = message.epoch, message.number
        try:
            self._channel.send(kind, *place, value)
        except ConnectionError:
            raise
        except Exception as error:
            # What cannot be pickled: the batch, or the class of an exception.
            if kind == ERROR:
                refused = WorkerError(RuntimeError, value.text)
            else:
                refused = WorkerError.of(error, self._number)
            self._send(message, ERROR, refused)


def _nothing(_: Any) -> Any:
    raise StopIteration
