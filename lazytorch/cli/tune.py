"""``python -m lazytorch tune``: run a script with tuning on, list and forget what was found."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path

from lazytorch import config
from lazytorch.engine import tuning
from lazytorch.engine.tuning.report import write


def tune(arguments: argparse.Namespace) -> int:
    """Do what the flags say, then run the script; 2 when there is nothing to do."""
    if not (arguments.list or arguments.clear or arguments.script):
        print("tune what? Give a script, --list or --clear", file=sys.stderr)
        return 2
    if arguments.clear:
        print(f"forgot {tuning.clear()} findings")
    if arguments.list:
        _list(arguments.json)
    return _run(arguments.script, arguments.rest) if arguments.script else 0


def _list(as_json: bool) -> None:
    findings = sorted(tuning.saved(), key=lambda found: (found.device, found.label))
    if as_json:
        rows = [json.loads(found.to_bytes()) | {"current": found.is_current} for found in findings]
        print(json.dumps(rows, indent=2))
        return
    for device in dict.fromkeys(found.device for found in findings):
        here = [found for found in findings if found.device == device]
        current = [found for found in here if found.is_current]
        print(f"{device}: {len(current)} kernels")
        if current:
            write(current, sys.stdout)
        if len(here) > len(current):
            print(f"{len(here) - len(current)} more were found for other versions of lazytorch")
    if not findings:
        print("nothing was tuned yet")


def _run(script: str, rest: list[str]) -> int:
    """Run a script as ``python script`` would, with tuning on."""
    path = Path(script)
    if not path.is_file():
        print(f"there is no file {script!r}", file=sys.stderr)
        return 1
    sys.argv = [script, *rest]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with config.override(TUNE="tune"):
            runpy.run_path(script, run_name="__main__")
    except KeyboardInterrupt:
        print("interrupted; what was found until now is kept", file=sys.stderr)
        return 130
    return 0
