"""The primitives that combine elements along axes: reductions and running scans.

Reduced axes disappear from the result; ``keepdim`` is a reshape on top. A reduction over an
empty axis gives the operation's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register
from lazytorch.ops import elementwise


def _reduce_infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    axes = attrs[0]
    shape = tuple(extent for axis, extent in enumerate(shapes[0]) if axis not in axes)
    return shape, types[0]


def _accumulated(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Reduce 16-bit floats in float32, as kernels and PyTorch do."""

    def compute(attrs: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
        wanted = array.dtype
        narrow = wanted.itemsize == 2 and wanted.kind not in "iu"
        values = array.astype(np.float32) if narrow else array
        return np.asarray(function(values, attrs[0])).astype(wanted)

    return compute


def lowest(dtype: DType) -> Any:
    """The value below every other of the dtype."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else int(np.iinfo(dtype.numpy).min)


def highest(dtype: DType) -> Any:
    """The value above every other of the dtype."""
    if dtype.kind == "f":
        return np.inf
    return True if dtype.kind == "b" else int(np.iinfo(dtype.numpy).max)


def _extreme(ufunc: Any, identity: Callable[[DType], Any]) -> Callable[..., Any]:
    def compute(values: np.ndarray, axes: tuple[int, ...]) -> Any:
        start = identity(dtypes.from_numpy(values.dtype))
        return ufunc.reduce(values, axis=axes, initial=start)

    return compute


def _spread(g: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    """Give a reduced gradient its axes back, repeated."""
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return g.reshape(kept).expand(shape)


def _extreme_gradient(g: Any, x: Any, out: Any, attrs: tuple[Any, ...]) -> Any:
    """amax and amin share their gradient evenly between equal elements, as in PyTorch."""
    axes = attrs[0]
    shape = tuple(x.shape)
    chosen = (x == _spread(out, shape, axes)).to(g.dtype)
    share = g / chosen.sum(axes)
    return chosen * _spread(share, shape, axes)


def _reduction(
    name: str,
    function: Callable[..., Any],
    combine: OpDef,
    identity: Callable[[DType], Any],
    gradient: tuple[Any, ...] | None,
) -> OpDef:
    return register(
        OpDef(
            name=name, kind="reduce", arity=1, infer=_reduce_infer,
            numpy=_accumulated(function), combine=combine, identity=identity, gradient=gradient,
        )
    )  # fmt: skip


SUM = _reduction(
    "sum", lambda values, axes: np.add.reduce(values, axis=axes), elementwise.ADD,
    lambda dtype: 0,
    (lambda g, shapes, attrs: _spread(g, shapes[0], attrs[0]),),
)  # fmt: skip
PROD = _reduction(
    "prod", lambda values, axes: np.multiply.reduce(values, axis=axes), elementwise.MUL,
    lambda dtype: 1,
    (lambda g, x, out, attrs, f: f.product_gradient(g, x, out, attrs[0]),),
)  # fmt: skip
MAX = _reduction(
    "amax", _extreme(np.maximum, lowest), elementwise.MAXIMUM, lowest, (_extreme_gradient,)
)
MIN = _reduction(
    "amin", _extreme(np.minimum, highest), elementwise.MINIMUM, highest, (_extreme_gradient,)
)


def _scan_infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return shapes[0], types[0]


def _scan(name: str, ufunc: Any, combine: OpDef, identity: Callable[[DType], Any]) -> OpDef:
    def compute(attrs: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
        narrow = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
        values = array.astype(np.float32) if narrow else array
        return ufunc.accumulate(values, axis=attrs[0]).astype(array.dtype)

    return register(
        OpDef(
            name=name, kind="scan", arity=1, infer=_scan_infer, numpy=compute,
            combine=combine, identity=identity,
        )
    )  # fmt: skip


CUMSUM = _scan("cumsum", np.add, elementwise.ADD, lambda dtype: 0)
CUMPROD = _scan("cumprod", np.multiply, elementwise.MUL, lambda dtype: 1)
CUMMAX = _scan("cummax", np.maximum, elementwise.MAXIMUM, lowest)
CUMMIN = _scan("cummin", np.minimum, elementwise.MINIMUM, highest)
