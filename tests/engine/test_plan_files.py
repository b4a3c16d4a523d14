"""Finished plans on disk: found by a second process, and never believed when anything changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import config, engine
from lazytorch.engine import plan_files
from lazytorch.runtime import available_devices
from lazytorch.runtime.cache import FileCache
from lazytorch.schedule import choices

OPENCL = [name for name in available_devices() if name != "numpy"]
ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
import lazytorch as torch
from lazytorch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
x, y = torch.randn(32, 8), torch.randint(0, 4, (32,))
losses = []
for _ in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(json.dumps({**torch.stats(), "losses": losses}))
"""

pytestmark = pytest.mark.skipif(not OPENCL, reason="plans of the NumPy device are not kept")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with config.override(CACHE_DIR=str(tmp_path), CACHE=True, VERIFY=False):
        engine.clear_plans()
        yield tmp_path / "plans"
    engine.clear_plans()


@pytest.fixture(params=OPENCL)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def compute(device: str, rate: float = 0.7) -> np.ndarray:
    """A small graph with a scalar, a reduction and an operation of the host."""
    x = torch.tensor(np.arange(12, dtype=np.float32).reshape(3, 4) / 12, device=device)
    value = (x * rate + 2).sum(1) + torch.erfinv(x[:, 0])
    return value.cpu().numpy()


def counted(device: str, rate: float = 0.7) -> tuple[np.ndarray, int, int]:
    """The value, and how many plans were made and read for it."""
    engine.clear_plans()
    before = torch.stats()
    value = compute(device, rate)
    after = torch.stats()
    return (
        value,
        after["plans_missed"] - before["plans_missed"],
        after["plans_loaded"] - before["plans_loaded"],
    )


def test_a_second_process_schedules_nothing(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LAZYTORCH_")}
    environment.update(LAZYTORCH_CACHE_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
    runs: list[dict[str, Any]] = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, timeout=120,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    cold, warm = runs
    assert cold["plans_missed"] > 0 and cold["plans_loaded"] == 0
    assert warm["plans_missed"] == 0 and warm["plans_loaded"] == cold["plans_missed"]
    assert warm["programs_built"] == 0
    assert warm["losses"] == cold["losses"]
    folders = {"drivers", "plans", "probe", "programs", "tuned"}
    assert {path.name for path in tmp_path.iterdir()} <= folders


def test_a_plan_is_read_back(folder: Path, device: str) -> None:
    first, made, read = counted(device)
    assert made > 0 and read == 0
    again, made_again, read_again = counted(device)
    assert (made_again, read_again) == (0, made)
    assert np.array_equal(first, again)
    # Scalars are no part of a key: another rate is the same plan with another result.
    other, made, _ = counted(device, rate=0.3)
    assert made == 0
    x = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    assert np.allclose(other - again, (x * (0.3 - 0.7)).sum(1), atol=1e-5)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "not json", "other fields"])
def test_a_damaged_file_is_a_miss(folder: Path, device: str, damage: str) -> None:
    first, made, _ = counted(device)
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        if damage == "truncated":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            content[-5] ^= 1
            path.write_bytes(content)
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            # With a checksum that fits: what is inside has to be looked at too.
            data = b"{" if damage == "not json" else json.dumps({"key": 1, "steps": 2}).encode()
            FileCache("plans").write(path.name, data)
    again, made_again, read = counted(device)
    assert (made_again, read) == (made, 0)
    assert np.array_equal(first, again)
    assert counted(device)[1:] == (0, made)


def test_steps_that_make_no_sense_are_a_miss(folder: Path, device: str) -> None:
    first, made, _ = counted(device)
    store = FileCache("plans")
    for path in folder.iterdir():
        content = store.read(path.name)
        assert content is not None
        data = json.loads(content)
        data["steps"] = [[1, 999999, [], []]]
        store.write(path.name, json.dumps(data).encode())
    again, made_again, read = counted(device)
    assert (made_again, read) == (made, 0)
    assert np.array_equal(first, again)


def test_another_version_of_the_sources_is_a_miss(
    folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made, _ = counted(device)
    monkeypatch.setattr(plan_files, "_sources_digest", lambda: "another")
    assert counted(device)[1:] == (made, 0)


def test_other_thresholds_and_settings_are_a_miss(
    folder: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made, _ = counted(device)
    with config.override(FUSION=False):
        assert counted(device)[2] == 0
    monkeypatch.setattr(choices, "MAX_OPERATIONS", 100)
    assert counted(device)[1:] == (made, 0)


def test_a_file_of_another_graph_is_a_miss(folder: Path, device: str) -> None:
    """The name is a digest of the key; the key itself is compared."""
    counted(device)
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    for path, content in zip(sorted(folder.iterdir()), contents[1:] + contents[:1]):
        path.write_bytes(content)
    before = torch.stats()["plans_loaded"]
    engine.clear_plans()
    compute(device)
    assert torch.stats()["plans_loaded"] - before == (1 if len(contents) == 1 else 0)


def test_without_a_cache_nothing_is_written(tmp_path: Path, device: str) -> None:
    with config.override(CACHE_DIR=str(tmp_path), CACHE=False, VERIFY=False):
        counted(device)
        assert counted(device)[2] == 0
    assert not list(tmp_path.iterdir())
