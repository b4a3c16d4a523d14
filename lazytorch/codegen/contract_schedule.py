"""How a contraction is cut into tiles: pure functions of its form and the target.

A work-item computes ``row_panels * mr`` rows by ``column_groups * width`` columns. It walks the
summed axes in blocks; for each it stages the vector operand's part in local memory, where it
stays in the caches while every panel of rows passes over it. Knows sizes and cache capacities;
must not know C.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lazytorch.codegen.contract_form import Form, Window, windows
from lazytorch.codegen.target import Target
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent

# Cycles that staging one vector of the vector operand takes, by the way it is read.
STAGE_COPY, STAGE_TRANSPOSE, STAGE_GATHER = 3, 7, 40
# Below this many multiply-adds a work-item costs more to start than it computes.
SMALLEST_ITEM = 1 << 18


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
class Tiling:
    """Everything about the cut of one contraction on a CPU device.

    ``pitch`` is how far apart neighbours along the last-but-one column axis lie in the
    enumeration of columns: more than the size of the last axis where lanes are left unused.
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
    window_rows: int = 0
    vector_windows: tuple[Window, ...] = ()
    scalar_windows: tuple[Window, ...] = ()

    @property
    def lanes(self) -> int:
        """Columns of one work-item, unused lanes included."""
        return self.column_groups * self.width


@dataclass(frozen=True)
class Wish:
    """What the choice of a tiling has to fit into."""

    width: int
    itemsize: int
    local_bytes: int
    l1_bytes: int
    l2_bytes: int
    items: int


