"""Staging operands of a contraction in local memory, as OpenCL C.

A *panel* holds the vector operand as [summed position][column]. A *box* holds an operand that
is a sliding window as it lies in memory, padding included, so that the positions which
several kernel positions share are read once. The operand's expression (its prologue) is
computed here, once for each staged element.
"""

from __future__ import annotations

from lazytorch.codegen.contract_box import Box, interior
from lazytorch.codegen.contract_form import Form, Window, has_unit_stride, through_window
from lazytorch.codegen.contract_line import LineStager
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.contract_tiling import Tiling, transposing_axis
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent


class Stager:
    """Writes the staging loops of one contraction and knows the layout they leave behind."""

    def __init__(self, form: Form, tiling: Tiling, emitter: Emitter, sums: Sums) -> None:
        self.form = form
        self.tiling = tiling
        self.emitter = emitter
        self.sums = sums
        self.sum_type = sums.type
        self.blocks = tiling.blocks
        self.lines = LineStager(emitter, tiling.width, sums)
        self.box = Box(form, tiling) if tiling.scalar_windows else None

    # Layout -------------------------------------------------------------------------------------

    def vector_steps(self) -> dict[Axis, int]:
        """Distance in the staged vector operand, or in its array, per step of a summed axis."""
        if self.tiling.in_place:
            return _strides(self.form.vector, self.form.summed)
        steps: dict[Axis, int] = {}
        if self.tiling.vector_windows:
            if self.blocks.axis is not None:
                steps[self.blocks.axis] = self.tiling.plane
            return steps
        step = self.tiling.nv * self.tiling.width
        for axis in reversed(self.blocks.inner):
            steps[axis] = step
            step *= axis.size
        if self.blocks.axis is not None:
            steps[self.blocks.axis] = step
        return steps

    def scalar_steps(self) -> dict[Axis, int]:
        """Distance in the scalar operand for one step along each summed axis."""
        if self.box is not None:
            return self.box.summed_steps
        return _strides(self.form.scalar, self.form.summed)

    def box_rows(self) -> tuple[str, list[int]]:
        """(C text of the box position of the panel's first row, offsets of its rows)."""
        assert self.box is not None
        return self.box.rows(self.tiling)

    def window_taps(self, scalar: dict[Axis, int]) -> list[tuple[int, int]]:
        """(scalar offset, vector offset) for every position of the vector operand's windows."""
        taps = [(0, 0)]
        by_tap = {window.tap: window for window in self.tiling.vector_windows}
        for axis in self.blocks.inner:
            taps = [
                (a + scalar[axis] * position, b + self._tap_offset(by_tap[axis], position))
                for a, b in taps
                for position in range(axis.size)
            ]
        return taps

    # Windows of the vector operand ----------------------------------------------------------------

    def _tap_offset(self, window: Window, position: int) -> int:
        at = position * window.dilation
        phase, step = at % window.stride, at // window.stride
        if window is self.tiling.last:
            return phase * self.tiling.phase + step
        return phase * self.tiling.last.stride * self.tiling.phase + step * self.tiling.line_pitch

    def stage_box_vector(self, name: str) -> None:
        """Stage the window as [chunk][row phase][column phase][row][column]."""
        emitter, blocks, above, last = (
            self.emitter,
            self.blocks,
            self.tiling.above,
            self.tiling.last,
        )
        across = Axis(last.extent, "w")
        operand = through_window(self.form.vector, last, across)
        down: Axis | None = None
        if above is not None:
            down = Axis(above.extent, "h")
            operand = through_window(operand, above, down)
        emitter.open()
        if blocks.axis is not None:
            emitter.name_axis(blocks.axis, "(chunk0 + k)")
        emitter.open()
        place = f"{name} + k * {self.tiling.plane}"
        rows = 1
        if above is not None and down is not None:
            rows = self.tiling.box_rows
            emitter.line(f"const int down = row0 * {above.stride} + u;")
            emitter.line(f"if (down >= {above.extent}) break;")
            emitter.name_axis(down, "down")
            phase = last.stride * self.tiling.phase
            place += (
                f" + u % {above.stride} * {phase} + u / {above.stride} * {self.tiling.line_pitch}"
            )
        emitter.line(f"__local {self.sum_type} *d = {place};")
        for phase in range(last.stride):
            self.lines.stage(
                operand, across, f"d + {phase * self.tiling.phase}", last.stride, phase
            )
        emitter.close(f"for (int u = 0; u < {rows}; u++) {{")
        emitter.close("for (int k = 0; k < chunk; k++) {")

    # Windows of the scalar operand ----------------------------------------------------------------

    def stage_box_scalar(self, name: str) -> None:
        """Stage the scalar operand's window as it lies in memory."""
        assert self.box is not None
        emitter, box = self.emitter, self.box
        place = name
        for number, (axis, _, step, start) in enumerate(box.loops):
            emitter.open()
            counter = f"u{number}"
            if start:
                emitter.line(f"const int at{number} = {start} + {counter};")
                emitter.line(f"if (at{number} >= {axis.size}) break;")
                emitter.name_axis(axis, f"at{number}")
            else:
                emitter.name_axis(axis, counter)
            place += f" + {counter} * {step}"
        emitter.line(f"__local {self.sum_type} *d = {place};")
        self.lines.stage(box.operand, box.line, "d")
        for number, (_, size, _, _) in reversed(list(enumerate(box.loops))):
            emitter.close(f"for (int u{number} = 0; u{number} < {size}; u{number}++) {{")

    # Panels -------------------------------------------------------------------------------------

    def stage_panel(self, name: str) -> None:
        """Stage the vector operand as [register tile][summed position][lane]."""
        along = transposing_axis(self.form, self.blocks, self.tiling.width)
        if along is not None:
            self._panel_by_transposing(name, along)
            return
        columns, width = self.form.columns, self.tiling.width
        if columns and columns[-1].size >= width and has_unit_stride(self.form.vector, columns[-1]):
            self._panel_by_vectors(name)
        else:
            self._panel_by_lanes(name)

    def _open_summed(self, leave: Axis | None = None) -> list[str]:
        """Open a loop for each summed axis of the block; the heads to close them with."""
        heads = []
        blocks = self.blocks
        for number, axis in enumerate((blocks.axis, *blocks.inner)):
            if axis is None or axis is leave:
                continue
            self.emitter.open()
            counter = f"s{number}"
            first = axis is blocks.axis
            self.emitter.name_axis(axis, f"(chunk0 + {counter})" if first else counter)
            count = "chunk" if first else str(axis.size)
            heads.append(f"for (int {counter} = 0; {counter} < {count}; {counter}++) {{")
        return heads

    def _flat_summed(self, replaced: Axis | None = None, by: str = "") -> str:
        """C text of the position within the block, in the order of the panel."""
        terms = []
        step = 1
        blocks = self.blocks
        axes = (blocks.axis, *blocks.inner)
        for number in range(len(axes) - 1, -1, -1):
            axis = axes[number]
            if axis is None:
                continue
            text = by if axis is replaced else f"s{number}"
            terms.append(f"{text} * {step}" if step > 1 else text)
            step *= axis.size
        return " + ".join(reversed(terms)) or "0"

    def _panel_by_vectors(self, name: str) -> None:
        """Read vectors along the last column axis; those that are broken lane by lane."""
        emitter, tiling = self.emitter, self.tiling
        width = tiling.width
        column = self.form.columns[-1]
        heads = self._open_summed()
        emitter.open()
        emitter.line(f"const int q = lane0 + v * {width};")
        place = self._panel_place(name, self._flat_summed())
        emitter.line(f"__local {self.sum_type} *d = {place};")
        self.declare_lanes("q")
        fits = self.lanes_exist(width)
        low, high, rest, part = interior(self.form.vector, column)
        if low > 0 or high < column.size:
            fits += f" && lane >= {low} && lane + {width} <= {high}"
        emitter.open(part, width)
        self.bind_lanes()
        if part is not column:
            emitter.name_axis(part, f"(lane - {low})")
        text = self.sums.of_value(emitter.wide(rest, width), width)
        emitter.line(f"vstore{width}({text}, 0, d);")
        emitter.close(f"if ({fits}) {{")
        emitter.open()
        emitter.open()
        self.declare_lanes("(q + l)")
        self._one_lane("d[l]")
        emitter.close(f"for (int l = 0; l < {width}; l++) {{")
        emitter.close("else {")
        emitter.close(f"for (int v = 0; v < {tiling.column_groups}; v++) {{")
        for head in reversed(heads):
            emitter.close(head)

    def _panel_by_lanes(self, name: str) -> None:
        """Read element by element; which column a lane stands for is worked out once."""
        emitter, tiling = self.emitter, self.tiling
        emitter.open()
        emitter.open()
        emitter.line(f"const int q = lane0 + v * {tiling.width} + l;")
        self.declare_lanes("q")
        heads = self._open_summed()
        self._one_lane(f"({self._panel_place(name, self._flat_summed())})[l]")
        for head in reversed(heads):
            emitter.close(head)
        emitter.close(f"for (int l = 0; l < {tiling.width}; l++) {{")
        emitter.close(f"for (int v = 0; v < {tiling.column_groups}; v++) {{")

    def _one_lane(self, target: str) -> None:
        """Stage one element of the declared lane, zero where there is no column."""
        emitter = self.emitter
        emitter.line(f"{self.sum_type} x = 0;")
        emitter.open()
        self.bind_lanes()
        emitter.line(f"x = {self.sums.of_value(emitter.value(self.form.vector)[0], 1)};")
        emitter.close(f"if ({self.lanes_exist(1)}) {{")
        emitter.line(f"{target} = x;")

    def _panel_by_transposing(self, name: str, along: Axis) -> None:
        """Read vectors along a summed axis and turn squares of them around in registers."""
        emitter, tiling, blocks = self.emitter, self.tiling, self.blocks
        width = tiling.width
        heads = self._open_summed(leave=along)
        first = along is blocks.axis
        count, base = ("chunk", "chunk0") if first else (str(along.size), "0")
        emitter.open()
        emitter.line(f"const int q = lane0 + v * {width};")
        self.declare_lanes("q")
        fits = self.lanes_exist(width)
        # Squares: the last one is moved back over positions that are staged already.
        emitter.open()
        emitter.open()
        emitter.line(f"const int k = min(kk, {count} - {width});")
        emitter.line(f"{self.sum_type}{width} {', '.join(f'r{i}' for i in range(width))};")
        for lane in range(width):
            emitter.open(along, width)
            emitter.name_axis(along, f"({base} + k)")
            self.bind_lanes(lane)
            text = self.sums.of_value(emitter.wide(self.form.vector, width), width)
            emitter.line(f"r{lane} = {text};")
            emitter.close("{")
        for text in transposed([f"r{i}" for i in range(width)], self.sum_type, emitter.fresh):
            emitter.line(text)
        flat = self._flat_summed(along, "k")
        emitter.line(f"__local {self.sum_type} *d = {self._panel_place(name, flat)};")
        step = tiling.nv * width * self._flat_step(along)
        for lane in range(width):
            emitter.line(f"vstore{width}(r{lane}, 0, d + {lane * step});")
        emitter.close(f"for (int kk = 0; kk < {count}; kk += {width}) {{")
        enough = f" && {count} >= {width}" if first else ""
        emitter.close(f"if ({fits}{enough}) {{")
        emitter.open()
        emitter.open()
        emitter.name_axis(along, f"({base} + k)")
        flat = self._flat_summed(along, "k")
        emitter.open()
        self.declare_lanes("(q + l)")
        self._one_lane(f"({self._panel_place(name, flat)})[l]")
        emitter.close(f"for (int l = 0; l < {width}; l++) {{")
        emitter.close(f"for (int k = 0; k < {count}; k++) {{")
        emitter.close("else {")
        emitter.close(f"for (int v = 0; v < {tiling.column_groups}; v++) {{")
        for head in reversed(heads):
            emitter.close(head)

    def _panel_place(self, name: str, flat: str) -> str:
        """Where vector ``v`` of a summed position lies: register tiles are contiguous."""
        nv, width = self.tiling.nv, self.tiling.width
        tile = self.blocks.length * nv * width
        return f"{name} + v / {nv} * {tile} + ({flat}) * {nv * width} + v % {nv} * {width}"

    def _flat_step(self, along: Axis) -> int:
        step = 1
        for other in reversed((self.blocks.axis, *self.blocks.inner)):
            if other is along:
                return step
            step *= other.size if other is not None else 1
        return step

    # Lanes --------------------------------------------------------------------------------------

    def declare_lanes(self, q: str) -> None:
        """Declare ``lane`` (position along the last column axis) and ``upper`` (of the others)."""
        form, tiling, line = self.form, self.tiling, self.emitter.line
        if len(form.columns) == 1 and not tiling.vector_windows:
            line(f"const int lane = {q};")
        elif form.columns:
            line(f"const int lane = {q} % {tiling.pitch}, upper = {q} / {tiling.pitch};")

    def lanes_exist(self, reach: int) -> str:
        """The condition that ``reach`` lanes from the declared one stand for columns."""
        form, tiling = self.form, self.tiling
        if not form.columns:
            return "q == 0"
        fits = f"lane + {reach} <= {form.columns[-1].size}"
        if len(form.columns) == 1 and not tiling.vector_windows:
            return fits
        if not tiling.vector_windows:
            return f"{fits} && upper < {extent(form.columns[:-1])}"
        height = tiling.above.free.size if tiling.above is not None else 1
        return f"{fits} && upper < {tiling.window_rows} && row0 + upper < {height}"

    def bind_lanes(self, lane: int = 0) -> None:
        """Name the column axes after the numbers of :meth:`declare_lanes`, ``lane`` lanes on."""
        form, emitter = self.form, self.emitter
        if not form.columns:
            return
        emitter.name_axis(form.columns[-1], f"(lane + {lane})" if lane else "lane")
        if self.tiling.vector_windows:
            above = self.tiling.above
            if above is not None:
                emitter.name_axis(above.free, "(row0 + upper)")
            return
        step = 1
        outer = form.columns[:-1]
        for number, axis in enumerate(reversed(outer)):
            text = f"upper / {step}" if step > 1 else "upper"
            text = f"({text} % {axis.size})" if number < len(outer) - 1 else f"({text})"
            emitter.name_axis(axis, text)
            step *= axis.size


def _strides(operand: Expression, axes: tuple[Axis, ...]) -> dict[Axis, int]:
    index = operand.data[1]
    return {axis: index.coefficient(axis) or 0 for axis in axes}
