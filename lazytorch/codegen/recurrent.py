"""Lowering recurrent layers: who computes which rows, and the weights packed for it.

On a CPU target a work-item owns some rows of the batch and walks all time steps, so that nothing
is synchronized between steps and there is one launch, however long the sequence. Each step is a
product of its rows with the whole weight in register tiles, which reads the weight in panels as
the tile wants them; small kernels pack those panels first. On a GPU target a work-item owns one
row and reads the weight where it lies.

Knows tiles and layouts; must not know C.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lazytorch.codegen.choice import RecurrentSchedule, Schedule, items_of
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Condition, Expression
from lazytorch.ir.index import Axis, Index, of_atom
from lazytorch.ir.kernel import Kernel, RecurrentBody, RowBody, Store
from lazytorch.ops.recurrence import RECURRENT, Recurrence

NewValue = Callable[[DType, int], int]
# Rows of one work-item: more are no faster per row and leave cores idle, fewer use each element
# of the weight too seldom to pay for reading it.
MOST_ROWS = 16
LEAST_ROWS = 4
# Rows of a register tile, and the vector registers it may fill (32 with 512-bit vectors).
TILE_ROWS = 8
WORK_ITEMS_GPU = 64


@dataclass(frozen=True)
class Panels:
    """``count`` neighbouring panels of ``vectors`` vectors each: columns from ``first`` on, and
    where they begin in the packed array."""

    first: int
    count: int
    vectors: int
    offset: int


@dataclass(frozen=True)
class Product:
    """rows (by ``depth``) times a weight of ``depth`` by ``columns``.

    ``packed`` is the number of the packed weight, in which element (k, column) of a panel stands
    at ``k * panel width + column``; without panels it is the weight itself with strides
    ``steps`` along k and along the columns.
    """

    packed: int
    depth: int
    columns: int
    steps: tuple[int, int]
    panels: tuple[Panels, ...]
    size: int = 0


@dataclass(frozen=True)
class TiledRecurrentBody:
    """A recurrent operation with its schedule: ``rows`` a work-item, ``tile`` a register tile.

    ``recurrent`` multiplies by the state's weight, ``projecting`` by the projection's.
    """

    body: RecurrentBody
    width: int
    rows: int
    tile: int
    local: int
    recurrent: Product
    projecting: Product | None

    def expressions(self) -> list[Expression]:
        operands = list(self.body.operands)
        for product, place in ((self.recurrent, 1), (self.projecting, self._place("projection"))):
            if product is not None and product.panels:
                packed = Axis(product.size, "k")
                operands[place] = ex.load(product.packed, of_atom(packed), (), operands[0].dtype)
        return operands

    def stores(self) -> list[Store]:
        return self.body.stores()

    @property
    def of(self) -> Recurrence:
        return Recurrence(*self.body.attrs)

    @property
    def is_gradient(self) -> bool:
        return self.body.op is not RECURRENT

    def operand(self, part: str) -> int | None:
        """The number of an optional operand's array."""
        if part not in self.of.parts:
            return None
        number: int = self.body.operands[self._place(part)].data[0]
        return number

    def _place(self, part: str) -> int:
        return 2 + self.of.parts.index(part) if part in self.of.parts else -1


