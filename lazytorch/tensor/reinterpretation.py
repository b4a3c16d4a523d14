"""Memory read as elements of another dtype: what views between dtypes are made of.

Numbers are stored with their lowest byte first, as every machine that OpenCL drivers exist for
does, and a complex number as its real part followed by its imaginary one.
"""

from __future__ import annotations

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, movement
from lazytorch.ops.shapes import count
from lazytorch.tensor.recorder import record, scalar_node

# The integers that hold the bits of a number of so many bytes.
_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    """The node under another shape of as many elements."""
    if node.shape == shape:
        return node
    return record(movement.RESHAPE, (node,), (shape,), shape, node.dtype, node.device)


def reinterpreted(base: Node, dtype: DType) -> Node:
    """The memory of ``base``, in order, as a vector of elements of another dtype.

    Bytes at the end that fill no whole element are left out.
    """
    line = reshaped(base, (count(base.shape),))
    before = base.dtype
    if before is dtype:
        return line
    if before.kind == "c":
        return reinterpreted(_interleaved(line), dtype)
    if dtype.kind == "c":
        return _paired(reinterpreted(line, dtype.real), dtype)
    if before.itemsize > dtype.itemsize:
        line = _divided(_bits(line), _BITS[dtype.itemsize])
    elif before.itemsize < dtype.itemsize:
        line = _joined(_bits(line), _BITS[dtype.itemsize])
    return _mapped(elementwise.BITCAST, line, dtype)


def with_memory(base: Node, changed: Node) -> Node:
    """``base`` with its memory replaced by ``changed``, which was reinterpreted from it."""
    size = count(base.shape)
    line = reinterpreted(changed, base.dtype)
    covered = count(line.shape)
    if covered == size:
        return reshaped(line, base.shape)
    rest = _every(reshaped(base, (size,)), size - covered, 1, covered)
    whole = record(movement.CONCATENATE, (line, rest), (0,), (size,), base.dtype, base.device)
    return reshaped(whole, base.shape)


def _mapped(op: OpDef, line: Node, dtype: DType) -> Node:
    if line.dtype is dtype:
        return line
    return record(op, (line,), (dtype,), line.shape, dtype, line.device)


def _bits(line: Node) -> Node:
    return _mapped(elementwise.BITCAST, line, _BITS[line.dtype.itemsize])


def _every(line: Node, size: int, step: int, first: int) -> Node:
    """``size`` elements from ``first`` on, ``step`` apart."""
    attrs = ((size,), (step,), first)
    return record(movement.AS_STRIDED, (line,), attrs, (size,), line.dtype, line.device)


def _alternating(lines: list[Node]) -> Node:
    """The first elements of all lines, then the second ones, and so on."""
    size, width, dtype, device = count(lines[0].shape), len(lines), lines[0].dtype, lines[0].device
    columns = tuple(reshaped(line, (size, 1)) for line in lines)
    shape = (size, width)
    table = record(movement.CONCATENATE, columns, (1,), shape, dtype, device)
    return reshaped(table, (size * width,))


def _interleaved(line: Node) -> Node:
    """Complex numbers as their parts."""
    real = line.dtype.real
    return _alternating(
        [
            record(op, (line,), (), line.shape, real, line.device)
            for op in (elementwise.REAL, elementwise.IMAGINARY)
        ]
    )


def _paired(line: Node, dtype: DType) -> Node:
    """Parts as complex numbers."""
    size = count(line.shape) // 2
    parts = tuple(_every(line, size, 2, first) for first in (0, 1))
    return record(elementwise.COMPLEX, parts, (), (size,), dtype, line.device)


def _divided(line: Node, narrow: DType) -> Node:
    """Each integer as several narrower ones."""
    wide, device = line.dtype, line.device
    bits = 8 * narrow.itemsize
    parts = []
    for part in range(wide.itemsize // narrow.itemsize):
        places = (line, scalar_node(part * bits, wide, device))
        moved = record(elementwise.SHIFT_RIGHT, places, (), line.shape, wide, device)
        parts.append(_mapped(elementwise.CAST, moved, narrow))
    return _alternating(parts)


def _joined(line: Node, wide: DType) -> Node:
    """Several integers as one that is as wide as they are together."""
    narrow, device = line.dtype, line.device
    ratio = wide.itemsize // narrow.itemsize
    shape = (count(line.shape) // ratio,)
    total = None
    for part in range(ratio):
        taken = _mapped(elementwise.CAST, _every(line, shape[0], ratio, part), wide)
        places = (taken, scalar_node(part * 8 * narrow.itemsize, wide, device))
        moved = record(elementwise.SHIFT_LEFT, places, (), shape, wide, device)
        if total is not None:
            moved = record(elementwise.BIT_OR, (total, moved), (), shape, wide, device)
        total = moved
    assert total is not None
    return total
