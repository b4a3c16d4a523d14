"""The primitives that put rows in order: sorting, and finding the first few.

What is ordered are *pairs*: int64 values with an element's order key in the upper 32 bits and its
place in the lower ones. No two pairs of a row are equal and places break ties, so any way of
sorting them is stable, and a place is all that a reader needs to find the element again. A long
row is sorted in runs, which are then merged two by two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register
from lazytorch.ops.shapes import broadcast

# Above every pair, as no place has 32 bits.
LAST = np.iinfo(np.int64).max


def _float_order(bits: np.ndarray) -> np.ndarray:
    """Floats' bits to integers in the order of the floats: -0 equals 0, NaN is the largest."""
    largest = np.iinfo(bits.dtype).max
    infinity = np.array(np.inf, f"f{bits.itemsize}").view(bits.dtype)
    size = bits & largest
    ordered = np.where(bits < 0, -size, size)
    return np.where(size > infinity, largest, ordered)


FLOAT_ORDER = register(
    OpDef(
        name="float_order", kind="map", arity=1,
        infer=lambda shapes, types, attrs: (shapes[0], types[0]),
        numpy=lambda attrs, bits: _float_order(bits),
        c={"i": "lt_float_order({0})"}, cost=4,
    )
)  # fmt: skip


def _pair(keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    return (keys.astype(np.int64) << 32) | places.astype(np.int64)


PAIR = register(
    OpDef(
        name="pair", kind="map", arity=2,
        infer=lambda shapes, types, attrs: (broadcast(shapes), dtypes.int64),
        numpy=lambda attrs, keys, places: _pair(keys, places),
        c={"i": "((convert_long{w}({0}) << 32) | convert_long{w}({1}))"},
    )
)  # fmt: skip


def _runs_infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    run, kept, _ = attrs
    *rows, size = shapes[0]
    return (*rows, size if kept == run else -(-size // run) * kept), types[0]


def _sorted_runs(attrs: tuple[Any, ...], pairs: np.ndarray) -> np.ndarray:
    run, kept, _ = attrs
    *rows, size = pairs.shape
    count = -(-size // run)
    padded = np.full((*rows, count * run), LAST)
    padded[..., :size] = pairs
    runs = np.sort(padded.reshape(*rows, count, run), -1)[..., :kept].reshape(*rows, count * kept)
    return runs[..., :size] if kept == run else runs


# (run, kept, bits): each ``run`` of a row in order, of which the first ``kept`` stay, with pairs
# above all others where a run has fewer. The keys need ``bits`` bits with their sign.
SORTED_RUNS = register(
    OpDef(name="sorted_runs", kind="sort", arity=1, infer=_runs_infer, numpy=_sorted_runs)
)


def _merged_runs(attrs: tuple[Any, ...], pairs: np.ndarray) -> np.ndarray:
    (run,) = attrs
    return _sorted_runs((2 * run, 2 * run, 0), pairs)


# (run,): rows of sorted runs to rows of sorted runs of twice the length.
MERGED_RUNS = register(
    OpDef(
        name="merged_runs", kind="sort", arity=1,
        infer=lambda shapes, types, attrs: (shapes[0], types[0]),
        numpy=_merged_runs,
    )
)  # fmt: skip
