"""Operands laid out anew for contractions, kept from one call to the next.

A plan packs a weight by a launch of its own. The packed copy of a buffer that nobody has written
since is what that launch would write again, so it hangs on the buffer under the name of the program
that made it: it goes when the buffer goes or is written, and any plan that packs alike finds it.
It is made when the same content is packed in a second run: a training step, which changes its
weights each time, never holds one. Memory that NumPy sees may be written behind our back, so it has
no copies; nor has a part of another buffer, which is a new buffer in every graph.

Knows buffers and plans; must not know what a kernel computes.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lazytorch import config
from lazytorch.runtime.buffers import Buffer
from lazytorch.schedule.plan import LaunchStep, Plan

if TYPE_CHECKING:
    from lazytorch.runtime.device import Device

_runs = itertools.count()


@dataclass(frozen=True)
class Packing:
    """A launch that may be left out: step ``step`` packs leaf ``leaf`` into value ``target`` of
    ``nbytes``, by the program named ``key``."""

    step: int
    leaf: int
    target: int
    nbytes: int
    key: tuple[str, int, int]


def packings_of(plan: Plan) -> list[Packing]:
    """The launches of a plan whose results may be kept, in their order."""
    found: dict[int, Packing | None] = {}
    places = plan.layout.places
    written = set(plan.layout.donors.values())
    for position, step in enumerate(plan.steps):
        if not isinstance(step, LaunchStep) or step.packs is None:
            continue
        number = step.packs[1]
        source, target = (places[number] for number in step.packs)
        if source.kind != "leaf" or source.position in written or target.kind != "arena":
            continue
        # The name of a kernel is no part of what it computes.
        text = plan.sources[step.name].replace(step.name, "")
        key = (text, step.groups, target.nbytes)
        packing = Packing(position, source.position, number, target.nbytes, key)
        # What several launches write in parts is packed each time.
        found[number] = None if number in found else packing
    return [packing for packing in found.values() if packing is not None]


def kept_steps(plan: Plan, leaves: Sequence[Buffer]) -> frozenset[int]:
    """Positions of the steps that a run with these leaves would leave out."""
    return frozenset(
        packing.step
        for packing in packings_of(plan)
        if isinstance((leaves[packing.leaf].packed or {}).get(packing.key), Buffer)
    )


class PackedOperands:
    """The packed copies on one device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._owners: weakref.WeakSet[Buffer] = weakref.WeakSet()

    @property
    def nbytes(self) -> int:
        """Bytes of all copies."""
        return sum(copy.nbytes for owner in list(self._owners) for copy in _copies(owner))

    def drop(self) -> None:
        """Let all copies go; operands are packed anew."""
        for owner in list(self._owners):
            owner.packed = None
        self._owners.clear()

    def find(
        self, packings: Sequence[Packing], leaves: Sequence[Buffer]
    ) -> tuple[list[Buffer | None], list[bool]]:
        """For each packing of a run that begins, the memory of its copy, if it is kept, and
        whether that is filled already. The run must fill the others."""
        if not config.get("KEEP_PACKED"):
            return [None] * len(packings), [False] * len(packings)
        run = next(_runs)
        copies: list[Buffer | None] = []
        filled: list[bool] = []
        for packing in packings:
            leaf = leaves[packing.leaf]
            known = leaf.packed
            if known is None:
                known = leaf.packed = {}
            # A copy, or the run in which this was packed first.
            state = known.get(packing.key)
            filled.append(type(state) is Buffer)
            if state is None:
                known[packing.key] = run
            elif state != run and not filled[-1]:
                state = self._make(packing, leaf) if leaf.whole else None
                if state is not None:
                    known[packing.key] = state
                    self._owners.add(leaf)
            copies.append(state if type(state) is Buffer else None)
        return copies, filled

    def forget(self, packings: Sequence[Packing], leaves: Sequence[Buffer]) -> None:
        """A run did not come to its end: what it should have filled is not to be trusted."""
        for packing in packings:
            leaves[packing.leaf].packed = None

    def _make(self, packing: Packing, leaf: Buffer) -> Buffer | None:
        """Memory for a copy, where there is enough that nobody else needs."""
        if self.nbytes + packing.nbytes > config.get("KEEP_PACKED"):
            return None
        return self._device.pool.allocate_if_room(packing.nbytes, f"packed copy of {leaf.origin}")


def _copies(owner: Buffer) -> list[Buffer]:
    return [copy for copy in (owner.packed or {}).values() if type(copy) is Buffer]


__all__ = ["PackedOperands", "Packing", "kept_steps", "packings_of"]
