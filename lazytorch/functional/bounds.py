"""The range of integer values: what index checks need to know before an operation is recorded.

Often it follows from how the value was made (a range, a sort); otherwise the value is computed
once, here, so that a wrong index is reported at the line that uses it. Answers are remembered
as long as the node lives.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from lazytorch import engine
from lazytorch.ir.node import Node
from lazytorch.ops import leaves, movement
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.transform import every_example
from lazytorch.tensor.storage import node_of, shape_of
from lazytorch.tensor.tensor import Tensor

Range = tuple[int, int]
_known: weakref.WeakKeyDictionary[Node, Range] = weakref.WeakKeyDictionary()
_STEPS = 12
# Kinds of operations whose results hold elements of their sources, and no others.
_MOVES = ("move", "example")


def remember_range(tensor: Tensor, low: int, high: int) -> Tensor:
    """Note that a tensor's values lie in [low, high]; returns the tensor."""
    _known[node_of(tensor)] = (low, high)
    return tensor


def value_range(tensor: Tensor) -> Range:
    """Bounds of an integer tensor's values; (0, -1) when it is empty."""
    if not count(shape_of(tensor)):
        return (0, -1)
    shared = tensor._storage is not None and tensor._storage.host_shared
    if not shared:
        node = node_of(tensor)
        found = _known.get(node) or _derived(node)
        if found is not None:
            return found
        # The value rather than a reshape of it: that is what the next step finds computed.
        while node.op is movement.RESHAPE and node.src:
            (node,) = node.src
        # A position of one example may be wrong in any of them.
        array = engine.to_array(every_example(node), checked=True)
        found = _known[node] = (int(array.min()), int(array.max()))
        return found
    array = functions.peek(tensor)
    return int(array.min()), int(array.max())


def note_limits(tensor: Tensor, low: int, high: int) -> None:
    """A check passed for values in [low, high]: a captured function checks again."""
    capture = engine.current.capture
    if capture is None:
        return
    node = node_of(tensor)
    while capture.source_of(node) is None and node.op.kind in _MOVES and len(node.src) == 1:
        (node,) = node.src
    capture.note_range(node, low, high)


def _derived(node: Node) -> Range | None:
    """What follows from how the node was made: moves keep ranges, ranges give them."""
    for _ in range(_STEPS):
        if node.op is leaves.IOTA:
            return (0, node.shape[0] - 1)
        if node.op is leaves.CONSTANT:
            return (int(node.attrs[0]), int(node.attrs[0]))
        if node.op is leaves.SCALAR:
            return (int(node.buffer), int(node.buffer))
        if node.op.kind in _MOVES and len(node.src) == 1:
            node = node.src[0]
            known = _known.get(node)
            if known is not None:
                return known
            continue
        return None
    return None


def check_index(tensor: Tensor, extent: int, axis: int) -> Tensor:
    """Positions along an axis of ``extent``, negative ones counted from the front.

    ``IndexError`` as PyTorch's when one lies outside.
    """
    low, high = value_range(tensor)
    if low > high:
        return tensor
    if low < -extent or high >= extent:
        wrong = low if low < -extent else high
        raise IndexError(f"index {wrong} is out of bounds for dimension {axis} with size {extent}")
    if low >= 0:
        note_limits(tensor, 0, extent - 1)
        return tensor
    # Without a negative position the graph would be another.
    engine.looked("positions counted from the end are found in data")
    wrapped: Any = functions.where(tensor < 0, tensor + extent, tensor)  # type: ignore[operator]
    return remember_range(wrapped, 0, extent - 1)


def check_positions(tensor: Tensor, extent: int, function: str, axis: int) -> None:
    """``RuntimeError`` when a position lies outside [0, extent), as gather and scatter give."""
    low, high = value_range(tensor)
    if low <= high and (low < 0 or high >= extent):
        wrong = low if low < 0 else high
        raise RuntimeError(
            f"index {wrong} is out of bounds for dimension {axis} with size {extent} ({function})"
        )
    note_limits(tensor, 0, extent - 1)


def as_array(values: Any) -> np.ndarray:
    """Indices of any kind as an integer array on the host."""
    return np.asarray(functions.peek(values) if isinstance(values, Tensor) else values)
