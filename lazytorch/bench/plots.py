"""Pictures of a report. matplotlib is imported when the first is drawn."""

from __future__ import annotations

import importlib
import io
from typing import Any

from lazytorch.bench.results import Growth, Outcome, Report

# One colour a contestant, from a palette that colour-blind readers can tell apart
# (Okabe and Ito 2008); lazytorch has the first.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ROW_INCHES = 0.22


def draw(report: Report) -> dict[str, bytes]:
    """Names and PNG files: a picture for each group of workloads, each series, and fresh starts."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    labels = _labels(report)
    colours = {label: COLOURS[place % len(COLOURS)] for place, label in enumerate(labels)}
    pictures = {}
    for group in dict.fromkeys(outcome.group for outcome in report.outcomes):
        outcomes = [outcome for outcome in report.outcomes if outcome.group == group]
        if any(_ratios(outcome) for outcome in outcomes):
            pictures[group] = _png(pyplot, _ratio_figure(pyplot, group, outcomes, colours))
    for series in report.growth:
        pictures[f"growth-{series.name}"] = _png(pyplot, _growth_figure(pyplot, series, colours))
    if any(item.status == "ok" for item in report.cold):
        pictures["cold"] = _png(pyplot, _cold_figure(pyplot, report))
    return pictures


def _labels(report: Report) -> list[str]:
    """Every contestant, lazytorch first."""
    outcomes = report.outcomes + [o for series in report.growth for o in series.outcomes]
    found = {r.contestant: r.ours for outcome in outcomes for r in outcome.results}
    return sorted(found, key=lambda label: not found[label])


def _png(pyplot: Any, figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return target.getvalue()


def _ratios(outcome: Outcome) -> dict[str, float]:
    """How many times quicker than the best peer each contestant is."""
    best = outcome.best_peer()
    if best is None:
        return {}
    return {
        result.contestant: best[1] / result.times.minimum
        for result in outcome.results
        if result.times is not None
    }


def _ratio_figure(pyplot: Any, group: str, outcomes: list[Outcome], colours: dict[str, str]) -> Any:
    """A point for each contestant and workload; right of the line is quicker than the best peer."""
    rows = [(outcome, ratios) for outcome in outcomes if (ratios := _ratios(outcome))]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + ROW_INCHES * 1.3 * len(rows)))
    for label, colour in colours.items():
        points = [(ratios[label], y) for y, (_, ratios) in enumerate(rows) if label in ratios]
        if points:
            x, y = zip(*points)
            axes.scatter(x, y, color=colour, label=label, s=36, zorder=3)
    axes.axvline(1.0, color="#777777", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [outcome.workload for outcome, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", color="#e5e5e5")
    axes.set_xlabel("times as quick as the best of PyTorch, torch.compile, JAX")
    axes.set_title(group)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _growth_figure(pyplot: Any, series: Growth, colours: dict[str, str]) -> Any:
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for label, colour in colours.items():
        points = [
            (size, seconds * 1e3)
            for size, outcome in zip(series.sizes, series.outcomes)
            if (seconds := outcome.measured(label)) is not None
        ]
        if points:
            x, y = zip(*points)
            axes.plot(x, y, color=colour, marker="o", label=label)
    axes.set_xscale("log", base=2 if series.sizes[0] % 10 else 10)
    axes.set_yscale("log")
    axes.set_xticks(series.sizes, [str(size) for size in series.sizes])
    axes.set_xlabel(series.axis)
    axes.set_ylabel("ms")
    axes.set_title(series.name)
    axes.grid(which="major", color="#e5e5e5")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure


def _cold_figure(pyplot: Any, report: Report) -> Any:
    """Bars of import, setup and first call."""
    rows = [item for item in report.cold if item.status == "ok"]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + ROW_INCHES * 1.3 * len(rows)))
    left = [0.0] * len(rows)
    for part, colour in (("start", "#BBBBBB"), ("setup", "#56B4E9"), ("first", "#0072B2")):
        width = [float(getattr(item, part)) for item in rows]
        axes.barh(range(len(rows)), width, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, width)]
    names = [f"{item.workload}, {item.contestant}, {item.caches}" for item in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds in a fresh process")
    axes.legend(fontsize=8)
    return figure
