"""Finished sums of a contraction turned around before they are stored, as OpenCL C.

Where the result is contiguous along the rows but vectors run along the columns, as in the
gradient of a convolution's weight, storing a vector would touch a cache line for every lane, and
so would reading what the epilogue adds. All sums of a work-item wait in local memory; squares of
them are turned around there, and each column's run of rows is stored in vectors.

Knows forms, tilings and the emitter; must not choose sizes.
"""

from __future__ import annotations

from typing import Protocol

from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_stage import Stager
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import index as ix
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store, extent


def flattened(form: Form) -> tuple[Axis, list[Store]]:
    """(row, stores) where the stores are over the flat number of a row."""
    row = Axis(form.row_count, "f")
    replaced: dict[Axis, ix.Index] = {}
    step = 1
    for number, axis in enumerate(reversed(form.rows)):
        at = ix.of_atom(row) // step
        replaced[axis] = at if number == len(form.rows) - 1 else at % axis.size
        step *= axis.size
    stores = [
        Store(store.target, store.index.substitute(replaced), store.value.substitute_axes(replaced))
        for store in form.epilogue
    ]
    return row, stores


def lies_along_rows(form: Form) -> bool:
    """Whether the result is contiguous along its rows, and not along its columns."""
    if not form.rows or not form.columns or form.columns[-1].size == 1:
        return False
    row, stores = flattened(form)
    step = stores[0].index.coefficient(form.columns[-1])
    return stores[0].index.coefficient(row) == 1 and step is not None and step > 1


class Lanes(Protocol):
    """Says which column a lane stands for, as :class:`Stager` does."""

    def declare_lanes(self, q: str) -> None: ...

    def lanes_exist(self, reach: int) -> str: ...

    def bind_lanes(self, lane: int = 0) -> None: ...


class TurnedShape(Protocol):
    """The size of the array of sums that wait to be turned around."""

    @property
    def width(self) -> int: ...

    @property
    def column_groups(self) -> int: ...

    @property
    def turned_rows(self) -> int: ...


class TurnedResults:
    """Keeps a work-item's sums in the local array ``name`` and stores them at the end."""

    def __init__(
        self, form: Form, tiling: Tiling, emitter: Emitter, stager: Stager, sums: Sums
    ) -> None:
        self.form = form
        self.tiling = tiling
        self.emitter = emitter
        self.stager = stager
        self.sums = sums
        self.sum_type = sums.type

    def _row_of(self, panel: str) -> str:
        """C text of the flat number of a panel's first row, had it not been moved back."""
        panels = self.tiling.panels
        inner = extent(panels.inner)
        if panels.axis is None:
            return f"{panel} * {inner}"
        if not panels.outer:
            return f"{panel} * {panels.mr}"
        whole = panels.axis.size * inner
        return f"({panel} / {panels.along} * {whole} + {panel} % {panels.along} * {panels.mr})"

    def declare(self) -> None:
        """Declare the first row of the work-item and how many it has."""
        end = f"min({self._row_of('panel1')}, {self.form.row_count})"
        self.emitter.line(f"const int item_row0 = {self._row_of('panel0')};")
        self.emitter.line(f"const int item_rows = {end} - item_row0;")

    def keep(self, name: str, first: str | None) -> None:
        """Put the accumulators of a register tile into the array, or add them to it.

        ``first`` is the condition that nothing has been put there yet, None if that is certain.
        """
        tiling, line, width = self.tiling, self.emitter.line, self.tiling.width
        rows = tiling.turned_rows
        place = f"(v0 * {rows} + {self._row_of('panel')} - item_row0 - skipped) * {width}"
        line(f"__local {self.sum_type} *t = {name} + {place};")
        panels = tiling.panels
        moved = panels.axis is not None and panels.axis.size % panels.chunk > 0
        for i in range(panels.mr):
            # Rows that the panel before has are that panel's.
            head = f"if ({i} >= skipped) " if moved else ""
            for j in range(tiling.nv):
                at = f"{j * rows + i}, t"
                put = f"vstore{width}(c{i}_{j}, {at});"
                add = f"vstore{width}(vload{width}({at}) + c{i}_{j}, {at});"
                if first is None:
                    line(head + put)
                else:
                    line(f"{head}{{ if ({first}) {put} else {add} }}")

    def store(self, name: str) -> None:
        """Turn the squares around where they lie and store every column's rows."""
        store_turned(self.form, self.emitter, self.sums, self.stager, self.tiling, name)


def store_turned(
    form: Form, emitter: Emitter, sums: Sums, lanes: Lanes, shape: TurnedShape, name: str
) -> None:
    """Turn around the squares of the local array ``name`` and store every column's rows.

    The array holds ``column_groups`` times ``turned_rows`` vectors; the kernel knows the first
    lane as ``lane0``, the first row as ``item_row0`` and how many there are as ``item_rows``.
    """
    width = shape.width
    emitter.open()
    emitter.line(f"__local {sums.type} *t = {name} + v * {shape.turned_rows * width};")
    emitter.open()
    names = [f"s{i}" for i in range(width)]
    emitter.line(f"__local {sums.type} *d = t + r * {width};")
    emitter.line(f"{sums.type}{width} {', '.join(names)};")
    for i, vector in enumerate(names):
        emitter.line(f"{vector} = vload{width}({i}, d);")
    for text in transposed(names, sums.type, emitter.fresh):
        emitter.line(text)
    for i, vector in enumerate(names):
        emitter.line(f"vstore{width}({vector}, {i}, d);")
    emitter.close(f"for (int r = 0; r < item_rows; r += {width}) {{")
    emitter.open()
    emitter.line(f"const int q = lane0 + v * {width} + l;")
    lanes.declare_lanes("q")
    emitter.line(f"if (!({lanes.lanes_exist(1)})) continue;")
    lanes.bind_lanes()
    emitter.line(f"__local const {sums.type} *u = t + l * {width};")
    emitter.line("int r = 0;")
    row, stores = flattened(form)
    for count, text in (
        (width, f"vload{width}(r, u)"),
        (1, f"u[r / {width} * {width * width} + r % {width}]"),
    ):
        emitter.open(row if count > 1 else None, count)
        emitter.name_axis(row, "(item_row0 + r)")
        sums.store(text, count, stores)
        emitter.close(f"for (; r + {count} <= item_rows; r += {count}) {{")
    emitter.close(f"for (int l = 0; l < {width}; l++) {{")
    emitter.close(f"for (int v = 0; v < {shape.column_groups}; v++) {{")
