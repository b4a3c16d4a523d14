"""Capture: one run of a function as one graph, with everything its repetition has to provide.

While a capture is open nothing is computed: flushes wait, and whoever looks at a value breaks it.
Closed, it has a plan and knows where each leaf and scalar came from. What a source means (a
tensor, a generator, a hyperparameter of an optimizer) is the affair of the layers above.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lazytorch.ir.node import Node
from lazytorch.runtime.replay import Replay
from lazytorch.schedule.graph import Numbering

Complaint = Callable[[str], Exception]


@dataclass
class Captured:
    """A plan with its bindings: sources of leaves and scalars in binding order.

    ``positions`` gives, for each node that was wanted, its place among the plan's outputs.
    """

    replay: Replay
    key: Any
    leaves: list[Any]
    shapes: list[tuple[Any, ...]]
    donated: tuple[int, ...]
    scalars: list[Any]
    positions: list[int]


@dataclass
class Capture:
    """An open capture. ``refuse`` makes the exception that a break raises, if it should."""

    refuse: Complaint | None = None
    broken: str | None = None
    draws: list[tuple[Any, int]] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)
    ranges: list[tuple[Any, int, int]] = field(default_factory=list)
    _sources: dict[int, tuple[weakref.ref[Node], Any]] = field(default_factory=dict)
    _scalars: dict[int, tuple[Node, Any]] = field(default_factory=dict)

    def note_leaf(self, node: Node, source: Any) -> None:
        """Say where a ready node comes from. It is held weakly: a value that nobody else holds
        may be overwritten in place, and the plan finds out by counting references."""
        self._sources.setdefault(id(node), (weakref.ref(node), source))

    def source_of(self, node: Node) -> Any:
        """The source of a node, or ``None``."""
        known = self._sources.get(id(node))
        return known[1] if known is not None and known[0]() is node else None

    def note_scalar(self, node: Node, source: Any) -> None:
        """Say where a scalar's value comes from in a repetition."""
        self._scalars[id(node)] = (node, source)

    def scalar_source(self, node: Node) -> Any:
        """The source of a scalar; a constant's is ('constant', value)."""
        known = self._scalars.get(id(node))
        return ("constant", node.buffer) if known is None else known[1]

    def note_draw(self, generator: Any, blocks: int, seed: Node, offset: Node) -> None:
        """Random numbers were drawn: the number of the draw tells seed and offset."""
        self.note_scalar(seed, ("seed", len(self.draws)))
        self.note_scalar(offset, ("offset", len(self.draws)))
        self.draws.append((generator, blocks))

    def note_range(self, node: Node, low: int, high: int) -> None:
        """The values of a leaf were found inside [low, high], or an error would have come."""
        source = self.source_of(node)
        if source is not None:
            self.ranges.append((source, low, high))

    def breaks(self, reason: str) -> None:
        """What happens now cannot be repeated from a plan."""
        if self.broken is None:
            self.broken = reason
            if self.refuse is not None:
                raise self.refuse(reason)

    def bind(self, numbering: Numbering, replay: Replay, wanted: Sequence[Node]) -> Captured | None:
        """The bindings of a plan; ``None``, and broken, when a leaf has no source."""
        leaves = []
        for node in numbering.leaf_nodes:
            source = self.source_of(node)
            if source is None:
                self.breaks(
                    f"it uses data of shape {list(node.shape)} that it makes anew or finds where "
                    "lazytorch cannot look"
                )
                return None
            leaves.append(source)
        number_of = {id(n): k for n, k in zip(numbering.order, numbering.numbers)}
        places = {number: position for position, number in enumerate(numbering.outputs)}
        return Captured(
            replay,
            numbering.key,
            leaves,
            [(node.shape, node.dtype, node.device) for node in numbering.leaf_nodes],
            numbering.key[2],
            [self.scalar_source(node) for node in numbering.scalar_nodes],
            [places[number_of[id(node)]] for node in wanted],
        )


class _Current:
    """The open capture of the process, if any."""

    __slots__ = ("capture",)

    def __init__(self) -> None:
        self.capture: Capture | None = None


current = _Current()


def looked(what: str) -> None:
    """Somebody wants to see a value, or does what a repetition could not do."""
    if current.capture is not None:
        current.capture.breaks(what)


__all__ = ["Capture", "Captured", "current", "looked"]
