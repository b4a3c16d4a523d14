"""example: one example of a batch, whichever it is.

A function that is mapped over a batch runs once, on values of the shape that one example has.
Where such a value comes from a batch (N, ...), it is a node ``example(level)`` of the shape
(...): the element that a loop over the batch would be at. Whatever is made of it depends on the
loop as well, until ``tensor.batching`` rewrites it with the batch as an axis of its own.

Such nodes are *symbolic*: they stand for N values and have none themselves, so they are never
computed. Their depth tells them from others (``ir.node.SYMBOLIC``).
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.node import SYMBOLIC, Node
from lazytorch.ir.registry import register


class Level:
    """One use of a function on a batch: the loop variable that examples belong to.

    ``size`` is the number of examples and ``randomness`` says what draws in the function are:
    'error', 'same' for all examples, or 'different'. ``entered`` counts how often the level is
    being worked in. Levels are numbered as they are made, so those inside of others come later.
    """

    __slots__ = ("__weakref__", "entered", "number", "periods", "randomness", "size")
    _numbers = itertools.count()

    def __init__(self, size: int, randomness: str = "error") -> None:
        self.number = next(Level._numbers)
        self.size = size
        self.randomness = randomness
        self.entered = 0
        # [first, last) numbers of tape entries that were written while inside.
        self.periods: list[tuple[int, int]] = []


def _infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return shapes[0][1:], types[0]


def _no_value(*_: Any) -> np.ndarray:
    raise TypeError("one example of a batch has no value of its own")


# example(level): the first axis of the source is the batch.
EXAMPLE = register(OpDef(name="example", kind="example", arity=1, infer=_infer, numpy=_no_value))


def example_of(batch: Node, level: Level) -> Node:
    """One example of a batch (N, ...)."""
    node = Node(EXAMPLE, (batch,), (level,), batch.shape[1:], batch.dtype, batch.device, batch.site)
    node.depth = SYMBOLIC + batch.depth % SYMBOLIC
    return node


def is_symbolic(node: Node) -> bool:
    """Whether the node stands for one value of each example of some batch."""
    return node.depth >= SYMBOLIC


def symbolic_order(root: Node, level: Level | None = None) -> list[Node]:
    """The symbolic nodes below ``root``, sources before users; not behind examples of ``level``."""

    def ends(node: Node) -> bool:
        return node.op is EXAMPLE and node.attrs[0] is level

    return _symbolic_order(root, ends)


def _symbolic_order(root: Node, ends: Callable[[Node], bool]) -> list[Node]:
    order: list[Node] = []
    seen: set[int] = set()
    stack = [root] if root.depth >= SYMBOLIC else []
    while stack:
        node = stack[-1]
        if id(node) in seen:
            stack.pop()
            continue
        waiting = [
            source
            for source in (() if ends(node) else node.src)
            if source.depth >= SYMBOLIC and id(source) not in seen
        ]
        if waiting:
            stack.extend(waiting)
        else:
            seen.add(id(node))
            order.append(node)
            stack.pop()
    return order


# What was found once stays true: rewriting a node does not change what it depends on.
_levels: weakref.WeakKeyDictionary[Node, tuple[Level, ...]] = weakref.WeakKeyDictionary()


def levels_of(node: Node) -> tuple[Level, ...]:
    """The levels that a symbolic node depends on, each once."""
    for one in _symbolic_order(node, _levels.__contains__):
        if one in _levels:
            continue
        found = {id(one.attrs[0]): one.attrs[0]} if one.op is EXAMPLE else {}
        for source in one.src:
            if source.depth >= SYMBOLIC:
                found.update((id(level), level) for level in _levels[source])
        _levels[one] = tuple(found.values())
    return _levels.get(node, ())
