"""Node: one value to be computed.

A node knows which operation makes it from which other nodes, its shape, dtype and device, and
nothing about tensors, kernels or gradients. Building one must stay near a microsecond, so it
is a slotted class without checks: shapes and dtypes were inferred and checked by the operation
that records it. It has no destructor: CPython frees chains of slotted objects and tuples of any
length without recursion, and a Python-level destructor would undo that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef

# Depths from here on belong to nodes that stand for one example of a batch (``ops.examples``).
# Depth grows from sources to users, so that one comparison tells them from all others.
SYMBOLIC = 1 << 40


class Node:
    """A value: ``op`` applied to ``src``.

    ``attrs`` is a hashable tuple of what else the operation needs. ``site`` is the user's line
    as (code object, instruction offset); it is no part of the value's identity. ``buffer`` is
    empty until the value has been computed; then ``src`` is forgotten, so that history does
    not pile up. For the operation ``scalar`` the buffer is the Python number itself.
    ``depth`` is the length of the longest pending chain below the node, and at least
    ``SYMBOLIC`` for a value that is not one value but one of each example of a batch.
    """

    __slots__ = (
        "__weakref__", "attrs", "buffer", "depth", "device", "dtype", "op", "shape", "site", "src",
    )  # fmt: skip

    def __init__(
        self,
        op: OpDef,
        src: tuple[Node, ...],
        attrs: tuple[Any, ...],
        shape: tuple[int, ...],
        dtype: DType,
        device: str,
        site: Any = None,
        buffer: Any = None,
    ) -> None:
        self.op = op
        self.src = src
        self.attrs = attrs
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.site = site
        self.buffer = buffer
        self.depth = 0

    def fulfil(self, buffer: Any) -> None:
        """Store the computed value and forget how it was made."""
        self.buffer = buffer
        self.src = ()
        self.depth = 0

    def restate(self, op: OpDef, src: tuple[Node, ...], attrs: tuple[Any, ...]) -> None:
        """Say in another way how the same value is made, and forget the way before."""
        self.op = op
        self.src = src
        self.attrs = attrs

    @property
    def size(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        state = "ready" if self.buffer is not None else "pending"
        return f"<Node {self.op.name} {self.dtype.name}{list(self.shape)} {state}>"


def postorder(roots: Iterable[Node]) -> list[Node]:
    """Every pending or ready node below ``roots``, sources before users; no recursion."""
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[Node] = list(roots)[::-1]
    while stack:
        node = stack[-1]
        key = id(node)
        if key in seen:
            stack.pop()
            continue
        waiting = [source for source in node.src if id(source) not in seen]
        if waiting:
            stack.extend(reversed(waiting))
        else:
            seen.add(key)
            order.append(node)
            stack.pop()
    return order