def wish_for(form: Form, target: Target) -> Wish:
    itemsize = max(4, form.accumulate.itemsize)
    width = max(2, target.vector_width * 4 // itemsize)
    work = form.batch_count * form.row_count * form.column_count * max(1, form.summed_count)
    most = max(target.compute_units, work // SMALLEST_ITEM)
    return Wish(
        width=width,
        itemsize=itemsize,
        local_bytes=min(target.local_memory, target.l2_bytes // 2) - 1024,
        l1_bytes=target.l1_bytes,
        l2_bytes=target.l2_bytes,
        items=min(8 * target.compute_units, most),
    )


def choose_tiling(form: Form, target: Target) -> Tiling:
    """The tiling for a form on a CPU target."""
    wish = wish_for(form, target)
    inner_windows = usable_scalar_windows(form)
    if not inner_windows:
        window = _window_tiling(form, wish)
        if window is not None:
            return window
    return _panel_tiling(form, wish, inner_windows)


# Registers ------------------------------------------------------------------------------------


def choose_panels(rows: tuple[Axis, ...], groups: int, width: int) -> tuple[Panels, int]:
    """Panels of rows and the number of vectors beside each other, for the fewest cycles."""
    registers = 32 if width >= 8 else 16
    tallest = registers - 2
    inner: tuple[Axis, ...] = ()
    left = list(rows)
    while left and extent((left[-1], *inner)) <= min(tallest, 14):
        inner = (left.pop(), *inner)
    axis = left.pop() if left else None
    best: tuple[float, Panels, int] | None = None
    for nv in range(1, 7):
        for chunk in range(1, (axis.size if axis else 1) + 1):
            panels = Panels(tuple(left), axis, chunk, inner)
            mr = panels.mr
            if mr > tallest or (mr + 1) * nv + 1 > registers and mr * nv > 1:
                break
            # Two multiply-adds or two loads a cycle; fewer than eight chains wait on latency.
            cycles = max(mr * nv / 2, (mr + nv) / 2 + 0.25, 4.0) + 0.3
            total = cycles * panels.count * -(-groups // nv)
            if best is None or total < best[0] * 0.999:
                best = (total, panels, nv)
    assert best is not None
    return best[1], best[2]


# Panels: the vector operand is staged as summed positions x columns -----------------------------


def _panel_tiling(form: Form, wish: Wish, scalar_windows: tuple[Window, ...]) -> Tiling:
    width = wish.width
    pitch, groups = _column_groups(form, width)
    panels, nv = choose_panels(form.rows, groups, width)
    blocks = (
        _window_blocks(form, wish, scalar_windows)
        if scalar_windows
        else choose_blocks(form.summed, wish, nv)
    )
    local = wish.local_bytes
    row_step = _row_step(form, panels, scalar_windows)
    # Columns: as many register tiles as fit beside half of the local memory.
    room = local // 2 // (max(1, blocks.length) * width * wish.itemsize)
    column_groups = min(_round_up(groups, nv), max(nv, min(room, 4 * nv) // nv * nv))
    # Rows: the scalar operand's block stays in L2, the partial sums in local memory.
    row_bytes = panels.mr * column_groups * width * wish.itemsize
    stage = blocks.length * column_groups * width * wish.itemsize
    most = max(1, (local - stage) * 3 // 4 // row_bytes)
    if not scalar_windows:
        in_l2 = wish.l2_bytes // 4 // max(1, panels.mr * blocks.length * wish.itemsize)
        most = max(1, min(most, in_l2))
    else:
        most = min(most, max(row_step, 256 // panels.mr))
    row_panels = min(panels.count, max(row_step, most // row_step * row_step))

    def items() -> int:
        return form.batch_count * -(-groups // column_groups) * -(-panels.count // row_panels)

    while items() < wish.items:
        if column_groups >= 2 * nv and column_groups // nv * 8 > row_panels * panels.mr // 32:
            column_groups = _round_up(-(-column_groups // 2), nv)
        elif row_panels * panels.mr >= 128 and row_panels >= 2 * row_step:
            row_panels = _round_up(-(-row_panels // 2), row_step)
        elif column_groups >= 2 * nv:
            column_groups = _round_up(-(-column_groups // 2), nv)
        else:
            break
    column_tiles = -(-groups // column_groups)
    column_groups = _round_up(-(-groups // column_tiles), nv)
    row_tiles = -(-panels.count // row_panels)
    row_panels = _round_up(-(-panels.count // row_tiles), row_step)
    row_tiles = -(-panels.count // row_panels)
    splits, blocks = _splits(form, blocks, items(), wish)
    return Tiling(
        width=width, nv=nv, panels=panels, blocks=blocks, pitch=pitch,
        column_groups=column_groups, column_tiles=column_tiles,
        row_panels=row_panels, row_tiles=row_tiles, splits=splits,
        scalar_windows=scalar_windows,
    )  # fmt: skip


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _column_groups(form: Form, width: int) -> tuple[int, int]:
    """(pitch, number of vectors) of the enumeration of all columns."""
    if not form.columns:
        return 1, 1
    size = form.columns[-1].size
    rest = extent(form.columns[:-1])
    aligned = _round_up(size, width)
    # Whole vectors for each row are simpler; use them where few lanes go to waste.
    pitch = aligned if rest > 1 and aligned <= size * 1.15 else size
    return pitch, -(-((rest - 1) * pitch + size) // width)


def choose_blocks(summed: tuple[Axis, ...], wish: Wish, nv: int) -> Blocks:
    """Blocks so long that one register tile's part of the staged operand stays in L1."""
    longest = max(32, min(512, wish.l1_bytes * 2 // 3 // (nv * wish.width * wish.itemsize)))
    inner: tuple[Axis, ...] = ()
    left = list(summed)
    while left and extent((left[-1], *inner)) <= longest:
        inner = (left.pop(), *inner)
    if not left:
        return Blocks((), None, 1, inner) if len(inner) != 1 else Blocks((), inner[0], inner[0].size, ())
    axis = left.pop()
    most = max(1, longest // extent(inner))
    chunk = _even_chunk(axis.size, most, wish.width if not inner else 1)
    return Blocks(tuple(left), axis, chunk, inner)


def _even_chunk(size: int, most: int, step: int) -> int:
    """Chunks of about equal length, at most a quarter over ``most``."""
    pieces = max(1, -(-size * 4 // (most * 5)))
    return min(size, _round_up(-(-size // pieces), step))


def _splits(form: Form, blocks: Blocks, items: int, wish: Wish) -> tuple[int, Blocks]:
    """How many work-items share one sum, and the blocks cut finely enough for that."""
    if items * 2 > wish.items or form.summed_count < 256:
        return 1, blocks
    wanted = min(-(-wish.items // items), form.summed_count // 128, 64)
    if blocks.count < wanted and blocks.axis is not None:
        pieces = -(-wanted // extent(blocks.outer))
        chunk = max(1, -(-blocks.axis.size // pieces))
        if not blocks.inner:
            chunk = _round_up(chunk, wish.width)
        blocks = Blocks(blocks.outer, blocks.axis, min(blocks.chunk, chunk), blocks.inner)
    return max(1, min(wanted, blocks.count)), blocks


# Windows: an operand that is a sliding window is staged as it is, not once for each position ----


def usable_scalar_windows(form: Form) -> tuple[Window, ...]:
    """The windows of the scalar operand, where it can be staged as a box (weight gradients)."""
    found = windows(form.scalar, form.rows, form.summed)
    if not found:
        return ()
    free = {window.free for window in found}
    plain = [axis for axis in form.rows if axis not in free]
    if len(plain) > 1 or (plain and form.rows[0] is not plain[0]):
        return ()
    taps = {window.tap for window in found}
    return found if form.summed[-1] in taps else ()


def _row_step(form: Form, panels: Panels, scalar_windows: tuple[Window, ...]) -> int:
    """Work-items take a multiple of this many panels."""
    if not scalar_windows or panels.axis is None or panels.axis is form.rows[0]:
        return 1
    return panels.along * extent(panels.outer[1:])


def _window_blocks(form: Form, wish: Wish, scalar_windows: tuple[Window, ...]) -> Blocks:
    longest = 256
    inner: tuple[Axis, ...] = ()
    left = list(form.summed)
    while left and extent((left[-1], *inner)) <= longest:
        inner = (left.pop(), *inner)
    if not left:
        return Blocks((), None, 1, inner)
    axis = left.pop()
    return Blocks(tuple(left), axis, _even_chunk(axis.size, max(1, longest // extent(inner)), 1), inner)


def _window_tiling(form: Form, wish: Wish) -> Tiling | None:
    """The tiling with the vector operand staged as a box, or None where that does not pay."""
    if not form.columns:
        return None
    found = windows(form.vector, form.columns, form.summed)
    by_free = {window.free: window for window in found}
    last = by_free.get(form.columns[-1])
    above = by_free.get(form.columns[-2]) if len(form.columns) > 1 else None
    used = tuple(w for w in (above, last) if w is not None)
    if last is None or len(used) != len(found):
        return None
    taps = tuple(axis for axis in form.summed if axis in {w.tap for w in used})
    plain = tuple(axis for axis in form.summed if axis not in taps)
    if extent(taps) > 49 or form.summed[len(plain) :] != taps:
        return None
    width = last.free.size
    pitch = width + (last.tap.size - 1) * last.dilation // last.stride
    rows, groups, chunk = _window_rows(form, wish, last, above, plain, pitch)
    if rows == 0:
        return None
    lanes_used = groups * wish.width / (rows * width)
    gathered = 1 + STAGE_GATHER / max(1.0, form.row_count / 2)
    if lanes_used > gathered:
        return None
    panels, nv = choose_panels(form.rows, groups, wish.width)
    axis = plain[-1] if plain else None
    blocks = Blocks(plain[:-1], axis, chunk, taps)
    column_groups = _round_up(groups, nv)
    height = above.free.size if above is not None else 1
    column_tiles = -(-height // rows)
    others = extent(form.columns) // (width * height)
    items = form.batch_count * others * column_tiles
    row_panels = panels.count
    while items * -(-panels.count // row_panels) < wish.items and row_panels * panels.mr >= 64:
        row_panels = -(-row_panels // 2)
    scratch = column_groups * wish.width * wish.itemsize * panels.mr
    if blocks.count > 1:
        row_panels = min(row_panels, max(1, wish.local_bytes * 2 // 5 // scratch))
    row_tiles = -(-panels.count // row_panels)
    return Tiling(
        width=wish.width, nv=nv, panels=panels, blocks=blocks, pitch=pitch,
        column_groups=column_groups, column_tiles=column_tiles,
        row_panels=-(-panels.count // row_tiles), row_tiles=row_tiles, splits=1,
        window_rows=rows, vector_windows=used,
    )  # fmt: skip


def _window_rows(
    form: Form, wish: Wish, last: Window, above: Window | None, plain: tuple[Axis, ...], pitch: int
) -> tuple[int, int, int]:
    """(output rows of one work-item, vectors they take, chunk of the summed axis)."""
    height = above.free.size if above is not None else 1
    taps = above.tap.size * above.dilation if above is not None else 1
    stride = above.stride if above is not None else 1
    size = plain[-1].size if plain else 1
    best: tuple[float, int, int, int] | None = None
    for rows in range(1, min(height, 64) + 1):
        groups = -(-((rows - 1) * pitch + last.free.size) // wish.width)
        box_rows = (rows - 1) * stride + taps
        plane = box_rows * pitch * last.stride * wish.itemsize
        chunk = min(size, wish.local_bytes * 11 // 20 // plane)
        if chunk == 0 or groups > 64:
            break
        pieces = -(-size // chunk)
        tiles = -(-height // rows)
        work = tiles * (groups + box_rows * pitch / wish.width / max(1.0, form.row_count / 8))
        # Partial sums that pass through memory between blocks, and too few work-items.
        cost = work * (1 + 0.02 * (pieces - 1))
        others = form.batch_count * extent(form.columns) // (height * last.free.size)
        if others * tiles < wish.items:
            cost *= 1 + 0.5 * (1 - others * tiles / wish.items)
        if best is None or cost < best[0] * 0.995:
            best = (cost, rows, groups, -(-size // pieces))
    return best[1:] if best is not None else (0, 0, 0)


def local_bytes(parts: tuple[int, ...]) -> int:
    return prod(parts)
