"""Device time by kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lazytorch as torch
from lazytorch.runtime import available_devices


@pytest.mark.parametrize("device", available_devices())
def test_counts_every_launch(device: str):
    x = torch.ones(64, 64, device=device)
    (x @ x).sum().item()
    before = torch.stats()["kernels_launched"]
    with torch.profile() as profile:
        for _ in range(3):
            (x @ x).sum().item()
    assert sum(k.launches for k in profile.kernels) == torch.stats()["kernels_launched"] - before
    assert {kernel.launches for kernel in profile.kernels} == {3}
    assert 0 < profile.device_seconds < profile.wall_seconds
    assert sum(kernel.flops for kernel in profile.kernels) >= 3 * 2 * 64**3
    (x @ x).sum().item()
    assert sum(k.launches for k in profile.kernels) == torch.stats()["kernels_launched"] - (
        before + len(profile.kernels)
    )


def test_nested_blocks_both_see_the_launches():
    with torch.profile() as outer:
        torch.ones(3).add(1).sum().item()
        with torch.profile() as inner:
            torch.ones(5).add(1).sum().item()
    assert len(inner.kernels) >= 1
    assert outer.device_seconds > inner.device_seconds


def test_table_names_kernels_and_totals():
    with torch.profile() as profile:
        torch.ones(300).exp().sum().item()
    text = str(profile)
    assert "sum" in text and "launches" in text and "ms in kernels of" in text
    with torch.profile() as nothing:
        pass
    assert str(nothing) == "no kernels were launched"


def test_setting_prints_a_table_at_exit():
    program = "import lazytorch as torch; print(torch.ones(300).exp().sum().item() > 0)"
    settings = {"LAZYTORCH_PROFILE": "1", "LAZYTORCH_DEVICE": "numpy"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env=settings | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "True\n"
    assert "ms in kernels" in done.stderr
