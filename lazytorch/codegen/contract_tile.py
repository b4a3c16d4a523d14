"""The loops of one register tile: the multiply-adds over one block of the sum, as OpenCL C.

The scalar operand is broadcast from its array, its packed panels or its staged box; the vector
operand is read from the staged part. Knows layouts; must not know what becomes of the sums.
"""

from __future__ import annotations

from lazytorch.codegen.contract_fetch import FETCH, fetched_arrays, write_fetches
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_pack import panel_pitch
from lazytorch.codegen.contract_stage import Stager
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir.index import Axis, Index

# Steps of the sum written out in a row: a loop's own instructions take the place of loads.
UNROLLED = 4
# More registers than this times the steps written out make drivers spill.
MOST_UNROLLED = 24


class RegisterTileWriter:
    """Writes the loops; the accumulators ``c<row>_<vector>`` are declared already."""

    def __init__(
        self,
        form: Form,
        tiling: Tiling,
        emitter: Emitter,
        stager: Stager,
        sum_type: str,
        stage_name: str,
        box_name: str,
    ) -> None:
        self.form = form
        self.tiling = tiling
        self.emitter = emitter
        self.stager = stager
        self.sum_type = sum_type
        self.vector_type = f"{sum_type}{tiling.width}"
        self.stage_name = stage_name
        self.box_name = box_name
        self.blocks = tiling.blocks
        self.panels = tiling.panels
        self.vector_space = "__global" if tiling.in_place else "__local"
        self.vector_offsets: list[int | str] = []
        self.for_epilogue = fetched_arrays(form, tiling)

    def write(self) -> None:
        """Declare the operands' pointers and add the block's products to the accumulators."""
        offsets, space = self._scalar_pointer()
        self._vector_pointer()
        self._loops(offsets, space)

    def _scalar_pointer(self) -> tuple[list[int], str]:
        """Declare ``left0`` at the tile's first row and summed position; the rows' offsets."""
        emitter, panels = self.emitter, self.panels
        if self.tiling.scalar_windows:
            base, offsets = self.stager.box_rows()
            emitter.line(
                f"__local const {self.sum_type} *restrict left0 = {self.box_name} + {base};"
            )
            return offsets, "__local"
        number, index, _ = self.form.scalar.data
        emitter.open()
        for axis in (*panels.inner, *self.blocks.inner):
            emitter.name_axis(axis, "0")
        if panels.axis is not None:
            emitter.name_axis(panels.axis, "start")
        if self.blocks.axis is not None:
            emitter.name_axis(self.blocks.axis, "chunk0")
        text = emitter.index(index)
        emitter.scopes.pop()
        if self.tiling.packed_panels:
            pitch = panel_pitch(self.form.summed_count, panels.mr, self.tiling.width)
            text += f" + panel * {pitch}"
        emitter.line(
            f"__global const {self.sum_type} *restrict left0 = (__global const {self.sum_type} *)"
            f"{emitter.names(number)} + {text};"
        )
        if self.tiling.packed_panels:
            return list(range(panels.mr)), "__global"
        return self._row_offsets(index), "__global"

    def _vector_pointer(self) -> None:
        """Declare ``right0`` at the tile's first column and summed position, and its vectors."""
        emitter, tiling = self.emitter, self.tiling
        self.vector_offsets = [*tiling.vector_offsets()]
        place = f"{self.stage_name} + {tiling.tile_place('v0')}"
        if tiling.in_place:
            column = self.form.columns[0]
            ragged = column.size % tiling.lanes > 0
            place = self._vector_index(column, "0" if ragged else "lane0")
            if ragged:
                # Vectors beyond the last column are read where the last whole one lies.
                last = column.size - tiling.width
                names = [emitter.fresh("at") for _ in self.vector_offsets]
                for name, at in zip(names, self.vector_offsets):
                    emitter.line(f"const int {name} = min(lane0 + {at}, {last});")
                self.vector_offsets = [*names]
        emitter.line(f"{self.vector_space} const {self.sum_type} *restrict right0 = {place};")

    def _vector_index(self, column: Axis, at: str) -> str:
        """C text of where column ``at`` of the block's first summed position lies in memory."""
        number, index, _ = self.form.vector.data
        emitter = self.emitter
        emitter.open()
        emitter.name_axis(column, at)
        for axis in self.blocks.inner:
            emitter.name_axis(axis, "0")
        if self.blocks.axis is not None:
            emitter.name_axis(self.blocks.axis, "chunk0")
        text = emitter.index(index)
        emitter.scopes.pop()
        # Wrapping integers are summed in the unsigned type of the same size.
        return f"(__global const {self.sum_type} *){emitter.names(number)} + {text}"

    def _row_offsets(self, index: Index) -> list[int]:
        offsets = [0]
        for axis in self.panels.inner:
            step = index.coefficient(axis) or 0
            offsets = [at + step * position for at in offsets for position in range(axis.size)]
        if self.panels.axis is None:
            return offsets
        step = index.coefficient(self.panels.axis) or 0
        return [step * position + at for position in range(self.panels.chunk) for at in offsets]

    def _loops(self, offsets: list[int], space: str) -> None:
        """The loops over one block of the sum, around the multiply-adds."""
        loops, taps = self._summed_loops()
        opened = []
        inner = loops.pop() if loops and self._unrolls(taps) else None
        for depth, (count, scalar_step, vector_step) in enumerate(loops):
            self.emitter.open()
            opened.append((depth, count, scalar_step, vector_step))
            self.emitter.line(
                f"{space} const {self.sum_type} *restrict left{depth + 1} = left{depth};"
            )
            self.emitter.line(
                f"{self.vector_space} const {self.sum_type} *restrict right{depth + 1} = "
                f"right{depth};"
            )
        depth = len(loops)
        if inner is not None:
            self._unrolled(offsets, depth, *inner)
            taps = []
        for scalar_tap, vector_tap in taps:
            self._multiply(offsets, f"left{depth}", f"right{depth}", scalar_tap, vector_tap)
        for depth, count, scalar_step, vector_step in reversed(opened):
            self.emitter.line(f"left{depth} += {scalar_step}; right{depth} += {vector_step};")
            if self.for_epilogue:
                self._close_in_parts(f"k{depth}", count, 1)
            else:
                self.emitter.close(f"for (int k{depth} = 0; k{depth} < {count}; k{depth}++) {{")

    def _close_in_parts(self, counter: str, count: str, group: int) -> None:
        """Close the loop over the sum, ``group`` steps at a time, as one loop for each row of the
        tile: before each the row's part of what the epilogue reads is asked for."""
        emitter, rows = self.emitter, self.panels.mr
        steps = emitter.scopes.pop()
        emitter.line(f"int {counter} = 0;")
        emitter.open()
        emitter.open()
        write_fetches(self.for_epilogue, self.form, self.tiling, emitter, "part")
        emitter.close("{")
        stop = f"{count} * (part + 1) / {rows}"
        if group > 1:
            stop = f"part + 1 < {rows} ? {stop} / {group} * {group} : {count}"
        emitter.line(f"const int stop = {stop};")
        emitter.scopes.append(steps)
        emitter.close(f"for (; {counter} + {group} <= stop; {counter} += {group}) {{")
        emitter.close(f"for (int part = 0; part < {rows}; part++) {{")

    def _unrolled(
        self, offsets: list[int], depth: int, count: str, scalar_step: int, vector_step: int
    ) -> None:
        """The innermost loop, several steps at a time, and what is left one by one."""
        emitter = self.emitter
        left, right, counter = f"left{depth}", f"right{depth}", f"k{depth}"
        line = 64 // self.form.accumulate.itemsize
        fetched = self._lines_ahead(offsets, scalar_step, line) if depth == 0 else []
        group = line if fetched else UNROLLED
        if not self.for_epilogue:
            emitter.line(f"int {counter} = 0;")
        emitter.open()
        if fetched:
            emitter.helpers.setdefault("lt_fetch", FETCH)
            for offset in fetched:
                emitter.line(f"lt_fetch({left} + (ahead + {offset}));")
            emitter.open()
        for step in range(UNROLLED):
            self._multiply(offsets, left, right, step * scalar_step, step * vector_step)
        emitter.line(f"{left} += {UNROLLED * scalar_step}; {right} += {UNROLLED * vector_step};")
        if fetched:
            emitter.close(f"for (int u = 0; u < {group}; u += {UNROLLED}) {{")
        if self.for_epilogue:
            self._close_in_parts(counter, count, group)
        else:
            emitter.close(f"for (; {counter} + {group} <= {count}; {counter} += {group}) {{")
        emitter.open()
        self._multiply(offsets, left, right, 0, 0)
        emitter.line(f"{left} += {scalar_step}; {right} += {vector_step};")
        emitter.close(f"for (; {counter} < {count}; {counter}++) {{")

    def _lines_ahead(self, offsets: list[int], scalar_step: int, line: int) -> list[int]:
        """Declare ``ahead``, from a panel to the next one; which of the next panel's elements to
        fetch while as many positions pass as a cache line has elements."""
        panels = self.panels
        if self.tiling.scalar_windows or panels.axis is None or panels.outer:
            return []
        if self.tiling.packed_panels:
            pitch = panel_pitch(self.form.summed_count, panels.mr, self.tiling.width)
            self.emitter.line(f"const int ahead = panel + 1 < panel1 ? {pitch} : 0;")
            return [row * line for row in range(panels.mr)]
        if scalar_step != 1:
            return []
        # A line of each of the next panel's rows: rows far apart escape the prefetchers.
        step = self.form.scalar.data[1].coefficient(panels.axis) or 0
        last = panels.axis.size - panels.chunk
        text = f"(min(start + {panels.chunk}, {last}) - start) * {step}"
        self.emitter.line(f"const int ahead = {text};")
        return offsets

    def _unrolls(self, taps: list[tuple[int, int]]) -> bool:
        tiling = self.tiling
        if len(taps) != 1 or self.panels.mr * tiling.nv > MOST_UNROLLED:
            return False
        return tiling.nv > 2 or not (tiling.vector_windows or tiling.scalar_windows)

    def _summed_loops(self) -> tuple[list[tuple[str, int, int]], list[tuple[int, int]]]:
        """((count, scalar step, vector step) of each loop, offsets of the unrolled taps)."""
        blocks, tiling = self.blocks, self.tiling
        scalar = self.stager.scalar_steps()
        vector = self.stager.vector_steps()
        loops: list[tuple[str, int, int]] = []
        if blocks.axis is not None:
            loops.append(("chunk", scalar[blocks.axis], vector[blocks.axis]))
        if tiling.vector_windows:
            return loops, self.stager.window_taps(scalar)
        for axis in blocks.inner:
            loop = (str(axis.size), scalar[axis], vector[axis])
            if (
                loops
                and loops[-1][1] == axis.size * loop[1]
                and loops[-1][2] == axis.size * loop[2]
            ):
                loops[-1] = (f"{loops[-1][0]} * {axis.size}", loop[1], loop[2])
            else:
                loops.append(loop)
        return loops, [(0, 0)]

    def _multiply(
        self, offsets: list[int], a: str, b: str, scalar_tap: int, vector_tap: int
    ) -> None:
        width, line, vector = self.tiling.width, self.emitter.line, self.vector_type
        floating = self.form.accumulate.kind == "f"
        line("{")
        for j, start in enumerate(self.vector_offsets):
            at = start + vector_tap if isinstance(start, int) else f"({start} + {vector_tap})"
            line(f"  const {vector} w{j} = vload{width}(0, {b} + {at});")
        for i, offset in enumerate(offsets):
            terms = [f"const {vector} s = ({vector})({a}[{offset + scalar_tap}]);"]
            for j in range(self.tiling.nv):
                c = f"c{i}_{j}"
                terms.append(f"{c} = fma(s, w{j}, {c});" if floating else f"{c} += s * w{j};")
            line(f"  {{ {' '.join(terms)} }}")
        line("}")
