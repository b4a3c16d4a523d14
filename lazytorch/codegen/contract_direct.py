"""Tilings that read the vector operand where it lies: products with a handful of rows.

Staging pays when every panel of rows passes over the staged part again. With one panel it would
write and read once more what is used once, and such products (a vector or a few rows times a
matrix) take as long as the matrix takes to arrive: 4096 x 4096 floats at 25 GB/s with staging, 37
without, where a copy reached 38. Knows forms and the shape of tilings; must not know C.
"""

from __future__ import annotations

from lazytorch.codegen.contract_form import Form, affine, has_unit_stride
from lazytorch.codegen.contract_tiling import Blocks, Panels, Selection, Tiling, Wish, registers
from lazytorch.ir.index import Axis

# Vectors side by side: a row of a wide tile is a kilobyte of one page.
MOST_VECTORS = 16
# Cycles until a vector from memory is there, and until the first of a row is: no prefetcher
# follows from row to row.
READ, FIRST_READ = 4.0, 12.0
# Cycles to start a work-item, and to launch one more kernel.
START, LAUNCH = 3000.0, 25000.0
# Sums shorter than this are not split among work-items.
SHORTEST_SPLIT = 256


def is_readable(form: Form, width: int) -> bool:
    """Whether vectors of the vector operand can be loaded from its array, and rows are few."""
    if form.row_count > registers(width) // 2 or len(form.columns) != 1 or not form.summed:
        return False
    column = form.columns[0]
    axes = (*form.batch, *form.columns, *form.summed)
    index = affine(form.vector, axes, form.accumulate)
    return index is not None and has_unit_stride(form.vector, column) and column.size >= width


def choose(form: Form, wish: Wish, choices: Selection) -> tuple[float, Tiling] | None:
    """(cycles, tiling) of the best tiling that stages nothing; None where there is none."""
    if not is_readable(form, wish.width):
        return None
    mr = form.row_count
    groups = -(-form.columns[0].size // wish.width)
    for nv in range(1, min(groups, MOST_VECTORS) + 1):
        # A single row's vectors are operands of its multiply-adds, not values in registers.
        held = nv if mr > 1 else 1
        if mr * nv + held + 1 > registers(wish.width) and nv > 1:
            break
        for splits in _split_choices(form, -(-groups // nv), wish):
            tiling = Tiling(
                width=wish.width, nv=nv, panels=Panels((), None, 1, form.rows),
                blocks=_blocks(form.summed, splits, wish.width), pitch=form.columns[0].size,
                column_groups=nv, column_tiles=-(-groups // nv), row_panels=1, row_tiles=1,
                splits=1, in_place=True,
            )  # fmt: skip
            tiling = tiling.changed(splits=min(splits, tiling.blocks.count))
            choices.offer(_cycles(form, tiling, wish), tiling)
    return choices.best


def _split_choices(form: Form, tiles: int, wish: Wish) -> list[int]:
    """Numbers of work-items that may share one sum."""
    items = form.batch_count * tiles
    wanted = -(-wish.items // items)
    if wanted <= 1 or form.summed_count < SHORTEST_SPLIT:
        return [1]
    return [1, min(wanted, form.summed_count // (SHORTEST_SPLIT // 2), 64)]


def _blocks(summed: tuple[Axis, ...], splits: int, width: int) -> Blocks:
    """The sum in as many blocks as it is split into: nothing else asks for blocks."""
    axis = summed[0]
    chunk = -(-axis.size // splits)
    if splits > 1 and len(summed) == 1:
        chunk = min(axis.size, -(-chunk // width) * width)
    return Blocks((), axis, chunk, summed[1:])


def _cycles(form: Form, tiling: Tiling, wish: Wish) -> float:
    mr, nv = tiling.panels.mr, tiling.nv
    sums, loads = mr * nv / 2, (mr + nv) / 2
    step = max(sums, loads, 4.0, FIRST_READ + nv * READ) + 0.3 * min(sums, loads)
    items = form.batch_count * tiling.column_tiles * tiling.splits
    rounds = -(-items // wish.cores) + 0.3 * (items > 1)
    extra = LAUNCH if tiling.splits > 1 else 0.0
    return rounds * (form.summed_count / tiling.splits * step + START) + extra
