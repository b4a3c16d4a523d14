"""A line search for the strong Wolfe conditions.

Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.5 (bracket) and 3.6 (zoom), with
the safeguards of Mark Schmidt's minFunc that PyTorch uses. Knows numbers; must not know tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Sufficient decrease, and how much flatter the end must be.
_DECREASE = 1e-4
_FLATNESS = 0.9


@dataclass
class Trial:
    """A point on the line: its distance, the loss and the slope there, and the gradient."""

    length: float
    loss: float
    slope: float
    gradient: Any


@dataclass
class LineSearch:
    """The search along one direction from ``start``.

    ``attempt`` evaluates a distance. ``largest`` gives the largest element of the direction: a
    bracket that moves no parameter by ``tolerance`` is not divided further.
    """

    attempt: Callable[[float], Trial]
    start: Trial
    largest: Callable[[], float]
    tolerance: float

    def run(self, length: float, most: int) -> Trial:
        """The point that is good enough, or the best of ``most`` attempts after the first."""
        start, previous, trial = self.start, self.start, self.attempt(length)
        for tries in range(most):
            if self._too_high(trial) or (tries > 1 and trial.loss >= previous.loss):
                return self._zoom([previous, trial], most - tries)
            if self._is_flat(trial):
                return trial
            if trial.slope >= 0:
                return self._zoom([previous, trial], most - tries)
            least = trial.length + 0.01 * (trial.length - previous.length)
            further = cubic_minimum(previous, trial, least, trial.length * 10)
            previous, trial = trial, self.attempt(further)
        return start if start.loss <= trial.loss else trial

    def _zoom(self, bracket: list[Trial], most: int) -> Trial:
        """The best point of a bracket that is divided until it is good enough."""
        low = _lower(bracket)
        stuck = False
        size = self.largest()
        for _ in range(most):
            left, right = sorted(point.length for point in bracket)
            if (right - left) * size < self.tolerance:
                break
            at = cubic_minimum(bracket[0], bracket[1], left, right)
            margin = 0.1 * (right - left)
            near = min(right - at, at - left) < margin
            if near and (stuck or at >= right or at <= left):
                at = right - margin if abs(at - right) < abs(at - left) else left + margin
                near = False
            stuck = near
            trial = self.attempt(at)
            if self._too_high(trial) or trial.loss >= bracket[low].loss:
                bracket[1 - low] = trial
                low = _lower(bracket)
                continue
            if self._is_flat(trial):
                return trial
            if trial.slope * (bracket[1 - low].length - bracket[low].length) >= 0:
                bracket[1 - low] = bracket[low]
            bracket[low] = trial
        return bracket[low]

    def _too_high(self, trial: Trial) -> bool:
        return trial.loss > self.start.loss + _DECREASE * trial.length * self.start.slope

    def _is_flat(self, trial: Trial) -> bool:
        return abs(trial.slope) <= -_FLATNESS * self.start.slope


def cubic_minimum(a: Trial, b: Trial, low: float, high: float) -> float:
    """Where the cubic through two points with their slopes is least, within bounds."""
    if a.length > b.length:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * _quotient(a.loss - b.loss, a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    share = _quotient(b.slope + d2 - d1, b.slope - a.slope + 2 * d2)
    at = b.length - (b.length - a.length) * share
    return min(max(at, low), high)


def _quotient(a: float, b: float) -> float:
    return a / b if b != 0 else math.nan


def _lower(bracket: list[Trial]) -> int:
    """The place of the lower end, the first of equal ones."""
    return 0 if bracket[0].loss <= bracket[1].loss else 1
