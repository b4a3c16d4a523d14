"""Resident memory of a long training loop that never looks at anything.

    python benchmarks/memory.py [--steps 2000]

BatchNorm keeps statistics nobody reads, Dropout draws random numbers, and ``total += loss`` grows a
sum that nobody prints: pending work and history must not pile up. Wanted: memory at the end within
5 % of that at step 100.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import lazytorch as torch
from lazytorch import nn


def resident() -> float:
    """MiB of memory that the process really holds."""
    status = Path("/proc/self/statm")
    if status.exists():
        import resource

        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(8 * 7 * 7, 32), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(32, 10),
    )  # fmt: skip


def main() -> int:
    """Train, and print memory along the way; 1 when it grew by more than 5 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    net = model().to(arguments.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.standard_normal((256, 1, 14, 14), np.float32)).to(arguments.device)
    labels = torch.tensor(rng.integers(0, 10, 256)).to(arguments.device)
    total = 0
    marks = {100, arguments.steps, *range(0, arguments.steps, max(arguments.steps // 5, 1))}
    at_100 = 0.0
    start = time.perf_counter()
    for step in range(1, arguments.steps + 1):
        first = step * 32 % 224
        optimizer.zero_grad()
        output = net(images[first : first + 32])
        loss = nn.functional.cross_entropy(output, labels[first : first + 32])
        loss.backward()
        optimizer.step()
        total += loss
        if step in marks:
            torch.synchronize()
            gc.collect()
            now = resident()
            at_100 = now if step == 100 else at_100
            elapsed = time.perf_counter() - start
            print(f"step {step:6}: {now:8.1f} MiB resident, {elapsed:6.1f} s", flush=True)
    growth = resident() / at_100 - 1 if at_100 else 0.0
    mean = float(total) / arguments.steps
    print(f"mean loss {mean:.4f}; memory grew by {growth:.1%} from step 100")
    return int(growth > 0.05)


if __name__ == "__main__":
    sys.exit(main())