def lower_recurrent(
    body: RecurrentBody,
    values: dict[int, DType],
    new_value: NewValue,
    target: Target,
    schedule: Schedule | None = None,
) -> list[Kernel]:
    """The kernels that compute ``body``, in launch order; ``schedule`` is what somebody wants
    instead of the rules' choice."""
    of = Recurrence(*body.attrs)
    forward = body.op is RECURRENT
    dtype = body.operands[0].dtype
    known = dict(values)
    width = max(1, target.vector_width * 4 // dtype.itemsize) if target.family == "cpu" else 1
    rows, tile, vectors = 1, 1, 1
    if target.family == "cpu":
        cut = choose_cut(body, target)
        if isinstance(schedule, RecurrentSchedule) and schedule in possible_cuts(body, target):
            cut = schedule
        rows, tile, vectors = cut.rows, cut.tile, cut.vectors
    packs: list[RowBody] = []

    def product(weight: Expression, rows_of_weight: int, columns_of_weight: int) -> Product:
        # Forward, the weight's columns are summed; in the gradient, its rows.
        if forward:
            depth, columns, steps = columns_of_weight, rows_of_weight, (1, columns_of_weight)
        else:
            depth, columns, steps = rows_of_weight, columns_of_weight, (columns_of_weight, 1)
        number: int = weight.data[0]
        if width == 1:
            return Product(number, depth, columns, steps, ())
        panels = _cut(columns, depth, width, vectors)
        size = panels[-1].offset + panels[-1].count * panels[-1].vectors * width * depth
        packed = new_value(dtype, size)
        known[packed] = dtype
        packs.extend(_pack(number, packed, depth, columns, steps, p, width, dtype) for p in panels)
        return Product(packed, depth, columns, steps, panels, size)

    recurrent = product(body.operands[1], of.gates, of.width)
    projecting = None
    if of.projected:
        place = 2 + of.parts.index("projection")
        projecting = product(body.operands[place], of.width, of.hidden)
    local = 1 if target.family == "cpu" else items_of(WORK_ITEMS_GPU, target, schedule)
    tiled: Any = TiledRecurrentBody(body, width, rows, tile, local, recurrent, projecting)
    kernels = []
    if packs:
        note = "recurrent: packed weight"
        kernels.append(Kernel(tuple(packs), dict(known), notes=(note,), packs=True))
    return [*kernels, Kernel((tiled,), dict(known))]


def choose_cut(body: RecurrentBody, target: Target) -> RecurrentSchedule:
    """The rules' choice on a CPU target: rows evenly over cores and register tiles."""
    batch = Recurrence(*body.attrs).batch
    most = max(1, -(-batch // target.compute_units))
    rows = min(MOST_ROWS, max(LEAST_ROWS, most), batch)
    rows = -(-batch // -(-batch // rows))
    largest = TILE_ROWS if target.vector_width >= 16 else TILE_ROWS // 2
    tile = -(-rows // -(-rows // largest))
    return RecurrentSchedule(rows, tile, _vectors_of(tile, target))


def possible_cuts(body: RecurrentBody, target: Target) -> list[RecurrentSchedule]:
    """Every cut that could be tried on a CPU target, the rules' choice first."""
    batch = Recurrence(*body.attrs).batch
    found = {choose_cut(body, target): None}
    for items, tile in itertools.product((1, 2, 3, 4, 6, 8), (8, 4, 6, 12, 2, 1)):
        rows = -(-batch // (items * target.compute_units))
        if tile > rows or rows > 4 * MOST_ROWS:
            continue
        tile = -(-rows // -(-rows // tile))
        most = _vectors_of(tile, target)
        for vectors in (most, most // 2):
            if vectors:
                found[RecurrentSchedule(rows, tile, vectors)] = None
    return [*found]


def _vectors_of(tile: int, target: Target) -> int:
    """Vectors in a row of the register tile: sums, one row of the weight, and one to spare."""
    registers = 32 if target.vector_width >= 16 else 16
    return max(1, min(8, (registers - 1) // (tile + 1)))


def _cut(columns: int, depth: int, width: int, vectors: int) -> tuple[Panels, ...]:
    """The columns in panels as even as possible, wide ones first."""
    total = -(-columns // width)
    count = -(-total // vectors)
    narrow, many = divmod(total, count)
    result = []
    first = offset = 0
    for size, times in ((narrow + 1, many), (narrow, count - many)):
        if times:
            result.append(Panels(first, times, size, offset))
            first += times * size * width
            offset += times * size * width * depth
    return tuple(result)


def _pack(
    source: int,
    packed: int,
    depth: int,
    columns: int,
    steps: tuple[int, int],
    panels: Panels,
    width: int,
    dtype: DType,
) -> RowBody:
    """A nest that writes some panels; columns that do not exist are 0."""
    lanes = panels.vectors * width
    panel, step, lane = Axis(panels.count, "p"), Axis(depth, "k"), Axis(lanes, "j")
    column: Index = of_atom(panel) * lanes + of_atom(lane) + panels.first
    guard = ex.simplify_guard((Condition(column, 0, columns - 1),)) or ()
    value = ex.load(source, of_atom(step) * steps[0] + column * steps[1], guard, dtype)
    place = of_atom(panel) * (lanes * depth) + of_atom(step) * lanes + of_atom(lane)
    return RowBody((panel, step, lane), (Store(packed, place + panels.offset, value),))
