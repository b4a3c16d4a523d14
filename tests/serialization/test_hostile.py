"""No file runs code, fills memory or is read wrongly: 200 malicious and damaged ones, and more."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.serialization import CheckpointError, safetensors
from tests.serialization import hostile

FORBIDDEN = (
    "compile", "exec", "import", "marshal.", "os.", "pickle.", "shutil.", "socket.", "subprocess.",
)  # fmt: skip
MEMORY_PER_BYTE, MEMORY = 4, 16 << 20


class Watch:
    """Notes what code does that reads a file, while it is on; audit hooks cannot be taken away."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.path is None:
            return
        if event.startswith(FORBIDDEN) or (event == "open" and arguments[0] != str(self.path)):
            self.seen.append(f"{event} {arguments}")

    def load(self, path: Path, read: Callable[[str], Any]) -> tuple[Any, int]:
        """What ``read`` gives or raises for the file, and the most memory it took meanwhile."""
        result: Any
        tracemalloc.start()
        self.path = path
        try:
            result = read(str(path))
        except BaseException as error:
            result = error
        finally:
            self.path = None
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return result, peak


def check(
    files: Iterable[tuple[str, bytes]], read: Callable[[str], Any], path: Path, watch: Watch,
    whole: Any = None,
) -> int:  # fmt: skip
    """Every file is refused, or with ``whole`` read as that; how many there were."""
    count = 0
    for name, content in files:
        count += 1
        path.write_bytes(content)
        result, peak = watch.load(path, read)
        assert watch.seen == [], name
        assert peak < MEMORY_PER_BYTE * len(content) + MEMORY, (name, peak, len(content))
        if whole is None or isinstance(result, BaseException):
            assert isinstance(result, CheckpointError), (name, result)
        else:
            assert result.keys() == whole.keys(), name
            for key, value in whole.items():
                assert np.array_equal(result[key], value), (name, key)
    return count


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Everything lazytorch imports when it is first needed is there already."""
    path = tmp_path_factory.mktemp("warm") / "x"
    torch.save({"w": torch.ones(2, 3).t()}, path)
    for _ in range(2):
        torch.load(path)
    safetensors.save_file({"w": torch.ones(2)}, path)
    safetensors.load_file(path, "numpy")
    return Watch()


def content() -> dict[str, torch.Tensor]:
    rows = torch.arange(12.0, device="numpy").reshape(3, 4)
    return {"rows": rows, "columns": rows.t(), "flags": rows > 3, "n": torch.tensor(3)}


def load(path: str) -> Any:
    return torch.load(path, map_location="numpy")


def test_the_watch_sees(tmp_path: Path, watch: Watch) -> None:
    """What would pass for nothing seen must not."""
    attempts = (
        lambda _: eval("1"),
        lambda _: (tmp_path / "other").write_text("x"),
        lambda _: os.listdir("."),
    )
    for attempt in attempts:
        watch.load(tmp_path / "x.pt", attempt)
        assert len(watch.seen) >= 1
        watch.seen.clear()


def test_malicious_files(tmp_path: Path, watch: Watch) -> None:
    assert check(hostile.checkpoints(), torch.load, tmp_path / "x.pt", watch) >= 200


def test_damaged_files(tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / "x.pt"
    torch.save(content(), path)
    raw = path.read_bytes()
    whole = load(str(path))
    assert check(hostile.damaged(raw, 50), load, path, watch)
    assert check(hostile.flipped(raw, 400), load, path, watch, whole)
    mapped = lambda name: torch.load(name, map_location="numpy", mmap=True)  # noqa: E731
    assert check(hostile.flipped(raw, 50, 7), mapped, path, watch, whole)


def test_hostile_safetensors(tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.save_file({"w": torch.ones(4)}, path)
    files = hostile.safetensors(path.read_bytes())
    assert check(files, lambda name: safetensors.load_file(name, "numpy"), path, watch) >= 20
