"""What a tiling of a contraction consists of: blocks of the sum, panels of rows, work-items.

Plain data; how the numbers are chosen is in ``contract_schedule``, what they make of the code in
``contract_cpu``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lazytorch.codegen.choice import ContractSchedule
from lazytorch.codegen.contract_form import Form, Window, has_unit_stride
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent


@dataclass(frozen=True)
class Blocks:
    """The summed axes in blocks: ``chunk`` positions of one axis, all of the ``inner`` ones."""

    outer: tuple[Axis, ...]
    axis: Axis | None
    chunk: int
    inner: tuple[Axis, ...]

    @property
    def chunks(self) -> int:
        return 1 if self.axis is None else -(-self.axis.size // self.chunk)

    @property
    def count(self) -> int:
        return extent(self.outer) * self.chunks

    @property
    def length(self) -> int:
        return self.chunk * extent(self.inner)


@dataclass(frozen=True)
class Panels:
    """The rows in panels of ``mr``: ``chunk`` positions of one axis, all of the ``inner`` ones.

    The last panel along ``axis`` is moved back so that no panel reaches beyond the end.
    """

    outer: tuple[Axis, ...]
    axis: Axis | None
    chunk: int
    inner: tuple[Axis, ...]

    @property
    def mr(self) -> int:
        return self.chunk * extent(self.inner)

    @property
    def along(self) -> int:
        return 1 if self.axis is None else -(-self.axis.size // self.chunk)

    @property
    def count(self) -> int:
        return extent(self.outer) * self.along


@dataclass(frozen=True)
class RegisterTile:
    """``panels.mr`` rows by ``nv`` vectors, and the cycles that one step of the sum takes."""

    panels: Panels
    nv: int
    cycles: float


@dataclass(frozen=True)
class Tiling:
    """Everything about the cut of one contraction on a CPU device.

    ``pitch`` is how far apart neighbours along the last-but-one column axis lie in the
    enumeration of columns: more than the size of the last axis where lanes are left unused.
    ``in_place`` says that the vector operand is read where it lies, and nothing is staged;
    ``turned`` that all sums of a work-item wait in local memory to be stored along the rows.
    """

    width: int
    nv: int
    panels: Panels
    blocks: Blocks
    pitch: int
    column_groups: int
    column_tiles: int
    row_panels: int
    row_tiles: int
    splits: int
    panels_outside: bool = False
    packed_panels: bool = False
    in_place: bool = False
    turned: bool = False
    window_rows: int = 0
    line_pitch: int = 0
    vector_windows: tuple[Window, ...] = ()
    scalar_windows: tuple[Window, ...] = ()

    @property
    def lanes(self) -> int:
        """Columns of one work-item, unused lanes included."""
        return self.column_groups * self.width

    @property
    def last(self) -> Window:
        """The window along the axis that vectors run along."""
        return self.vector_windows[-1]

    @property
    def above(self) -> Window | None:
        """The window along the column axis outside that one, if there is one."""
        return self.vector_windows[0] if len(self.vector_windows) > 1 else None

    @property
    def box_rows(self) -> int:
        """Lines of the vector operand that a work-item's columns touch."""
        if self.above is None:
            return 1
        reach = (self.above.tap.size - 1) * self.above.dilation
        return (self.window_rows - 1) * self.above.stride + reach + 1

    @property
    def phase(self) -> int:
        """Elements of a staged line's part with one remainder by the strides."""
        stride = self.above.stride if self.above is not None else 1
        return -(-self.box_rows // stride) * self.line_pitch

    @property
    def plane(self) -> int:
        """Elements staged for one position of the summed axis that blocks are cut from."""
        return self.phase * self.last.stride * (self.above.stride if self.above is not None else 1)

    @property
    def stage_elements(self) -> int:
        """Elements of the vector operand's local array."""
        if self.in_place:
            return 0
        if not self.vector_windows:
            return self.blocks.length * self.lanes
        # Unused lanes of the last vectors, and unused vectors, reach beyond the box.
        beyond = self.lanes + 2 * self.width
        if self.is_aligned:
            beyond = 2 * self.width + (self.nv // self.groups_per_line + 1) * self.line_pitch
        return self.blocks.chunk * self.plane + beyond

    @property
    def is_aligned(self) -> bool:
        """Whether no vector crosses the end of a line."""
        return self.pitch % self.width == 0

    @property
    def groups_per_line(self) -> int:
        """Vectors of one line, where they are aligned."""
        return self.pitch // self.width

    def vector_offsets(self) -> list[int]:
        """Where the vectors of a register tile lie in the staged operand, from its first."""
        if self.vector_windows and self.is_aligned:
            per_line = self.groups_per_line
            return [
                j // per_line * self.line_pitch + j % per_line * self.width for j in range(self.nv)
            ]
        return [j * self.width for j in range(self.nv)]

    @property
    def unread_lanes(self) -> int:
        """Lanes of a line's last vector that stand for no column, read in place."""
        return -self.pitch % self.width if self.in_place else 0

    def tile_place(self, first: str) -> str:
        """C text of where the register tile that begins with vector ``first`` is staged."""
        if not self.vector_windows:
            return f"{first} * {self.width * self.blocks.length}"
        if not self.is_aligned:
            return f"{first} * {self.width}"
        per_line = self.groups_per_line
        return f"{first} / {per_line} * {self.line_pitch} + {first} % {per_line} * {self.width}"

    @property
    def tile_elements(self) -> int:
        """Elements of the local array of finished, or unfinished, sums."""
        if self.turned:
            return self.turned_rows * self.lanes
        tile = self.panels.mr * self.nv * self.width
        if self.blocks.count > 1:
            tile *= self.row_panels * (self.column_groups // self.nv)
        return tile

    @property
    def turned_rows(self) -> int:
        """Rows of a work-item, filled up to whole squares."""
        return round_up(self.row_panels * self.panels.mr, self.width)

    def changed(self, **fields: object) -> Tiling:
        """The tiling with some fields replaced."""
        return replace(self, **fields)  # type: ignore[arg-type]


def described(tiling: Tiling, pack: str = "") -> ContractSchedule:
    """The numbers that tell a tiling from all others of the same form."""
    return ContractSchedule(
        rows=tiling.panels.mr, vectors=tiling.nv, block=tiling.blocks.length,
        column_groups=tiling.column_groups, row_panels=tiling.row_panels, splits=tiling.splits,
        lines=tiling.window_rows, pitch=0 if tiling.in_place else tiling.pitch, pack=pack,
    )  # fmt: skip


class Selection:
    """Takes tilings that are offered with their estimated cycles, and keeps the cheapest.

    With ``wanted`` only the tiling of that description counts. ``wide`` asks whoever offers for
    more than what the rule compares; then all offers are kept in ``offers``.
    """

    def __init__(self, wanted: ContractSchedule | None = None, wide: bool = False) -> None:
        self.wanted = None if wanted is None else replace(wanted, pack="")
        self.wide = wide or wanted is not None
        self.best: tuple[float, Tiling] | None = None
        self.offers: dict[ContractSchedule, float] = {}

    def offer(self, cycles: float, tiling: Tiling) -> None:
        """Consider one tiling."""
        if self.wide:
            schedule = described(tiling)
            if self.wanted not in (None, schedule):
                return
            self.offers[schedule] = min(cycles, self.offers.get(schedule, cycles))
        if self.best is None or cycles < self.best[0] * 0.995:
            self.best = (cycles, tiling)


@dataclass(frozen=True)
class Wish:
    """What the choice of a tiling has to fit into."""

    width: int
    itemsize: int
    local_bytes: int
    l1_bytes: int
    l2_bytes: int
    cores: int
    items: int


def registers(width: int) -> int:
    """Vector registers of processors whose vectors have ``width`` lanes."""
    return 32 if width >= 8 else 16


def round_up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


def transposing_axis(form: Form, blocks: Blocks, width: int) -> Axis | None:
    """The summed axis along which the vector operand is read and turned around, if it is."""
    along = blocks.inner[-1] if blocks.inner else blocks.axis
    if along is None or not form.columns or has_unit_stride(form.vector, form.columns[-1]):
        return None
    length = blocks.chunk if along is blocks.axis else along.size
    return along if length >= width and has_unit_stride(form.vector, along) else None
