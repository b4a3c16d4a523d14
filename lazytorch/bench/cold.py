"""The first call in a fresh process, with empty caches and with those of the process before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lazytorch import config
from lazytorch.bench.compare import loss_difference
from lazytorch.bench.peers import Contestant, NotAvailable
from lazytorch.bench.process import ContestantFailed, WorkerProcess
from lazytorch.bench.results import ColdStart
from lazytorch.bench.table import milliseconds
from lazytorch.bench.workload import Workload

REPEATS = 2
# Seconds asked of lazytorch for (workload, caches).
ASKED = {
    ("mlp", "empty"): 1.5,
    ("mlp", "warm"): 0.4,
    ("gpt", "empty"): 5.0,
    ("gpt", "warm"): 0.8,
}
# Where each library and driver keeps what it compiled, so that a run can begin without.
CACHE_SETTINGS = (
    config.PREFIX + "CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "JAX_COMPILATION_CACHE_DIR",
    "POCL_CACHE_DIR",
    "NEO_CACHE_DIR",
    "XDG_CACHE_HOME",
)


def measure(
    workloads: Sequence[Workload],
    contestants: Sequence[Contestant],
    repeats: int = REPEATS,
    note: Callable[[str], None] = print,
) -> list[ColdStart]:
    """Start every contestant anew, ``repeats`` times each way; the best of each is kept. Losses are
    compared with those of the first contestant that has one."""
    results: list[ColdStart] = []
    with tempfile.TemporaryDirectory() as bytecode:
        for workload in workloads:
            best = _best(workload, contestants, repeats, bytecode)
            for item in best:
                note(line_of(item))
            results += best
    return results


def _best(
    workload: Workload, contestants: Sequence[Contestant], repeats: int, bytecode: str
) -> list[ColdStart]:
    """The best of all repetitions for every contestant and state of the caches."""
    reference: list[float] = []
    best: dict[tuple[str, str], ColdStart] = {}
    for _ in range(repeats):
        for contestant in contestants:
            with tempfile.TemporaryDirectory() as folder:
                environment = _environment(contestant, folder, bytecode)
                for caches in ("empty", "warm"):
                    found = _once(workload, contestant, caches, environment, reference)
                    held = best.get((contestant.label, caches))
                    if held is None or found.status != "ok" or found.seconds < held.seconds:
                        best[contestant.label, caches] = found
                    if found.status != "ok":
                        break
    return list(best.values())


def _environment(contestant: Contestant, folder: str, bytecode: str) -> dict[str, str]:
    """Settings under which nothing compiled is found but what an installation brings."""
    environment = {name: str(Path(folder) / name.lower()) for name in CACHE_SETTINGS}
    # JAX keeps by itself only what took long to compile.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if contestant.ours:
        # The peers are installed, with Python's bytecode; a checkout of ours may have none, and
        # gets it from its first start.
        environment |= {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    return environment


def _once(
    workload: Workload,
    contestant: Contestant,
    caches: str,
    environment: dict[str, str],
    reference: list[float],
) -> ColdStart:
    """One fresh process; fills ``reference`` if it is empty."""
    result = ColdStart(workload.name, contestant.label, caches)
    if contestant.ours and not contestant.compiled:
        result.asked = ASKED.get((workload.name, caches))
    worker = WorkerProcess(contestant, environment)
    try:
        answer = worker.ask("cold", workload, contestant.compiled)
    except NotAvailable as reason:
        result.status, result.reason = "unavailable", str(reason)
        return result
    except ContestantFailed as error:
        result.status, result.reason = "failed", str(error)
        return result
    finally:
        worker.close()
    result.start, result.setup = worker.start_seconds, answer["setup"]
    result.first, result.second = answer["first"], answer["second"]
    if not reference:
        reference += answer["losses"]
    result.reason = loss_difference(answer["losses"], reference, workload.tolerance)
    result.status = "wrong" if result.reason else "ok"
    return result


def heading() -> str:
    """The first line of the table."""
    return (
        f"{'fresh process':12} {'who':26} {'caches':6} {'start ms':>9} {'setup ms':>9} "
        f"{'first ms':>9} {'second ms':>9}  asked of setup and first"
    )


def line_of(item: ColdStart) -> str:
    """One line of the table."""
    head = f"{item.workload:12} {item.contestant:26} {item.caches:6}"
    if item.status != "ok":
        said = {"unavailable": "not available"}.get(item.status, item.status.upper())
        return f"{head} {said}: {item.reason.strip().splitlines()[-1]}"
    cells = (item.start, item.setup, item.first, item.second)
    text = f"{head} {' '.join(f'{milliseconds(value):>9}' for value in cells)}"
    if item.asked is None:
        return text
    mark = "✓" if item.seconds <= item.asked else "✗"
    return f"{text}  ≤ {item.asked * 1e3:g} ms: {milliseconds(item.seconds)} {mark}"
