"""The examples as a stranger runs them: in a process of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(name: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A process started in the background inherits that Ctrl-C is ignored; a person's does not.
        preexec_fn=None if os.name == "nt" else _let_interrupts_through,
    )


def _let_interrupts_through() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_tiny_with_and_without_opencl(tmp_path: Path) -> None:
    for environment in ({}, {"OCL_ICD_VENDORS": str(tmp_path)}):
        output, errors = start("tiny.py", tmp_path, **environment).communicate(timeout=120)
        assert "kernel void fused(" in output and "15 operations" in output, errors


@pytest.mark.slow
def test_digits_loses_the_same_on_every_device(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    losses = []
    for device in ("cpu", "numpy"):
        log = tmp_path / f"{device}.txt"
        run = start(
            "digits.py", tmp_path, "--epochs", "1", "--examples", "320", "--steps-log", str(log),
            LAZYTORCH_DEVICE=device,
        )  # fmt: skip
        output, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
        assert re.search(r"^test accuracy: \d\d\.\d %$", output, re.M)
        assert re.search(r"^images per second: [\d,]+$", output, re.M)
        assert re.search(r"^distinct kernels: \d+$", output, re.M)
        assert re.search(r"^device: cpu \(.+\)$", output, re.M) or device == "numpy"
        losses.append([float(line) for line in log.read_text().split()])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_digits_stops_cleanly(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    run = start("digits.py", tmp_path, "--epochs", "500", "--examples", "128")
    for _ in range(3):
        assert run.stdout.readline().startswith("epoch"), run.stderr.read()
    run.send_signal(signal.SIGINT)
    try:
        _, errors = run.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        # Python drops an interrupt that arrives inside a destructor; a person presses again.
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and "stopped" in errors and "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["digits.pt"]
