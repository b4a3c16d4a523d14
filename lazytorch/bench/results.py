"""What a run found: plain records, and their JSON.

``docs/benchmarks.md`` describes the JSON for its readers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lazytorch.bench.peers import BEST_OF
from lazytorch.bench.timing import Spread
from lazytorch.bench.workload import Goal

SCHEMA = 1
# Statuses that mean lazytorch or a peer computed something else, or not at all.
BAD = ("wrong", "failed")


@dataclass
class Result:
    """One contestant on one workload.

    ``status`` is ``ok``; ``unverified`` (nobody to compare with); ``wrong``, ``failed`` or
    ``unavailable``, with a ``reason``. Seconds throughout; ``memory`` in bytes.
    """

    contestant: str
    ours: bool = False
    compiled: bool = False
    status: str = "ok"
    reason: str = ""
    first: float | None = None
    times: Spread | None = None
    launches: int | None = None
    programs: int | None = None
    memory: int | None = None
    device_seconds: float | None = None

    @property
    def outside_kernels(self) -> float | None:
        """The share of the minimum during which no kernel of lazytorch runs: Python that records,
        numbers and launches, and waiting for the answer."""
        if self.device_seconds is None or self.times is None:
            return None
        return max(0.0, 1 - self.device_seconds / self.times.minimum)


@dataclass
class Judged:
    """A goal and what was reached; ``value`` is ``None`` where there was nothing to compare."""

    goal: Goal
    contestant: str
    value: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the figure was reached; ``None`` where it is not known."""
        if self.value is None:
            return None
        at_most = self.goal.against in ("seconds", "memory")
        return self.value <= self.goal.value if at_most else self.value >= self.goal.value


@dataclass
class Outcome:
    """All contestants on one workload, and the limits measured beside them (flop/s, byte/s)."""

    workload: str
    group: str
    flops: float = 0.0
    nbytes: float = 0.0
    goals: tuple[Goal, ...] = ()
    reference: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def seconds(self, contestant: str) -> float | None:
        """The minimum of a contestant whose output was right."""
        return self._minimum(contestant, ("ok",))

    def measured(self, contestant: str) -> float | None:
        """The minimum of a contestant whose output was right, or that ran without anybody to
        compare with: enough to see how its own time grows."""
        return self._minimum(contestant, ("ok", "unverified"))

    def _minimum(self, contestant: str, statuses: tuple[str, ...]) -> float | None:
        for result in self.results:
            if result.contestant == contestant and result.times and result.status in statuses:
                return result.times.minimum
        return None

    def best_peer(self) -> tuple[str, float] | None:
        """The quickest of PyTorch, torch.compile and JAX, and its seconds."""
        found = [(t, name) for name in BEST_OF if (t := self.seconds(name)) is not None]
        return min(found)[::-1] if found else None  # type: ignore[return-value]

    def rates(self, result: Result) -> tuple[float | None, float | None]:
        """(flop/s, byte/s) at the minimum, for the work the task needs."""
        if result.times is None:
            return None, None
        seconds = result.times.minimum
        return (
            self.flops / seconds if self.flops else None,
            self.nbytes / seconds if self.nbytes else None,
        )

    def limit(self, result: Result) -> tuple[str, float] | None:
        """The limit that binds this task (``peak`` or ``copy``), and the share reached of it."""
        if result.times is None:
            return None
        needed = {"peak": self.flops, "copy": self.nbytes}
        least = {
            name: needed[name] / rate for name, rate in self.limits.items() if needed.get(name)
        }
        if not least:
            return None
        name = max(least, key=lambda key: least[key])
        return name, least[name] / result.times.minimum

    def judge(self) -> list[Judged]:
        """Every goal for every device of ours that it is for."""
        judged = []
        for result in self.results:
            if not result.ours:
                continue
            for goal in self.goals:
                # What is measured only compiled has only goals for that.
                if goal.compiled == result.compiled and result.status != "unavailable":
                    judged.append(Judged(goal, result.contestant, self._value(goal, result)))
        return judged

    def _value(self, goal: Goal, result: Result) -> float | None:
        if result.times is None or result.status != "ok":
            return None
        own = result.times.minimum
        if goal.against == "seconds":
            return own
        if goal.against == "memory":
            torch = next((r.memory for r in self.results if r.contestant == "torch"), None)
            return result.memory / torch if result.memory and torch else None
        if goal.against in ("peak", "copy"):
            needed = self.flops if goal.against == "peak" else self.nbytes
            rate = self.limits.get(goal.against)
            return needed / own / rate if rate else None
        if goal.against == "best":
            best = self.best_peer()
            return best[1] / own if best else None
        other = self.seconds(goal.against)
        return other / own if other is not None else None


