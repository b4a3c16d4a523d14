"""Functions that run in NumPy and SciPy on the host, as nodes of the graph.

What a well-kept library does well (decompositions, Fourier transforms, special functions) is not
written again as kernels. On a CPU device the library works in the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ops import leaves
from lazytorch.ops.shapes import broadcast
from lazytorch.tensor.recorder import record
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh

Shape = tuple[int, ...]


def call_host(
    key: str, function: Callable[..., Any], shape: Shape, dtype: DType, *sources: Tensor
) -> Tensor:
    """The result of ``function(*arrays)``, of known shape and dtype, without history.

    ``key`` names the function and every setting it was made with: two calls with equal keys and
    shapes are taken for the same computation.
    """

    def compute(*arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            value = np.asarray(function(*arrays))
        if value.shape != shape:
            raise AssertionError(f"host function {key} gave {value.shape}, expected {shape}")
        return np.ascontiguousarray(value, dtype.numpy).reshape(shape)

    nodes = tuple(node_of(source) for source in sources)
    call = leaves.HostFunction(key, compute, shape, dtype)
    node = record(leaves.HOST, nodes, (call,), shape, dtype, nodes[0].device)
    return fresh(node, sources[0]._device)


def on_host(key: str, function: Callable[..., Any], *sources: Tensor) -> Tensor:
    """An elementwise NumPy function of tensors of one dtype, without history."""
    nodes = tuple(node_of(source) for source in sources)
    shape = broadcast([node.shape for node in nodes])

    def spread(*arrays: np.ndarray) -> Any:
        return np.broadcast_to(function(*arrays), shape)

    return call_host(key, spread, shape, nodes[0].dtype, *sources)
