"""Compiling the parts of a long program in several processes at once.

Threads do not help: drivers serialize the builds of one process. So workers, processes of their
own that share no OpenCL object with this one, compile source and send binaries back. This page
knows jobs and processes, not what is done with a binary.

Nothing depends on a worker: this process compiles too, beginning at once, and takes over what a
worker does not deliver. A worker closes when it has been idle, and dies with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from typing import cast

from lazytorch import config, logs
from lazytorch.runtime import build_worker, discovery
from lazytorch.runtime.discovery import Candidate

# Seconds after which an idle worker goes, and after which one that compiles is given up.
IDLE_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
MOST_PROCESSES = 8


class Job:
    """One source to compile. Whoever claims it first, a worker or this process, compiles it."""

    def __init__(self, source: str, options: str) -> None:
        self.source = source
        self.options = options
        self._binary: bytes | None = None
        self._claimed = threading.Lock()
        self._done = threading.Event()

    def claim(self) -> bool:
        """Whether the caller is the first, and so has to do it."""
        return self._claimed.acquire(blocking=False)

    def finish(self, binary: bytes | None) -> None:
        """Called by a worker that claimed the job; ``None`` when it has no binary."""
        self._binary = binary
        self._done.set()

    def wait(self) -> bytes | None:
        """The binary of a job that a worker has claimed, or ``None`` when there will be none."""
        self._done.wait(PATIENCE_SECONDS)
        return self._binary


class Worker:
    """A process that compiles, and the thread of this process that hands jobs to it."""

    def __init__(self, candidate: Candidate, jobs: queue.SimpleQueue[Job]) -> None:
        self._jobs = jobs
        self.process = subprocess.Popen(
            discovery.child_command(build_worker.__file__, candidate),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=discovery.child_environment(),
        )
        self.running = True
        threading.Thread(target=self._work, name="lazytorch-build", daemon=True).start()

    def _work(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            # A worker that is not ready claims nothing, so nobody waits for its start.
            alive = build_worker.receive(self.process.stdout) is not None  # type: ignore[arg-type]
            while alive:
                job = self._jobs.get(timeout=IDLE_SECONDS)
                if not self.running or self.process.poll() is not None:
                    # Stopped, or died, while it was idle: the job is another worker's.
                    self._jobs.put(job)
                    return
                if job.claim():
                    binary = self._compile(job)
                    alive = binary is not None
                    job.finish(binary or None)
        except queue.Empty:
            pass
        finally:
            self.stop()

    def _compile(self, job: Job) -> bytes | None:
        """The binary; nothing for a source that does not compile, ``None`` after a death."""
        try:
            requests = cast("build_worker.BinaryIO", self.process.stdin)
            build_worker.send(requests, job.options.encode())
            build_worker.send(requests, job.source.encode())
            return build_worker.receive(cast("build_worker.BinaryIO", self.process.stdout))
        except (OSError, ValueError) as error:
            complaint = f"a build worker died: {error}"
            logs.write("build", lambda: complaint)
            return None

    def stop(self) -> None:
        """End the process; what it was compiling is lost."""
        self.running = False
        self.process.kill()
        self.process.wait()

    def abandon(self) -> None:
        """In a forked child: the process is the parent's, and must see the end of its input when
        the parent dies although this child lives."""
        self.running = False
        self.process.returncode = 0
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                os.close(cast("build_worker.BinaryIO", stream).fileno())


class Pool:
    """The workers of one device."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.workers: list[Worker] = []
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def start(self, count: int) -> None:
        """See to it that ``count`` workers run or are about to, if processes can be started."""
        with self._lock:
            self.workers = [worker for worker in self.workers if worker.running]
            try:
                while len(self.workers) < count:
                    self.workers.append(Worker(self.candidate, self._jobs))
            except OSError as error:
                complaint = f"no build worker: {error}"
                logs.write("build", lambda: complaint)

    def submit(self, sources: Sequence[str], options: str) -> list[Job]:
        """Offer sources to the workers, the first ones first; the caller claims some as well."""
        jobs = [Job(source, options) for source in sources]
        for job in jobs:
            self._jobs.put(job)
        return jobs

    def stop(self) -> None:
        """End every worker."""
        with self._lock:
            for worker in self.workers:
                worker.stop()
            self.workers.clear()


_pools: dict[tuple[str, ...], Pool] = {}


def processes() -> int:
    """How many processes may compile, this one included."""
    if not discovery.has_interpreter():
        return 1
    chosen: int = config.get("BUILD_PROCESSES")
    if chosen:
        return chosen
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def pool_of(candidate: Candidate) -> Pool:
    """The pool that compiles for a device; it has no workers before ``start``."""
    return _pools.setdefault(candidate.identity, Pool(candidate))


@atexit.register
def stop_all() -> None:
    """End every worker of this process."""
    for pool in list(_pools.values()):
        pool.stop()


def _forget_in_child() -> None:
    for pool in _pools.values():
        for worker in pool.workers:
            worker.abandon()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
