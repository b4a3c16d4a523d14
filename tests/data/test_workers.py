"""Loaders with worker processes: what comes, in which order, and that nothing stays behind."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.errors import DeviceError
from lazytorch.runtime.discovery import discover
from lazytorch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from lazytorch.utils.data import get_worker_info as worker_info

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked here")


class Mapped(Dataset):
    """Samples made by a function of the index."""

    def __init__(self, make, size: int = 12) -> None:
        self.make = make
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        return self.make(index)


class Streamed(IterableDataset):
    def __iter__(self):
        info = worker_info()
        return iter(range(info.id, 11, info.num_workers) if info else range(11))


def loader(make, size: int = 12, **options) -> DataLoader:
    return DataLoader(Mapped(make, size), **{"num_workers": 2, **options})


def open_files() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{name}")
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}")
    }


@pytest.fixture(autouse=True)
def nothing_stays():
    """No process, no shared memory and no open line is left by any test of this file."""
    before = set(os.listdir("/dev/shm")), open_files()
    yield
    assert multiprocessing.active_children() == []
    assert (set(os.listdir("/dev/shm")), open_files()) == before


def test_batches_are_those_of_one_process() -> None:
    # On NumPy: rows at other places would be other kernels for the loader in this process.
    rows = torch.arange(24, device="numpy").reshape(12, 2)
    half = torch.ones(3, dtype=torch.bfloat16, device="numpy")

    def make(index: int):
        small = {"row": rows[index] * 2, "name": f"n{index}", "half": half * index}
        return small, np.full((50, 60), index, np.float32), index * 0.5

    for options in ({"batch_size": 5}, {"batch_size": None}, {"batch_size": 5, "drop_last": True}):
        here = list(loader(make, num_workers=0, **options))
        there = list(loader(make, **options))
        assert len(here) == len(there) == len(loader(make, **options))
        for one, other in zip(here, there):
            assert one[0]["name"] == other[0]["name"]
            for mine, theirs in zip((*one[0].values(), *one[1:]), (*other[0].values(), *other[1:])):
                if isinstance(mine, torch.Tensor):
                    assert mine.dtype is theirs.dtype and mine.device is theirs.device
                    assert mine.shape == theirs.shape and (mine == theirs).all().item()
    table = TensorDataset(rows, rows + 1)
    made = [batch[1].tolist() for batch in DataLoader(table, 5, num_workers=2)]
    assert made == [batch[1].tolist() for batch in DataLoader(table, 5)]


def test_what_arrives_may_be_written() -> None:
    sizes = (10, 100_000)
    arrays = list(loader(lambda i: np.zeros(sizes[i]), 2, batch_size=None, collate_fn=lambda x: x))
    for array in arrays:
        array += 1
    assert [array.sum() for array in arrays] == list(sizes)


def test_streams() -> None:
    chunks = [batch.tolist() for batch in DataLoader(Streamed(), 3, num_workers=2)]
    assert chunks == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9]]
    kept = DataLoader(Streamed(), 3, num_workers=2, drop_last=True, persistent_workers=True)
    for _ in range(2):
        assert [batch.tolist() for batch in kept] == [[0, 2, 4], [1, 3, 5], [6, 8, 10]]
    del kept


def test_seeds() -> None:
    def draw(_: int):
        info = worker_info()
        assert info.num_workers == 2 and torch.initial_seed() == info.seed
        return info.id, info.seed, random.random(), np.random.rand(), torch.rand(1).item()

    def passed(seed: int):
        generator = torch.Generator().manual_seed(seed)
        options = {"generator": generator, "shuffle": True, "collate_fn": lambda x: x[0]}
        return list(loader(draw, 6, worker_init_fn=started.append, **options))

    started: list[int] = []
    first = passed(1)
    assert first == passed(1) and first != passed(2)
    assert [sample[0] for sample in first] == [0, 1] * 3
    assert first[1][1] == first[0][1] + 1
    assert len({number for sample in first for number in sample[2:]}) == 18
    assert started == [] and worker_info() is None


def test_errors_have_the_traceback_of_the_worker() -> None:
    class Demanding(Exception):
        def __init__(self, one, two) -> None:
            super().__init__(f"{one} {two}")

    def make(index: int):
        if index == 1:
            raise KeyError("lost")
        if index == 2:
            raise Demanding("a", "b")
        return (lambda: 0) if index == 3 else index

    made = iter(loader(make, 6, collate_fn=lambda batch: batch[0]))
    assert next(made) == 0
    with pytest.raises(
        KeyError, match=r"in DataLoader worker process 1\.\n(.*\n)*.*in make"
    ) as told:
        next(made)
    assert 'raise KeyError("lost")' in str(told.value)
    with pytest.raises(RuntimeError, match=r"Caught Demanding(.*\n)*.*a b"):
        next(made)
    with pytest.raises(Exception, match=r"(?s)worker process 1.*pickle"):
        next(made)
    # The others are as good as before.
    assert list(made) == [4, 5]

    def refuse(_: int) -> None:
        raise ValueError("not ready")

    with pytest.raises(ValueError, match=r"Caught ValueError(.*\n)*.*not ready"):
        list(loader(make, worker_init_fn=refuse))
    with pytest.raises(RuntimeError, match="gradient history"):
        list(loader(lambda _: torch.ones(2, requires_grad=True) * 2, batch_size=None))


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), 9)])
def test_a_worker_that_dies(end) -> None:
    made = iter(loader(lambda index: end() if index == 3 else index, batch_size=1))
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"pid\(s\) \d+\) exited unexp.*(code 3|by SIGKILL)"):
        list(made)
    assert time.monotonic() - start < 5
    with pytest.raises(RuntimeError, match="have ended"):
        next(made)


def test_timeout() -> None:
    slow = iter(loader(lambda index: time.sleep(0.4 * (index == 1)) or index, timeout=0.2))
    assert next(slow).item() == 0
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 seconds"):
        next(slow)


def test_who_comes_first() -> None:
    def make(index: int):
        time.sleep(0.3 * (index == 0))
        return index

    assert [int(sample) for sample in loader(make, 8)] == list(range(8))
    free = [int(sample) for sample in loader(make, 8, in_order=False)]
    assert sorted(free) == list(range(8)) and free[0] != 0


def test_persistent_workers_and_an_early_end() -> None:
    for persistent in (False, True):
        kept = loader(lambda i: (i, os.getpid()), persistent_workers=persistent, prefetch_factor=5)
        for _ in kept:
            break
        passes = [[(int(i), int(pid)) for i, pid in kept] for _ in range(2)]
        assert [[i for i, _ in made] for made in passes] == [list(range(12))] * 2
        workers = [{pid for _, pid in made} for made in passes]
        assert (workers[0] == workers[1]) is persistent and len(workers[0]) == 2
        del kept


def test_long_questions_and_answers_do_not_wait_for_each_other() -> None:
    indices = [list(range(3000))] * 300
    asked = DataLoader(
        range(3000), batch_sampler=indices, num_workers=1, prefetch_factor=300,
        collate_fn=lambda batch: [len(batch), "x" * 20_000],
    )  # fmt: skip
    assert sum(count for count, _ in asked) == 900_000


def test_an_exception_in_the_loop_ends_the_workers() -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in loader(lambda index: np.ones(100_000)):
            1 / 0


def test_workers_compute_with_numpy() -> None:
    table = torch.arange(12.0) + 1
    numbers = loader(lambda index: (table[index] * torch.ones(2)).sum(), batch_size=12)
    assert next(iter(numbers)).tolist() == [2.0 * (index + 1) for index in range(12)]
    with pytest.raises(DeviceError, match="opencl:7 cannot be opened in a worker of a DataLoader"):
        list(loader(lambda index: torch.ones(2, device="opencl:7")))


SCRIPT = """
import os, signal, sys, time
import numpy as np
import lazytorch as torch
from lazytorch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __init__(self):
        self.rows = torch.arange(8.0)
    def __len__(self):
        return 8
    def __getitem__(self, index):
        from lazytorch.runtime import discovery
        assert not discovery.loaded()
        return self.rows, np.full(50_000, index + 1.0)

