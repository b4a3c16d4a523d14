"""Nested containers of tensors, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of tuples, lists and dicts in order, and what puts others in their places.

    >>> leaves, rebuild = flatten({"a": (1, 2), "b": [3]})
    >>> leaves, rebuild([4, 5, 6])
    ([1, 2, 3], {'a': (4, 5), 'b': [6]})
    """
    if not isinstance(tree, (tuple, list, dict)):
        return [tree], lambda leaves: leaves[0]
    children = list(tree.values() if isinstance(tree, dict) else tree)
    parts = [flatten(child) for child in children]
    leaves = [leaf for part, _ in parts for leaf in part]
    return leaves, lambda given: _joined(tree, parts, given)


def _joined(tree: Any, parts: list[tuple[list[Any], Rebuild]], leaves: Sequence[Any]) -> Any:
    made = []
    start = 0
    for part, rebuild in parts:
        made.append(rebuild(leaves[start : start + len(part)]))
        start += len(part)
    if isinstance(tree, dict):
        return type(tree)(zip(tree, made))
    if hasattr(tree, "_fields"):
        return type(tree)(*made)
    return type(tree)(made)
