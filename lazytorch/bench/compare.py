"""Whether two libraries computed the same. Nothing is timed for keeps before this says yes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Outputs = Sequence[np.ndarray]


def difference(found: Outputs, expected: Outputs, tolerance: float) -> str:
    """'' when all arrays agree within ``tolerance`` of the largest expected value, otherwise what
    is wrong. NaN and infinity must stand where they are expected.

    >>> difference([np.ones(2)], [np.ones(2)], 1e-3)
    ''
    >>> difference([np.ones(2)], [np.zeros((2, 1))], 1e-3)
    'output 0 has shape (2,), expected (2, 1)'
    """
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    for number, (a, b) in enumerate(zip(found, expected)):
        complaint = _one(np.asarray(a), np.asarray(b), tolerance)
        if complaint:
            return f"output {number} {complaint}"
    return ""


def _one(found: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    if found.shape != expected.shape:
        return f"has shape {found.shape}, expected {expected.shape}"
    if not found.size:
        return ""
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return "is not finite in other places than expected"
    if not finite.all():
        if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
            return "has other infinities or NaN than expected"
        found, expected = found[finite], expected[finite]
        if not found.size:
            return ""
    # In slices: these arrays may be large, and float64 copies of them larger.
    scale = float(np.abs(expected).max())
    error = float(np.abs(found - expected).max())
    if error <= tolerance * scale:
        return ""
    relative = error / scale if scale else float("inf")
    return f"differs by {relative:.2g} of the largest value (tolerance {tolerance:g})"


def loss_difference(found: Sequence[float], expected: Sequence[float], tolerance: float) -> str:
    """'' when the losses of the first steps agree, otherwise the first that does not.

    ``tolerance`` is a share of the largest loss: a network that has learned its batch by heart has
    losses that are rounding themselves. What two libraries round differently grows as they train:
    each step may differ twice as much as the one before.

    >>> loss_difference([2.0, 1.0], [2.0, 1.1], 1e-3)
    'the loss of step 1 is 1, expected 1.1 (tolerance 0.002 of 2)'
    """
    if len(found) != len(expected):
        return f"{len(found)} losses, expected {len(expected)}"
    scale = max(map(abs, expected), default=0.0)
    for step, (a, b) in enumerate(zip(found, expected)):
        allowed = tolerance * 2**step
        if not abs(a - b) <= allowed * scale:
            return (
                f"the loss of step {step} is {a:.6g}, expected {b:.6g} "
                f"(tolerance {allowed:g} of {scale:g})"
            )
    return ""
