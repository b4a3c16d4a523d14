"""The engine (first form: op-by-op on NumPy; the scheduled pipeline replaces it in place)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.ir.node import Node
from lazytorch.ops import leaves, reference

_state: dict[int, weakref.ref[Any]] = {}


def resolve_device(name: str) -> str:
    """The runtime name ('numpy', 'opencl:0') of a device a user names ('cpu', 'cuda:0')."""
    return "numpy"


def leaf_from_array(array: np.ndarray, device: str, share: bool = False) -> Node:
    """A node holding ``array`` (C-contiguous). ``share`` keeps the memory common with NumPy."""
    if not share:
        array = array.copy()
    return Node(leaves.BUFFER, (), (), array.shape, dtypes.from_numpy(array.dtype), device, None, array)


def realize(nodes: Sequence[Node]) -> None:
    """Compute every node; afterwards each holds its buffer."""
    pending = [node for node in nodes if node.buffer is None]
    for node, value in zip(pending, reference.evaluate(pending, lambda n: n.buffer)):
        node.fulfil(np.array(value, order="C"))


def to_array(node: Node) -> np.ndarray:
    """The value on the host: realizes, waits, and returns memory shared with the device where
    the device computes in host memory, a copy elsewhere."""
    realize([node])
    if node.op is leaves.SCALAR:
        return np.asarray(node.buffer, node.dtype.numpy)
    return node.buffer


def write_array(node: Node, target: Node) -> None:
    """Compute ``node`` and store it into the buffer that ``target`` holds (same shape, dtype)."""
    np.copyto(target.buffer, to_array(node))


def note_state(storage: Any) -> None:
    """Remember (weakly) an object with a ``node`` attribute that was written in place, or whose
    value will be wanted: flush() computes what is pending in all of them together."""
    _state[id(storage)] = weakref.ref(storage)


def flush() -> None:
    """Compute the pending values of all noted state in one graph."""
    owners = [owner for reference_ in _state.values() if (owner := reference_()) is not None]
    _state.clear()
    realize([owner.node for owner in owners if owner.node.buffer is None])


def recorded(node: Node) -> None:
    """Called for every node recorded: keeps pending work within the budgets."""


def synchronize() -> None:
    """Wait until every device has finished."""