@dataclass
class ColdStart:
    """One contestant's first call: seconds to start Python and import the library (``start``), to
    open the device and make the model (``setup``), and of the first and second call."""

    workload: str
    contestant: str
    caches: str
    status: str = "ok"
    reason: str = ""
    start: float = 0.0
    setup: float = 0.0
    first: float = 0.0
    second: float = 0.0
    asked: float | None = None

    @property
    def seconds(self) -> float:
        """What is judged: everything after the import."""
        return self.setup + self.first


@dataclass
class Growth:
    """A series of workloads that differ in one size; ``axis`` says which."""

    name: str
    axis: str
    sizes: tuple[int, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass
class TunedKernel:
    """A kernel of a workload with the rules' schedule (``default``) and with the best that tuning
    found, in seconds; ``schedule`` is that, ``None`` where the rules' own won."""

    workload: str
    device: str
    kernel: str
    default: float
    tuned: float
    tried: int
    discarded: int
    schedule: dict[str, Any] | None

    @property
    def ratio(self) -> float:
        """How many times the tuned kernel's time the default takes."""
        return self.default / self.tuned


@dataclass
class Report:
    """A whole run."""

    created: str
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    left_out: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    cold: list[ColdStart] = field(default_factory=list)
    tuned: list[TunedKernel] = field(default_factory=list)

    @property
    def bad(self) -> list[str]:
        """What was wrong or failed, as 'workload on contestant'."""
        outcomes = self.outcomes + [o for series in self.growth for o in series.outcomes]
        found = [
            f"{outcome.workload} on {result.contestant}"
            for outcome in outcomes
            for result in outcome.results
            if result.status in BAD
        ]
        return found + [
            f"{item.workload} on {item.contestant} in a fresh process"
            for item in self.cold
            if item.status in BAD
        ]


def geometric_mean(outcomes: Sequence[Outcome], contestant: str, peer: str) -> float | None:
    """The geometric mean of how many times quicker a contestant is than a peer."""
    ratios = [
        other / own
        for outcome in outcomes
        if (own := outcome.seconds(contestant)) and (other := outcome.seconds(peer))
    ]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def to_json(report: Report) -> str:
    """The report as JSON text, with the figures that follow from others written out."""
    record = {"schema": SCHEMA, **asdict(report)}
    for outcome, written in zip(report.outcomes, record["outcomes"]):
        _write_figures(outcome, written)
    for series, lines in zip(report.growth, record["growth"]):
        for outcome, written in zip(series.outcomes, lines["outcomes"]):
            _write_figures(outcome, written)
    return json.dumps(record, indent=1)


def _write_figures(outcome: Outcome, written: dict[str, Any]) -> None:
    """Add to a record of an outcome what follows from it."""
    best = outcome.best_peer()
    written["best_peer"] = best[0] if best else None
    written["judged"] = [
        {
            "asked": str(judged.goal),
            "contestant": judged.contestant,
            "value": judged.value,
            "reached": judged.reached,
        }
        for judged in outcome.judge()
    ]
    for result, line in zip(outcome.results, written["results"]):
        flops, nbytes = outcome.rates(result)
        limit = outcome.limit(result)
        times = result.times
        line |= {
            "flops_per_second": flops,
            "bytes_per_second": nbytes,
            "limit": limit[0] if limit else None,
            "share_of_limit": limit[1] if limit else None,
            "ratio_to_best": best[1] / times.minimum if best and times else None,
            "outside_kernels": result.outside_kernels,
        }


def from_json(text: str) -> Report:
    """The report that :func:`to_json` wrote; ``ValueError`` for anything else."""
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ValueError(f"not a report of this version: schema {SCHEMA} is expected")
    growth = [
        Growth(
            series["name"], series["axis"], tuple(series["sizes"]),
            [_outcome(item) for item in series["outcomes"]],
        )
        for series in record["growth"]
    ]  # fmt: skip
    kept = _fields(Report, record)
    kept["outcomes"] = [_outcome(item) for item in record["outcomes"]]
    kept |= {"growth": growth, "cold": [ColdStart(**item) for item in record["cold"]]}
    kept["tuned"] = [TunedKernel(**item) for item in record["tuned"]]
    return Report(**kept)


def _outcome(record: dict[str, Any]) -> Outcome:
    results = [
        Result(**{**_fields(Result, line), "times": line["times"] and Spread(**line["times"])})
        for line in record["results"]
    ]
    goals = tuple(Goal(**goal) for goal in record["goals"])
    return Outcome(**{**_fields(Outcome, record), "results": results, "goals": goals})


def _fields(kind: Any, record: dict[str, Any]) -> dict[str, Any]:
    """What a record holds of a class's own fields."""
    return {name: record[name] for name in kind.__dataclass_fields__}
