"""How near the shipped defaults are to what tuning finds: the kernels of some workloads, tuned
from nothing, each beside the rules' choice in one run."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence

from lazytorch import config, engine
from lazytorch.bench.peers.lazytorch_peer import LazytorchPeer
from lazytorch.bench.results import TunedKernel
from lazytorch.bench.workload import Workload
from lazytorch.codegen.choice import to_data
from lazytorch.engine import tuning

# The default may take this many times what the tuned kernel takes.
NEAR = 1.15
# Calls of a workload: the graph of a training step settles after two.
CALLS = 3
# One or two shapes of every kind of kernel that has choices.
WORKLOADS = (
    "matmul-256", "matmul-512", "matmul-1024", "matmul-2048", "matmul-1000x999x1001",
    "matmul-1024-nt", "matmul-64x256", "conv-32x64x56-3x3", "conv-32x64x56-3x3-input-gradient",
    "conv-32x64x56-3x3-weight-gradient", "conv-16x128x16-3x3", "conv-16x128x16-3x3-weight-gradient",
    "conv-8x256x56-1x1", "attention", "attention-backward", "gelu-16M", "softmax-4096x1024",
    "layer-norm-4096x1024", "sum-rows-16384x1024", "sum-columns-16384x1024", "cumsum-4096x1024",
    "cumsum-64x65536", "embedding-gradient-8192", "lstm",
)  # fmt: skip


def measure(
    workloads: Sequence[Workload], devices: Sequence[str], note: Callable[[str], None]
) -> list[TunedKernel]:
    """Tune every workload on every device; ``note`` is told each line when it is known.

    A workload's findings lie in a folder of their own, so nothing that was tuned before counts.
    """
    found: list[TunedKernel] = []
    note(heading())
    for device in devices:
        for workload in workloads:
            kernels = _tuned(workload, device)
            found += kernels
            for kernel in kernels:
                note(line_of(kernel))
    for line in summary(found):
        note(line)
    return found


def _tuned(workload: Workload, device: str) -> list[TunedKernel]:
    with tempfile.TemporaryDirectory() as folder:
        engine.clear_plans()
        with config.override(CACHE_DIR=folder, TUNE="tune"):
            call = LazytorchPeer(device).prepare(workload, False)
            for _ in range(CALLS):
                call()
            findings = [found for found in tuning.saved() if found.tried]
        engine.clear_plans()
    kernels = [
        TunedKernel(
            workload.name, device, found.label, found.default_ms / 1e3, found.tuned_ms / 1e3,
            found.tried, found.discarded,
            None if found.schedule is None else to_data(found.schedule),
        )
        for found in findings
    ]  # fmt: skip
    return sorted(kernels, key=lambda kernel: -kernel.default)


def heading() -> str:
    """The table's first line."""
    return f"{'workload':36} {'kernel':44} {'default ms':>10} {'tuned ms':>9} ratio tried  schedule"


def line_of(kernel: TunedKernel) -> str:
    """A kernel's line; times are of one run of it."""
    tried = f"{kernel.tried}, {kernel.discarded} wrong" if kernel.discarded else str(kernel.tried)
    chosen = kernel.schedule or {}
    schedule = " ".join(f"{key}={chosen[key]}" for key in chosen if key != "kind") or "the default"
    return (
        f"{kernel.workload:36} {kernel.kernel:44} {kernel.default * 1e3:10.4f} "
        f"{kernel.tuned * 1e3:9.4f} {kernel.ratio:5.2f} {tried:>5}  {schedule}"
    )


def summary(kernels: Sequence[TunedKernel]) -> list[str]:
    """How many defaults are near the tuned kernels: kernels, workloads, and their mean."""
    lines = []
    for device in dict.fromkeys(kernel.device for kernel in kernels):
        here = [kernel for kernel in kernels if kernel.device == device]
        totals: dict[str, tuple[float, float]] = {}
        for kernel in here:
            before, after = totals.get(kernel.workload, (0.0, 0.0))
            totals[kernel.workload] = (before + kernel.default, after + kernel.tuned)
        ratios = {name: before / after for name, (before, after) in totals.items()}
        mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        worst = max(ratios, key=ratios.__getitem__)
        near = sum(kernel.ratio <= NEAR for kernel in here)
        lines += [
            f"{device}: {near} of {len(here)} kernels, "
            f"{sum(ratio <= NEAR for ratio in ratios.values())} of {len(ratios)} workloads within "
            f"{NEAR - 1:.0%} of tuned; geometric mean of the workloads {mean:.2f}, "
            f"worst {worst} {ratios[worst]:.2f}"
        ]
    return lines
