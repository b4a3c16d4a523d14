"""Fixtures of the runtime tests: every device there is, and an empty cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lazytorch import config
from lazytorch.runtime import cache, get_device
from lazytorch.runtime.discovery import discover
from lazytorch.runtime.opencl import OpenCLDevice

ROOT = Path(__file__).parents[2]


def opencl_names() -> list[str]:
    return [f"opencl:{item.index}" for item in discover().candidates]


@pytest.fixture(params=[*opencl_names(), "numpy"])
def any_device(request: pytest.FixtureRequest):
    return get_device(request.param)


@pytest.fixture(params=opencl_names() or [None])
def device(request: pytest.FixtureRequest) -> OpenCLDevice:
    if request.param is None:
        pytest.skip("no OpenCL device")
    found = get_device(request.param)
    assert isinstance(found, OpenCLDevice)
    return found


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
