"""Whether two schedules of one body computed the same.

Integers and booleans have to be equal. Floats may differ by what another order of additions
can do to them: an error that grows with the square root of the number of terms (Higham, Accuracy
and Stability of Numerical Algorithms, 2002, section 4.2), relative to the value or to the
root mean square of all results, whichever is larger; results of narrow types may also be rounded to
the neighbour.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch.dtypes import DType

_BITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}


def tolerance(dtype: DType, terms: int) -> float:
    """The relative difference that reordering ``terms`` additions may make."""
    sums = 2.0 ** -_BITS[dtype.compute.name] * (8 + 4 * math.sqrt(terms))
    return max(sums, 2.0 * 2.0 ** -_BITS[dtype.name])


def difference(got: Any, wanted: Any, dtype: DType, terms: int) -> str:
    """'' when the arrays agree, else what is different about them."""
    if dtype.kind != "f":
        wrong = got != wanted
    else:
        with np.errstate(all="ignore"):
            x, y = got.astype(np.float64), wanted.astype(np.float64)
            finite = y[np.isfinite(y)]
            typical = math.sqrt(float(np.mean(finite * finite))) if finite.size else 0.0
            allowed = tolerance(dtype, terms) * np.maximum(np.abs(y), typical)
            close = np.abs(x - y) <= allowed
        wrong = ~(close | (x == y) | (np.isnan(x) & np.isnan(y)))
    if not wrong.any():
        return ""
    first = int(np.flatnonzero(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} results differ, "
        f"first [{first}]: {got[first]} != {wanted[first]}"
    )
