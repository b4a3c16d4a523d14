"""Target: the few facts about a device that decide how kernels are cut for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What code generation may ask of a device.

    ``family`` is 'cpu' (work-group size 1, explicit vectors, no local memory) or 'gpu'
    (work-groups over tiles, local memory). ``vector_width`` counts float32 lanes. ``subgroup_size``
    is a number of work-items that kernels may require of their sub-groups, 0 where they may not.
    """

    family: str = "cpu"
    vector_width: int = 16
    compute_units: int = 2
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    max_work_group_size: int = 1024
    local_memory: int = 32 << 10
    subgroups: bool = False
    subgroup_size: int = 0
