"""``python -m lazytorch``: what it prints, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lazytorch import config
from lazytorch.cli import main

ROOT = Path(__file__).parents[2]


def test_devices_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["devices"])
    assert "numpy" in capsys.readouterr().out
    assert main(["devices", "--json"]) == status
    report = json.loads(capsys.readouterr().out)
    assert report["devices"][-1]["name"] == "numpy"
    assert report["default"] in [device["name"] for device in report["devices"]]


def test_config_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert all(f"LAZYTORCH_{row.name} " in text for row in config.table())
    assert main(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["FUSION"] is True


def test_config_of_one_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "lazytorch_fusion"]) == 0
    assert capsys.readouterr().out == "FUSION = True\n"
    assert main(["config", "FUSON"]) == 1
    assert "no setting is called 'FUSON'" in capsys.readouterr().err


def test_cache_is_shown_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "one").write_bytes(b"x" * 1000)
    stranger = tmp_path / "notes.txt"
    stranger.write_text("mine")
    with config.override(CACHE_DIR=str(tmp_path)):
        assert main(["cache", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["bytes"] == 1000
        assert main(["cache", "--clear"]) == 0
        assert "deleted 1 files" in capsys.readouterr().out
        assert main(["cache"]) == 0
    assert not list(programs.iterdir())
    assert stranger.read_text() == "mine"


def test_bench_lists_its_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list", "matmul"]) == 0
    assert "matmul-1024 " in capsys.readouterr().out
    assert main(["bench", "matmul-1204"]) == 2
    assert "near matches: matmul-2048, matmul-1024" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["devices", "--fast"]])
def test_a_command_line_without_sense(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lazytorch", "config", "CACHE_LIMIT"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "CACHE_LIMIT = 536870912\n"
