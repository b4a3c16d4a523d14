"""Microseconds to record an operation: the budget of a pure-Python core.

Nothing is computed while the clock runs; pending work is dropped between repeats. Run it on a
quiet machine: ``python benchmarks/overhead.py``.
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


def main() -> None:
    """Print the table."""
    for name, function in cases().items():
        print(f"{name:24s} {microseconds(function):7.2f} us")


if __name__ == "__main__":
    main()
