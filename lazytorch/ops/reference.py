"""Direct evaluation of a Node graph, operation by operation, in NumPy.

This is the independent oracle: it knows neither fusion nor kernels, so whatever a scheduled
graph computes on any device must agree with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lazytorch.ir.node import Node, postorder
from lazytorch.ops import leaves


def evaluate(roots: Sequence[Node], read: Callable[[Node], np.ndarray]) -> list[np.ndarray]:
    """The values of ``roots``; ``read`` gives the array of a node that holds a buffer."""
    values: dict[int, np.ndarray] = {}
    for node in postorder(roots):
        values[id(node)] = _value(node, values, read)
    return [values[id(root)] for root in roots]


def _value(
    node: Node, values: dict[int, np.ndarray], read: Callable[[Node], np.ndarray]
) -> np.ndarray:
    op = node.op
    if op is leaves.SCALAR:
        return np.asarray(node.buffer, node.dtype.numpy)
    if node.buffer is not None:
        return read(node)
    if op is leaves.CONSTANT:
        return np.asarray(node.attrs[0]).astype(node.dtype.numpy)
    if op is leaves.IOTA:
        return np.arange(node.shape[0], dtype=node.dtype.numpy)
    result = op.numpy(node.attrs, *(values[id(source)] for source in node.src))
    result = np.asarray(result)
    if op.kind == "map" and result.shape != node.shape:
        result = np.broadcast_to(result, node.shape)
    return result
