"""Philox-4x32-10, the counter-based generator behind every random number.

Element i of a draw at ``offset`` is word ``i % 4`` of block ``offset + i // 4`` under the key
``seed``: any element can be computed alone, in any order, on any device.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np

from lazytorch.ir.definition import Shape

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_MASK = np.uint64(0xFFFFFFFF)


def philox_blocks(seed: int, counters: np.ndarray) -> np.ndarray:
    """The blocks at uint64 ``counters`` (n,): uint32 (n, 4)."""
    x0 = counters & _MASK
    x1 = counters >> np.uint64(32)
    x2 = np.zeros_like(counters)
    x3 = np.zeros_like(counters)
    key0, key1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(ROUNDS):
        first = x0 * np.uint64(MULTIPLIERS[0])
        second = x2 * np.uint64(MULTIPLIERS[1])
        x0, x1, x2, x3 = (
            (second >> np.uint64(32)) ^ x1 ^ np.uint64(key0),
            second & _MASK,
            (first >> np.uint64(32)) ^ x3 ^ np.uint64(key1),
            first & _MASK,
        )
        key0 = (key0 + KEY_STEPS[0]) & 0xFFFFFFFF
        key1 = (key1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def philox_bits(seed: int, offset: int, shape: Shape) -> np.ndarray:
    """32 random bits for each element of ``shape``."""
    count = int(np.prod(shape, dtype=np.int64))
    blocks = (count + 3) // 4
    counters = np.arange(blocks, dtype=np.uint64) + np.uint64(offset)
    return philox_blocks(seed, counters).reshape(-1)[:count].reshape(shape)
