"""Which tiling a convolution with vectors along its output channels gets.

Candidates are compared by an estimate in cycles. Knows forms and sizes; must not know C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lazytorch.codegen.choice import PixelSchedule
from lazytorch.codegen.contract_form import Form, has_unit_stride
from lazytorch.codegen.contract_pixels import UNROLLED, PixelTiling, pixel_form, used_taps
from lazytorch.codegen.contract_tiling import Wish, round_up
from lazytorch.ir.kernel import extent

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
# Fewer channels than this are not worth turning results around, unless the image's lines are so
# short a part of a vector that other tilings read and store lane by lane: 64 images of 8 x 8, one
# channel into 32, take 32 us turned around and 156 else; lines of 12 are even.
FEWEST_CHANNELS = 16
SHORT_LINE = 2 / 3


def choose_pixels(form: Form, wish: Wish) -> tuple[Form, PixelTiling] | None:
    """The form and the best tiling with vectors along the output channels."""
    start = pixel_form(form)
    if start is None or not _is_worth_it(start[1], wish):
        return None
    form, empty = start
    best: tuple[float, PixelTiling] | None = None
    used = used_taps(form, empty)
    for option in _options(empty, wish):
        cycles, shares = min(_cycles(form, option, wish, used))
        if best is None or cycles < best[0] * 0.995:
            best = (cycles, replace(option, shares=shares))
    return None if best is None else (form, best[1])


def possible_pixels(form: Form, wish: Wish) -> dict[PixelSchedule, tuple[float, PixelTiling]]:
    """Every tiling that could be tried, by its description, with its estimated cycles."""
    start = pixel_form(form)
    if start is None or not _is_worth_it(start[1], wish):
        return {}
    form, empty = start
    used = used_taps(form, empty)
    found: dict[PixelSchedule, tuple[float, PixelTiling]] = {}
    for option in _options(empty, wish, wide=True):
        for cycles, shares in _cycles(form, option, wish, used):
            tiling = replace(option, shares=shares)
            found.setdefault(described_pixels(tiling), (cycles, tiling))
    return found


def wished_pixels(form: Form, wish: Wish, wanted: PixelSchedule) -> tuple[Form, PixelTiling] | None:
    """The form and the tiling of that description, where it fits."""
    start, found = pixel_form(form), possible_pixels(form, wish).get(wanted)
    return None if start is None or found is None else (start[0], found[1])


def described_pixels(tiling: PixelTiling) -> PixelSchedule:
    """The numbers that tell a tiling from all others of the same form."""
    return PixelSchedule(
        vectors=tiling.nv, lines=tiling.lines, depth=tiling.depth, chunk=tiling.chunk,
        run=tiling.run, per_tile=tiling.per_tile, height=tiling.height,
        column_groups=tiling.column_groups, shares=tiling.shares,
    )  # fmt: skip


def _is_worth_it(empty: PixelTiling, wish: Wish) -> bool:
    channels = empty.channel.size if empty.channel is not None else 1
    short = empty.places[-1].axis.size < SHORT_LINE * wish.width
    enough = channels >= FEWEST_CHANNELS or (short and bool(empty.taps))
    return enough and extent(empty.channels) >= 2 * wish.width


def _options(empty: PixelTiling, wish: Wish, wide: bool = False) -> Iterator[PixelTiling]:
    """Tilings that lack their shares; ``wide`` asks for more than what the rule compares."""
    groups = -(-extent(empty.channels) // wish.width)
    for tile in _register_tiles(empty, groups, wish.width, 4 if wide else 2):
        for option in _sizes(empty, wish, tile):
            yield option
            if wide:
                yield from _other_runs(option)


def _other_runs(tiling: PixelTiling) -> Iterator[PixelTiling]:
    """The tiling with half and twice the channels at one kernel position."""
    size = tiling.channel.size if tiling.channel is not None else 1
    for run in (tiling.run // 2, tiling.run * 2):
        if run >= UNROLLED and run % UNROLLED == 0 and tiling.chunk % run == 0 and run <= size:
            yield replace(tiling, run=run)


def _register_tiles(
    empty: PixelTiling, groups: int, width: int, heights: int
) -> Iterator[tuple[int, int, int]]:
    """(depth, lines, nv) of register tiles that fit into the registers, the tallest ``heights``
    of each width."""
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
        yield from ((depth, n, nv) for n in list(kept.values())[:heights])


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


def _cycles(form: Form, tiling: PixelTiling, wish: Wish, used: float) -> list[tuple[float, int]]:
    """(an estimate of the time of the whole convolution on all cores, shares of the row tiles),
    for different shares."""
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
    unit = len(form.columns) == 1 and has_unit_stride(form.vector, form.columns[-1])
    packed = tiling.register_tiles * kernel / wish.itemsize / width
    pack = LAUNCH + packed * (VECTOR if unit else LANES) / wish.cores
    found: dict[int, float] = {}
    for rounds in (1, 2, 4, 8):
        shares = min(tiling.row_tiles, max(1, rounds * wish.cores // fixed))
        per_item = -(-tiling.row_tiles // shares)
        item = per_item * row_tile + START
        items = fixed * shares
        # The last round is seldom full, and cores are seldom equally fast.
        found[shares] = (-(-items // wish.cores) + 0.3 * (items > 1)) * item + pack
    return [(cycles, shares) for shares, cycles in found.items()]
