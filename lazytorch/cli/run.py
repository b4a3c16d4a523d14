"""``python -m lazytorch run``: a script whose ``import torch`` gives lazytorch."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from lazytorch import compat


def run(parsed: argparse.Namespace) -> int:
    """Run a script as ``__main__`` with its own arguments."""
    compat.stand_in_for_torch()
    before = sys.argv, sys.path[0]
    sys.argv, sys.path[0] = [parsed.script, *parsed.rest], str(Path(parsed.script).parent)
    try:
        runpy.run_path(parsed.script, run_name="__main__")
    finally:
        sys.argv, sys.path[0] = before
        compat.undo()
    return 0
