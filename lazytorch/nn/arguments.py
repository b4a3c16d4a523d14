"""Spelling of layer arguments: one number for all dimensions, or one for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def repeat(value: Any, times: int) -> tuple[Any, ...]:
    """``value`` as a tuple: a single number is used for each dimension.

    >>> repeat(3, 2), repeat((1, 2), 2)
    ((3, 3), (1, 2))
    """
    return tuple(value) if isinstance(value, Iterable) else (value,) * times
