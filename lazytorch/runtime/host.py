"""Memory of this process as NumPy sees it.

Knows bytes and alignment; knows nothing about devices or pools.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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
