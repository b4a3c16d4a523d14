"""How a contraction is cut for a GPU: pure functions of its form and the target.

The estimate knows three things: work-groups run a few to a compute unit and the last round is
seldom full, small rectangles of sums wait for local memory, and what lies outside the matrix
is computed in vain. Untested on a GPU; the tuner measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lazytorch.codegen.choice import GroupSchedule
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.target import Target

# (work-items along rows, along columns, sums an item along rows, along columns)
SHAPES = (
    (16, 16, 8, 8), (16, 16, 4, 4), (8, 16, 8, 4), (8, 8, 4, 4), (8, 8, 8, 8), (4, 32, 4, 4),
    (32, 4, 4, 4), (2, 64, 2, 4), (64, 2, 4, 2), (8, 8, 2, 2), (1, 64, 1, 4), (64, 1, 4, 1),
)  # fmt: skip
DEPTHS = (16, 8, 32)
# Work-groups that share a compute unit, and multiply-adds it does in a cycle.
RESIDENT, LANES = 2, 128
# Cycles of a block's barriers and addresses, of a work-group, and of another launch.
BLOCK, GROUP, LAUNCH = 60.0, 1500.0, 8000.0
SHORTEST_SPLIT = 256


@dataclass(frozen=True)
class GroupTiling:
    """Work-groups of ``rows * columns`` items, ``row_each * column_each`` sums an item, blocks of
    ``depth`` in ``buffers`` copies, sums shared by ``splits`` groups.

    With a ``subgroup`` its items, which share their rows, read one summed position's factors each
    and tell each other; 0 without."""

    rows: int
    columns: int
    row_each: int
    column_each: int
    depth: int
    splits: int
    buffers: int
    subgroup: int = 0
    widest: int = 4

    @property
    def row_edge(self) -> int:
        """Rows of a work-group's tile."""
        return self.rows * self.row_each

    @property
    def column_edge(self) -> int:
        """Columns of a work-group's tile."""
        return self.columns * self.column_each

    @property
    def local(self) -> int:
        """Work-items in a group."""
        return self.rows * self.columns

    def vector_of(self, each: int) -> int:
        """Neighbouring sums that an item holds as one vector."""
        vector = 1
        while vector < self.widest and each % (vector * 2) == 0:
            vector *= 2
        return vector

    def pitch(self, edge: int) -> int:
        """Elements from one summed position to the next in local memory.

        A vector more than the tile: positions then begin on different banks.
        """
        return -(-edge // 4) * 4 + 4

    def local_bytes(self, itemsize: int) -> int:
        """Local memory that the tiles take."""
        line = self.pitch(self.row_edge) + self.pitch(self.column_edge)
        return self.buffers * self.depth * line * itemsize


def choose_group_tiling(
    form: Form, target: Target, schedule: GroupSchedule | None = None
) -> GroupTiling:
    """The tiling for a form on a GPU target: the one that is wished for where it fits, else the
    one with the lowest estimate."""
    if schedule is not None:
        fields = dict(schedule.__dict__)
        wished = GroupTiling(**fields, widest=_widest(form))
        if fits(wished, form, target):
            return wished
    found = [(cycles(tiling, form, target), tiling) for tiling in possible(form, target)]
    if not found:
        raise RuntimeError(
            f"the device has {target.local_memory} bytes of local memory and work-groups of "
            f"{target.max_work_group_size}; a contraction needs 4096 and 64. Use another device, "
            "or 'numpy'."
        )
    return min(found, key=lambda item: item[0])[1]


def possible(form: Form, target: Target) -> Iterator[GroupTiling]:
    """The tilings that fit the device."""
    for rows, columns, row_each, column_each in SHAPES:
        for depth in DEPTHS:
            for buffers in (2, 1):
                tiling = GroupTiling(
                    rows, columns, row_each, column_each, depth, 1, buffers, widest=_widest(form)
                )
                if fits(tiling, form, target):
                    for splits in _splits(tiling, form, target):
                        for subgroup in subgroups(tiling, form, target):
                            yield replace(tiling, splits=splits, subgroup=subgroup)


def fits(tiling: GroupTiling, form: Form, target: Target) -> bool:
    """Whether the device can run the tiling."""
    sums = tiling.row_each * tiling.column_each * form.accumulate.itemsize
    return (
        min(value for name, value in tiling.__dict__.items() if name != "subgroup") > 0
        and tiling.subgroup in subgroups(tiling, form, target)
        and tiling.local <= target.max_work_group_size
        and tiling.local_bytes(form.accumulate.itemsize) <= target.local_memory
        and sums <= 256
        and tiling.splits <= max(1, form.summed_count)
    )


def subgroups(tiling: GroupTiling, form: Form, target: Target) -> tuple[int, ...]:
    """Sizes of sub-groups that a tiling may use: whole ones, each in one row of items."""
    size = target.subgroup_size
    whole = size > 1 and tiling.columns % size == 0 and tiling.depth % size == 0
    plain = form.accumulate.kind in "fiu" and form.accumulate.itemsize >= 4
    return (0, size) if target.subgroups and whole and plain else (0,)


def _widest(form: Form) -> int:
    """Elements of a 16-byte vector."""
    return 4 if form.accumulate.itemsize <= 4 else 2


def _splits(tiling: GroupTiling, form: Form, target: Target) -> list[int]:
    wanted = RESIDENT * target.compute_units
    groups = _groups(tiling, form)
    most = min(-(-wanted // groups), form.summed_count // SHORTEST_SPLIT, 64)
    return [1] if most <= 1 else sorted({1, most, -(-most // 2)})


def _groups(tiling: GroupTiling, form: Form) -> int:
    rows = -(-form.row_count // tiling.row_edge)
    return form.batch_count * rows * -(-form.column_count // tiling.column_edge)


def cycles(tiling: GroupTiling, form: Form, target: Target) -> float:
    """An estimate of the time of the whole contraction."""
    groups = _groups(tiling, form) * tiling.splits
    at_once = RESIDENT * target.compute_units
    rounds = groups / at_once if groups > 8 * at_once else -(-groups // at_once)
    summed = -(-form.summed_count // tiling.splits)
    blocks = -(-summed // tiling.depth)
    # Sums wait for their factors: row_each + column_each reads for their product of them.
    row, column = tiling.row_each, tiling.column_each
    # A sub-group reads each row's factor once for all of its items.
    waiting = 1.0 + 2.5 * (row / (tiling.subgroup or 1) + column) / (row * column)
    # Fewer items than lanes leave lanes idle, whoever else is there.
    lanes = min(LANES, tiling.local * 1.5) / RESIDENT
    step = tiling.row_edge * tiling.column_edge / lanes * waiting
    fixed = BLOCK * (1.0 if tiling.buffers == 2 else 1.4)
    item = blocks * (tiling.depth * step + fixed) + GROUP
    return rounds * item + (LAUNCH if tiling.splits > 1 else 0.0)
