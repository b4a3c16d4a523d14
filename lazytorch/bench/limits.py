"""What a device itself can do: fused multiply-adds in registers, and a plain copy.

Measured in the run that is judged by them, with kernels of a few lines that use no other part of
lazytorch than building and launching.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.runtime.launch import BoundLaunch

# Independent sums in flight, enough to hide the latency of a fused multiply-add.
CHAINS = 24
STEPS = 1 << 15
# Floats that one work-item copies.
COPY_BLOCK = 1 << 14
SMALLEST_COPY = 1 << 20


def _bind(device: Any, source: str, name: str, arguments: list[Any], items: int) -> BoundLaunch:
    launch: BoundLaunch = device.build(source, [name])[name].bind(arguments, (items,), (1,))
    return launch


def _vector_width(device: Any) -> int:
    return max(4, min(16, device.capabilities.native_vector_width_float))


def _one_item() -> str:
    return "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))"


def fma_peak(device: Any) -> Callable[[], float]:
    """A call that answers flop/s of nothing but fused multiply-adds in registers."""
    width = _vector_width(device)
    items = 4 * max(device.capabilities.compute_units, 1)
    vector = f"float{width}"
    lines = [
        _one_item(),
        "void peak(__global float* out, const float x, const int n) {",
        *(f"  {vector} a{i} = ({vector})(x + {i});" for i in range(CHAINS)),
        "  for (int i = 0; i < n; i++) {",
        *(f"    a{i} = fma(a{i}, ({vector})(x), a{i});" for i in range(CHAINS)),
        "  }",
        f"  vstore{width}({' + '.join(f'a{i}' for i in range(CHAINS))}, get_global_id(0), out);",
        "}",
    ]
    out = device.allocate(4 * width * items)
    arguments = [out, np.float32(0.5), np.int32(STEPS)]
    launch = _bind(device, "\n".join(lines), "peak", arguments, items)
    return _rate(device, launch, 2.0 * width * CHAINS * STEPS * items)


def copy_bandwidth(device: Any, nbytes: int) -> Callable[[], float]:
    """A call that answers bytes read and written a second, for a copy moving about ``nbytes``."""
    width = _vector_width(device)
    items = max(max(nbytes, SMALLEST_COPY) // 8 // COPY_BLOCK, 1)
    count = items * COPY_BLOCK
    source = f"""{_one_item()}
    void copy(__global float* out, __global const float* in) {{
      const size_t start = get_global_id(0) * {COPY_BLOCK};
      for (int i = 0; i < {COPY_BLOCK}; i += {width})
        vstore{width}(vload{width}(0, in + start + i), 0, out + start + i);
    }}"""
    data = device.upload(np.ones(count, np.float32))
    launch = _bind(device, source, "copy", [device.allocate(4 * count), data], items)
    return _rate(device, launch, 8.0 * count)


def _rate(device: Any, launch: BoundLaunch, work: float) -> Callable[[], float]:
    def call() -> float:
        start = time.perf_counter()
        launch.launch()
        device.synchronize()
        return work / (time.perf_counter() - start)

    # The first launch builds and touches memory.
    call()
    return call
