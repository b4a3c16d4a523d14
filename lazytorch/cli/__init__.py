"""The command line: ``python -m lazytorch devices | config | cache | tune | run | bench``.

Knows how to parse arguments and print; what it prints is found out by the layers below.
Exit status: 0 when all is well, 1 when what was asked for failed or is missing, 2 for a command
line that makes no sense.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lazytorch.bench import command
from lazytorch.cli import commands, run, tune


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status.

    >>> main(["config", "FUSION"])
    FUSION = True
    0
    """
    parsed = build_parser().parse_args(arguments)
    return int(parsed.run(parsed))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m lazytorch",
        description="Look at the devices, settings, caches and speed of lazytorch.",
    )
    chosen = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    devices = chosen.add_parser(
        "devices", help="drivers and devices that were found, and what is wrong with the others"
    )
    devices.add_argument(
        "--check", action="store_true", help="load every driver and probe every device again"
    )
    devices.add_argument("--json", action="store_true", help="print one JSON object")
    devices.set_defaults(run=commands.devices)

    config = chosen.add_parser("config", help="the settings, their values and where they come from")
    config.add_argument("name", nargs="?", help="print only this setting")
    config.add_argument("--json", action="store_true", help="print one JSON object")
    config.set_defaults(run=commands.config)

    cache = chosen.add_parser("cache", help="the folder of compiled programs")
    cache.add_argument("--clear", action="store_true", help="delete what is in it")
    cache.add_argument("--json", action="store_true", help="print one JSON object")
    cache.set_defaults(run=commands.cache)

    tuning = chosen.add_parser(
        "tune", help="run a script and find the fastest schedule of each of its kernels"
    )
    tuning.add_argument("--list", action="store_true", help="print what was found so far")
    tuning.add_argument("--clear", action="store_true", help="forget what was found so far")
    tuning.add_argument("--json", action="store_true", help="print the list as JSON")
    tuning.add_argument("script", nargs="?", help="a Python file, run as __main__")
    tuning.add_argument("rest", nargs=argparse.REMAINDER, help="passed on to the script")
    tuning.set_defaults(run=tune.tune)

    running = chosen.add_parser("run", help="run a script whose `import torch` gives lazytorch")
    running.add_argument("script", help="a Python file, run as __main__")
    running.add_argument("rest", nargs=argparse.REMAINDER, help="passed on to the script")
    running.set_defaults(run=run.run)

    bench = chosen.add_parser(
        "bench", help="measure named workloads beside PyTorch, JAX and others, in one run"
    )
    command.add_arguments(bench)
    bench.set_defaults(run=command.run)
    return parser
