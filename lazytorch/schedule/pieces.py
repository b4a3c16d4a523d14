"""Parts of ready data that lie in one piece of memory, like a batch cut from a data set.

Such a part is a leaf of its own, so that where it was cut is no part of a plan's key, and no
kernel copies it.
"""

from __future__ import annotations

from typing import Any

from lazytorch.ir.index import row_major_strides
from lazytorch.ir.node import Node
from lazytorch.ops import leaves, movement

# The operations that may take such a part.
PIECES = frozenset((movement.SLICE, movement.AS_STRIDED))


def settle_pieces(node: Node, refused: set[int]) -> None:
    """Make a pending part of ready data, or a part of a part, a leaf if it lies in one piece.

    ``refused`` collects the identities of those that do not.
    """
    parts = []
    while node.buffer is None and node.op in PIECES and id(node) not in refused:
        parts.append(node)
        (node,) = node.src
    while parts:
        piece = piece_of(parts[-1])
        if piece is None:
            refused.update(map(id, parts))
            return
        parts.pop().fulfil(piece)


def piece_of(node: Node) -> Any:
    """The part of a ready source's buffer that the node is, when it is one contiguous piece."""
    (source,) = node.src
    if source.buffer is None or source.op is leaves.SCALAR:
        return None
    if node.op is movement.SLICE:
        starts, sizes, steps = node.attrs
        offset = _slice_offset(starts, sizes, steps, source.shape)
    else:
        shape, strides, offset = node.attrs
        wanted = row_major_strides(shape)
        if any(n != 1 and s != w for n, s, w in zip(shape, strides, wanted)):
            return None
    nbytes = node.nbytes
    if offset is None or not nbytes:
        return None
    return source.buffer.piece(offset * node.dtype.itemsize, nbytes)


def _slice_offset(
    starts: tuple[int, ...],
    sizes: tuple[int, ...],
    steps: tuple[int, ...],
    shape: tuple[int, ...],
) -> int | None:
    """Where a slice begins, if it is contiguous: single positions, then a run, then whole axes."""
    inside = False
    offset = 0
    for start, size, step, extent, stride in zip(
        starts, sizes, steps, shape, row_major_strides(shape)
    ):
        offset += start * stride
        if inside:
            if start or size != extent or step != 1:
                return None
        elif size != 1:
            inside = True
            if step != 1:
                return None
    return offset
