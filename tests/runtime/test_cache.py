"""The file cache under damage, concurrency and hostile folders."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from lazytorch import config
from lazytorch.errors import LazytorchWarning
from lazytorch.runtime import cache
from lazytorch.runtime.cache import FileCache

ROOT = Path(__file__).parents[2]


def test_round_trip(cache_dir):
    store = FileCache("test")
    key = FileCache.key("a", "b")
    assert store.read(key) is None
    store.write(key, b"payload" * 1000)
    assert store.read(key) == b"payload" * 1000
    assert FileCache("test").read(key) == b"payload" * 1000
    store.remove(key)
    assert store.read(key) is None


def test_keys_do_not_run_together():
    keys = {FileCache.key("ab", "c"), FileCache.key("a", "bc"), FileCache.key("abc")}
    assert len(keys) == 3


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_every_flipped_byte_is_noticed(cache_dir, position):
    store = FileCache("test")
    store.write("key", b"0123456789")
    path = cache_dir / "test" / "key"
    content = bytearray(path.read_bytes())
    content[min(position, len(content) - 1)] ^= 1
    path.write_bytes(content)
    assert store.read("key") is None
    assert not path.exists()


def test_oldest_files_go_first(cache_dir):
    store = FileCache("test")
    for number in range(6):
        store.write(f"key{number}", bytes(1000))
        os.utime(cache_dir / "test" / f"key{number}", (number, number))
    assert store.read("key0") is not None  # used just now: no longer the oldest
    store.prune(3500)
    assert {path.name for path in (cache_dir / "test").iterdir()} == {"key0", "key4", "key5"}


def test_abandoned_temporary_files_are_removed(cache_dir):
    store = FileCache("test")
    store.write("key", b"x")
    old, new = (cache_dir / "test" / f"{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.prune(1 << 20)
    assert new.exists()
    assert not old.exists()


@pytest.mark.parametrize("obstacle", ["file in the way", "no such place"])
def test_an_unusable_folder_warns_once_and_is_a_miss(tmp_path, monkeypatch, obstacle):
    monkeypatch.setattr(cache, "_warned", False)
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache" if obstacle == "file in the way" else "/proc/nowhere/cache"
    with config.override(CACHE_DIR=str(folder), CACHE=True):
        with pytest.warns(LazytorchWarning, match="LT002"):
            FileCache("first").write("key", b"x")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store = FileCache("second")
            store.write("key", b"x")
            assert store.read("key") is None


def test_a_full_disk_warns_once(cache_dir, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = FileCache("test")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(LazytorchWarning, match=r"LT002.*No space left"):
        store.write("key", b"x")
    store.write("key", b"x")
    assert list((cache_dir / "test").iterdir()) == []


def test_a_folder_of_somebody_else_is_not_trusted(cache_dir, monkeypatch):
    if not hasattr(os, "geteuid"):
        pytest.skip("no owners here")
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.warns(LazytorchWarning, match="another user"):
        assert FileCache("test").folder is None


TORTURE = """
import hashlib, random, sys
from lazytorch.runtime.cache import FileCache
store, generator = FileCache("torture"), random.Random(int(sys.argv[1]))
def payload(number):
    return hashlib.sha256(b"%d" % number).digest() * 400
for _ in range(400):
    number = generator.randrange(12)
    found = store.read(f"key{number}")
    if found is None:
        store.write(f"key{number}", payload(number))
    elif found != payload(number):
        sys.exit(3)
print("done")
"""


def test_torture(tmp_path):
    """Processes read and write the same files while they are truncated, flipped, deleted and
    while some of the processes are killed: no exception, no wrong answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LAZYTORCH_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", TORTURE]
    generator = random.Random(1)
    workers = [
        subprocess.Popen(
            [*command, str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for seed in range(8)
    ]  # fmt: skip
    victims = workers[:2]
    folder = tmp_path / "torture"
    deadline = time.monotonic() + 30
    while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
        damage(folder, generator)
        if victims and len(list(folder.glob("*"))) > 5:
            victims.pop().send_signal(signal.SIGKILL)
        time.sleep(0.002)
    results = [(worker.communicate()[1], worker.returncode) for worker in workers]
    assert all(result == ("", 0) for result in results[2:]), results
    assert all(code in (0, -signal.SIGKILL) for _, code in results[:2])
    repaired = subprocess.run([*command, "99"], env=environment, capture_output=True, check=False)
    assert (repaired.returncode, repaired.stderr) == (0, b"")


def damage(folder: Path, generator: random.Random) -> None:
    files = [path for path in folder.glob("key*") if not path.name.endswith(".tmp")]
    if not files:
        return
    path = generator.choice(files)
    try:
        with open(path, "r+b") as file:
            size = file.seek(0, 2)
            kind = generator.randrange(3)
            if kind == 0:
                file.truncate(generator.randrange(size + 1))
            elif size:
                file.seek(generator.randrange(size))
                file.write(generator.randbytes(1))
        if kind == 2:
            path.unlink()
    except OSError:
        pass
