"""Anomaly detection: find the operation whose gradient is NaN, or fails.

While it is on, every gradient is looked at as soon as it is made, which computes it: slow, and
meant for finding a mistake. Entries of the tape then remember the user's line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.autograd.watch import watch
from lazytorch.tensor.site import Site, format_site, user_site


class _State:
    enabled = False
    check_nan = True


state = _State()


def _switch(enabled: bool, check_nan: bool) -> None:
    if enabled != state.enabled:
        (watch.open if enabled else watch.close)(note_site)
    state.enabled, state.check_nan = enabled, check_nan


class set_detect_anomaly:
    """Turn anomaly detection on or off, at once, or for a ``with`` block."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = (state.enabled, state.check_nan)
        _switch(bool(mode), check_nan)

    def __enter__(self) -> None:
        """Already on since it was made."""

    def __exit__(self, *_: Any) -> None:
        _switch(*self._before)


class detect_anomaly(set_detect_anomaly):
    """Anomaly detection for a ``with`` block."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True, check_nan)


def note_site(entry: Any) -> None:
    """Remember where an entry was recorded."""
    entry._site = user_site()


def explain(entry: Any) -> str:
    """Where the operation of an entry stands in the user's program."""
    site: Site | None = getattr(entry, "_site", None)
    return f" recorded at {format_site(site)}" if site is not None else ""


def check(entry: Any, results: tuple[Any, ...], read: Any) -> None:
    """``RuntimeError`` when a gradient that an entry made holds NaN."""
    for number, gradient in enumerate(results):
        if gradient is None:
            continue
        array = read(gradient)
        if array.dtype.kind not in "iub" and bool(np.isnan(array.astype(np.float64)).any()):
            raise RuntimeError(
                f"Function '{entry.name()}'{explain(entry)} returned nan values in its {number}th "
                "output."
            )
