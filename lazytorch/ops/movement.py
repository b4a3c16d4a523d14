"""The primitives that say where an element comes from and compute nothing.

``route(attrs, shape, source_shapes, index)`` answers, for the output element at ``index``, a
tuple of :class:`Route`: the first whose conditions hold gives the element. One of them always
does; the conditions of the last are there to guard what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.expression import Condition
from lazytorch.ir.index import (
    Index,
    flatten,
    of_atom,
    of_int,
    row_major_strides,
    total,
    unflatten,
)
from lazytorch.ir.registry import register
from lazytorch.ops.shapes import count


@dataclass(frozen=True)
class Route:
    """Element ``index`` of source number ``source``, provided all ``conditions`` hold."""

    source: int
    index: tuple[Index, ...]
    conditions: tuple[Condition, ...] = ()


Types = Sequence[DType]
Shapes = Sequence[Shape]
Attrs = tuple[Any, ...]


def _same_dtype(shape: Shape, types: Types) -> tuple[Shape, DType]:
    return shape, types[0]


# reshape(shape) ----------------------------------------------------------------------------------


def _reshape_infer(shapes: Shapes, types: Types, attrs: Attrs) -> tuple[Shape, DType]:
    if count(shapes[0]) != count(attrs[0]):
        raise RuntimeError(
            f"shape '{list(attrs[0])}' is invalid for input of size {count(shapes[0])}"
        )
    return _same_dtype(attrs[0], types)


def _aligned(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Where runs of axes with equal products end in two shapes of one size without ones.

    >>> _aligned((4, 6, 5), (4, 2, 3, 5))
    [(1, 1), (2, 3), (3, 4)]
    """
    ends: list[tuple[int, int]] = []
    i = j = 0
    while i < len(first):
        left, right = first[i], second[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= first[i]
                i += 1
            else:
                right *= second[j]
                j += 1
        ends.append((i, j))
    return ends


def _reshape_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    source = sources[0]
    result = [of_int(0)] * len(source)
    if 0 in shape:
        return (Route(0, tuple(result)),)
    # Axes that correspond are translated by themselves: a position that a guard keeps from
    # being used may lie outside its axis, and must not be carried into the axes before it.
    inner = [axis for axis, extent in enumerate(source) if extent != 1]
    outer = [axis for axis, extent in enumerate(shape) if extent != 1]
    i = j = 0
    for end_i, end_j in _aligned([source[a] for a in inner], [shape[a] for a in outer]):
        taken = outer[j:end_j]
        position = flatten(tuple(index[a] for a in taken), tuple(shape[a] for a in taken))
        into = inner[i:end_i]
        for axis, part in zip(into, unflatten(position, tuple(source[a] for a in into))):
            result[axis] = part
        i, j = end_i, end_j
    return (Route(0, tuple(result)),)


RESHAPE = register(
    OpDef(
        name="reshape", kind="move", arity=1, infer=_reshape_infer,
        numpy=lambda attrs, array: array.reshape(attrs[0]),
        route=_reshape_route,
        gradient=(lambda g, shapes: g.reshape(shapes[0]),),
    )
)  # fmt: skip

# permute(order): output axis i is source axis order[i] -------------------------------------------


def _permute_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    result: list[Any] = [None] * len(index)
    for position, axis in enumerate(attrs[0]):
        result[axis] = index[position]
    return (Route(0, tuple(result)),)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    result = [0] * len(order)
    for position, axis in enumerate(order):
        result[axis] = position
    return tuple(result)


PERMUTE = register(
    OpDef(
        name="permute", kind="move", arity=1,
        infer=lambda shapes, types, attrs: _same_dtype(
            tuple(shapes[0][axis] for axis in attrs[0]), types
        ),
        numpy=lambda attrs, array: array.transpose(attrs[0]),
        route=_permute_route,
        gradient=(lambda g, attrs: g.permute(_inverse(attrs[0])),),
    )
)  # fmt: skip

# expand(shape): axes of size 1 repeat; missing leading axes are added ----------------------------


def _expand_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    return (Route(0, broadcast_index(index, sources[0])),)


def broadcast_index(index: tuple[Index, ...], shape: Shape) -> tuple[Index, ...]:
    """The index into a source of ``shape`` that broadcasts to the indexed array."""
    skip = len(index) - len(shape)
    return tuple(
        of_int(0) if extent == 1 else position for position, extent in zip(index[skip:], shape)
    )


EXPAND = register(
    OpDef(
        name="expand", kind="move", arity=1,
        infer=lambda shapes, types, attrs: _same_dtype(attrs[0], types),
        numpy=lambda attrs, array: np.broadcast_to(array, attrs[0]),
        route=_expand_route,
        gradient=(lambda g, shapes, f: f.sum_to_size(g, shapes[0]),),
    )
)  # fmt: skip

# slice(starts, sizes, steps): steps may be negative, which covers flip ---------------------------


def _slice_numpy(attrs: Attrs, array: np.ndarray) -> np.ndarray:
    starts, sizes, steps = attrs
    strides = tuple(step * stride for step, stride in zip(steps, array.strides))
    if 0 in sizes:
        return np.empty(sizes, array.dtype)
    first = array[tuple(slice(start, None) for start in starts)]
    return np.lib.stride_tricks.as_strided(first, sizes, strides)


def _slice_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    starts, _, steps = attrs
    return (Route(0, tuple(i * step + start for i, start, step in zip(index, starts, steps))),)


def _zeros(f: Any, g: Any, shape: Shape) -> Any:
    return f.zeros(shape, dtype=g.dtype, device=g.device)


def _slice_gradient(g: Any, shapes: Any, attrs: Attrs, f: Any) -> Any:
    strides = row_major_strides(shapes[0])
    starts, _, steps = attrs
    offset = sum(start * stride for start, stride in zip(starts, strides))
    taken = tuple(step * stride for step, stride in zip(steps, strides))
    return f.insert_strided(_zeros(f, g, shapes[0]), g, taken, offset)


SLICE = register(
    OpDef(
        name="slice", kind="move", arity=1,
        infer=lambda shapes, types, attrs: _same_dtype(attrs[1], types),
        numpy=_slice_numpy,
        route=_slice_route,
        gradient=(_slice_gradient,),
    )
)  # fmt: skip

# pad(((low, high), ...)) with a scalar second source as the fill value ---------------------------


def _pad_infer(shapes: Shapes, types: Types, attrs: Attrs) -> tuple[Shape, DType]:
    shape = tuple(low + extent + high for extent, (low, high) in zip(shapes[0], attrs[0]))
    return _same_dtype(shape, types)


def _pad_numpy(attrs: Attrs, array: np.ndarray, fill: np.ndarray) -> np.ndarray:
    if not attrs[0]:
        return array  # np.pad refuses arrays without axes
    return np.pad(array, attrs[0], constant_values=fill)


def _pad_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    inner = tuple(i - low for i, (low, _) in zip(index, attrs[0]))
    conditions = tuple(Condition(i, 0, extent - 1) for i, extent in zip(inner, sources[0]))
    return (Route(0, inner, conditions), Route(1, ()))


def _pad_gradient(g: Any, shapes: Any, attrs: Attrs) -> Any:
    return g[tuple(slice(low, low + extent) for extent, (low, _) in zip(shapes[0], attrs[0]))]


PAD = register(
    OpDef(
        name="pad", kind="move", arity=2, infer=_pad_infer, numpy=_pad_numpy, route=_pad_route,
        gradient=(_pad_gradient, None),
    )
)  # fmt: skip

# window(axis, size, step, dilation): sliding windows; the position inside one is a new last axis


def window_count(extent: int, size: int, step: int, dilation: int) -> int:
    """How many windows fit."""
    return max((extent - (size - 1) * dilation - 1) // step + 1, 0)


def _window_infer(shapes: Shapes, types: Types, attrs: Attrs) -> tuple[Shape, DType]:
    axis, size, step, dilation = attrs
    shape = list(shapes[0])
    shape[axis] = window_count(shape[axis], size, step, dilation)
    return _same_dtype((*shape, size), types)


def _window_numpy(attrs: Attrs, array: np.ndarray) -> np.ndarray:
    axis, size, step, dilation = attrs
    shape = list(array.shape)
    strides = list(array.strides)
    shape[axis] = window_count(shape[axis], size, step, dilation)
    last = strides[axis] * dilation
    strides[axis] *= step
    return np.lib.stride_tricks.as_strided(array, (*shape, size), (*strides, last))


def _window_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    axis, _, step, dilation = attrs
    result = list(index[:-1])
    result[axis] = result[axis] * step + index[-1] * dilation
    return (Route(0, tuple(result)),)


def _window_gradient(g: Any, shapes: Any, attrs: Attrs, f: Any) -> Any:
    axis, size, step, dilation = attrs
    shape = shapes[0]
    strides = row_major_strides(shape)
    taken = list(strides)
    taken[axis] *= step
    result = None
    # One term for each position inside a window: positions of one term never collide.
    for position in range(size):
        offset = position * dilation * strides[axis]
        part = g[..., position]
        term = f.insert_strided(_zeros(f, g, shape), part, tuple(taken), offset)
        result = term if result is None else result + term
    return result


WINDOW = register(
    OpDef(
        name="window", kind="move", arity=1, infer=_window_infer, numpy=_window_numpy,
        route=_window_route, gradient=(_window_gradient,),
    )
)  # fmt: skip

# as_strided(shape, strides, offset) over the flat source -----------------------------------------


def _strided_position(index: tuple[Index, ...], strides: tuple[int, ...], offset: int) -> Index:
    return total(i * stride for i, stride in zip(index, strides)) + offset


def _as_strided_numpy(attrs: Attrs, array: np.ndarray) -> np.ndarray:
    shape, strides, offset = attrs
    if 0 in shape:
        return np.empty(shape, array.dtype)
    flat = np.ascontiguousarray(array).reshape(-1)
    step = flat.itemsize
    return np.lib.stride_tricks.as_strided(
        flat[offset:], shape, tuple(stride * step for stride in strides)
    )


def _as_strided_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    position = _strided_position(index, attrs[1], attrs[2])
    return (Route(0, unflatten(position, sources[0])),)


AS_STRIDED = register(
    OpDef(
        name="as_strided", kind="move", arity=1,
        infer=lambda shapes, types, attrs: _same_dtype(attrs[0], types),
        numpy=_as_strided_numpy, route=_as_strided_route,
        gradient=(lambda g, shapes, attrs, f: f.strided_gradient(g, shapes[0], *attrs),),
    )
)  # fmt: skip

# insert(strides, offset): the first source with the second written over a strided region of it ---


def _insert_numpy(attrs: Attrs, base: np.ndarray, value: np.ndarray) -> np.ndarray:
    strides, offset = attrs
    result = base.copy(order="C")
    if value.size:
        _as_strided_numpy((value.shape, strides, offset), result)[...] = value
    return result


def _insert_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    strides, offset = attrs
    region = sources[1]
    if count(region) == 0:
        return (Route(0, index),)
    rest = flatten(index, shape) - offset
    inner: list[Index] = [of_int(0)] * len(region)
    conditions: list[Condition] = []
    order = sorted(
        (axis for axis in range(len(region)) if region[axis] != 1),
        key=lambda axis: -abs(strides[axis]),
    )
    for axis in order:
        stride = strides[axis]
        if stride < 0:
            # Count this axis from its far end, where the stride is positive.
            rest = rest - stride * (region[axis] - 1)
    for axis in order:
        stride = abs(strides[axis])
        position = rest // stride
        conditions.append(Condition(position, 0, region[axis] - 1))
        rest = rest - position * stride
        inner[axis] = position if strides[axis] > 0 else position * -1 + (region[axis] - 1)
    conditions.append(Condition(rest, 0, 0))
    return (Route(1, tuple(inner), tuple(conditions)), Route(0, index))


INSERT = register(
    OpDef(
        name="insert", kind="move", arity=2,
        infer=lambda shapes, types, attrs: _same_dtype(shapes[0], types),
        numpy=_insert_numpy, route=_insert_route,
        gradient=(
            lambda g, shapes, attrs, f: f.insert_strided(g, _zeros(f, g, shapes[1]), *attrs),
            lambda g, shapes, attrs, f: f.as_strided_value(g, shapes[1], *attrs),
        ),
    )
)  # fmt: skip

# concatenate(axis) -------------------------------------------------------------------------------


def _concatenate_infer(shapes: Shapes, types: Types, attrs: Attrs) -> tuple[Shape, DType]:
    axis = attrs[0]
    shape = list(shapes[0])
    shape[axis] = sum(source[axis] for source in shapes)
    return _same_dtype(tuple(shape), types)


def _concatenate_route(
    attrs: Attrs, shape: Shape, sources: Shapes, index: tuple[Index, ...]
) -> tuple[Route, ...]:
    axis = attrs[0]
    routes: list[Route] = []
    start = 0
    for number, source in enumerate(sources):
        inner = list(index)
        inner[axis] = index[axis] - start
        inside = Condition(index[axis], start, start + source[axis] - 1)
        start += source[axis]
        routes.append(Route(number, tuple(inner), (inside,)))
    return tuple(routes)


def _concatenate_gradient(g: Any, shapes: Any, needs: Any, attrs: Attrs) -> tuple[Any, ...]:
    axis = attrs[0]
    result = []
    start = 0
    for shape, needed in zip(shapes, needs):
        result.append(g.narrow(axis, start, shape[axis]) if needed else None)
        start += shape[axis]
    return tuple(result)


CONCATENATE = register(
    OpDef(
        name="concatenate", kind="move", arity=-1, infer=_concatenate_infer,
        numpy=lambda attrs, *arrays: np.concatenate(arrays, attrs[0]),
        route=_concatenate_route,
        gradient=_concatenate_gradient,
    )
)  # fmt: skip

__all__ = [
    "AS_STRIDED", "CONCATENATE", "EXPAND", "INSERT", "PAD", "PERMUTE", "RESHAPE", "SLICE",
    "WINDOW", "Condition", "Route", "broadcast_index", "of_atom", "window_count",
]  # fmt: skip
