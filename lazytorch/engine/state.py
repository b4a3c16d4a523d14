"""State: objects with a ``node`` attribute whose pending values will be wanted, whoever looks.

What an optimizer writes is wanted when its step ends, and is computed together then. Running
statistics are wanted some day, and are computed with the pass that they were made from. All are
held weakly: state that nobody has any more is not computed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from lazytorch.ir.node import Node

_noted: dict[int, weakref.ref[Any]] = {}
# Of these, what is computed with whatever is computed next.
_companions: dict[int, weakref.ref[Any]] = {}


def note_state(storage: Any) -> None:
    """Remember (weakly) an object that was written in place, or whose value will be wanted:
    flush() computes what is pending in all of them together."""
    key = id(storage)
    held = _noted.get(key)
    if held is None or held() is not storage:
        # A dead object may have had this id. What is noted comes last, so that the order of
        # outputs, which is part of a plan's key, never depends on addresses.
        _noted.pop(key, None)
        _noted[key] = weakref.ref(storage)


def noted_state() -> list[Any]:
    """The objects noted since the last flush that are still alive."""
    return [owner for held in list(_noted.values()) if (owner := held()) is not None]


def take_all() -> list[Any]:
    """The noted objects, of which none is noted from then on."""
    found = noted_state()
    _noted.clear()
    _companions.clear()
    return found


def accompany(storage: Any) -> None:
    """Remember (weakly) state that was made from a forward pass, like running statistics.

    It is computed with the first values computed after it that lie deeper: those of the pass. Left
    for a flush it would hold one batch's statistics for each pass of a program that looks at
    results and never flushes, and each would be stored for it.
    """
    key = id(storage)
    _companions.pop(key, None)
    _companions[key] = weakref.ref(storage)


def with_companions(nodes: Sequence[Node]) -> Sequence[Node]:
    """The nodes, and the state that is to be computed with them."""
    if not _companions:
        return nodes
    wanted = [node for node in nodes if node.buffer is None]
    if not wanted:
        return nodes
    deepest, device = max(node.depth for node in wanted), wanted[0].device
    along = []
    for key, held in list(_companions.items()):
        owner = held()
        node = None if owner is None else owner.node
        if node is None or node.buffer is not None:
            del _companions[key]
        elif node.depth < deepest and node.device == device:
            del _companions[key]
            along.append(node)
    return [*nodes, *along]
