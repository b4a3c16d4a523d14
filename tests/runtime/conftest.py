"""Fixtures of the runtime tests: every device there is, and an empty cache folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lazytorch import config
from lazytorch.runtime import Device, cache, get_device
from lazytorch.runtime.discovery import discover
from lazytorch.runtime.opencl import OpenCLDevice

ROOT = Path(__file__).parents[2]


def opencl_names() -> list[str]:
    return [f"opencl:{item.index}" for item in discover().candidates]


@functools.cache
def discrete_device() -> OpenCLDevice:
    """The first device, driven as one whose memory NumPy cannot see."""
    return OpenCLDevice(discover().candidates[0], ("zero_copy",))


NAMES = [*opencl_names(), "discrete"] if opencl_names() else []


def open_device(name: str) -> Device:
    return discrete_device() if name == "discrete" else get_device(name)


@pytest.fixture(params=[*NAMES, "numpy"])
def any_device(request: pytest.FixtureRequest) -> Device:
    return open_device(request.param)


@pytest.fixture(params=NAMES or [None])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param is None:
        pytest.skip("no OpenCL device")
    return open_device(request.param)


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(cache, "_warned", False)
    with config.override(CACHE_DIR=str(tmp_path), CACHE=True):
        yield tmp_path


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a fresh interpreter, warnings visible."""

    def run(script: str, timeout: float = 60, **variables: str):
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAZYTORCH_", "OCL_ICD_"))
        }
        environment = {**inherited, "PYTHONPATH": str(ROOT), **variables}
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, timeout=timeout, env=environment, check=False,
        )  # fmt: skip

    return run
