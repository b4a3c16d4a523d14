"""contract: the sum of products over shared axes, from which matmul and convolution are made.

A contraction has numbered axes with sizes. Each dimension of an operand is indexed by a sum of
axes with positive integer factors: a matrix product uses one axis a dimension, a convolution
indexes its input by ``stride * output position + dilation * kernel position``. Axes that are
not in ``output_axes`` are summed over. Padding is a separate ``pad`` before the contraction.

attrs = (sizes, output_axes, first_index, second_index), where an index holds for each
dimension of the operand a tuple of (axis, factor).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register

OperandIndex = tuple[tuple[tuple[int, int], ...], ...]


def _infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    sizes, output_axes, *indices = attrs
    for shape, index in zip(shapes, indices):
        for extent, terms in zip(shape, index):
            reach = sum((sizes[axis] - 1) * factor for axis, factor in terms) + 1
            if all(sizes[axis] > 0 for axis, _ in terms) and reach > extent:
                raise RuntimeError(f"contract: index reaches {reach} in a dimension of {extent}")
    return tuple(sizes[axis] for axis in output_axes), types[0]


def operand_view(
    array: np.ndarray, index: OperandIndex, sizes: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """The operand as a strided view with one dimension for each axis that it uses."""
    strides: dict[int, int] = {}
    for dimension, terms in enumerate(index):
        for axis, factor in terms:
            strides[axis] = strides.get(axis, 0) + factor * array.strides[dimension]
    axes = sorted(strides)
    shape = tuple(sizes[axis] for axis in axes)
    if 0 in shape:
        return np.empty(shape, array.dtype), axes
    view = np.lib.stride_tricks.as_strided(array, shape, tuple(strides[axis] for axis in axes))
    return view, axes


def contract_arrays(attrs: tuple[Any, ...], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The contraction on NumPy arrays; 16-bit floats accumulate in float32."""
    sizes, output_axes, first_index, second_index = attrs
    wanted = first.dtype
    if wanted.itemsize == 2 and wanted.kind not in "iu":
        first, second = first.astype(np.float32), second.astype(np.float32)
    a, a_axes = operand_view(first, first_index, sizes)
    b, b_axes = operand_view(second, second_index, sizes)
    return as_matrix_product(a, a_axes, b, b_axes, tuple(output_axes)).astype(wanted, copy=False)


def as_matrix_product(
    a: np.ndarray, a_axes: list[int], b: np.ndarray, b_axes: list[int], output: tuple[int, ...]
) -> np.ndarray:
    """Group axes into batch, rows, columns and summed ones, and call np.matmul once."""
    in_a, in_b = set(a_axes), set(b_axes)
    batch = [axis for axis in output if axis in in_a and axis in in_b]
    rows = [axis for axis in output if axis in in_a and axis not in in_b]
    columns = [axis for axis in output if axis in in_b and axis not in in_a]
    summed = [axis for axis in a_axes if axis in in_b and axis not in output]
    extent = {axis: size for axis, size in zip(a_axes, a.shape)}
    extent.update(zip(b_axes, b.shape))
    lonely_a = tuple(i for i, x in enumerate(a_axes) if x not in in_b and x not in output)
    lonely_b = tuple(i for i, x in enumerate(b_axes) if x not in in_a and x not in output)
    if lonely_a:
        a, a_axes = a.sum(lonely_a), [x for i, x in enumerate(a_axes) if i not in lonely_a]
    if lonely_b:
        b, b_axes = b.sum(lonely_b), [x for i, x in enumerate(b_axes) if i not in lonely_b]

    def volume(axes: list[int]) -> int:
        return int(np.prod([extent[axis] for axis in axes], dtype=np.int64))

    left = a.transpose([a_axes.index(x) for x in (*batch, *rows, *summed)])
    right = b.transpose([b_axes.index(x) for x in (*batch, *summed, *columns)])
    lead = [extent[axis] for axis in batch]
    product = np.matmul(
        left.reshape(*lead, volume(rows), volume(summed)),
        right.reshape(*lead, volume(summed), volume(columns)),
    )
    order = [*batch, *rows, *columns]
    product = product.reshape([extent[axis] for axis in order])
    return product.transpose([order.index(axis) for axis in output])


CONTRACT = register(
    OpDef(name="contract", kind="contract", arity=2, infer=_infer, numpy=contract_arrays)
)
