"""Operations on one example as operations on the whole batch: a rule for each kind.

A rule gets a symbolic node with its sources, of which those marked ``True`` depend on the level
and have the batch as another first axis, and makes the node that has it too. Sources that do
not depend on it are used as they are where the operation broadcasts, so that a weight shared by
all examples stays one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, examples, leaves, movement
from lazytorch.ops.contraction import OperandIndex
from lazytorch.ops.shapes import count
from lazytorch.tensor import recorder
from lazytorch.tensor.recorder import scalar_node

Sources = Sequence[Node]
Marks = Sequence[bool]
Rule = Callable[[Node, Sources, Marks, int], Node]


# Making nodes -----------------------------------------------------------------------------------


def made(
    like: Node, op: OpDef, sources: tuple[Node, ...], attrs: Any, shape: Shape,
    dtype: DType | None = None,
) -> Node:  # fmt: skip
    """A node on ``like``'s device, at its line of the user's program.

    Its dtype is ``like``'s where it is the same operation, the first source's otherwise.
    """
    dtype = dtype or (like.dtype if op is like.op else sources[0].dtype)
    node = Node(op, sources, attrs, shape, dtype, like.device, like.site)
    recorder.watch(node)
    return node


def reshaped(like: Node, source: Node, shape: Shape) -> Node:
    """The source in another shape."""
    if source.shape == shape:
        return source
    return made(like, movement.RESHAPE, (source,), (shape,), shape)


def permuted(like: Node, source: Node, order: tuple[int, ...]) -> Node:
    """The source with its axes in another order."""
    if order == tuple(range(len(order))):
        return source
    shape = tuple(source.shape[axis] for axis in order)
    return made(like, movement.PERMUTE, (source,), (order,), shape)


def expanded(like: Node, source: Node, shape: Shape) -> Node:
    """The source repeated along axes where it has size 1, and along new first ones."""
    if source.shape == shape:
        return source
    return made(like, movement.EXPAND, (source,), (shape,), shape)


def aligned(like: Node, source: Node, rank: int) -> Node:
    """(N, ...) with ones behind the N, so that one example has ``rank`` axes."""
    missing = rank + 1 - len(source.shape)
    return reshaped(like, source, (source.shape[0], *(1,) * missing, *source.shape[1:]))


def all_batched(node: Node, sources: Sources, marks: Marks, size: int) -> tuple[Node, ...]:
    """Every source with the batch in front, repeated where it does not depend on it."""
    return tuple(
        source if mark else expanded(node, source, (size, *source.shape))
        for source, mark in zip(sources, marks)
    )


def _one_wide(node: Node, source: Node, mark: bool) -> Node:
    """The source with the batch in front, of size 1 where it does not depend on it."""
    return source if mark else reshaped(node, source, (1, *source.shape))


# Elementwise ------------------------------------------------------------------------------------


def _map(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    rank = len(node.shape)
    given = tuple(
        aligned(node, source, rank) if mark else source for source, mark in zip(sources, marks)
    )
    return made(node, node.op, given, node.attrs, (size, *node.shape))


# Moves ------------------------------------------------------------------------------------------

# The attributes with the batch in front, from those of one example, the shape that one example
# of the first source has, and the size of the batch.
_MOVES: dict[OpDef, Callable[[Any, Shape, int], tuple[Any, ...]]] = {
    movement.RESHAPE: lambda attrs, shape, size: ((size, *attrs[0]),),
    movement.PERMUTE: lambda attrs, shape, size: ((0, *(axis + 1 for axis in attrs[0])),),
    movement.EXPAND: lambda attrs, shape, size: ((size, *attrs[0]),),
    movement.SLICE: lambda attrs, shape, size: (
        (0, *attrs[0]), (size, *attrs[1]), (1, *attrs[2]),
    ),
    movement.PAD: lambda attrs, shape, size: (((0, 0), *attrs[0]),),
    movement.WINDOW: lambda attrs, shape, size: (attrs[0] + 1, *attrs[1:]),
    movement.AS_STRIDED: lambda attrs, shape, size: (
        (size, *attrs[0]), (count(shape), *attrs[1]), attrs[2],
    ),
    movement.INSERT: lambda attrs, shape, size: ((count(shape), *attrs[0]), attrs[1]),
    movement.CONCATENATE: lambda attrs, shape, size: (attrs[0] + 1,),
}  # fmt: skip


def _move(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    op = node.op
    if op is movement.PAD:
        if marks[1]:
            return _pad_with_different(node, sources, marks, size)
        given = (*all_batched(node, sources[:1], marks[:1], size), sources[1])
    else:
        given = all_batched(node, sources, marks, size)
    if op is movement.EXPAND:
        given = (aligned(node, given[0], len(node.shape)),)
    attrs = _MOVES[op](node.attrs, given[0].shape[1:], size)
    return made(node, op, given, attrs, (size, *node.shape))


def _pad_with_different(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """Padding with another number for each example: chosen between afterwards."""
    inner = all_batched(node, sources[:1], marks[:1], size)[0]
    shape = (size, *node.shape)
    boolean, device = dtypes.bool_, node.device
    attrs = _MOVES[movement.PAD](node.attrs, inner.shape[1:], size)
    zero = scalar_node(0, node.dtype, device)
    padded = made(node, movement.PAD, (inner, zero), attrs, shape)
    ones = expanded(node, scalar_node(True, boolean, device), inner.shape[1:])
    inside = made(
        node, movement.PAD, (ones, scalar_node(False, boolean, device)), node.attrs, node.shape,
        boolean,
    )  # fmt: skip
    filled = aligned(node, sources[1], len(node.shape))
    return made(node, elementwise.WHERE, (inside, padded, filled), (), shape, node.dtype)


# Along axes -------------------------------------------------------------------------------------


def _reduce(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    axes = tuple(axis + 1 for axis in node.attrs[0])
    attrs = (axes, *node.attrs[1:])
    return made(node, node.op, tuple(sources), attrs, (size, *node.shape))


def _scan(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    attrs = (node.attrs[0] + 1, *node.attrs[1:])
    return made(node, node.op, tuple(sources), attrs, (size, *node.shape))


def _sort(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    # Rows are the last axis; whatever lies before it only counts them.
    return made(node, node.op, tuple(sources), node.attrs, (size, *node.shape))


# At positions -----------------------------------------------------------------------------------


def _gather(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    given = tuple(_one_wide(node, source, mark) for source, mark in zip(sources, marks))
    return made(node, node.op, given, (node.attrs[0] + 1,), (size, *node.shape))


def _scatter(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    base, positions, values = sources
    base, values = all_batched(node, (base, values), (marks[0], marks[2]), size)
    given = (base, _one_wide(node, positions, marks[1]), values)
    axis, mode = node.attrs
    return made(node, node.op, given, (axis + 1, mode), (size, *node.shape))


# Products ---------------------------------------------------------------------------------------


def _contract(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """The batch is axis 0 of the contraction; an operand without it is shared by all examples."""
    sizes, output, *indices = node.attrs
    shifted: list[OperandIndex] = []
    for index, mark in zip(indices, marks):
        moved = tuple(tuple((axis + 1, factor) for axis, factor in terms) for terms in index)
        shifted.append((((0, 1),), *moved) if mark else moved)
    attrs = ((size, *sizes), (0, *(axis + 1 for axis in output)), *shifted)
    return made(node, node.op, tuple(sources), attrs, (size, *node.shape))


# The rest ---------------------------------------------------------------------------------------


def _copy(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    return made(node, node.op, tuple(sources), node.attrs, (size, *node.shape))


def _example(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """An example of another level, of something that depends on this one too."""
    (source,) = sources
    order = (1, 0, *range(2, len(source.shape)))
    return examples.example_of(permuted(node, source, order), node.attrs[0])


def _host(node: Node, sources: Sources, marks: Marks, size: int) -> Node:
    """One call on the host that goes through the examples."""
    call: leaves.HostFunction = node.attrs[0]
    marks = tuple(marks)

    def each(*arrays: np.ndarray) -> np.ndarray:
        result = np.empty((size, *call.shape), call.dtype.numpy)
        for place in range(size):
            result[place] = call.function(
                *(array[place] if mark else array for array, mark in zip(arrays, marks))
            )
        return result

    key = f"{call.key} of each of {size}, {marks}, {call.shape}"
    shape = (size, *node.shape)
    attrs = (leaves.HostFunction(key, each, shape, call.dtype),)
    return made(node, node.op, tuple(sources), attrs, shape)


BY_KIND: dict[str, Rule] = {
    "map": _map, "move": _move, "reduce": _reduce, "scan": _scan, "sort": _sort,
    "gather": _gather, "scatter": _scatter, "contract": _contract, "copy": _copy,
    "example": _example, "host": _host,
}  # fmt: skip
