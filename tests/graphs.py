"""Graphs built by hand, for tests below the tensor layer, and how to compute and compare them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lazytorch import config, dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef
from lazytorch.ir.node import Node
from lazytorch.ops import contraction, elementwise, leaves, movement, reduction, reference
from lazytorch.runtime import available_devices

# Every device, and the first OpenCL device once more with kernels written for GPUs.
DEVICES = available_devices()
if "opencl:0" in DEVICES:
    DEVICES.append("opencl:0/gpu")


class Builder:
    """Makes nodes on one device."""

    def __init__(self, device: str = "numpy") -> None:
        self.device, _, self.family = device.partition("/")

    def leaf(self, array: Any) -> Node:
        return engine.leaf_from_array(np.array(array, order="C"), self.device)

    def apply(self, op: OpDef, *sources: Node, attrs: tuple[Any, ...] = ()) -> Node:
        shape, dtype = op.infer([s.shape for s in sources], [s.dtype for s in sources], attrs)
        node = Node(op, sources, attrs, tuple(shape), dtype, self.device)
        node.depth = 1 + max((source.depth for source in sources), default=0)
        return node

    def constant(self, value: Any, dtype: DType = dtypes.float32) -> Node:
        return Node(leaves.CONSTANT, (), (value,), (), dtype, self.device)

    def scalar(self, value: Any, dtype: DType = dtypes.float32) -> Node:
        return Node(leaves.SCALAR, (), (), (), dtype, self.device, None, value)

    def iota(self, count: int, dtype: DType = dtypes.int64) -> Node:
        return Node(leaves.IOTA, (), (), (count,), dtype, self.device)

    # Compositions -----------------------------------------------------------------------------

    def reduce(self, op: OpDef, x: Node, axes: Sequence[int], keep: bool = False) -> Node:
        axes = tuple(sorted(axis % len(x.shape) for axis in axes))
        result = self.apply(op, x, attrs=(axes,))
        if keep:
            kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
            result = self.reshape(result, kept)
        return result

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        return self.apply(movement.RESHAPE, x, attrs=(tuple(shape),))

    def permute(self, x: Node, order: Sequence[int]) -> Node:
        return self.apply(movement.PERMUTE, x, attrs=(tuple(order),))

    def expand(self, x: Node, shape: Sequence[int]) -> Node:
        return self.apply(movement.EXPAND, x, attrs=(tuple(shape),))

    def slice(
        self, x: Node, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]
    ) -> Node:
        return self.apply(movement.SLICE, x, attrs=(tuple(starts), tuple(sizes), tuple(steps)))

    def cast(self, x: Node, dtype: DType) -> Node:
        return self.apply(elementwise.CAST, x, attrs=(dtype,))

    def matmul(self, a: Node, b: Node) -> Node:
        (rows, inner), columns = a.shape, b.shape[1]
        attrs = (
            (rows, columns, inner), (0, 1), (((0, 1),), ((2, 1),)), (((2, 1),), ((1, 1),)),
        )  # fmt: skip
        return self.apply(contraction.CONTRACT, a, b, attrs=attrs)

    def conv2d(
        self, x: Node, w: Node, padding: int = 0, stride: int = 1, dilation: int = 1
    ) -> Node:
        if padding:
            pads = ((0, 0), (0, 0), (padding, padding), (padding, padding))
            x = self.apply(movement.PAD, x, self.constant(0, x.dtype), attrs=(pads,))
        n, channels, height, width = x.shape
        out, _, kh, kw = w.shape
        oh = movement.window_count(height, kh, stride, dilation)
        ow = movement.window_count(width, kw, stride, dilation)
        attrs = (
            (n, out, oh, ow, channels, kh, kw),
            (0, 1, 2, 3),
            (((0, 1),), ((4, 1),), ((2, stride), (5, dilation)), ((3, stride), (6, dilation))),
            (((1, 1),), ((4, 1),), ((5, 1),), ((6, 1),)),
        )
        return self.apply(contraction.CONTRACT, x, w, attrs=attrs)

    def softmax(self, x: Node, axis: int = -1) -> Node:
        largest = self.reduce(reduction.MAX, x, (axis,), keep=True)
        e = self.apply(elementwise.EXP, self.apply(elementwise.SUB, x, largest))
        return self.apply(elementwise.DIV, e, self.reduce(reduction.SUM, e, (axis,), keep=True))

    def log_softmax(self, x: Node, axis: int = -1) -> Node:
        shifted = self.apply(
            elementwise.SUB, x, self.reduce(reduction.MAX, x, (axis,), keep=True)
        )
        e = self.apply(elementwise.EXP, shifted)
        total = self.reduce(reduction.SUM, e, (axis,), keep=True)
        return self.apply(elementwise.SUB, shifted, self.apply(elementwise.LOG, total))

    def normalize(self, x: Node, axes: Sequence[int]) -> Node:
        """Layer norm over the last axes, batch norm over (0, 2, 3)."""
        count = float(math.prod(x.shape[axis] for axis in axes))
        mean = self.apply(
            elementwise.DIV, self.reduce(reduction.SUM, x, axes, True), self.scalar(count)
        )
        centred = self.apply(elementwise.SUB, x, mean)
        squares = self.apply(elementwise.MUL, centred, centred)
        variance = self.apply(
            elementwise.DIV, self.reduce(reduction.SUM, squares, axes, True), self.scalar(count)
        )
        shifted = self.apply(elementwise.ADD, variance, self.scalar(1e-5))
        return self.apply(elementwise.MUL, centred, self.apply(elementwise.RSQRT, shifted))

    def gelu(self, x: Node) -> Node:
        op = elementwise
        cube = self.apply(op.MUL, x, self.apply(op.MUL, x, x))
        inner = self.apply(op.ADD, x, self.apply(op.MUL, cube, self.scalar(0.044715)))
        bend = self.apply(op.TANH, self.apply(op.MUL, inner, self.scalar(0.7978845608)))
        half = self.apply(op.MUL, x, self.constant(0.5))
        return self.apply(op.MUL, half, self.apply(op.ADD, bend, self.constant(1)))

    def relu(self, x: Node) -> Node:
        return self.apply(elementwise.MAXIMUM, x, self.constant(0, x.dtype))

    # Answers ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        if self.family == "gpu":
            # What no processor's user gets, and takes a processor's driver long to optimize.
            changes = {"TRIAL_BUILDS": 1000, **changes}
        with config.override(SCHEDULE_FAMILY=self.family, **changes):
            yield

    def compute(self, *nodes: Node, **changes: Any) -> list[np.ndarray]:
        """The values, computed in one graph."""
        with self.settings(**changes):
            engine.realize(nodes)
            return [np.array(engine.to_array(node)) for node in nodes]

    def launches(self, *nodes: Node) -> int:
        """How many kernels computing ``nodes`` launches."""
        with self.settings():
            return engine.plan_for(nodes).plan.launches


def expected(*nodes: Node) -> list[np.ndarray]:
    """The values according to the oracle. To be asked before the nodes are computed."""
    return reference.evaluate(nodes, lambda n: np.array(engine.to_array(n)))


def assert_close(
    got: np.ndarray, wanted: np.ndarray, name: str = "", rtol: float = 2.5e-6, atol: float = 1e-37
) -> None:
    """Equal for integers, within a tolerance (scaled to the dtype) for floats."""
    assert got.shape == wanted.shape, f"{name}: shape {got.shape}, wanted {wanted.shape}"
    assert got.dtype == wanted.dtype, f"{name}: dtype {got.dtype}, wanted {wanted.dtype}"
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        return
    kind = dtypes.from_numpy(got.dtype)
    if kind is dtypes.float16:
        rtol, atol = max(rtol, 1.1e-3), max(atol, 6.2e-8)
    elif kind is dtypes.bfloat16:
        rtol = max(rtol, 8e-3)
    elif kind is dtypes.float64:
        rtol, atol = rtol * 1e-8, atol * 1e-8
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            got.astype(wide), wanted.astype(wide), rtol=rtol, atol=atol, err_msg=name
        )
