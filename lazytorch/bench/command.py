"""``python -m lazytorch bench``: arguments, the run, and where its results go."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from lazytorch.bench import table
from lazytorch.bench.catalog import GROUP_GOALS, GROUPS, WORKLOADS
from lazytorch.bench.contest import Contest
from lazytorch.bench.machine import machine, now
from lazytorch.bench.peers import PEERS, contestants
from lazytorch.bench.results import Report, to_json
from lazytorch.bench.workload import UnknownWorkload, Workload, select
from lazytorch.runtime import resolve

SECONDS = 2.0
QUICK_SECONDS = 0.3
# tinygrad compiles for minutes where the others take seconds, so it has to be asked for.
DEFAULT_PEERS = "numpy,torch,torch.compile,jax"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    add = parser.add_argument
    add("names", nargs="*", help="workloads or groups (default: all; see --list)")
    add("--device", nargs="+", default=["cpu"], metavar="NAME", help="devices (default: cpu)")
    add(
        "--peers", default=DEFAULT_PEERS, metavar="A,B",
        help=f"of {', '.join(PEERS)}; 'all' or 'none' (default: {DEFAULT_PEERS})",
    )  # fmt: skip
    add(
        "--seconds", type=float, default=None, metavar="S",
        help=f"measure each workload for about so long (default: {SECONDS:g})",
    )  # fmt: skip
    add("--quick", action="store_true", help="the asked figures only, less exactly, in two minutes")
    add("--json", metavar="FILE", help="write the results as JSON")
    add("--list", action="store_true", help="print the workloads and what is asked of them")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 when an output was wrong, 2 when the request makes no sense."""
    try:
        names = arguments.names or (["asked"] if arguments.quick else [])
        workloads = select(names, WORKLOADS, GROUPS)
        peers = _peers(arguments.peers)
        _check_devices(arguments.device)
        outputs = _outputs(arguments)
    except (UnknownWorkload, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.list:
        for workload in workloads:
            print(f"{workload.group:12} {workload.name:46} {_asked(workload)}".rstrip())
        return 0
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else SECONDS)
    report = measure(workloads, arguments.device, peers, seconds)
    for path, write in outputs:
        write_whole(path, write(report))
    return int(bool(report.bad))


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


def _outputs(arguments: argparse.Namespace) -> list[Any]:
    """(path, what makes its text) of every file that is wanted; checked before anything runs."""
    wanted = []
    if arguments.json:
        wanted.append((Path(arguments.json), to_json))
    for path, _ in wanted:
        if not path.parent.is_dir():
            raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist")
    return wanted


def _asked(workload: Workload) -> str:
    return ", ".join(f"{goal}{' compiled' if goal.compiled else ''}" for goal in workload.goals)


def measure(
    workloads: list[Workload], devices: list[str], peers: list[str], seconds: float
) -> Report:
    """Run workloads and print their table as it grows."""
    progress: Any = importlib.import_module("tqdm").tqdm
    found, missing = contestants(devices, peers)
    settings = {"seconds": seconds, "devices": devices, "peers": peers}
    report = Report(now(), machine(), {}, settings, missing)
    for line in missing:
        print(line)
    print(table.heading(), flush=True)
    with Contest(found, seconds) as contest:
        bar = progress(workloads, unit="workload", file=sys.stderr, dynamic_ncols=True)
        for workload in bar:
            bar.set_description(workload.name)
            outcome = contest.run(workload)
            report.outcomes.append(outcome)
            with bar.external_write_mode(file=sys.stdout):
                print("\n".join(table.lines_of(outcome)), flush=True)
        report.versions = contest.versions()
    print(table.legend())
    for line in table.summary(report, GROUP_GOALS):
        print(line)
    return report


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
