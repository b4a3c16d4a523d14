"""Tilings of a convolution's weight gradient that take one kernel position at a time.

Rows are input channels, columns output channels, and the sum runs over the output's positions.
At one kernel position the sum is a plain product of matrices over those positions where the
kernel lies inside the image: padding is neither staged nor multiplied. The input is staged as it
lies in memory and broadcast, the output's gradient is turned around so that output channels are
side by side. All sums of a work-item wait in local memory until the last position is added.

Knows forms and sizes; must not know C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lazytorch.codegen.choice import TapSchedule
from lazytorch.codegen.contract_form import Form, Window, through_window, windows
from lazytorch.codegen.contract_pixels import conditions
from lazytorch.codegen.contract_tiling import Wish, round_up
from lazytorch.codegen.contract_turn import lies_along_rows
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent

# Images that may be interleaved: a line of a small image is too short a loop.
TOGETHER = 4
# Lines shorter than this are.
SHORT_LINE = 12
# Cycles to begin a line of one kernel position, to turn one vector of the output's gradient, to
# copy one vector of the input, to begin and to end a register tile, to store a vector, and to
# store one of partial sums, which then go through memory.
LINE, TURN, COPY, TILE, STORE, PARTIAL = 14.0, 10.0, 4.0, 40.0, 14.0, 60.0
START, LAUNCH = 3000.0, 25000.0
# Fewer accumulators than this wait for one another.
FEWEST_SUMS = 16


@dataclass(frozen=True)
class Side:
    """A direction of the image: the output's position ``window.tap`` and the kernel's
    ``window.free``; of the positions they reach, ``size`` from ``low`` on are no padding."""

    window: Window
    low: int
    size: int

    @property
    def output(self) -> Axis:
        return self.window.tap

    @property
    def kernel(self) -> Axis:
        return self.window.free

    @property
    def pairs(self) -> int:
        """Pairs of an output's and a kernel's position that meet inside the image."""
        window = self.window
        return sum(
            self.low <= free * window.stride + tap * window.dilation < self.low + self.size
            for free in range(window.free.size)
            for tap in range(window.tap.size)
        )


@dataclass(frozen=True)
class TapTiling:
    """How a weight's gradient is cut.

    A register tile is ``mr`` input channels by ``nv`` vectors of output channels; a work-item has
    ``channels`` of the former and ``column_groups`` of the latter. A block of the sum is
    ``per_block`` images of ``height`` positions along the first side; the blocks are shared among
    ``splits`` work-items. ``together`` images are interleaved. ``flat_scalar`` and ``flat_vector``
    say that the sides of an operand are walked as one.
    """

    width: int
    mr: int
    nv: int
    channel: Axis
    images: tuple[Axis, ...]
    sides: tuple[Side, ...]
    flat_scalar: bool
    flat_vector: bool
    channels: int
    column_groups: int
    columns: int
    height: int
    per_block: int
    together: int
    splits: int

    @property
    def sizes(self) -> dict[str, Any]:
        """The chosen numbers, without the axes they belong to."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    @property
    def taps(self) -> int:
        return extent(tuple(side.kernel for side in self.sides))

    @property
    def panels(self) -> int:
        return -(-self.channels // self.mr)

    @property
    def row_tiles(self) -> int:
        return -(-self.channel.size // self.channels)

    @property
    def column_tiles(self) -> int:
        return -(-self.columns // (self.column_groups * self.width))

    @property
    def chunks(self) -> int:
        """Blocks of one image."""
        return -(-self.sides[0].output.size // self.height)

    @property
    def blocks(self) -> int:
        return -(-extent(self.images) // self.per_block) * self.chunks

    @property
    def inner_outputs(self) -> int:
        """Output positions for one along the first side."""
        return extent(tuple(side.output for side in self.sides[1:]))

    @property
    def inner_inputs(self) -> int:
        """Input positions for one along the first side."""
        count = 1
        for side in self.sides[1:]:
            count *= side.size
        return count

    @property
    def reach(self) -> int:
        """Positions of the input that a block touches along the first side, at most."""
        window = self.sides[0].window
        touched = (self.height - 1) * window.dilation + (window.free.size - 1) * window.stride + 1
        return min(self.sides[0].size, touched)

    @property
    def image_outputs(self) -> int:
        """Staged elements of the output's gradient for one image and one output channel."""
        return self.height * self.inner_outputs

    @property
    def image_inputs(self) -> int:
        """Staged elements of the input for one image and channel."""
        return self.reach * self.inner_inputs

    @property
    def pitch(self) -> int:
        """Elements from one staged channel of the input to the next, an odd number of lines."""
        lines = -(-self.per_block * self.image_inputs // self.width)
        return (lines + 1 - lines % 2) * self.width

    @property
    def tile_elements(self) -> int:
        """Staged elements of the output's gradient for one register tile."""
        return self.per_block * self.image_outputs * self.nv * self.width

    @property
    def turned_rows(self) -> int:
        """Rows of a work-item's sums, filled up to whole squares."""
        return round_up(self.panels * self.mr * self.taps, self.width)

    @property
    def local_elements(self) -> dict[str, int]:
        """Elements of the local arrays."""
        return {
            "turned": self.column_groups // self.nv * self.tile_elements,
            "box": self.panels * self.mr * self.pitch,
            "sums": self.column_groups * self.turned_rows * self.width,
        }


def tap_form(form: Form) -> TapTiling | None:
    """A tiling that lacks its sizes; None if the form is no weight's gradient."""
    found = windows(form.scalar, form.rows, form.summed)
    if not found or len(form.columns) != 1 or not lies_along_rows(form):
        return None
    by_kernel = {window.free: window for window in found}
    if len(form.rows) != len(found) + 1 or form.rows[0] in by_kernel:
        return None
    sides = []
    operand = form.scalar
    for axis in form.rows[1:]:
        window = by_kernel[axis]
        position = Axis(window.extent, "u")
        operand = through_window(operand, window, position)
        low, high = inside(operand, position)
        if low >= high:
            return None
        sides.append(Side(window, low, high - low))
    outputs = tuple(side.output for side in sides)
    images = tuple(axis for axis in form.summed if axis not in outputs)
    empty = TapTiling(
        0, 1, 1, form.rows[0], images, tuple(sides), False, False,
        1, 1, form.column_count, 1, 1, 1, 1,
    )  # fmt: skip
    scalar, positions = through_sides(form.scalar, empty)
    return replace(
        empty, flat_scalar=_is_flat(scalar, positions), flat_vector=_is_flat(form.vector, outputs)
    )


def inside(operand: Expression, axis: Axis) -> tuple[int, int]:
    """Positions outside of this range are known to be zero."""
    low, high = 0, axis.size
    for condition in conditions(operand):
        step = condition.index.coefficient(axis)
        if not step or step < 0 or condition.index.axes() != {axis}:
            continue
        shift = condition.index.constant
        low = max(low, -(-(condition.low - shift) // step))
        high = min(high, (condition.high - shift) // step + 1)
    return low, high


def through_sides(operand: Expression, tiling: TapTiling) -> tuple[Expression, tuple[Axis, ...]]:
    """The operand over positions of the image, padding left out, and their axes."""
    positions = []
    for side in tiling.sides:
        whole = Axis(side.window.extent, "u")
        position = Axis(side.size, "u")
        operand = through_window(operand, side.window, whole)
        operand = operand.substitute_axes({whole: ix.of_atom(position) + side.low})
        positions.append(position)
    return operand, tuple(positions)


def flattened_run(operand: Expression, axes: tuple[Axis, ...]) -> tuple[Expression, Axis]:
    """The operand over the flat number of a position, for axes that are walked as one."""
    if len(axes) == 1:
        return operand, axes[0]
    flat = Axis(extent(axes), "w")
    replaced = dict.fromkeys(axes[:-1], ix.ZERO)
    return operand.substitute_axes({**replaced, axes[-1]: ix.of_atom(flat)}), flat


def _is_flat(operand: Expression, axes: tuple[Axis, ...]) -> bool:
    """Whether every index of the operand walks the axes as if they were one."""
    for value in ex.walk([operand]):
        for index in ex.indices_of(value):
            steps = [index.coefficient(axis) for axis in axes]
            for step, following, axis in zip(steps, steps[1:], axes[1:]):
                if step is None or following is None or step != following * axis.size:
                    return False
    return True


# The choice -------------------------------------------------------------------------------------


def choose_taps(form: Form, wish: Wish) -> TapTiling | None:
    """The best tiling that takes one kernel position at a time; None where there is none."""
    empty = tap_form(form)
    if empty is None:
        return None
    best: tuple[float, TapTiling] | None = None
    for option in _options(empty, wish):
        cycles, splits = min(_cycles(form, option, wish))
        if best is None or cycles < best[0] * 0.995:
            best = (cycles, replace(option, splits=splits))
    return None if best is None else best[1]


def possible_taps(form: Form, wish: Wish) -> dict[TapSchedule, tuple[float, TapTiling]]:
    """Every tiling that could be tried, by its description, with its estimated cycles."""
    empty = tap_form(form)
    found: dict[TapSchedule, tuple[float, TapTiling]] = {}
    for option in () if empty is None else _options(empty, wish, wide=True):
        for cycles, splits in _cycles(form, option, wish):
            tiling = replace(option, splits=splits)
            found.setdefault(described_taps(tiling), (cycles, tiling))
    return found


def wished_taps(form: Form, wish: Wish, wanted: TapSchedule) -> TapTiling | None:
    """The tiling of that description, where it fits."""
    found = possible_taps(form, wish).get(wanted)
    return None if found is None else found[1]


def described_taps(tiling: TapTiling) -> TapSchedule:
    """The numbers that tell a tiling from all others of the same form."""
    return TapSchedule(
        rows=tiling.mr, vectors=tiling.nv, channels=tiling.channels,
        column_groups=tiling.column_groups, height=tiling.height, per_block=tiling.per_block,
        together=tiling.together, splits=tiling.splits,
    )  # fmt: skip


def _options(empty: TapTiling, wish: Wish, wide: bool = False) -> Iterator[TapTiling]:
    """Tilings that lack their splits; ``wide`` asks for more than what the rule compares."""
    for mr, nv in _register_tiles(empty, wish.width):
        tile = replace(empty, width=wish.width, mr=mr, nv=nv)
        for together in (1, TOGETHER) if wide else (_together(tile),):
            if extent(tile.images) % together == 0:
                yield from _sizes(tile, wish, together)


def _together(tile: TapTiling) -> int:
    """Images that the rule interleaves."""
    line = tile.sides[-1].output.size
    return TOGETHER if line < SHORT_LINE and extent(tile.images) % TOGETHER == 0 else 1


def _register_tiles(empty: TapTiling, width: int) -> Iterator[tuple[int, int]]:
    """(mr, nv) of register tiles that fit into the registers."""
    most = 30 if width >= 8 else 15
    channels, groups = empty.channel.size, -(-empty.columns // width)
    for nv in range(1, min(groups, 4) + 1):
        tall = [n for n in range(1, channels + 1) if n * nv + nv <= most]
        # Fewer panels of a less tall tile are as good as more of a taller one.
        kept = {-(-channels // n): n for n in reversed(tall)}
        yield from ((n, nv) for n in list(kept.values())[:4] if n * nv >= FEWEST_SUMS)


def _sizes(tile: TapTiling, wish: Wish, together: int) -> Iterator[TapTiling]:
    """The tilings with a register tile that fit into local memory."""
    first = tile.sides[0].output.size
    count = extent(tile.images)
    cuts = set()
    for wanted in (64, 128, 256, 512):
        height = max(1, min(first, wanted // (tile.inner_outputs * together)))
        height = -(-first // -(-first // height))
        images = 1
        if height == first:
            images = max(1, min(count, wanted // (first * tile.inner_outputs)) // together)
        cuts.add((height, min(count, images * together)))
    panels = -(-tile.channel.size // tile.mr)
    groups = -(-tile.columns // wish.width)
    tiles = -(-groups // tile.nv)
    for column_pieces in dict.fromkeys(-(-tiles // n) for n in (1, 2, 4)):
        column_groups = -(-tiles // column_pieces) * tile.nv
        for row_pieces in dict.fromkeys(min(n, panels) for n in (1, 2, 3, 4, 6, 8, 16, 32)):
            channels = min(tile.channel.size, -(-panels // row_pieces) * tile.mr)
            for height, per_block in sorted(cuts):
                option = replace(
                    tile, channels=channels, column_groups=column_groups, height=height,
                    per_block=per_block, together=together,
                )  # fmt: skip
                if sum(option.local_elements.values()) * wish.itemsize <= wish.local_bytes:
                    yield option


def _cycles(form: Form, tiling: TapTiling, wish: Wish) -> list[tuple[float, int]]:
    """(an estimate of the time of the whole gradient on all cores, shares of the sum), for
    different shares."""
    mr, nv, width = tiling.mr, tiling.nv, tiling.width
    sums, loads = mr * nv / 2, (mr + nv) / 2
    step = max(sums, loads, 4.0) + 0.2 * min(sums, loads)
    images, last = extent(tiling.images), tiling.sides[-1]
    lines = images // tiling.together
    for side in tiling.sides[:-1]:
        lines *= side.pairs
    positions = lines * tiling.together * last.pairs
    tiles = tiling.panels * tiling.column_groups // nv
    item = tiles * (positions * step + lines * last.kernel.size * LINE)
    item += tiling.blocks * tiles * tiling.taps * (mr * nv * 2 + TILE)
    outputs = images * tiling.chunks * tiling.image_outputs
    item += outputs * tiling.column_groups * TURN
    inputs = images * tiling.chunks * tiling.image_inputs
    item += inputs * tiling.channels / width * COPY * (1 if tiling.together == 1 else 2)
    vectors = tiling.channels * tiling.taps * tiling.column_groups
    fixed = form.batch_count * tiling.row_tiles * tiling.column_tiles
    found = []
    for wanted in (1, 2, 4, 8, 16, 32, 64):
        splits = min(wanted, tiling.blocks)
        if wanted > 1 and fixed * wanted > wish.items:
            break
        items = fixed * splits
        # The last round is seldom full, and cores are seldom equally fast.
        rounds = -(-items // wish.cores) + 0.15 * (items > 1)
        store = vectors * (STORE if splits == 1 else PARTIAL)
        each = item * (-(-tiling.blocks // splits) / tiling.blocks) + store + START
        found.append((rounds * each + (LAUNCH if splits > 1 else 0.0), splits))
    return found
