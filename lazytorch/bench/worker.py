"""A contestant's own process: does what the parent asks, one request at a time, and sleeps between.

Requests and answers are pickled objects over standard input and output. While another contestant
has its turn, this process waits in a blocking read and costs nothing.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from itertools import pairwise
from typing import Any, BinaryIO

from lazytorch.bench.peers import Contestant, NotAvailable, connect
from lazytorch.bench.peers.interface import Call
from lazytorch.bench.programs import weights
from lazytorch.bench.timing import batch_for, take_turn, warm_up
from lazytorch.bench.workload import Workload

# Losses that are compared.
COMPARED_LOSSES = 6
# A training step that is repeated too often on one batch ends in numbers so small that the
# processor handles them slowly.
MOST_STEPS_A_TURN = 30


class Worker:
    """Answers requests: each public method is one."""

    def __init__(self, contestant: Contestant) -> None:
        self.peer = connect(contestant)
        self.calls: dict[Any, Call] = {}
        self.pace: dict[Any, tuple[int, int]] = {}

    def versions(self) -> dict[str, str]:
        """What computes here."""
        return self.peer.versions()

    def prepare(self, workload: Workload, compiled: bool, seconds: float) -> dict[str, Any]:
        """Set a workload up, call it until it is steady, and bring its outputs back."""
        before = self.peer.counters()
        call = self.peer.prepare(workload, compiled)
        losses: list[float] = []

        def noting() -> Any:
            result = call()
            if len(losses) < COMPARED_LOSSES and workload.kind == "step":
                losses.append(result)
            return result

        warm = warm_up(noting, seconds)
        # However slow a step is: what goes wrong after some updates has to show.
        while workload.kind == "step" and len(losses) < COMPARED_LOSSES:
            noting()
        programs = self._since(before, "programs")
        before = self.peer.counters()
        result = call()
        batch = 1 if workload.kind == "step" else batch_for(warm.last)
        self.calls[compiled] = call
        self.pace[compiled] = (batch, MOST_STEPS_A_TURN if workload.kind == "step" else 10**6)
        return {
            "first": warm.first,
            "call": warm.last,
            "programs": programs,
            "launches": self._since(before, "launches"),
            "losses": losses,
            "outputs": [] if workload.kind == "step" else self.peer.export(result),
        }

    def _since(self, before: dict[str, int], name: str) -> int | None:
        now = self.peer.counters()
        return now[name] - before[name] if name in now else None

    def turn(self, compiled: bool, seconds: float) -> list[float]:
        """Seconds of single calls, for about ``seconds``."""
        batch, most = self.pace[compiled]
        return take_turn(self.calls[compiled], seconds, batch, most)

    def cold(self, workload: Workload, compiled: bool) -> dict[str, Any]:
        """Seconds of setting a training step up and of its first calls, in a process that has done
        nothing else."""
        # What every contestant would pay alike, and no training program pays.
        options = {name: v for name, v in workload.options.items() if name != "optimizer"}
        weights.initial(**options)
        times = [time.perf_counter()]
        call = self.peer.prepare(workload, compiled)
        times.append(time.perf_counter())
        losses = []
        for _ in range(2):
            losses.append(call())
            times.append(time.perf_counter())
        setup, first, second = (end - begin for begin, end in pairwise(times))
        return {"setup": setup, "first": first, "second": second, "losses": losses}

    def memory(self, compiled: bool) -> int | None:
        """Bytes that live at most during a call."""
        return self.peer.peak_memory(self.calls[compiled])

    def device_seconds(self, compiled: bool) -> float | None:
        """Seconds that kernels take of a call."""
        return self.peer.device_seconds(self.calls[compiled])

    def prepare_limit(self, name: str, nbytes: int) -> bool:
        """Make a limit of the device ready to be measured; whether it can be."""
        call = self.peer.limit(name, nbytes)
        if call is not None:
            self.calls[name] = call
        return call is not None

    def limit(self, name: str, calls: int) -> float:
        """The best of several measurements of a limit."""
        return max(self.calls[name]() for _ in range(calls))

    def clear(self) -> None:
        """Forget the workload."""
        self.calls.clear()
        self.peer.clear()


def answer(worker: Worker, request: tuple[Any, ...]) -> tuple[str, Any]:
    """('done', value), ('unavailable', why) or ('failed', traceback)."""
    name, *arguments = request
    try:
        return "done", getattr(worker, name)(*arguments)
    except NotAvailable as reason:
        return "unavailable", str(reason)
    except Exception:
        return "failed", traceback.format_exc()


def serve(contestant: Contestant, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the parent closes the pipe."""

    def reply(value: Any) -> None:
        pickle.dump(value, answers, protocol=5)
        answers.flush()

    try:
        worker = Worker(contestant)
    except Exception:
        reply(("failed", traceback.format_exc()))
        return
    reply(("done", worker.versions()))
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        reply(answer(worker, request))


def main() -> None:
    """Serve on the standard streams; whatever a library prints goes to standard error instead."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(pickle.load(sys.stdin.buffer), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
