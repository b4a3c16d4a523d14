"""``python -m lazytorch bench``: arguments, the run, and where its results go."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lazytorch.bench import cold, growth, page, plots, table, tuned
from lazytorch.bench.catalog import GROUP_GOALS, GROUPS, WORKLOADS
from lazytorch.bench.contest import Contest
from lazytorch.bench.machine import machine, now
from lazytorch.bench.peers import PEERS, Contestant, contestants
from lazytorch.bench.results import Growth, Outcome, Report, to_json
from lazytorch.bench.workload import UnknownWorkload, Workload, select
from lazytorch.runtime import resolve

SECONDS = 1.0
QUICK_SECONDS = 0.3
# tinygrad compiles for minutes where the others take seconds, so it has to be asked for.
DEFAULT_PEERS = "numpy,torch,torch.compile,jax"
# Without the one whose compiling takes longer than everything else together.
QUICK_PEERS = "numpy,torch,jax"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    add = parser.add_argument
    add("names", nargs="*", help="workloads or groups (default: all; see --list)")
    add("--device", nargs="+", default=["cpu"], metavar="NAME", help="devices (default: cpu)")
    add(
        "--peers", metavar="A,B",
        help=f"of {', '.join(PEERS)}; 'all' or 'none' (default: {DEFAULT_PEERS})",
    )  # fmt: skip
    add(
        "--seconds", type=float, default=None, metavar="S",
        help=f"measure each workload for about so long (default: {SECONDS:g})",
    )  # fmt: skip
    add(
        "--quick",
        action="store_true",
        help="the asked figures only, less exactly, without torch.compile",
    )
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--html", metavar="FILE", help="write a page with plots (needs matplotlib)")
    add("--plot", metavar="FOLDER", help="write the plots as PNG files (needs matplotlib)")
    add("--cold", action="store_true", help="measure first calls in fresh processes (MLP, GPT)")
    add("--growth", action="store_true", help="measure how time grows with sizes")
    add(
        "--tuned", action="store_true",
        help="tune the workloads' kernels from nothing and compare the defaults with that",
    )  # fmt: skip
    add("--list", action="store_true", help="print the workloads and what is asked of them")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 when an output was wrong, 2 when the request makes no sense."""
    try:
        workloads = _workloads(arguments)
        peers = _peers(arguments.peers or (QUICK_PEERS if arguments.quick else DEFAULT_PEERS))
        _check_devices(arguments.device)
        _check_outputs(arguments)
    except (UnknownWorkload, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.list:
        for workload in workloads:
            print(f"{workload.group:12} {workload.name:46} {_asked(workload)}".rstrip())
        return 0
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    settings = {"seconds": seconds, "devices": arguments.device, "peers": peers}
    found, missing = contestants(arguments.device, peers)
    report = Report(now(), machine(), {}, settings, missing)
    for line in missing:
        print(line)
    try:
        if arguments.tuned:
            note = functools.partial(print, flush=True)
            report.tuned += tuned.measure(workloads, arguments.device, note)
            workloads = []
        with Contest(found, seconds) as contest:
            if workloads:
                measure(report, contest, workloads)
            if arguments.growth:
                measure_growth(report, contest)
            report.versions = contest.versions()
        if arguments.cold:
            measure_cold(report, found)
    except KeyboardInterrupt:
        print("interrupted: no files are written", file=sys.stderr)
        return 130
    _write(report, arguments)
    return int(bool(report.bad))


def _workloads(arguments: argparse.Namespace) -> list[Workload]:
    """What is named; everything for nothing named, unless something else is asked for."""
    if arguments.names:
        return select(arguments.names, WORKLOADS, GROUPS)
    if arguments.tuned:
        return select(tuned.WORKLOADS, WORKLOADS, GROUPS)
    if arguments.cold or arguments.growth:
        return []
    return select(["asked"] if arguments.quick else [], WORKLOADS, GROUPS)


def _peers(text: str) -> list[str]:
    if text in ("all", "none"):
        return list(PEERS) if text == "all" else []
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no peer is called {name!r}; known: {', '.join(PEERS)}")
    return names


def _check_devices(names: list[str]) -> None:
    for name in names:
        try:
            resolve(name)
        except RuntimeError as error:
            raise ValueError(f"no device can be used as {name!r}: {error}") from None


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Whether everything can be written: said before anything runs, not after ten minutes."""
    for path in (arguments.json, arguments.html):
        folder = Path(path or ".").parent
        if not folder.is_dir():
            raise ValueError(f"cannot write {path}: the folder {folder} does not exist")
    if (arguments.html or arguments.plot) and find_spec("matplotlib") is None:
        raise ValueError(
            "--html and --plot draw with matplotlib, which is not installed: "
            'pip install "lazytorch[bench]"'
        )


def _write(report: Report, arguments: argparse.Namespace) -> None:
    """Every file that is wanted."""
    if arguments.json:
        write_whole(Path(arguments.json), to_json(report).encode())
    if not (arguments.html or arguments.plot):
        return
    pictures = plots.draw(report)
    if arguments.plot:
        folder = Path(arguments.plot)
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            write_whole(folder / f"{name}.png", picture)
    if arguments.html:
        write_whole(Path(arguments.html), page.page_of(report, pictures).encode())


def _asked(workload: Workload) -> str:
    return ", ".join(f"{goal}{' compiled' if goal.compiled else ''}" for goal in workload.goals)


def measure(report: Report, contest: Contest, workloads: Sequence[Workload]) -> None:
    """Run workloads and print their table as it grows."""
    print(table.heading(), flush=True)
    report.outcomes += _run_all(contest, workloads)
    print(table.legend())
    for line in table.summary(report, GROUP_GOALS):
        print(line)


def measure_growth(report: Report, contest: Contest) -> None:
    """Run every series and print how time grows."""
    print(table.heading(), flush=True)
    for series in growth.SERIES:
        outcomes = _run_all(contest, series.workloads())
        report.growth.append(Growth(series.name, series.axis, series.sizes, outcomes))
    for series, found in zip(growth.SERIES, report.growth):
        for line in growth.lines_of(series, found.outcomes):
            print(line)


def _run_all(contest: Contest, workloads: Sequence[Workload]) -> list[Outcome]:
    """Run workloads, printing the lines of each above the progress bar."""
    outcomes = []
    progress: Any = importlib.import_module("tqdm").tqdm
    bar = progress(workloads, unit="workload", file=sys.stderr, dynamic_ncols=True)
    for workload in bar:
        bar.set_description(workload.name)
        outcomes.append(contest.run(workload))
        with bar.external_write_mode(file=sys.stdout):
            print("\n".join(table.lines_of(outcomes[-1])), flush=True)
    return outcomes


def measure_cold(report: Report, found: Sequence[Contestant]) -> None:
    """Start fresh processes and print what their first calls took."""
    print(cold.heading(), flush=True)
    workloads = select(["mlp", "gpt"], WORKLOADS, GROUPS)
    # PyTorch first: the others' losses are compared with its.
    order = sorted(found, key=lambda contestant: contestant.library != "torch")
    entrants = [c for c in order if c.library not in ("numpy", "tinygrad")]
    report.cold += cold.measure(workloads, entrants, note=lambda line: print(line, flush=True))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # As any program makes files, not as mkstemp does.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
