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
# Blocks worked on at once on the host: what they need stays in the second-level cache.
_PORTION = 8192
_WORD = np.uint64(32)


def philox_blocks(seed: int, counters: np.ndarray) -> np.ndarray:
    """The blocks at uint64 ``counters`` (n,): uint32 (n, 4)."""
    made = np.empty((len(counters), 4), np.uint32)
    for start in range(0, len(counters), _PORTION):
        part = slice(start, start + _PORTION)
        _fill(seed, counters[part], made[part])
    return made


def _fill(seed: int, counters: np.ndarray, made: np.ndarray) -> None:
    # The lower halves of 64-bit words as 32-bit numbers, so that nothing need be masked: a product
    # of two of them is taken in 64 bits.
    words = np.zeros((4, len(counters)), np.uint32)
    words[0] = counters.astype(np.uint32)
    words[1] = (counters >> _WORD).astype(np.uint32)
    products = np.empty((2, len(counters)), np.uint64)
    factors = np.array(MULTIPLIERS, np.uint64)[:, None]
    keys = np.array((seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF), np.uint32)
    steps = np.array(KEY_STEPS, np.uint32)
    upper = np.empty_like(products)
    for _ in range(ROUNDS):
        np.multiply(words[0::2], factors, out=products)
        np.right_shift(products, _WORD, out=upper)
        # Each product's upper half goes into the other half of the block.
        words[0::2] = words[1::2]
        words[0::2] ^= upper[::-1].astype(np.uint32)
        words[0::2] ^= keys[:, None]
        words[1::2] = products[::-1].astype(np.uint32)
        keys += steps
    made[...] = words.T


def philox_bits(seed: int, offset: int, shape: Shape, first: int = 0) -> np.ndarray:
    """32 random bits for each element of ``shape``, from element number ``first`` on."""
    count = int(np.prod(shape, dtype=np.int64))
    skipped = first % 4
    blocks = (skipped + count + 3) // 4
    begin = np.uint64((offset + first // 4) & ((1 << 64) - 1))
    counters = np.arange(blocks, dtype=np.uint64) + begin
    words = philox_blocks(seed, counters).reshape(-1)
    return words[skipped : skipped + count].reshape(shape)
