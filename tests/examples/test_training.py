"""The training examples at tiny settings: they learn, resume exactly, and run on PyTorch too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lazytorch

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[2] / "examples"
LINE = "import lazytorch as torch\n"
# Options, device, and how far two libraries' results may be apart: their random numbers differ.
# Networks like the large one train on every device in tests/nn; here it is about the program.
TINY = {
    "mlp": ("--epochs 3 --width 32 --examples 256", "cpu", 0.2),
    "resnet": ("--epochs 2 --width 4 --examples 64 --batch 32 --rate 0.05", "numpy", 0.3),
    "lstm": ("--epochs 2 --width 16 --examples 256", "cpu", 0.25),
    "vae": ("--epochs 2 --width 32 --examples 256", "cpu", 2.0),
    "gpt": ("--epochs 2 --width 16 --examples 96 --batch 32 --blocks 1 --write 0", "cpu", 0.3),
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Import an example from a folder, with the ``common`` that lies beside it."""

    def loaded(name: str, folder: Path = FOLDER) -> ModuleType:
        monkeypatch.syspath_prepend(str(folder))
        for module in ("common", name):
            sys.modules.pop(module, None)
        return importlib.import_module(name)

    yield loaded
    for module in ("common", *TINY):
        sys.modules.pop(module, None)


class Stopped(Exception):
    """What stands for a process that ends in the middle of an epoch."""


@pytest.fixture(params=TINY)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """An example, whose device is the default one."""
    before = lazytorch.get_default_device()
    lazytorch.set_default_device(TINY[request.param][1])
    yield request.param
    lazytorch.set_default_device(before)


def test_resumed_as_uninterrupted_and_as_pytorch(
    name: str, load: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load(name)
    text, _, apart = TINY[name]
    options = text.split()
    plot, checkpoint = tmp_path / "curves.png", tmp_path / "run.pt"
    whole = example.main([*options, "--plot", str(plot)])
    assert plot.read_bytes().startswith(b"\x89PNG")

    taken = example.Training.step

    def step(self: Any, loss: Any, examples: int) -> None:
        taken(self, loss, examples)
        if self.epoch == 2:
            raise Stopped

    kept = [*options, "--checkpoint", str(checkpoint)]
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(example.Training, "step", step)
        example.main(kept)
    assert example.main([*kept, "--resume"]) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "run.pt"]

    pytest.importorskip("torch")
    folder = tmp_path / "pytorch"
    folder.mkdir()
    for file in ("common", name):
        source = (FOLDER / f"{file}.py").read_text(encoding="utf-8")
        assert (
            source.count(LINE) == 1 and "lazytorch" not in source.replace(LINE, "").split('"""')[2]
        )
        (folder / f"{file}.py").write_text(source.replace(LINE, "import torch\n"), "utf-8")
    assert load(name, folder).main(options) == pytest.approx(whole, abs=apart)


def test_options_that_cannot_be(
    load: Callable[..., ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("mlp")
    for options, message in (
        ("--epochs 0", "must be at least 1, got 0"),
        ("--resume", "--resume needs --checkpoint FILE"),
        (f"--resume --checkpoint {tmp_path / 'none.pt'}", "there is no checkpoint"),
    ):
        with pytest.raises(SystemExit):
            example.main(options.split())
        assert message in capsys.readouterr().err
