"""Tilings of a convolution with vectors along its output channels.

The input's window is staged as it lies in memory, padding included, and every register tile
broadcasts its pixels from there: any pixel at any kernel position is one load, so that no lane
is wasted whatever the image's size and no vector straddles a cache line. The kernel is packed
once, with output channels side by side, and every work-item reads it from there. Finished tiles
are turned around before they are stored.

Knows forms and sizes; must not know C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from lazytorch.codegen.contract_form import Form, Window, has_unit_stride, swapped, windows
from lazytorch.codegen.contract_tiling import Wish, round_up
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
# Channels that are summed at one kernel position before the next: the kernel is read in this
# order, and so many planes of the input stay in the first-level cache for all positions.
RUN = 16
# Cycles to read a vector of the kernel from L2 and what it takes more from beyond, and a byte of
# what a row tile wants of it from there.
NEAR, FAR, FETCH = 0.5, 2.0, 1 / 64
# Cycles to pack a vector of the kernel that lies as one, or lane by lane; to launch a kernel.
VECTOR, LANES, LAUNCH = 4.0, 12.0, 15000.0
# Cycles to begin a staged line, to copy one of its vectors, and to copy an element of its ends.
LINE, COPY, END = 12.0, 4.0, 2.0
# Cycles to turn a vector around and store it.
TURN = 12.0
START = 3000.0
# Fewer channels than this are not worth turning results around.
FEWEST_CHANNELS = 16


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


# The choice -------------------------------------------------------------------------------------


def choose_pixels(form: Form, wish: Wish) -> tuple[Form, PixelTiling] | None:
    """The form and the best tiling with vectors along the output channels."""
    start = pixel_form(form)
    if start is None:
        return None
    form, empty = start
    channels = empty.channel.size if empty.channel is not None else 1
    if channels < FEWEST_CHANNELS or extent(empty.channels) < 2 * wish.width:
        return None
    best: tuple[float, PixelTiling] | None = None
    used = used_taps(form, empty)
    for tile in _register_tiles(empty, -(-extent(empty.channels) // wish.width), wish.width):
        for option in _sizes(empty, wish, tile):
            cycles, shares = _cycles(form, option, wish, used)
            if best is None or cycles < best[0] * 0.995:
                best = (cycles, replace(option, shares=shares))
    return None if best is None else (form, best[1])


def _register_tiles(empty: PixelTiling, groups: int, width: int) -> Iterator[tuple[int, int, int]]:
    """(depth, lines, nv) of register tiles that fit into the registers."""
    registers = 32 if width >= 8 else 16
    inner, depth = 1, len(empty.places) - 1
    while depth > 0 and inner * empty.places[depth].axis.size <= 7:
        inner *= empty.places[depth].axis.size
        depth -= 1
    size = empty.places[depth].axis.size
    for nv in range(1, min(groups, 4) + 1):
        tall = [n for n in range(1, size + 1) if n * inner * nv + nv + 1 < registers]
        tall = [n for n in tall if n * inner <= 28] or ([1] if nv == 1 else [])
        # Fewer panels of a less tall tile are as good as more of a taller one.
        kept = {-(-size // n): n for n in reversed(tall)}
        yield from ((depth, n, nv) for n in list(kept.values())[:2])


def _sizes(empty: PixelTiling, wish: Wish, tile: tuple[int, int, int]) -> Iterator[PixelTiling]:
    """The tilings with a register tile that fit into local memory."""
    depth, lines, nv = tile
    empty = replace(empty, width=wish.width, nv=nv, lines=lines, depth=depth)
    groups = empty.groups
    first = empty.places[0].axis.size
    count = extent(empty.images)
    cuts = [(n, first) for n in (1, 4, 16) if n <= count]
    if len(empty.places) > 1:
        heights = {-(-first // pieces) for pieces in (2, 4, 7, 14)}
        cuts += [(1, n) for n in sorted(heights) if depth > 0 or n >= lines]
    tiles = -(-groups // nv)
    for pieces in (1, 2, 4, 8):
        if pieces > tiles:
            break
        column_groups = -(-tiles // pieces) * nv
        for per_tile, height in cuts:
            option = replace(
                empty, per_tile=per_tile, height=height, column_groups=column_groups,
                column_tiles=-(-groups // column_groups),
            )  # fmt: skip
            option = _with_chunk(option, wish)
            if option.chunk:
                yield option


def _with_chunk(tiling: PixelTiling, wish: Wish) -> PixelTiling:
    """The tiling with as many channels a block as local memory holds, 0 if next to none."""
    size = tiling.channel.size if tiling.channel is not None else 1
    run = -(-size // max(1, round(size / RUN)))
    run = round_up(run, UNROLLED) if size > UNROLLED else size
    room = wish.local_bytes // wish.itemsize - tiling.width
    room -= tiling.nv * tiling.width * tiling.turned_pitch
    if size * tiling.plane <= room:
        return replace(tiling, chunk=size, run=min(run, size))
    room -= tiling.column_groups // tiling.nv * tiling.panels * tiling.tile_elements
    most = max(0, room) // tiling.plane // run * run
    if most * tiling.tap_count < 32:
        return replace(tiling, chunk=0)
    chunk = round_up(-(-size // -(-size // most)), run)
    return replace(tiling, chunk=chunk, run=run)


def _cycles(form: Form, tiling: PixelTiling, wish: Wish, used: float) -> tuple[float, int]:
    """(an estimate of the time of the whole convolution on all cores, shares of the row tiles)."""
    mr, nv, width = tiling.mr, tiling.nv, tiling.width
    sums, loads = mr * nv / 2, (mr + nv) / 2
    step = max(sums, loads, 4.0) + 0.25 * min(sums, loads) + NEAR * nv
    kernel = tiling.tile_weights * wish.itemsize
    box = tiling.chunk * tiling.plane * wish.itemsize
    if tiling.panels > 1 and kernel // tiling.blocks + box > wish.l2_bytes * 3 // 4:
        step += FAR * nv
    terms = max(1, form.summed_count)
    tiles = tiling.panels * tiling.column_groups // nv
    row_tile = tiles * (terms * used * step + tiling.blocks * mr * nv * 2 + 20.0)
    row_tile += tiles * nv * width * TURN * -(-mr // width)
    row_tile += tiling.column_groups // nv * kernel * FETCH
    line = tiling.extents[-1]
    vectors, ends = divmod(line, width)
    channels = tiling.channel.size if tiling.channel is not None else 1
    row_tile += channels * tiling.plane / line * (LINE + vectors * COPY + ends * END)
    fixed = form.batch_count * tiling.column_tiles
    best = (float("inf"), 1)
    for rounds in (1, 2, 4, 8):
        shares = min(tiling.row_tiles, max(1, rounds * wish.cores // fixed))
        per_item = -(-tiling.row_tiles // shares)
        item = per_item * row_tile + START
        items = fixed * shares
        # The last round is seldom full, and cores are seldom equally fast.
        best = min(best, ((-(-items // wish.cores) + 0.3 * (items > 1)) * item, shares))
    unit = len(form.columns) == 1 and has_unit_stride(form.vector, form.columns[-1])
    packed = tiling.register_tiles * kernel / wish.itemsize / width
    pack = LAUNCH + packed * (VECTOR if unit else LANES) / wish.cores
    return best[0] + pack, best[1]


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
