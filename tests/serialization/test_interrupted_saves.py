"""A process that is killed while it saves: the old file or the new one is there, and no heap of
unfinished ones. ``SAVE_KILLS=300`` kills more often."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import lazytorch as torch

KILLS = int(os.environ.get("SAVE_KILLS", "20"))


def content(number: int) -> dict:
    device = "numpy"
    return {f"w{place}": torch.full((200, 300), float(number), device=device) for place in range(4)}


def number_in(path: Path) -> float:
    """Which save a file is of; all of it must be of one."""
    tensors = torch.load(path, map_location="numpy").values()
    (number,) = {value for tensor in tensors for value in set(tensor.numpy().ravel().tolist())}
    return number


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_a_killed_save_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(content(0), path)
    start = time.perf_counter()
    torch.save(content(0), path)
    usual = time.perf_counter() - start
    chance = random.Random(1)
    outcomes = {"old": 0, "new": 0}
    known, most_left = 0.0, 0
    for number in range(1, KILLS + 1):
        child = os.fork()
        if child == 0:
            torch.save(content(number), path)
            os._exit(0)
        # Now and then it is done before.
        time.sleep(chance.uniform(0, 3 * usual))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = number_in(path)
        assert found in (known, number)
        outcomes["new" if found == number else "old"] += 1
        known = found
        most_left = max(most_left, len(list(tmp_path.iterdir())) - 1)
    print(f"{KILLS} kills: {outcomes}, at most {most_left} unfinished files")
    assert most_left <= 1
    torch.save(content(0), path)
    assert list(tmp_path.iterdir()) == [path]


def test_another_writer_of_the_same_file_is_left_alone(tmp_path: Path) -> None:
    """What is being written is not taken for what was left behind."""
    from lazytorch.serialization.replacing import replacing

    path = tmp_path / "x.pt"
    (tmp_path / ".x.pt.dead.tmp").write_bytes(b"left behind")
    (tmp_path / ".y.pt.dead.tmp").write_bytes(b"another's")
    with replacing(path) as stream:
        stream.write(b"slow")
        torch.save(1, path)
        assert torch.load(path) == 1
    assert path.read_bytes() == b"slow"
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.pt", ".y.pt.dead.tmp"}
