"""How much faster a DataLoader is with worker processes, for items that are work for Python.

Each item is a fixed number of turns of a loop, as many as took one millisecond when nothing else
ran: a loop that watched the clock would look fast on processors it does not have. Run it on a
quiet machine: ``python benchmarks/loading.py``. ``--package torch`` measures PyTorch's.
"""

from __future__ import annotations

import argparse
import importlib
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
    """The time of one pass, starting and ending workers included; the samples are checked."""
    start = time.perf_counter()
    seen = [index for _, indices in loader for index in indices.tolist()]
    taken = time.perf_counter() - start
    if seen != list(range(len(loader.dataset))):
        raise SystemExit("the samples came in another order, or not all of them")
    return taken


def main() -> None:
    """Measure one process and workers, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--package", default="lazytorch", help="lazytorch or torch")
    options = parser.parse_args()
    torch = importlib.import_module(options.package)
    loader_of = importlib.import_module(f"{options.package}.utils.data").DataLoader
    torch.ones(2).tolist()
    items = Items(options.items, turns_in(1e-3))
    alone = seconds_for(loader_of(items, options.batch_size))
    shared = seconds_for(loader_of(items, options.batch_size, num_workers=options.workers))
    print(f"{options.items} items of {items.turns} turns (1 ms): one process {alone:.2f} s")
    print(f"{options.workers} workers {shared:.2f} s, {alone / shared:.2f} x")


if __name__ == "__main__":
    main()
