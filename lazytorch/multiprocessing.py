"""torch.multiprocessing: Python's ``multiprocessing``; tensors are sent as copies.

PyTorch's sends tensors through shared memory. Here a tensor that is put in a queue is pickled:
the receiver has its own. Processes compute on devices of their own; a forked child may use
tensors of the ``cpu`` and ``numpy`` devices.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Callable
from multiprocessing import *  # noqa: F403 - the names of that module are those of this one
from typing import Any

from lazytorch.errors import LazytorchError


class ProcessRaisedException(LazytorchError):
    """A process that ``spawn`` started ended with an exception; the text holds its traceback."""


class ProcessExitedException(LazytorchError):
    """A process that ``spawn`` started ended without one, with another status than 0."""


def get_all_sharing_strategies() -> set[str]:
    """How tensors may be sent: one way."""
    return {"file_system"}


def get_sharing_strategy() -> str:
    """How tensors are sent."""
    return "file_system"


def set_sharing_strategy(new_strategy: str) -> None:
    """Kept for programs that set it: tensors are sent as copies in any case."""


class SpawnContext:
    """The processes that ``spawn`` started."""

    def __init__(self, processes: list[Any], errors: list[Any]) -> None:
        self.processes, self._errors = processes, errors

    def pids(self) -> list[Any]:
        """The numbers of the processes."""
        return [process.pid for process in self.processes]

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the processes; whether all have ended well.

        The first that fails ends the others, and its error is raised here.
        """
        waiting = {process.sentinel: number for number, process in enumerate(self.processes)}
        while waiting:
            ended = multiprocessing.connection.wait(list(waiting), timeout)
            if not ended:
                return False
            for sentinel in ended:
                number = waiting.pop(sentinel)  # type: ignore[arg-type]
                process = self.processes[number]
                process.join()
                if process.exitcode:
                    self._fail(number)
        return True

    def _fail(self, number: int) -> None:
        for process in self.processes:
            if process.is_alive():
                process.terminate()
            process.join()
        receiver = self._errors[number]
        if receiver.poll():
            raise ProcessRaisedException(
                f"\n\n-- Process {number} terminated with the following error:\n{receiver.recv()}"
            )
        raise ProcessExitedException(
            f"process {number} terminated with exit code {self.processes[number].exitcode}"
        )


def _run(function: Callable[..., Any], number: int, args: tuple[Any, ...], errors: Any) -> None:
    try:
        function(number, *args)
    except KeyboardInterrupt:
        pass
    except BaseException:
        errors.send(traceback.format_exc())
        raise SystemExit(1) from None


def start_processes(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> SpawnContext | None:
    """Run ``fn(number, *args)`` in ``nprocs`` processes; waits for them when ``join``."""
    context: Any = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for number in range(nprocs):
        receiver, sender = context.Pipe(False)
        process = context.Process(target=_run, args=(fn, number, args, sender), daemon=daemon)
        process.start()
        sender.close()
        processes.append(process)
        errors.append(receiver)
    started = SpawnContext(processes, errors)
    if not join:
        return started
    started.join()
    return None


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
) -> SpawnContext | None:
    """``start_processes`` with new interpreters."""
    return start_processes(fn, args, nprocs, join, daemon)
