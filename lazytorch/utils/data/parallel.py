"""Batches made by worker processes: starting and ending them, sharing out work, keeping order.

Every worker has a line of its own, so one that dies can leave nothing locked or half-written for
the others. Nothing here runs in a thread: what workers finish waits in the lines until the next
batch is asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from lazytorch.utils.data.channel import Channel, Message
from lazytorch.utils.data.worker import BEGIN, END, ERROR, FETCH, Job, run

# How long a worker may take to finish what it is doing after the loader has hung up.
GRACE_SECONDS = 5.0


class WorkerPool:
    """The worker processes of one loader and the lines to them."""

    def __init__(self, job: Job, context: Any) -> None:
        self._processes: list[Any] = []
        self.channels: list[Channel] = []
        # Not a method: the pool would live as long as the finalizer.
        self.close = weakref.finalize(self, _end, os.getpid(), self._processes, self.channels)
        forks = context.get_start_method() == "fork"
        try:
            for number in range(job.num_workers):
                self._start(job, number, context, forks)
        except BaseException:
            self.close()
            raise

    def _start(self, job: Job, number: int, context: Any, forks: bool) -> None:
        ours, theirs = map(Channel, context.Pipe(duplex=True))
        self.channels.append(ours)
        foreign = list(self.channels) if forks else []
        process = context.Process(target=run, args=(job, number, theirs, foreign), daemon=True)
        try:
            process.start()
        finally:
            theirs.close()
        self._processes.append(process)

    def receive(self, seconds: float | None) -> list[tuple[int, Message]]:
        """Messages that are there, waited for; none when that takes longer than ``seconds``."""
        if not self.close.alive:
            raise RuntimeError("the workers of this DataLoader have ended: begin a new iteration")
        lines = {channel.connection: worker for worker, channel in enumerate(self.channels)}
        ends = {process.sentinel: worker for worker, process in enumerate(self._processes)}
        ready: list[Any] = wait([*lines, *ends], seconds)
        found = []
        for line in ready:
            if line in lines:
                with contextlib.suppress(EOFError, ConnectionError):
                    found.append((lines[line], self.channels[lines[line]].receive()))
        if found or not ready:
            return found
        self._processes[next(ends[end] for end in ready if end in ends)].join(1)
        raise self._complaint()

    def _complaint(self) -> RuntimeError:
        """What to say when a worker is gone; the others are ended."""
        dead = [process for process in self._processes if not process.is_alive()]
        numbers = ", ".join(str(process.pid) for process in dead)
        how = ", ".join(sorted({_how(process.exitcode) for process in dead}))
        self.close()
        return RuntimeError(
            f"DataLoader worker (pid(s) {numbers}) exited unexpectedly: {how}. A worker that is "
            "killed may have used too much memory; num_workers=0 shows errors where they happen."
        )


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _end(owner: int, processes: Sequence[Any], channels: Sequence[Channel]) -> None:
    """Hang up, wait a while, and end whoever has not left by then."""
    for channel in channels:
        channel.close()
    if os.getpid() != owner:
        return  # A forked child's copy.
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in processes:
            process.terminate()
            process.join(1)
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()


class Options(NamedTuple):
    """The loader's options that only workers need; named as there."""

    prefetch_factor: int
    persistent_workers: bool
    in_order: bool
    timeout: float
    multiprocessing_context: Any


class ParallelIterator(Iterator[Any]):
    """One pass over a loader's batches; with ``persistent_workers`` it begins again.

    ``source`` yields the indices of each batch, None for an iterable dataset.
    """

    def __init__(self, job: Job, source: Iterable[Any] | None, options: Options) -> None:
        self._source = source
        self._options = options
        self._count = job.num_workers
        self._pool = WorkerPool(job, context_of(options.multiprocessing_context))
        self._epoch = 0
        self.begin()

    def begin(self) -> None:
        """Start a pass; what is left of the one before is thrown away when it arrives."""
        self._epoch += 1
        source = self._source
        self._work: Iterator[Any] = itertools.repeat(None) if source is None else iter(source)
        self._sent = self._expected = 0
        # What was asked of which worker and not handed out yet, and what has arrived of it.
        self._asked: dict[int, int] = {}
        self._arrived: dict[int, Message] = {}
        self._active = [True] * self._count
        self._turns = itertools.cycle(range(self._count))
        self._tell_all(BEGIN)
        self._ask()

    def __next__(self) -> Any:
        while True:
            message = self._next_arrived()
            if message is not None:
                self._ask()
                if message.kind == END:
                    continue
                value = message.value()
                if message.kind == ERROR:
                    raise value.error()
                return value
            if not self._asked:
                if not self._options.persistent_workers:
                    self._pool.close()
                raise StopIteration
            self._receive()

    def _next_arrived(self) -> Message | None:
        number = self._expected
        if not self._options.in_order:
            number = next(iter(self._arrived), number)
        message = self._arrived.pop(number, None)
        if message is not None:
            del self._asked[number]
            self._expected += 1
        return message

    def _receive(self) -> None:
        try:
            arrived = self._pool.receive(self._options.timeout or None)
        except BaseException:
            # Whatever interrupts may have cut a message in two.
            self._pool.close()
            raise
        if not arrived:
            raise RuntimeError(f"DataLoader timed out after {self._options.timeout} seconds")
        for worker, message in arrived:
            if message.epoch != self._epoch:
                continue
            self._arrived[message.number] = message
            if message.kind == END:
                self._active[worker] = False

    def _ask(self) -> None:
        """Keep every worker supplied with ``prefetch_factor`` tasks."""
        while len(self._asked) < self._options.prefetch_factor * sum(self._active):
            try:
                indices = next(self._work)
            except StopIteration:
                return
            worker = self._chosen()
            self._asked[self._sent] = worker
            self._tell(worker, FETCH, self._sent, indices)
            self._sent += 1

    def _chosen(self) -> int:
        """Whose turn it is: in order, so that seeds decide what is drawn for which sample; with
        ``in_order=False`` who has least to do."""
        if self._options.in_order:
            return next(worker for worker in self._turns if self._active[worker])
        load = [0] * len(self._active)
        for number, worker in self._asked.items():
            load[worker] += number not in self._arrived
        return min((worker for worker, on in enumerate(self._active) if on), key=load.__getitem__)

    def _tell_all(self, kind: int) -> None:
        for worker in range(len(self._active)):
            self._tell(worker, kind, 0, None)

    def _tell(self, worker: int, kind: int, number: int, value: Any) -> None:
        try:
            # A worker that is gone is noticed, and told of, when its answer is waited for.
            with contextlib.suppress(ConnectionError):
                self._pool.channels[worker].send(kind, self._epoch, number, value)
        except KeyboardInterrupt:
            self._pool.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether the workers are still there for another pass."""
        return self._pool.close.alive


def context_of(chosen: Any) -> Any:
    """The multiprocessing context that a loader was given: a name, a context, or None.

    >>> context_of("spawn").get_start_method()
    'spawn'
    """
    if chosen is None:
        return multiprocessing.get_context()
    if isinstance(chosen, str):
        known = multiprocessing.get_all_start_methods()
        if chosen not in known:
            raise ValueError(
                "multiprocessing_context option should specify a valid start method in "
                f"{known}, but got multiprocessing_context={chosen!r}"
            )
        return multiprocessing.get_context(chosen)
    if not isinstance(chosen, multiprocessing.context.BaseContext):
        raise TypeError(
            "multiprocessing_context option should be a valid context object or a string "
            f"specifying the start method, but got multiprocessing_context={chosen!r}"
        )
    return chosen
