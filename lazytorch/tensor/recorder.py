"""Recording: the one place where the front makes nodes.

Knows nodes, scalars and the user's line; nothing about tensors, views or gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import config, dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.node import SYMBOLIC, Node
from lazytorch.ops import elementwise, leaves
from lazytorch.tensor.site import user_site

_constants: dict[tuple[Any, DType, str], Node] = {}


def _compute_at_once(node: Node) -> None:
    engine.recorded(node)
    if node.depth < SYMBOLIC:
        engine.realize([node])


def _watcher() -> Any:
    return _compute_at_once if config.get("EAGER") else engine.recorded


watch = _watcher()


def set_eager(eager: bool) -> None:
    """Compute every operation when it is recorded (what ``LAZYTORCH_EAGER=1`` sets)."""
    global watch
    watch = _compute_at_once if eager else engine.recorded


def record(
    op: OpDef,
    src: tuple[Node, ...],
    attrs: tuple[Any, ...],
    shape: Shape,
    dtype: DType,
    device: str,
) -> Node:
    """A node for ``op`` at the user's line; shape and dtype must be right already."""
    node = Node(op, src, attrs, shape, dtype, device, user_site())
    watch(node)
    return node


def infer_and_record(op: OpDef, src: tuple[Node, ...], attrs: tuple[Any, ...] = ()) -> Node:
    """A node whose shape and dtype the operation's record works out (and checks)."""
    shape, dtype = op.infer([node.shape for node in src], [node.dtype for node in src], attrs)
    return record(op, src, attrs, shape, dtype, src[0].device)


def scalar_node(value: Any, dtype: DType, device: str) -> Node:
    """A Python number as a 0-d value.

    Numbers in ``leaves.BAKED`` become constants, all others scalar arguments, which never enter
    the key of a plan. Minus zero equals zero but must not become it, so it is never baked.
    """
    if value in leaves.BAKED and (value != 0 or math.copysign(1.0, value.real) > 0):
        key = (value, dtype, device)
        node = _constants.get(key)
        if node is None:
            node = Node(leaves.CONSTANT, (), (_python_number(value, dtype),), (), dtype, device)
            _constants[key] = node
        return node
    if dtype.kind == "c":
        # Kernels take real arguments only.
        parts = (scalar_node(part, dtype.real, device) for part in (value.real, value.imag))
        return record(elementwise.COMPLEX, tuple(parts), (), (), dtype, device)
    return Node(leaves.SCALAR, (), (), (), dtype, device, None, _python_number(value, dtype))


def array_of(node: Node) -> np.ndarray:
    """The value on the host, for reading only.

    A constant is answered here: operands share its node, which must never be computed, for a
    computed node is a buffer and would no longer be baked into kernels.
    """
    if node.op is leaves.CONSTANT:
        return np.asarray(node.attrs[0]).astype(node.dtype.numpy)
    return engine.to_array(node)


def own_value(node: Node) -> Node:
    """A node that may become a tensor's value: for a shared constant, a copy of it."""
    if node.op is leaves.CONSTANT:
        return Node(node.op, (), node.attrs, node.shape, node.dtype, node.device)
    return node


_RANGES = {
    dtype: (-(1 << (8 * dtype.itemsize - 1)), (1 << (8 * dtype.itemsize - 1)) - 1)
    for dtype in dtypes.ALL
    if dtype.kind == "i"
}
_RANGES.update(
    {dtype: (0, (1 << (8 * dtype.itemsize)) - 1) for dtype in dtypes.ALL if dtype.kind == "u"}
)
_C_NAMES = {
    "bool": "bool", "int32": "int", "float32": "float", "float64": "double",
    "float16": "c10::Half", "bfloat16": "c10::BFloat16",
}  # fmt: skip


def c_name(dtype: DType) -> str:
    """The name that PyTorch's messages about numbers use (``int64_t`` for int64)."""
    return _C_NAMES.get(dtype.name, f"{dtype.name}_t")


def _python_number(value: Any, dtype: DType) -> Any:
    kind = dtype.kind
    if kind == "f":
        return float(value)
    if kind == "c":
        return complex(value)
    if kind == "b":
        return bool(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise RuntimeError(
            f"value cannot be converted to type {c_name(dtype)} without overflow: got {value}"
        )
    number = int(value)
    low, high = _RANGES[dtype]
    if not low <= number <= high:
        if kind == "u" and -high - 1 <= number < 0:
            return number & high
        raise RuntimeError(
            f"value cannot be converted to type {c_name(dtype)} without overflow: {number} is "
            f"outside [{low}, {high}]"
        )
    return number
