"""The levels that the current thread is working in, and what holds inside of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lazytorch.ir.node import Node
from lazytorch.ops import movement
from lazytorch.ops.examples import Level, example_of, is_symbolic, levels_of
from lazytorch.tensor.recorder import record


class _Open(threading.local):
    def __init__(self) -> None:
        self.levels: list[Level] = []


opened = _Open()


@contextmanager
def inside(level: Level) -> Iterator[None]:
    """Work on examples of a level."""
    opened.levels.append(level)
    level.entered += 1
    try:
        yield
    finally:
        level.entered -= 1
        opened.levels.pop()


@contextmanager
def outside(level: Level) -> Iterator[None]:
    """Work on whole batches while inside of a level."""
    before = opened.levels
    opened.levels = [other for other in before if other is not level]
    try:
        yield
    finally:
        opened.levels = before


def made_like(node: Node, like: Any) -> Node:
    """A value of each example, where ``like`` is one.

    What a function makes in the form of an example (``zeros_like``, ``new_zeros``) belongs to the
    example: writing examples into it is allowed.
    """
    if not opened.levels or not is_symbolic(like):
        return node
    known = levels_of(node)
    for level in levels_of(like):
        if level in known:
            continue
        shape = (level.size, *node.shape)
        batch = record(movement.EXPAND, (node,), (shape,), shape, node.dtype, node.device)
        node = example_of(batch, level)
    return node


def different_draws() -> list[Level]:
    """The levels of whose examples each draws random numbers of its own.

    ``RuntimeError`` inside a level that allows no random operations.
    """
    for level in opened.levels:
        if level.randomness == "error":
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use "
                "the 'same' or 'different' randomness flags on vmap or perform the randomness "
                "operation out of vmap"
            )
    return [level for level in opened.levels if level.randomness == "different"]


def check_write(value: Node, target: Node) -> None:
    """``RuntimeError`` where values of examples are written into what is one value for all."""
    if is_symbolic(target):
        if len(opened.levels) < 2:
            return
        known = levels_of(target)
        if all(level in known for level in levels_of(value)):
            return
    raise RuntimeError(
        "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor "
        "`other` in extra_args that has more elements than `self`. This happened due to `other` "
        "being vmapped over but `self` not being vmapped over in a vmap. Please try to use "
        f"out-of-place operators instead: here the values of {levels_of(value)[0].size} examples "
        f"would be written into one tensor of shape {list(target.shape)}. A tensor made inside "
        "the function from an example, like x.new_zeros(...), has room for each."
    )
