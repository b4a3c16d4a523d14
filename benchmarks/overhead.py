"""Microseconds to record an operation, and to realize one whose plan is known.

These are the budgets of a pure-Python core. Nothing is computed while recording is timed;
pending work is dropped between repeats. Run it on a quiet machine:
``python benchmarks/overhead.py``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import lazytorch as torch

CALLS = 2000
REPEATS = 15


def microseconds(function: Callable[[], Any]) -> float:
    """The best of several runs, for one call."""
    best = float("inf")
    for _ in range(REPEATS):
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        for _ in range(CALLS):
            function()
        best = min(best, time.perf_counter() - start)
        gc.enable()
    return best / CALLS * 1e6


def cases() -> dict[str, Callable[[], Any]]:
    """What is measured."""
    a, b = torch.rand(64, 64).realize(), torch.rand(64, 64).realize()
    x = torch.rand(64, 64).realize().requires_grad_()
    y = torch.rand(64, 64).realize().requires_grad_()
    row = torch.rand(64).realize()
    return {
        "empty call": lambda: None,
        "a + b": lambda: a + b,
        "a * 3.5": lambda: a * 3.5,
        "a + row": lambda: a + row,
        "a > b": lambda: a > b,
        "a.exp()": lambda: a.exp(),
        "a.sum(1)": lambda: a.sum(1),
        "a @ b": lambda: a @ b,
        "a[1:3]": lambda: a[1:3],
        "a.reshape(-1)": lambda: a.reshape(-1),
        "a.transpose(0, 1)": lambda: a.transpose(0, 1),
        "a.detach()": lambda: a.detach(),
        "a.add_(b)": lambda: a.add_(b),
        "x + y (gradient)": lambda: x + y,
        "x * y (gradient)": lambda: x * y,
        "x * 3.5 (gradient)": lambda: x * 3.5,
        "x.exp() (gradient)": lambda: x.exp(),
        "x.sum(1) (gradient)": lambda: x.sum(1),
        "x @ y (gradient)": lambda: x @ y,
    }


def realize_microseconds(nodes: int = 1000) -> float:
    """The best of several realizes of a chain whose plan is known, for one node of it.

    It includes the numbering, the look-up, and every launch; not the wait for the device.
    """
    step = torch.rand(8).realize()
    best = float("inf")
    for _ in range(REPEATS):
        value = step
        for _ in range(nodes):
            value = value + step
        before = torch.stats()["plans_missed"]
        start = time.perf_counter()
        value.realize()
        took = time.perf_counter() - start
        if torch.stats()["plans_missed"] == before:
            best = min(best, took)
        torch.synchronize()
    return best / nodes * 1e6


def main() -> None:
    """Print the table."""
    for name, function in cases().items():
        print(f"{name:24s} {microseconds(function):7.2f} us")
    print(f"{'realize, plan known':24s} {realize_microseconds():7.2f} us a node")


if __name__ == "__main__":
    main()
