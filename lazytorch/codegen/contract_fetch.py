"""Fetching ahead what a register tile's epilogue reads: an optimizer's state, a residual.

Those arrays are as large as the result, come from memory and are wanted all at once when the tile
is finished; then nothing is computed while they arrive. While the sum runs there is time: the
lines of one row of the tile are asked for at each part of it. Asked for all at once they would
keep the sum's own loads waiting.

The gradient of a 512 x 784 weight (128 terms) with Adam in its epilogue, state in memory: 0.47 ms
as it was, 0.33 so. Knows epilogues; must not know how the sum is written.
"""

from __future__ import annotations

from lazytorch.codegen.contract_form import Form, affine
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, Index

# Smaller arrays are in the caches already; shorter sums leave no time.
SMALLEST_BYTES, SHORTEST_SUM = 1 << 20, 64
FETCH = """#if defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
#define lt_fetch(place) __builtin_prefetch(place)
#endif
#endif
#ifndef lt_fetch
#define lt_fetch(place) prefetch(place, (size_t)1)
#endif"""


def fetched_arrays(form: Form, tiling: Tiling) -> list[tuple[int, Index]]:
    """(array, index) of what the epilogue is to find in the caches; none where it is not worth
    it or the tile is no plain rectangle of the result."""
    panels, blocks = tiling.panels, tiling.blocks
    plain = panels.axis is not None and not panels.outer and not panels.inner
    if not plain or panels.mr < 2 or len(form.columns) != 1 or len(form.summed) != 1:
        return []
    if blocks.count > 1 or blocks.length < SHORTEST_SUM:
        return []
    if tiling.vector_windows or tiling.scalar_windows:
        return []
    assert panels.axis is not None
    row, column = panels.axis, form.columns[0]
    found: dict[tuple[int, Index], None] = {}
    for store in form.epilogue:
        loads = [load for load in ex.loads_of([store.value]) if _spans(load, row, column)]
        found.update(((load.data[0], load.data[1]), None) for load in loads)
    if not found:
        return []
    for store in form.epilogue:
        # What is computed from such arrays is mostly written back to one of them.
        reads = any(_spans(load, row, column) for load in ex.loads_of([store.value]))
        if not reads and _covers(store.index, row, column):
            found[store.target, store.index] = None
    size = form.row_count * form.column_count * form.accumulate.itemsize
    return list(found) if size * len(found) >= SMALLEST_BYTES else []


def _spans(load: ex.Expression, row: Axis, column: Axis) -> bool:
    """Whether a load reads an array of the result's shape, row by row."""
    index = affine(load, (row, column), load.dtype)
    return index is not None and _covers(index, row, column)


def _covers(index: Index, row: Axis, column: Axis) -> bool:
    return index.coefficient(column) == 1 and bool(index.coefficient(row))


def write_fetches(
    arrays: list[tuple[int, Index]], form: Form, tiling: Tiling, emitter: Emitter, row: str
) -> None:
    """Ask for the lines of row ``start + row`` of the current tile."""
    assert tiling.panels.axis is not None
    emitter.helpers.setdefault("lt_fetch", FETCH)
    emitter.name_axis(tiling.panels.axis, f"(start + {row})")
    emitter.name_axis(form.columns[0], f"(lane0 + v0 * {tiling.width})")
    for number, index in arrays:
        place = f"{emitter.names(number)} + {emitter.index(index)}"
        for vector in range(tiling.nv):
            emitter.line(f"lt_fetch({place} + {vector * tiling.width});")


__all__ = ["FETCH", "fetched_arrays", "write_fetches"]
