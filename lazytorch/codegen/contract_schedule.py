"""How a contraction is cut into tiles: pure functions of its form and the target.

A work-item computes ``row_panels * mr`` rows by ``column_groups * width`` columns. It walks the
summed axes in blocks; for each it stages the vector operand's part in local memory, where it
stays in the caches while every panel of rows passes over it. Candidates are compared by an
estimate in cycles. Knows sizes and cache capacities; must not know C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lazytorch.codegen import contract_direct, contract_window
from lazytorch.codegen.choice import ContractSchedule
from lazytorch.codegen.contract_box import Box, interior
from lazytorch.codegen.contract_form import Form, Window, affine, has_unit_stride, windows
from lazytorch.codegen.contract_tiling import (
    Blocks,
    Panels,
    RegisterTile,
    Selection,
    Tiling,
    Wish,
    registers,
    round_up,
    transposing_axis,
)
from lazytorch.codegen.contract_turn import lies_along_rows
from lazytorch.codegen.target import Target
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent

# Cycles that staging one vector of the vector operand takes, by the way it is read.
STAGE_COPY, STAGE_TRANSPOSE, STAGE_GATHER = 10.0, 14.0, 70.0
# Cycles to read one element of the scalar operand from beyond L2, mostly hidden.
SCALAR_READ = 0.15
# What it takes more where the rows of a panel collide: 27 rows 4096 bytes apart took three times
# as long as 8.
COLLISION = 1.5
# Bytes between lines of the same set of L1, and lines that a set keeps for the scalar operand.
L1_SET_BYTES, L1_LINES = 4096, 10
# Cycles to store a finished vector, and to start a work-item.
STORE, START = 4.0, 3000.0
# Cycles to store a vector whose lanes lie apart: each is a cache line, read and written.
STORE_APART = 300.0
# Cycles that one more launch takes.
LAUNCH = 25000.0
# Below this many multiply-adds a work-item costs more to start than it computes.
SMALLEST_ITEM = 1 << 18


def wish_for(form: Form, target: Target) -> Wish:
    """The limits that a tiling has to fit into."""
    itemsize = max(4, form.accumulate.itemsize)
    work = form.batch_count * form.row_count * form.column_count * max(1, form.summed_count)
    most = max(target.compute_units, work // SMALLEST_ITEM)
    return Wish(
        width=max(2, target.vector_width * 4 // itemsize),
        itemsize=itemsize,
        local_bytes=min(target.local_memory, target.l2_bytes // 2) - 1024,
        l1_bytes=target.l1_bytes,
        l2_bytes=target.l2_bytes,
        cores=target.compute_units,
        items=min(8 * target.compute_units, most),
    )


def choose_tiling(form: Form, target: Target, wanted: ContractSchedule | None = None) -> Tiling:
    """The tiling for a form on a CPU target: the one of the ``wanted`` description, if there is
    one, else the one with the lowest estimate."""
    if wanted is not None:
        choices = Selection(wanted)
        _offer_all(form, target, choices)
        if choices.best is not None:
            return choices.best[1]
    wish = wish_for(form, target)
    direct = contract_direct.choose(form, wish, Selection())
    if direct is not None:
        return direct[1]
    boxed = usable_scalar_windows(form)
    if boxed:
        box = _panel_tiling(form, wish, boxed, Selection())
        if box is not None:
            return box[1]
    panel = _panel_tiling(form, wish, (), Selection())
    tiles = list(_register_tiles(form, wish.width))
    window = contract_window.choose(form, wish, tiles, Selection())
    if window is not None and (panel is None or window[0] < panel[0]):
        return window[1]
    if panel is None:
        raise RuntimeError(
            f"the device has {target.local_memory} bytes of local memory; a contraction needs "
            "at least 8192. Use another device, or 'numpy'."
        )
    return panel[1]


def possible_tilings(form: Form, target: Target) -> dict[ContractSchedule, float]:
    """Every tiling that could be tried, with its estimated cycles."""
    choices = Selection(wide=True)
    _offer_all(form, target, choices)
    return choices.offers


def _offer_all(form: Form, target: Target, choices: Selection) -> None:
    wish = wish_for(form, target)
    contract_direct.choose(form, wish, choices)
    boxed = usable_scalar_windows(form)
    if boxed:
        _panel_tiling(form, wish, boxed, choices)
        return
    _panel_tiling(form, wish, (), choices)
    tiles = list(_register_tiles(form, wish.width, wide=True))
    contract_window.choose(form, wish, tiles, choices)


# Registers ------------------------------------------------------------------------------------


def _register_tiles(form: Form, width: int, wide: bool = False) -> Iterator[RegisterTile]:
    """The best heights of a register tile for every width of it."""
    inner: tuple[Axis, ...] = ()
    left = list(form.rows)
    while left and extent((left[-1], *inner)) <= 14:
        inner = (left.pop(), *inner)
    axis = left.pop() if left else None
    for nv in range(1, 7):
        tiles: list[RegisterTile] = []
        for chunk in range(1, (axis.size if axis is not None else 1) + 1):
            panels = Panels(tuple(left), axis, chunk, inner)
            mr = panels.mr
            # A row's factor needs a register only where it cannot come straight from memory.
            if mr * nv + nv + 2 > registers(width) and (tiles or nv > 1):
                break
            # Two multiply-adds or two loads a cycle, the lesser partly in the way of the other;
            # fewer than eight chains wait on latency.
            sums, loads = mr * nv / 2, (mr + nv) / 2
            cycles = max(sums, loads, 4.0) + 0.3 * min(sums, loads)
            if rows_collide(form, panels):
                cycles += mr * COLLISION
            tiles.append(RegisterTile(panels, nv, cycles))
            if mr > 28:
                break
        tiles.sort(key=lambda tile: tile.cycles * tile.panels.count)
        yield from tiles[: 6 if wide else 2]


def rows_collide(form: Form, panels: Panels) -> bool:
    """Whether a panel's rows, read in place, fall on so few sets of L1 that they drive each other
    out."""
    axis = panels.axis or (panels.inner[-1] if panels.inner else None)
    index = affine(form.scalar, (*form.rows, *form.summed), form.accumulate)
    if axis is None or index is None:
        return False
    step = abs(index.coefficient(axis) or 0) * form.accumulate.itemsize
    rows_on_a_set = panels.mr * math.gcd(step, L1_SET_BYTES) / L1_SET_BYTES
    return step >= L1_SET_BYTES // 16 and rows_on_a_set > L1_LINES


# Panels: the vector operand is staged as summed positions x columns -----------------------------


def _panel_tiling(
    form: Form, wish: Wish, boxed: tuple[Window, ...], choices: Selection
) -> tuple[float, Tiling] | None:
    """(cycles, tiling) of the best tiling with a panel of the vector operand."""
    groups = _column_groups(form, wish.width)[1]
    for tile in _register_tiles(form, wish.width, choices.wide):
        if tile.nv > groups:
            continue
        for blocks in _block_choices(form, wish, tile.nv, boxed, choices.wide):
            _offer_panels(form, wish, boxed, tile, blocks, choices)
    return choices.best


def _block_choices(
    form: Form, wish: Wish, nv: int, boxed: tuple[Window, ...], wide: bool
) -> list[Blocks]:
    """The blocks of the rule, first, and others to try."""
    if boxed:
        return [_box_blocks(form)]
    found = [choose_blocks(form.summed, wish, nv)]
    for share in (4, 2) if wide else ():
        other = choose_blocks(form.summed, wish, nv, share)
        if other not in found:
            found.append(other)
    return found


def _offer_panels(
    form: Form,
    wish: Wish,
    boxed: tuple[Window, ...],
    tile: RegisterTile,
    blocks: Blocks,
    choices: Selection,
) -> None:
    pitch, groups = _column_groups(form, wish.width)
    step = _row_step(form, tile.panels, boxed)
    stage = _stage_cycles(form, blocks, pitch, wish.width)
    along_rows = bool(boxed) and form.row_count >= wish.width and lies_along_rows(form)
    for column_groups in _column_choices(groups, tile.nv, blocks, wish):
        for row_panels in _row_choices(tile, column_groups, step, blocks, wish):
            whole = Tiling(
                width=wish.width, nv=tile.nv, panels=tile.panels, blocks=blocks,
                pitch=pitch, column_groups=column_groups,
                column_tiles=-(-groups // column_groups), row_panels=row_panels,
                row_tiles=-(-tile.panels.count // row_panels), splits=1,
                scalar_windows=boxed,
            )  # fmt: skip
            for tiling in dict.fromkeys((whole, _split(form, whole, wish))):
                turned = tiling.changed(turned=along_rows and tiling.splits == 1)
                fitting = next((t for t in (turned, tiling) if _fits(form, t, wish)), None)
                if fitting is not None:
                    apart = along_rows and not fitting.turned and fitting.splits == 1
                    store = STORE_APART if apart else STORE
                    cycles = _cycles(form, fitting, (tile.cycles, stage, store), wish)
                    choices.offer(cycles, fitting)


def _fits(form: Form, tiling: Tiling, wish: Wish) -> bool:
    """Whether the local arrays of a tiling with panels have room."""
    size = tiling.stage_elements + tiling.tile_elements
    if tiling.scalar_windows:
        size += Box(form, tiling).size
    return size * wish.itemsize <= wish.local_bytes


def _column_groups(form: Form, width: int) -> tuple[int, int]:
    """(pitch, number of vectors) of the enumeration of all columns."""
    if not form.columns:
        return 1, 1
    size = form.columns[-1].size
    rest = extent(form.columns[:-1])
    aligned = round_up(size, width)
    # Whole vectors for each row are simpler; use them where few lanes go to waste.
    pitch = aligned if rest > 1 and aligned <= size * 1.15 else size
    return pitch, -(-((rest - 1) * pitch + size) // width)


def _stage_cycles(form: Form, blocks: Blocks, pitch: int, width: int) -> float:
    """Cycles to stage one vector of the vector operand."""
    along = transposing_axis(form, blocks, width)
    if along is not None:
        return STAGE_TRANSPOSE
    if not form.columns or not has_unit_stride(form.vector, form.columns[-1]):
        return STAGE_GATHER
    column = form.columns[-1]
    if column.size < width:
        return STAGE_GATHER
    # Vectors across the end of a line, or across a guard's edge, are read lane by lane.
    broken = 0.0 if pitch % width == 0 or len(form.columns) == 1 else width / column.size
    low, high, *_ = interior(form.vector, column)
    if high - low < column.size:
        broken += min(1.0, width / column.size)
    return STAGE_COPY + min(1.0, broken) * STAGE_GATHER


def choose_blocks(summed: tuple[Axis, ...], wish: Wish, nv: int, share: int = 1) -> Blocks:
    """Blocks so long that one register tile's part of the staged operand stays in L2.

    It is read in order, so L2 keeps up; blocks for L1 would pass over the sums more often.
    ``share`` divides that length.
    """
    row = nv * wish.width * wish.itemsize
    longest = max(32, min(wish.l2_bytes // 4 // row, wish.local_bytes // 2 // row))
    longest = max(32, longest // share)
    inner: tuple[Axis, ...] = ()
    left = list(summed)
    while left and extent((left[-1], *inner)) <= longest:
        inner = (left.pop(), *inner)
    if not left:
        if len(inner) != 1:
            return Blocks((), None, 1, inner)
        return Blocks((), inner[0], inner[0].size, ())
    axis = left.pop()
    most = max(1, longest // extent(inner))
    chunk = contract_window.even_chunk(axis.size, most, wish.width if not inner else 1)
    return Blocks(tuple(left), axis, chunk, inner)


def _column_choices(groups: int, nv: int, blocks: Blocks, wish: Wish) -> list[int]:
    """Numbers of vectors that a work-item may take."""
    room = wish.local_bytes * 3 // 5 // (max(1, blocks.length) * wish.width * wish.itemsize)
    tiles = -(-groups // nv)
    choices = []
    for wanted in (1, 2, 3, 4, 6, 8):
        pieces = -(-tiles // wanted)
        choice = -(-tiles // pieces) * nv
        if choice not in choices and (choice <= room or wanted == 1):
            choices.append(choice)
    return choices


def _row_choices(
    tile: RegisterTile, column_groups: int, step: int, blocks: Blocks, wish: Wish
) -> list[int]:
    """Numbers of panels that a work-item may take."""
    panels = tile.panels
    most = panels.count
    vector = wish.width * wish.itemsize
    if blocks.count > 1:
        # Sums that wait for the next block lie in local memory.
        left = wish.local_bytes - blocks.length * column_groups * vector
        most = min(most, max(1, left // (panels.mr * column_groups * vector)))
    if column_groups > tile.nv:
        # The scalar operand's block is read once for each register tile: keep it in L2.
        in_l2 = wish.l2_bytes // 4 // max(1, panels.mr * blocks.length * wish.itemsize)
        most = min(most, max(1, in_l2))
    choices = []
    pieces = -(-panels.count // max(1, most))
    while True:
        choice = max(step, round_up(-(-panels.count // pieces), step))
        if choice not in choices:
            choices.append(choice)
        if choice <= step or choice * panels.mr <= 16 or len(choices) > 7:
            return choices
        pieces = max(pieces + 1, pieces * 3 // 2)


def _cycles(form: Form, tiling: Tiling, each: tuple[float, float, float], wish: Wish) -> float:
    """An estimate of the time of the whole contraction on all cores.

    ``each`` are the cycles of one step of the sum, one staged vector and one stored vector.
    """
    step, stage, store = each
    summed = max(1, form.summed_count) / tiling.splits
    rows = tiling.row_panels * tiling.panels.mr
    tiles = tiling.column_groups // tiling.nv
    item = summed * (
        tiling.column_groups * stage + tiling.row_panels * tiles * step + rows * SCALAR_READ
    )
    passes = tiling.blocks.count / tiling.splits
    item += rows * tiling.column_groups * (store + STORE * 2 * (passes - 1)) + START
    if tiling.splits > 1:
        item += rows * tiling.column_groups * STORE * 2
    items = form.batch_count * tiling.column_tiles * tiling.row_tiles * tiling.splits
    # The last round is seldom full, and cores are seldom equally fast.
    rounds = -(-items // wish.cores) + 0.3 * (items > 1)
    return rounds * item + (LAUNCH if tiling.splits > 1 else 0.0)


def _split(form: Form, tiling: Tiling, wish: Wish) -> Tiling:
    """Share one sum among work-items where there are too few of them."""
    items = form.batch_count * tiling.column_tiles * tiling.row_tiles
    if items * 2 > wish.items or form.summed_count < 256:
        return tiling
    wanted = min(-(-wish.items // items), form.summed_count // 128, 64)
    blocks = tiling.blocks
    if blocks.count < wanted and blocks.axis is not None:
        pieces = -(-wanted // extent(blocks.outer))
        chunk = max(1, -(-blocks.axis.size // pieces))
        if not blocks.inner:
            chunk = round_up(chunk, wish.width)
        blocks = Blocks(blocks.outer, blocks.axis, min(blocks.chunk, chunk), blocks.inner)
    splits = max(1, min(wanted, blocks.count))
    return tiling.changed(blocks=blocks, splits=splits)


# Boxes: the scalar operand is a sliding window (weight gradients) --------------------------------


def usable_scalar_windows(form: Form) -> tuple[Window, ...]:
    """The windows of the scalar operand, where it can be staged as a box."""
    found = windows(form.scalar, form.rows, form.summed)
    if not found:
        return ()
    free = {window.free for window in found}
    plain = [axis for axis in form.rows if axis not in free]
    if len(plain) > 1 or (plain and form.rows[0] is not plain[0]):
        return ()
    taps = {window.tap for window in found}
    return found if form.summed[-1] in taps else ()


def _row_step(form: Form, panels: Panels, boxed: tuple[Window, ...]) -> int:
    """Work-items take a multiple of this many panels."""
    if not boxed or panels.axis is None or panels.axis is form.rows[0]:
        return 1
    return panels.along * extent(panels.outer[1:])


def _box_blocks(form: Form) -> Blocks:
    longest = 320
    left = list(form.summed)
    # Lines of the window are staged whole: a block never ends within one.
    inner: tuple[Axis, ...] = (left.pop(),)
    while left and extent((left[-1], *inner)) <= longest:
        inner = (left.pop(), *inner)
    if not left:
        return Blocks((), None, 1, inner)
    axis = left.pop()
    chunk = contract_window.even_chunk(axis.size, max(1, longest // extent(inner)), 1)
    return Blocks(tuple(left), axis, chunk, inner)
