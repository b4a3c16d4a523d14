"""The small example runs on the default device and on NumPy; CI runs the large one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str, cwd: Path, device: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if device:
        environment["LAZYTORCH_DEVICE"] = device
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("device", ["", "numpy"])
def test_tiny(tmp_path: Path, device: str) -> None:
    assert run("tiny.py", cwd=tmp_path, device=device)
