"""Fair comparison of two programs on a noisy machine, and what the machine itself can do.

Contestants take turns within one run, in alternating order, so that whatever disturbs the machine
disturbs both; ratios of their minima are what to believe. Outputs are compared before time counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazytorch.runtime import get_device
from lazytorch.runtime.launch import BoundLaunch

try:
    import torch as peer
except ImportError:
    peer = None

# One measurement lasts at least this long, so that the clock and the start do not matter.
MEASUREMENT_SECONDS = 0.02


@dataclass
class Times:
    """Seconds of one call, several times measured."""

    samples: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def repeat(run: Callable[[], Any], seconds: float = MEASUREMENT_SECONDS) -> int:
    """How many calls make one measurement."""
    run()
    start = time.perf_counter()
    run()
    once = max(time.perf_counter() - start, 1e-7)
    return max(1, int(seconds / once))


def alternate(runs: dict[str, Callable[[], Any]], rounds: int = 7) -> dict[str, Times]:
    """Measure all, taking turns; each round in the opposite order of the one before."""
    counts = {name: repeat(run) for name, run in runs.items()}
    times = {name: Times() for name in runs}
    order = list(runs)
    for _ in range(rounds):
        for name in order:
            run, count = runs[name], counts[name]
            start = time.perf_counter()
            for _ in range(count):
                run()
            times[name].samples.append((time.perf_counter() - start) / count)
        order.reverse()
    return times


def same(first: Any, second: Any, tolerance: float = 2e-3) -> str:
    """'' when two arrays agree; else by how much they differ."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        return f"shapes {a.shape} and {b.shape}"
    scale = float(np.abs(b).max(initial=1e-30))
    error = float(np.abs(a - b).max(initial=0)) / scale
    return "" if error <= tolerance else f"differs by {error:.2g} of the largest value"


# The machine ------------------------------------------------------------------------------------


def _raw_kernel(
    device: Any, source: str, name: str, arguments: list[Any], items: int
) -> BoundLaunch:
    launcher = device.build(source, [name])[name]
    return launcher.bind(arguments, (items,), (1,))


def fma_peak(device_name: str) -> Callable[[], float]:
    """A function that measures GFLOP/s of nothing but fused multiply-adds in registers."""
    device = get_device(device_name)
    width = max(4, min(16, device.capabilities.native_vector_width_float))
    chains, steps, items = 24, 1 << 17, 4 * max(device.capabilities.compute_units, 1)
    vector = f"float{width}"
    lines = [
        "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))",
        "void peak(__global float* out, const float x, const int n) {",
        *(f"  {vector} a{i} = ({vector})(x + {i});" for i in range(chains)),
        "  for (int i = 0; i < n; i++) {",
        *(f"    a{i} = fma(a{i}, ({vector})(x), a{i});" for i in range(chains)),
        "  }",
        f"  vstore{width}({' + '.join(f'a{i}' for i in range(chains))}, get_global_id(0), out);",
        "}",
    ]
    out = device.allocate(4 * width * items)
    arguments = [out, np.float32(0.5), np.int32(steps)]
    launch = _raw_kernel(device, "\n".join(lines), "peak", arguments, items)

    def measure() -> float:
        start = time.perf_counter()
        launch.launch()
        device.synchronize()
        return 2 * width * chains * steps * items / (time.perf_counter() - start) / 1e9

    measure()
    return measure


def copy_bandwidth(device_name: str, count: int) -> Callable[[], Any]:
    """A function that copies ``count`` floats with a plain vector kernel."""
    device = get_device(device_name)
    width = max(4, min(16, device.capabilities.native_vector_width_float))
    block = 4096 * 4
    source = f"""
    __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
    void copy(__global float* out, __global const float* in) {{
      const size_t start = get_global_id(0) * {block};
      for (int i = 0; i < {block}; i += {width})
        vstore{width}(vload{width}(0, in + start + i), 0, out + start + i);
    }}"""
    assert count % block == 0
    data = device.upload(np.ones(count, np.float32))
    out = device.allocate(4 * count)
    launch = _raw_kernel(device, source, "copy", [out, data], count // block)

    def run() -> None:
        launch.launch()
        device.synchronize()

    return run


# Reports ----------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of a table: what was measured, against what, and the figure it should reach."""

    name: str
    seconds: float
    against: str = ""
    ratio: float = 0.0
    target: float = 0.0
    detail: str = ""
    wrong: str = ""

    @property
    def reached(self) -> bool:
        return not self.wrong and (not self.target or self.ratio >= self.target)


class Table:
    """Prints rows as they come; keeps them for --json."""

    def __init__(self, title: str, as_json: bool) -> None:
        self.title = title
        self.as_json = as_json
        self.rows: list[Row] = []
        if not as_json:
            print(f"{title}\n{'':34} {'ms':>9}  {'ratio':>6} {'wanted':>6}")

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.as_json:
            return
        ratio = f"{row.ratio:6.2f}" if row.ratio else "      "
        target = f"{row.target:6.2f}" if row.target else "      "
        mark = " " if row.reached else "!"
        about = row.wrong or " ".join(filter(None, (row.against, row.detail)))
        start = f"{row.name:34} {row.seconds * 1e3:9.3f}"
        print(f"{start}  {ratio} {target} {mark} {about}", flush=True)

    def finish(self) -> int:
        """Print JSON if asked for; 1 when a result was wrong."""
        if self.as_json:
            print(json.dumps([vars(row) for row in self.rows], indent=1))
        missed = [row.name for row in self.rows if not row.reached]
        if missed and not self.as_json:
            print(f"not reached: {', '.join(missed)}")
        return int(any(row.wrong for row in self.rows))


def parser(description: str) -> argparse.ArgumentParser:
    """The options all scripts share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--device", default="cpu", help="device to measure (default: cpu)")
    made.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    made.add_argument("--only", default="", help="run only what has this text in its name")
    made.add_argument("--json", action="store_true", help="print one JSON list")
    return made


def chosen(names: Sequence[str], only: str) -> list[str]:
    """The names that contain ``only``."""
    return [name for name in names if only in name]
