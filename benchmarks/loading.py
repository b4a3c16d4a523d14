"""How much faster a DataLoader is with worker processes, for items that are work for Python.

Each item is a fixed number of turns of a loop, as many as took one millisecond when nothing else
ran: a loop that watched the clock would look fast on processors it does not have. Beside them the
same work in bare processes says what the machine has to give. Run it on a quiet machine:
``python benchmarks/loading.py``. ``--package torch`` measures PyTorch's.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
from typing import Any

import numpy as np


def turn(count: int) -> int:
    """Work that only Python's interpreter does."""
    total = 0
    for number in range(count):
        total += number & 7
    return total


def turns_in(seconds: float) -> int:
    """How many turns take so long, by the fastest of several samples."""
    count, best = 20_000, float("inf")
    for _ in range(40):
        start = time.perf_counter()
        turn(count)
        best = min(best, time.perf_counter() - start)
    return round(count * seconds / best)


class Items:
    """A dataset whose every sample costs the same work."""

    def __init__(self, size: int, turns: int) -> None:
        self.size = size
        self.turns = turns

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        turn(self.turns)
        return np.full(64, index, np.float32), index


def seconds_for(loader: Any) -> float:
    """The time of one pass; the samples are checked."""
    start = time.perf_counter()
    seen = [index for _, indices in loader for index in indices.tolist()]
    taken = time.perf_counter() - start
    if seen != list(range(len(loader.dataset))):
        raise SystemExit("the samples came in another order, or not all of them")
    return taken


def seconds_of_processes(items: Items, count: int) -> float:
    """The time of bare processes that share the same work: nobody can be faster here."""
    context = multiprocessing.get_context("fork")
    part = items.turns * items.size // count
    processes = [context.Process(target=turn, args=(part,)) for _ in range(count)]
    start = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - start


def main() -> None:
    """Measure one process and workers in turns, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000, help="in a pass")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--package", default="lazytorch", help="lazytorch or torch")
    options = parser.parse_args()
    torch = importlib.import_module(options.package)
    loader_of = importlib.import_module(f"{options.package}.utils.data").DataLoader
    torch.ones(2).tolist()
    items = Items(options.items, turns_in(1e-3))
    here = loader_of(items, options.batch_size)
    shared = loader_of(
        items, options.batch_size, num_workers=options.workers, persistent_workers=True
    )
    rounds = [
        (seconds_for(here), seconds_for(shared), seconds_of_processes(items, options.workers))
        for _ in range(options.passes)
    ]
    print(f"{options.passes} passes over {items.size} items of {items.turns} turns (1 ms)")
    alone, workers, bare = map(min, zip(*rounds))
    print(f"one process {alone:.2f} s; {options.workers} workers {workers:.2f} s")
    print(f"{alone / workers:.2f} x one process; bare processes {alone / bare:.2f} x")


if __name__ == "__main__":
    main()
