"""Runs workloads: every contestant in its own process, taking turns, outputs compared first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch.bench.compare import difference, loss_difference
from lazytorch.bench.peers import REFERENCES, Contestant, NotAvailable
from lazytorch.bench.process import ContestantFailed, WorkerProcess
from lazytorch.bench.programs.numpy_kernels import PROGRAMS as NUMPY_PROGRAMS
from lazytorch.bench.results import Outcome, Result
from lazytorch.bench.timing import Spread
from lazytorch.bench.workload import Workload

ROUNDS = 6
# Threads of a library keep spinning for some milliseconds after its work is done; the next
# contestant's turn begins when they sleep.
PAUSE_SECONDS = 0.02
# Rounds are fewer where they would take longer than this many times the wanted seconds.
PATIENCE = 3.0
LIMIT_CALLS = {"peak": 12, "copy": 3}
# Below this, a copy is mostly the launch.
SMALLEST_COPY = 1 << 20


class Contest:
    """Workers that stay alive from workload to workload."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        seconds: float,
        environment: dict[str, str] | None = None,
    ) -> None:
        # Whom the others are compared with comes first.
        order = {name: place for place, name in enumerate(REFERENCES)}
        self.contestants = sorted(contestants, key=lambda c: order.get(c.library, len(order)))
        self.seconds = seconds
        self._workers: dict[Contestant, WorkerProcess] = {
            contestant: WorkerProcess(contestant, environment) for contestant in contestants
        }

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def versions(self) -> dict[str, str]:
        """Of everything that was started."""
        found: dict[str, str] = {}
        for worker in self._workers.values():
            found |= worker.versions
        return found

    def worker(self, contestant: Contestant) -> WorkerProcess:
        """The process of a contestant. The two ways of a library have one each: the peak memory
        of the one must not hold the model of the other."""
        return self._workers[contestant]

    def run(self, workload: Workload) -> Outcome:
        """Measure one workload with everyone it is for."""
        outcome = Outcome(
            workload.name, workload.group, workload.flops, workload.nbytes, workload.goals
        )
        reference: dict[str, Any] | None = None
        ready: list[tuple[Contestant, Result, float]] = []
        for contestant in self._entrants(workload):
            result = Result(contestant.label, contestant.ours, contestant.compiled)
            outcome.results.append(result)
            answer = self._prepare(workload, contestant, result)
            if answer is None:
                continue
            if reference is None and contestant.library in REFERENCES:
                reference, outcome.reference = answer, contestant.label
            elif reference is None:
                result.status, result.reason = "unverified", "no reference runs this workload"
            else:
                result.reason = _complaint(workload, answer, reference)
                result.status = "wrong" if result.reason else "ok"
            if result.status != "wrong":
                ready.append((contestant, result, answer["call"]))
        self._measure(workload, ready, outcome)
        for worker in self._workers.values():
            if worker.alive:
                worker.ask("clear")
        return outcome

    def _entrants(self, workload: Workload) -> list[Contestant]:
        """Whom a workload is for."""

        def wanted(contestant: Contestant) -> bool:
            if contestant.library == "numpy" and workload.program not in NUMPY_PROGRAMS:
                return False
            if contestant.ours and contestant.compiled and not workload.replayed:
                return False
            if workload.only == "eager":
                return contestant.looks_eager
            if workload.only == "compiled":
                # JAX's way of compiling is the one it always takes.
                return not contestant.looks_eager or contestant.library in ("jax", "numpy")
            return True

        return [contestant for contestant in self.contestants if wanted(contestant)]

    def _prepare(
        self, workload: Workload, contestant: Contestant, result: Result
    ) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.worker(contestant).ask(
                "prepare", workload, contestant.compiled, self.seconds / 4
            )
        except NotAvailable as reason:
            result.status, result.reason = "unavailable", str(reason)
            return None
        except ContestantFailed as error:
            result.status, result.reason = "failed", str(error)
            return None
        result.first = answer["first"]
        result.programs = answer["programs"]
        result.launches = answer["launches"]
        return answer

    def _measure(
        self, workload: Workload, ready: list[tuple[Contestant, Result, float]], outcome: Outcome
    ) -> None:
        if not ready:
            return
        samples: dict[str, list[float]] = {result.contestant: [] for _, result, _ in ready}
        limits = self._limits(workload, outcome)
        turn = self.seconds / ROUNDS / len(ready)
        rounds = {
            result.contestant: max(1, min(ROUNDS, int(PATIENCE * self.seconds / call)))
            for _, result, call in ready
        }
        order = list(ready)
        for number in range(ROUNDS):
            for measure in limits:
                measure()
            for contestant, result, _ in order:
                if number >= rounds[result.contestant] or result.status == "failed":
                    continue
                time.sleep(PAUSE_SECONDS)
                try:
                    taken = self.worker(contestant).ask("turn", contestant.compiled, turn)
                    samples[result.contestant] += taken
                except ContestantFailed as error:
                    result.status, result.reason = "failed", str(error)
            order.reverse()
        for contestant, result, _ in ready:
            if result.status == "failed":
                continue
            result.times = Spread.of(samples[result.contestant])
            if workload.kind == "step" or workload.group in ("steps", "tiny", "growth"):
                self._look_inside(contestant, result)

    def _look_inside(self, contestant: Contestant, result: Result) -> None:
        """Memory and time in kernels, after everything else: measuring them changes the pace."""
        ask = self.worker(contestant).ask
        try:
            result.memory = ask("memory", contestant.compiled)
            result.device_seconds = ask("device_seconds", contestant.compiled)
        except ContestantFailed as error:
            result.status, result.reason = "failed", str(error)

    def _limits(self, workload: Workload, outcome: Outcome) -> list[Callable[[], None]]:
        """What measures the limits once more; they are of the first device that has any."""
        names = ["peak"] if workload.flops else []
        if workload.nbytes >= SMALLEST_COPY:
            names.append("copy")
        for contestant in self.contestants:
            worker = self.worker(contestant)
            if not contestant.ours or contestant.device == "numpy" or not worker.alive:
                continue

            def measure(name: str, worker: WorkerProcess = worker) -> None:
                time.sleep(PAUSE_SECONDS)
                rate = worker.ask("limit", name, LIMIT_CALLS[name])
                outcome.limits[name] = max(outcome.limits.get(name, 0.0), rate)

            try:
                found = [n for n in names if worker.ask("prepare_limit", n, int(workload.nbytes))]
            except ContestantFailed:
                # The device itself fails, which its results say already.
                continue
            return [lambda name=name: measure(name) for name in found]  # type: ignore[misc]
        return []


def _complaint(workload: Workload, answer: dict[str, Any], reference: dict[str, Any]) -> str:
    """'' when an answer agrees with the reference's."""
    if workload.kind == "step":
        return loss_difference(answer["losses"], reference["losses"], workload.tolerance)
    outputs: list[np.ndarray] = answer["outputs"]
    return difference(outputs, reference["outputs"], workload.tolerance)
