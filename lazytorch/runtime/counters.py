"""Counts of what happened since the process started.

Knows only names and integers. Every layer above may add to :data:`counters`; reading it is what
``lazytorch.stats()`` does. Increments are not locked: under threads a count may miss a few.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """How often each costly thing happened."""

    nodes_recorded: int = 0
    plans_hit: int = 0
    plans_missed: int = 0
    plans_loaded: int = 0
    programs_built: int = 0
    program_cache_hits: int = 0
    kernels_launched: int = 0
    packings_kept: int = 0
    flops: int = 0
    bytes_moved: int = 0
    syncs: int = 0

    def snapshot(self) -> dict[str, int]:
        """All counts as a new dictionary.

        >>> Counters(syncs=2).snapshot()["syncs"]
        2
        """
        return asdict(self)


counters = Counters()
