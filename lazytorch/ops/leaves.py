"""The primitives without sources, random bits, device copies and calls of Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.expression import RANDOM_COST
from lazytorch.ir.registry import register
from lazytorch.ops.philox import philox_bits


def _no_inference(*_: Any) -> tuple[Shape, DType]:
    raise TypeError("a leaf is made with its shape and dtype")


def _no_computation(*_: Any) -> np.ndarray:
    raise TypeError("a leaf holds its value")


# A value in memory; the node's buffer holds it.
BUFFER = register(OpDef("buffer", "leaf", 0, _no_inference, _no_computation))
# A Python number that travels as a kernel argument: never part of a plan's key.
SCALAR = register(OpDef("scalar", "leaf", 0, _no_inference, _no_computation))
# A number baked into the kernel; attrs = (value,). Only for values that never vary.
CONSTANT = register(OpDef("constant", "leaf", 0, _no_inference, _no_computation))
# 0, 1, 2, ... as int64 (or another integer dtype); shape (n,).
IOTA = register(OpDef("iota", "leaf", 0, _no_inference, _no_computation))

# Numbers that may be baked into a kernel: few, so they cannot multiply programs.
BAKED = frozenset((0, 1, -1, 2, -2, 0.5))


def _random_infer(shapes: Any, types: Any, attrs: tuple[Any, ...]) -> tuple[Shape, DType]:
    return attrs[0], dtypes.uint32


# random(shape) of two scalar sources, seed and offset (int64): 32 random bits an element.
RANDOM = register(
    OpDef(
        name="random", kind="random", arity=2, infer=_random_infer,
        numpy=lambda attrs, seed, offset: philox_bits(int(seed), int(offset), attrs[0]),
        cost=RANDOM_COST,
    )
)  # fmt: skip


class HostFunction:
    """A Python function on arrays with the shape and dtype of its result.

    Two calls with the same ``key`` are the same function.
    """

    __slots__ = ("dtype", "function", "key", "shape")

    def __init__(
        self, key: str, function: Callable[..., np.ndarray], shape: Shape, dtype: DType
    ) -> None:
        self.key = key
        self.function = function
        self.shape = shape
        self.dtype = dtype

    def __hash__(self) -> int:
        return hash((self.key, self.shape))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HostFunction)
            and self.key == other.key
            and self.shape == other.shape
            and self.dtype is other.dtype
        )


HOST = register(
    OpDef(
        name="host", kind="host", arity=-1,
        infer=lambda shapes, types, attrs: (attrs[0].shape, attrs[0].dtype),
        numpy=lambda attrs, *arrays: attrs[0].function(*arrays),
    )
)  # fmt: skip
COPY = register(
    OpDef(
        name="copy", kind="copy", arity=1,
        infer=lambda shapes, types, attrs: (shapes[0], types[0]),
        numpy=lambda attrs, array: array,
    )
)  # fmt: skip
