"""Tilings that stage the vector operand of a convolution as the window it is.

The input's rows are staged once, padding included, and every kernel position reads them at an
offset; output positions are enumerated with the staged rows' pitch, so that a vector that does
not cross a row's end is a plain load and store.
"""

from __future__ import annotations

from collections.abc import Sequence

from lazytorch.codegen.contract_form import Form, Window, windows
from lazytorch.codegen.contract_tiling import (
    Blocks,
    RegisterTile,
    Selection,
    Tiling,
    Wish,
    round_up,
)
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent

# More kernel positions than this would be unrolled into too much code.
MOST_TAPS = 49
# Cycles to read one element of the scalar operand from L2, and from beyond it.
NEAR_READ, FAR_READ = 0.05, 0.35
STAGE, STORE, BROKEN, START = 5.0, 6.0, 80.0, 3000.0


def even_chunk(size: int, most: int, step: int) -> int:
    """Chunks of about equal length, at most a quarter over ``most``."""
    pieces = max(1, -(-size * 4 // (most * 5)))
    return min(size, round_up(-(-size // pieces), step))


def choose(
    form: Form, wish: Wish, tiles: Sequence[RegisterTile], choices: Selection
) -> tuple[float, Tiling] | None:
    """(cycles, tiling) of the best window tiling; None where the operand is no window."""
    if not form.columns:
        return None
    found = windows(form.vector, form.columns, form.summed)
    by_free = {window.free: window for window in found}
    last = by_free.get(form.columns[-1])
    above = by_free.get(form.columns[-2]) if len(form.columns) > 1 else None
    used = tuple(window for window in (above, last) if window is not None)
    if last is None or len(used) != len(found):
        return None
    taps = tuple(axis for axis in form.summed if axis in {window.tap for window in used})
    plain = tuple(axis for axis in form.summed if axis not in taps)
    if extent(taps) > MOST_TAPS or form.summed[len(plain) :] != taps:
        return None
    height = above.free.size if above is not None else 1
    for rows in range(1, min(height, 64) + 1):
        if rows > 4 and -(-height // rows) == -(-height // (rows - 1)):
            continue
        for tile in tiles:
            for aligned in (True, False):
                option = _tiling(form, wish, tile, (above, last), (plain, taps), rows, aligned)
                if option is not None:
                    choices.offer(*option)
    return choices.best


def _tiling(
    form: Form,
    wish: Wish,
    tile: RegisterTile,
    pair: tuple[Window | None, Window],
    summed: tuple[tuple[Axis, ...], tuple[Axis, ...]],
    rows: int,
    aligned: bool,
) -> tuple[float, Tiling] | None:
    above, last = pair
    plain, taps = summed
    width = last.free.size
    line = width + (last.tap.size - 1) * last.dilation // last.stride
    broken = 0.0
    if aligned:
        pitch = round_up(width, wish.width)
        per_line = pitch // wish.width
        if tile.nv % per_line and per_line % tile.nv:
            return None
        groups = rows * per_line
    else:
        # Vectors that cross the end of a line are stored lane by lane.
        pitch = line
        groups = -(-((rows - 1) * pitch + width) // wish.width)
        broken = min(1.0, wish.width / width)
    if tile.nv > groups or groups > 96:
        return None
    column_groups = round_up(groups, tile.nv)
    box_rows = 1
    if above is not None:
        reach = (above.tap.size - 1) * above.dilation
        box_rows = round_up((rows - 1) * above.stride + reach + 1, above.stride)
    plane = box_rows * line * last.stride
    size = plain[-1].size if plain else 1
    most = wish.local_bytes * 11 // 20 // (plane * wish.itemsize)
    if most == 0:
        return None
    chunk = -(-size // -(-size // min(size, most)))
    blocks = Blocks(plain[:-1], plain[-1] if plain else None, chunk, taps)
    height = above.free.size if above is not None else 1
    tiles = -(-height // rows)
    others = form.batch_count * (extent(form.columns) // (width * height)) * tiles
    panels = tile.panels
    # Vectors at shifted positions straddle cache lines: each is two loads.
    sums, loads = panels.mr * tile.nv / 2, panels.mr / 2 + tile.nv
    step = max(sums, loads, 4.0) + 0.4 * min(sums, loads)
    best: tuple[float, Tiling] | None = None
    for pieces in (1, 2, 4, 8):
        row_panels = -(-panels.count // pieces)
        if pieces > 1 and row_panels * panels.mr < 16:
            break
        block = row_panels * panels.mr * blocks.length * wish.itemsize
        # A large block of the scalar operand is read once, the box for each panel.
        outside = block > wish.l2_bytes // 4
        reads = 1 if outside else column_groups // tile.nv
        read = FAR_READ + NEAR_READ * (reads - 1)
        terms = form.summed_count
        item = terms * row_panels * (column_groups // tile.nv * step + panels.mr * read)
        item += terms / extent(taps) * plane / wish.width * STAGE
        passes = 1 + 0.5 * (blocks.count - 1)
        item += row_panels * panels.mr * groups * (STORE * passes + broken * BROKEN) + START
        items = others * -(-panels.count // row_panels)
        cycles = (-(-items // wish.cores) + 0.3 * (items > 1)) * item
        tiling = Tiling(
            width=wish.width, nv=tile.nv, panels=panels, blocks=blocks, pitch=pitch,
            column_groups=column_groups, column_tiles=tiles, row_panels=row_panels,
            row_tiles=-(-panels.count // row_panels), splits=1, panels_outside=outside,
            window_rows=rows, line_pitch=line,
            vector_windows=tuple(window for window in pair if window is not None),
        )  # fmt: skip
        size = (tiling.stage_elements + tiling.tile_elements) * wish.itemsize
        if size <= wish.local_bytes and (best is None or cycles < best[0] * 0.995):
            best = (cycles, tiling)
    return best
