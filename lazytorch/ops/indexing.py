"""Gather and scatter: reading and writing at positions that are themselves data.

Both treat one axis; positions along the others are their own. Positions were checked to lie
inside the axis, or made so, before the operation is recorded: a kernel never wraps or clamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register


def _gather_infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    axis = attrs[0]
    data, positions = shapes
    shape = tuple(
        extent if number == axis or data[number] == 1 else data[number]
        for number, extent in enumerate(positions)
    )
    return shape, types[0]


def _gather_numpy(attrs: tuple[Any, ...], data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    axis = attrs[0]
    shape = list(data.shape)
    shape[axis] = positions.shape[axis]
    return np.take_along_axis(data, np.broadcast_to(positions, shape), axis)


def _gather_gradient(g: Any, y: Any, shapes: Any, attrs: tuple[Any, ...], f: Any) -> Any:
    zeros = f.zeros(shapes[0], dtype=g.dtype, device=g.device)
    return f.scatter_primitive(zeros, y, g, attrs[0], "add")


# gather(axis): out[..., i, ...] = data[..., positions[..., i, ...], ...]. Axes of positions
# other than ``axis`` may be 1 and then repeat; they equal the data's otherwise.
GATHER = register(
    OpDef(
        name="gather", kind="gather", arity=2, infer=_gather_infer, numpy=_gather_numpy,
        gradient=(_gather_gradient, None),
    )
)  # fmt: skip

SCATTER_MODES = ("set", "add", "prod", "max", "min")
_UFUNCS = {"add": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter_numpy(
    attrs: tuple[Any, ...], base: np.ndarray, positions: np.ndarray, values: np.ndarray
) -> np.ndarray:
    axis, mode = attrs
    narrow = base.dtype.itemsize == 2 and base.dtype.kind not in "iu" and mode != "set"
    result = base.astype(np.float32) if narrow else base.copy(order="C")
    where = np.broadcast_to(positions, values.shape)
    grid: list[np.ndarray] = list(np.indices(values.shape, sparse=True))
    grid[axis] = where
    if mode == "set":
        np.put_along_axis(result, where, values, axis)
    else:
        _UFUNCS[mode].at(result, tuple(grid), values.astype(result.dtype))
    return result.astype(base.dtype)


def _scatter_base_gradient(
    g: Any, x: Any, y: Any, z: Any, out: Any, attrs: tuple[Any, ...], f: Any
) -> Any:
    return f.scatter_base_gradient(g, x, y, z, out, *attrs)


def _scatter_value_gradient(
    g: Any, x: Any, y: Any, z: Any, out: Any, attrs: tuple[Any, ...], f: Any
) -> Any:
    return f.scatter_value_gradient(g, x, y, z, out, *attrs)


# scatter(axis, mode): base with values combined into it at positions along ``axis``, in the
# order of ``values`` (the last of several writes to one place wins with mode 'set'). Values
# have the base's shape except along ``axis``; positions broadcast to values.
SCATTER = register(
    OpDef(
        name="scatter", kind="scatter", arity=3,
        infer=lambda shapes, types, attrs: (shapes[0], types[0]),
        numpy=_scatter_numpy, gradient=(_scatter_base_gradient, None, _scatter_value_gradient),
    )
)  # fmt: skip