def main():
    # A shell's background job begins with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.ones(2).tolist()
    for method in sys.argv[1:]:
        options = {"num_workers": 1 + (method == "fork"), "multiprocessing_context": method}
        batches = iter(DataLoader(Data(), 2, **options))
        print(*[process.pid for process in batches._pool._processes], flush=True)
        print(next(batches)[1].numpy()[:, 0], flush=True)
        if method == "fork":
            time.sleep(20)
        print(*[numbers.numpy()[1, 0] for _, numbers in batches])

if __name__ == "__main__":
    main()
"""


def started(folder: Path, *arguments: str) -> tuple[subprocess.Popen, list[int]]:
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    device = "numpy" if arguments == ("fork",) or not discover().candidates else ""
    environment = {**os.environ, "LAZYTORCH_DEVICE": device}
    process = subprocess.Popen(command, start_new_session=True, env=environment, **pipes)
    return process, [int(pid) for pid in process.stdout.readline().split()]


def gone(pids: list[int], seconds: float) -> bool:
    """Whether none of the processes is there any more, after so long at most."""
    for _ in range(int(seconds * 50)):
        if not any(Path(f"/proc/{pid}/cmdline").exists() and running(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_other_ways_to_start(tmp_path: Path) -> None:
    process, pids = started(tmp_path, "spawn", "forkserver")
    out, errors = process.communicate(timeout=60)
    lines = out.splitlines()
    pids += [int(pid) for pid in lines.pop(2).split()]
    assert (errors, lines) == ("", ["[1. 2.]", "4.0 6.0 8.0"] * 2) and gone(pids, 5)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_the_workers_end_with_the_program(sent: int, tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal, a kill only the one it is meant for."""
    process, pids = started(tmp_path, "fork")
    assert process.stdout.readline() == "[1. 2.]\n"
    (os.killpg if sent == signal.SIGINT else os.kill)(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert gone(pids, 5)
    if sent == signal.SIGINT:
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1
