"""Tilings of a convolution with vectors along its output channels.

The input's window is staged as it lies in memory, padding included, and every register tile
broadcasts its pixels from there: any pixel at any kernel position is one load, so that no lane
is wasted whatever the image's size and no vector straddles a cache line. The kernel is packed
once, with output channels side by side, and every work-item reads it from there. Finished tiles
are turned around before they are stored.

Knows forms and sizes; must not know C.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from lazytorch.codegen.contract_form import Form, Window, has_unit_stride, swapped, windows
from lazytorch.codegen.contract_tiling import round_up
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Condition, Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store, extent

# More kernel positions than this take too long to write out, or are no kernel.
MOST_TAPS = 128
# Channels written out one after the other. Kernel positions are not: neighbours share pixels,
# which compilers would then keep in registers that are not there.
UNROLLED = 4


@dataclass(frozen=True)
class Place:
    """A row axis of the image, and the kernel position that moves along it, if one does."""

    axis: Axis
    window: Window | None

    @property
    def stride(self) -> int:
        return self.window.stride if self.window is not None else 1

    def reach(self, count: int) -> int:
        """Positions of the input that ``count`` neighbouring outputs touch."""
        if self.window is None:
            return count
        return (count - 1) * self.stride + (self.window.tap.size - 1) * self.window.dilation + 1


@dataclass(frozen=True)
class PixelTiling:
    """How a convolution is cut.

    A register tile is ``lines`` neighbours along ``places[depth]`` and all of the places behind
    it, by ``nv`` vectors of output channels. A work-item has ``column_groups`` vectors and goes
    over every ``shares``-th part of the row tiles, each of ``per_tile`` images and ``height``
    positions of the first place; ``chunk`` channels are staged at a time, ``run`` of them summed
    at one kernel position before the next. ``phases`` are the column axes that decide which
    kernel positions there are, ``channels`` the others.
    """

    width: int
    nv: int
    lines: int
    depth: int
    images: tuple[Axis, ...]
    places: tuple[Place, ...]
    channel: Axis | None
    taps: tuple[Axis, ...]
    chunk: int
    per_tile: int
    height: int
    column_groups: int
    column_tiles: int
    shares: int
    run: int = 1
    phases: tuple[Axis, ...] = ()
    channels: tuple[Axis, ...] = ()

    @property
    def sizes(self) -> dict[str, Any]:
        """The chosen numbers, without the axes they belong to."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    @property
    def phase_lanes(self) -> int:
        """Lanes of one phase: whole register tiles, so that none has two phases."""
        lanes = extent(self.channels)
        return round_up(lanes, self.nv * self.width) if self.phases else lanes

    @property
    def groups(self) -> int:
        """Vectors of all output channels."""
        return -(-extent(self.phases) * self.phase_lanes // self.width)

    @property
    def inner(self) -> int:
        return extent(tuple(place.axis for place in self.places[self.depth + 1 :]))

    @property
    def mr(self) -> int:
        return self.lines * self.inner

    @property
    def blocks(self) -> int:
        return 1 if self.channel is None else -(-self.channel.size // self.chunk)

    @property
    def tap_count(self) -> int:
        return extent(self.taps)

    @property
    def heights(self) -> int:
        """Row tiles of one image."""
        return -(-self.places[0].axis.size // self.height)

    @property
    def row_tiles(self) -> int:
        return -(-extent(self.images) // self.per_tile) * self.heights

    @property
    def extents(self) -> tuple[int, ...]:
        """The staged positions along each place."""
        first, *rest = self.places
        return (first.reach(self.height), *(place.reach(place.axis.size) for place in rest))

    @property
    def steps(self) -> tuple[int, ...]:
        """Elements from one staged position to the next along each place."""
        steps = [1]
        for size in reversed(self.extents[1:]):
            steps.insert(0, steps[0] * size)
        return tuple(steps)

    @property
    def image_elements(self) -> int:
        return self.steps[0] * self.extents[0]

    @property
    def plane(self) -> int:
        """Staged elements from one channel to the next; not such that all fall on the same
        cache sets."""
        size = self.per_tile * self.image_elements
        return size + 16 if size % 128 == 0 else size

    @property
    def panels(self) -> int:
        """Register tiles along the rows of one row tile."""
        count = self.per_tile
        for number, place in enumerate(self.places[: self.depth + 1]):
            size = self.height if number == 0 else place.axis.size
            count *= -(-size // self.lines) if number == self.depth else size
        return count

    @property
    def runs(self) -> int:
        """Runs of channels."""
        return 1 if self.channel is None else -(-self.channel.size // self.run)

    @property
    def run_elements(self) -> int:
        """Elements of the packed kernel for one run of channels and one register tile."""
        return self.run * self.tap_count * self.nv * self.width

    @property
    def tile_weights(self) -> int:
        """Elements of the packed kernel for one register tile."""
        return self.runs * self.run_elements

    @property
    def register_tiles(self) -> int:
        """Register tiles side by side, of all work-items."""
        return self.column_tiles * (self.column_groups // self.nv)

    @property
    def tile_elements(self) -> int:
        return self.mr * self.nv * self.width

    @property
    def turned_pitch(self) -> int:
        return round_up(self.mr, self.width)

    @property
    def local_elements(self) -> dict[str, int]:
        """Elements of the local arrays."""
        groups = self.column_groups // self.nv
        sizes = {
            "box": self.chunk * self.plane + self.width,
            "turned": self.nv * self.width * self.turned_pitch,
        }
        if self.blocks > 1:
            sizes["sums"] = groups * self.panels * self.tile_elements
        return sizes


def pixel_form(form: Form) -> tuple[Form, PixelTiling] | None:
    """The form with its pixels as rows, and a tiling that lacks its sizes; None if no image."""
    for option in (form, swapped(form)):
        found = windows(option.scalar, option.rows, option.summed)
        if not option.columns or any(w.free.size < w.tap.size for w in found):
            continue
        if found:
            first = min(option.rows.index(window.free) for window in found)
        elif windows(option.vector, option.columns, option.summed):
            continue
        else:
            first = _first_place(option)
            if first == 0:
                continue
        by_free = {window.free: window for window in found}
        places = tuple(Place(axis, by_free.get(axis)) for axis in option.rows[first:])
        taps = tuple(axis for axis in option.summed if axis in {w.tap for w in found})
        plain = tuple(axis for axis in option.summed if axis not in taps)
        if len(plain) > 1 or extent(taps) > MOST_TAPS:
            continue
        images = option.rows[:first]
        if set(through_places(option.scalar, places)[0].axes()) & set(taps):
            continue
        deciding = {axis for part in conditions(option.vector) for axis in part.index.axes()}
        return option, PixelTiling(
            0, 1, 1, 0, images, places, plain[0] if plain else None, taps, 1, 1,
            places[0].axis.size, 1, 1, 1, 1,
            tuple(axis for axis in option.columns if axis in deciding),
            tuple(axis for axis in option.columns if axis not in deciding),
        )  # fmt: skip
    return None


def _first_place(form: Form) -> int:
    """Where the places begin among the rows of a 1 x 1 convolution: images with their pixels
    side by side, and several of them. 0 if it is none."""
    index = form.epilogue[0].index
    steps = [index.coefficient(axis) for axis in form.rows]
    if len(form.columns) != 1 or len(form.summed) != 1 or not steps or steps[-1] != 1:
        return 0
    first = len(steps) - 1
    while first > 0 and steps[first - 1] == form.rows[first].size * (steps[first] or 0):
        first -= 1
    # Many channels from few ones: as scalars the kernel is read once, in order, where it lies.
    spreads = form.column_count > 2 * form.summed_count
    if spreads and first == len(steps) - 1 and has_unit_stride(form.vector, form.summed[0]):
        return 0
    return first


def through_places(
    operand: Expression, places: tuple[Place, ...]
) -> tuple[Expression, tuple[Axis, ...]]:
    """The operand over positions of the input instead of outputs and kernel positions."""
    replaced: dict[Axis, ix.Index] = {}
    positions = []
    for place in places:
        position = Axis(place.reach(place.axis.size), "u")
        positions.append(position)
        at = ix.of_atom(position)
        window = place.window
        if window is None:
            replaced[place.axis] = at
        elif window.dilation == 1:
            replaced[place.axis], replaced[window.tap] = ix.ZERO, at
        else:
            replaced[place.axis], replaced[window.tap] = at, ix.ZERO
    return operand.substitute_axes(replaced), tuple(positions)


def panel_axis(tiling: PixelTiling, stores: tuple[Store, ...]) -> tuple[Axis, Axis, list[Store]]:
    """(first, row, stores) where the stores are over row ``first`` + ``row`` of a panel."""
    row = Axis(tiling.mr, "f")
    place = tiling.places[tiling.depth].axis
    first = Axis(place.size, "b")
    at = ix.of_atom(row)
    replaced = {place: ix.of_atom(first) + at // tiling.inner}
    step = 1
    for inner in reversed(tiling.places[tiling.depth + 1 :]):
        replaced[inner.axis] = (at // step) % inner.axis.size
        step *= inner.axis.size
    moved = []
    for store in stores:
        index, value = store.index.substitute(replaced), store.value.substitute_axes(replaced)
        moved.append(Store(store.target, index, value))
    return first, row, moved


# Positions of the kernel ------------------------------------------------------------------------


def conditions(operand: Expression) -> tuple[Condition, ...]:
    """What has to hold for the kernel to have an element; elsewhere it is zero."""
    if operand.kind == ex.CHOOSE and operand.operands[1].kind == ex.CONSTANT:
        zero = not operand.operands[1].data
        return tuple(operand.data) if zero else ()
    return tuple(operand.data[2]) if operand.kind == ex.LOAD else ()


def used_taps(form: Form, tiling: PixelTiling) -> float:
    """The share of kernel positions, over all phases, at which the kernel has elements."""
    axes = (*tiling.phases, *tiling.taps)
    parts = [part for part in conditions(form.vector) if part.index.axes() <= set(axes)]
    if not parts:
        return 1.0
    found = 0
    for place in product(*(range(axis.size) for axis in axes)):
        at = {axis: ix.of_int(position) for axis, position in zip(axes, place)}
        values = [part.index.substitute(at).constant for part in parts]
        found += all(part.low <= value <= part.high for part, value in zip(parts, values))
    return found / extent(axes)
