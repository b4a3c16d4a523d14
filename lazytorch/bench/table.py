"""The table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazytorch.bench.peers import REFERENCES
from lazytorch.bench.results import Judged, Outcome, Report, Result, geometric_mean
from lazytorch.bench.workload import Goal

WIDTHS = (42, 22, 10, 10, 7, 7, 14, 10, 5, 9)
HEADINGS = (
    "workload", "who", "min ms", "median", "spread", "x best", "rate", "of limit", "runs",
    "first ms",
)  # fmt: skip


def _line(cells: Sequence[str], note: str = "") -> str:
    padded = [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, WIDTHS))
    ]
    return f"{' '.join(padded)}  {note}".rstrip()


def heading() -> str:
    """The first line."""
    return _line(HEADINGS, "asked")


def legend() -> str:
    """What the columns mean."""
    return (
        "spread: between the quartiles, of the median. x best: how many times quicker than the "
        "quickest of torch, torch.compile and jax.\nof limit: share of fused multiply-adds in "
        "registers (fma) or of a plain copy (copy), measured in the same turns.\n"
        "runs: kernels launched a call. first ms: the first call, which compiles."
    )


def lines_of(outcome: Outcome) -> list[str]:
    """One line a contestant, ours first."""
    best = outcome.best_peer()
    judged = outcome.judge()
    lines: list[str] = []
    for result in sorted(outcome.results, key=_place):
        name = outcome.workload if not lines else ""
        own = [item for item in judged if item.contestant == result.contestant]
        lines.append(_result_line(name, outcome, result, best[1] if best else None, own))
    return lines


def _place(result: Result) -> tuple[bool, bool, int]:
    known = result.contestant in REFERENCES
    return (
        not result.ours, not known, REFERENCES.index(result.contestant) if known else 0,
    )  # fmt: skip


def _result_line(
    name: str, outcome: Outcome, result: Result, best: float | None, judged: Sequence[Judged]
) -> str:
    times = result.times
    if times is None:
        said = {"wrong": "WRONG", "failed": "FAILED", "unavailable": "not available"}
        return _line((name, result.contestant), f"{said[result.status]}: {_last_line(result)}")
    spread = (times.third_quartile - times.first_quartile) / times.median
    limit = outcome.limit(result)
    cells = (
        name,
        result.contestant,
        milliseconds(times.minimum),
        milliseconds(times.median),
        f"{spread:.0%}",
        f"{best / times.minimum:.2f}" if best else "",
        rate(outcome, result),
        f"{limit[1]:.0%} {'fma' if limit[0] == 'peak' else 'copy'}" if limit else "",
        "" if result.launches is None else str(result.launches),
        milliseconds(result.first) if result.first is not None else "",
    )
    notes = [verdict(item) for item in judged]
    if result.outside_kernels is not None:
        notes.append(f"{result.outside_kernels:.0%} outside kernels")
    if result.memory is not None:
        notes.append(f"{result.memory / 2**20:.0f} MiB")
    if result.status != "ok":
        notes.append(f"{result.status}: {_last_line(result)}")
    return _line(cells, "; ".join(notes))


def _last_line(result: Result) -> str:
    """The reason, or of a traceback the line that says what happened."""
    return result.reason.strip().splitlines()[-1] if result.reason else ""


def milliseconds(seconds: float) -> str:
    """Three or four digits that matter.

    >>> milliseconds(0.1234567), milliseconds(0.0000123)
    ('123.5', '0.0123')
    """
    value = seconds * 1e3
    digits = 1 if value >= 100 else 2 if value >= 10 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def rate(outcome: Outcome, result: Result) -> str:
    """Work a second: GFLOP/s where the task is arithmetic, otherwise GB/s."""
    flops, nbytes = outcome.rates(result)
    limit = outcome.limit(result)
    if flops is not None and not (limit and limit[0] == "copy"):
        return f"{flops / 1e9:.0f} GFLOP/s"
    return f"{nbytes / 1e9:.1f} GB/s" if nbytes is not None else ""


def verdict(judged: Judged) -> str:
    """'≥ 1 best: 1.05 ✓'."""
    if judged.value is None:
        return f"{judged.goal}: ?"
    mark = "✓" if judged.reached else "✗"
    if judged.goal.against == "seconds":
        return f"{judged.goal}: {milliseconds(judged.value)} {mark}"
    return f"{judged.goal}: {judged.value:.2f} {mark}"


def summary(report: Report, group_goals: Mapping[str, Goal]) -> list[str]:
    """What was asked of whole groups, how many figures were reached, and what is bad."""
    lines = []
    for group, goal in group_goals.items():
        outcomes = [outcome for outcome in report.outcomes if outcome.group == group]
        labels = {r.contestant for o in outcomes for r in o.results if r.ours and not r.compiled}
        for label in sorted(labels):
            mean = geometric_mean(outcomes, label, goal.against)
            if mean is not None:
                judged = Judged(goal, label, mean)
                count = len(outcomes)
                lines.append(f"{group} on {label}, geometric mean of {count}: {verdict(judged)}")
    every = [judged for outcome in report.outcomes for judged in outcome.judge()]
    known = [judged for judged in every if judged.reached is not None]
    if known:
        reached = sum(bool(judged.reached) for judged in known)
        unknown = f", {len(every) - len(known)} not known" if len(every) > len(known) else ""
        lines.append(f"asked figures reached: {reached} of {len(known)}{unknown}")
    if report.bad:
        lines.append(f"WRONG or FAILED: {', '.join(report.bad)}")
    return lines
