"""Memory of this process as NumPy sees it.

Knows bytes and alignment; knows nothing about devices or pools.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_CACHE_FILES = ("level", "type", "size")


def aligned_host_memory(nbytes: int, alignment: int) -> Array:
    """Uninitialised bytes: page-aligned from a page up, ``alignment`` below."""
    if nbytes >= 4096:
        alignment = 4096
    raw = np.empty(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + nbytes]


def host_bytes(array: Array) -> Array:
    """The bytes of a C-contiguous array, without a copy."""
    if not array.flags.c_contiguous:
        raise ValueError(
            f"only a C-contiguous array can share its memory with a device, got strides "
            f"{array.strides} for shape {array.shape}; use numpy.ascontiguousarray"
        )
    return array.reshape(-1).view(np.uint8)


def write_host(host: Array, array: Array) -> None:
    """Copy an array of any strides into the beginning of some bytes."""
    target = host[: array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(target, array)


def host_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's if that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        total = 8 << 30
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):
            continue  # "max", or another kind of system
    return total


def cache_sizes() -> tuple[int, int]:
    """Bytes of one core's first-level data cache and second-level cache; 0 where unknown."""
    found = {1: 0, 2: 0}
    for number in range(8):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{number}"
        try:
            level, kind, size = (_first_line(f"{folder}/{name}") for name in _CACHE_FILES)
            if int(level) in found and kind != "Instruction":
                unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
                found[int(level)] = int(size.rstrip("KM")) * unit
        except (OSError, ValueError):
            continue  # fewer caches, or another kind of system
    return found[1], found[2]


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline().strip()
