"""Packing the scalar operand of a contraction into panels of rows, as OpenCL C.

For operands that are contiguous along their rows (a transposed matrix): element (row, k) goes to
``panel * pitch + k * mr + row % mr``, so that the register tile reads them in order. One
work-item packs a strip of panels position by position: rows of a large matrix lie so far apart
that a cache line read for one panel would be gone when the next panel wants the rest of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen import ctypes
from lazytorch.codegen.emitter import Emitter
from lazytorch.dtypes import DType
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store, extent

# Elements of a position that a work-item packs, about: several whole cache lines.
STRIP = 96


@dataclass(frozen=True)
class PanelPackBody:
    """``operand`` over (batch, row, summed) is written to array ``target`` in panels."""

    operand: Expression
    batch: tuple[Axis, ...]
    row: Axis
    summed: tuple[Axis, ...]
    mr: int
    width: int
    target: int
    dtype: DType

    @property
    def panels(self) -> int:
        return -(-self.row.size // self.mr)

    @property
    def pitch(self) -> int:
        return panel_pitch(extent(self.summed), self.mr, self.width)

    @property
    def strip(self) -> int:
        """Panels that one work-item packs."""
        return min(self.panels, max(1, STRIP // self.mr))

    def expressions(self) -> list[Expression]:
        return [self.operand]

    def stores(self) -> list[Store]:
        last = ix.of_int(extent(self.batch) * self.panels * self.pitch - 1)
        return [Store(self.target, last, self.operand)]


def panel_pitch(summed: int, mr: int, width: int) -> int:
    """Elements from one panel to the next; whole vectors may be written at a panel's end."""
    return -(-(summed * mr + width) // width) * width


def render_pack(body: PanelPackBody, emitter: Emitter, group: str) -> int:
    """Write the body's statements; the number of work-groups (of one work-item)."""
    strips = -(-body.panels // body.strip)
    emitter.line(f"const int panel0 = {group} % {strips} * {body.strip};")
    rest = f"({group} / {strips})"
    emitter.line(f"const int panel1 = min(panel0 + {body.strip}, {body.panels});")
    step = 1
    for axis in reversed(body.batch):
        name = emitter.fresh("at")
        emitter.line(f"const int {name} = {rest} / {step} % {axis.size};")
        emitter.name_axis(axis, name)
        step *= axis.size
    pointer = f"__global {ctypes.value_type(body.dtype)} *"
    place = f"({rest} * {body.panels} + panel0) * (size_t){body.pitch}"
    emitter.line(f"{pointer}start = {emitter.names(body.target)} + {place};")
    heads = []
    for number, axis in enumerate(body.summed):
        emitter.open()
        emitter.name_axis(axis, f"k{number}")
        heads.append(f"for (int k{number} = 0; k{number} < {axis.size}; k{number}++) {{")
    emitter.line(f"{pointer}d = start;")
    emitter.open()
    emitter.line(f"const int row = panel * {body.mr};")
    _one_position(body, emitter)
    emitter.line(f"d += {body.pitch};")
    emitter.close("for (int panel = panel0; panel < panel1; panel++) {")
    emitter.line(f"start += {body.mr};")
    for head in reversed(heads):
        emitter.close(head)
    return extent(body.batch) * strips


def _one_position(body: PanelPackBody, emitter: Emitter) -> None:
    """Write the rows of one summed position: whole vectors where the rows exist."""
    vectors = -(-body.mr // body.width)
    # What is written beyond a position's rows is overwritten by the next one, or lies in the
    # gap between panels; only one vector of it may be.
    reach = vectors * body.width
    whole = reach - body.mr < body.width
    width = body.width
    if whole and body.row.size >= reach:
        for vector in range(vectors):
            emitter.open(body.row, width)
            emitter.name_axis(body.row, f"(row + {vector * width})" if vector else "row")
            emitter.line(f"vstore{width}({emitter.wide(body.operand, width)}, {vector}, d);")
            emitter.close(f"if (row + {reach} <= {body.row.size}) {{")
    emitter.open()
    emitter.open()
    emitter.name_axis(body.row, "(row + i)")
    emitter.line(f"d[i] = {emitter.value(body.operand)[0]};")
    emitter.close(f"for (int i = 0; i < min({body.mr}, {body.row.size} - row); i++) {{")
    emitter.close(f"if (row + {reach} > {body.row.size}) {{")
