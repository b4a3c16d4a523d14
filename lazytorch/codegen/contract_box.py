"""The box of a scalar operand that is a sliding window: what is staged, and where it lies.

In the gradient of a convolution's weight the input is the scalar operand: rows are input
channels and kernel positions, the sum runs over output positions. A block of the sum touches a
box of the input; it is staged as it lies in memory and every row is an offset into it.
"""

from __future__ import annotations

from lazytorch.codegen.contract_form import Form, through_window
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent


class Box:
    """The scalar operand's window: which part is staged, and where its elements lie."""

    def __init__(self, form: Form, tiling: Tiling) -> None:
        blocks = tiling.blocks
        by_tap = {window.tap: window for window in tiling.scalar_windows}
        free = {window.free for window in tiling.scalar_windows}
        operand = form.scalar
        # (axis, staged size, start text) from the outermost to the line.
        parts: list[tuple[Axis, int, str]] = []
        plain_rows = [axis for axis in form.rows if axis not in free]
        self.per_item = 1
        for row in plain_rows:
            self.per_item = self._plain_rows(tiling, row)
            parts.append((row, self.per_item, self._first_row(tiling, row)))
        where: dict[Axis, tuple[int, int]] = {}
        for axis in (blocks.axis, *blocks.inner):
            if axis is None:
                continue
            size = blocks.chunk if axis is blocks.axis else axis.size
            start = "chunk0" if axis is blocks.axis else ""
            window = by_tap.get(axis)
            if window is None:
                where[axis] = (len(parts), 1)
                parts.append((axis, size, start))
                continue
            position = Axis(window.extent, "u")
            operand = through_window(operand, window, position)
            reach = (size - 1) * window.dilation + (window.free.size - 1) * window.stride + 1
            at = f"{start} * {window.dilation}" if start else ""
            where[axis] = (len(parts), window.dilation)
            where[window.free] = (len(parts), window.stride)
            parts.append((position, reach, at))
        steps = [1] * len(parts)
        for number in range(len(parts) - 2, -1, -1):
            steps[number] = steps[number + 1] * parts[number + 1][1]
        self.operand = operand
        self.line = parts[-1][0]
        self.size = steps[0] * parts[0][1] + 16
        self.loops = [
            (axis, size, step, start) for (axis, size, start), step in zip(parts[:-1], steps)
        ]
        self.summed_steps = {
            axis: steps[where[axis][0]] * where[axis][1] if axis in where else 0
            for axis in form.summed
        }
        self.row_steps = {
            axis: steps[0] if axis in plain_rows else steps[where[axis][0]] * where[axis][1]
            for axis in form.rows
        }
        self.first = form.rows[0] if plain_rows else None

    @staticmethod
    def _plain_rows(tiling: Tiling, axis: Axis) -> int:
        panels = tiling.panels
        if panels.axis is axis:
            return min(axis.size, tiling.row_panels * panels.chunk)
        if axis in panels.inner:
            return axis.size
        return tiling.row_panels // (panels.along * extent(panels.outer[1:]))

    @staticmethod
    def _first_row(tiling: Tiling, axis: Axis) -> str:
        panels = tiling.panels
        if panels.axis is axis:
            # The last panel is moved back, and with it what a last item needs.
            count = min(axis.size, tiling.row_panels * panels.chunk)
            return f"min(panel0 * {panels.chunk}, {axis.size - count})"
        if axis in panels.inner:
            return ""
        return f"panel0 / {panels.along * extent(panels.outer[1:])}"

    def rows(self, tiling: Tiling) -> tuple[str, list[int]]:
        """(C text of the box position of the panel's first row, offsets of its rows)."""
        panels = tiling.panels
        terms = []
        step = panels.along
        for axis in reversed(panels.outer):
            text = f"panel / {step}"
            if axis is self.first:
                text = f"(panel - panel0) / {step}"
            else:
                text = f"{text} % {axis.size}"
            terms.append(f"{text} * {self.row_steps[axis]}")
            step *= axis.size
        if panels.axis is not None:
            at = "start"
            if panels.axis is self.first:
                at = f"(start - {self._first_row(tiling, panels.axis)})"
            terms.append(f"{at} * {self.row_steps[panels.axis]}")
        offsets = [0]
        for axis in panels.inner:
            offsets = [at + self.row_steps[axis] * n for at in offsets for n in range(axis.size)]
        if panels.axis is not None:
            step = self.row_steps[panels.axis]
            offsets = [step * n + at for n in range(panels.chunk) for at in offsets]
        return " + ".join(terms) or "0", offsets


def interior(operand: Expression, axis: Axis) -> tuple[int, int, Expression, Axis]:
    """(low, high, operand, axis) such that no guard differs along the axis from low to high.

    The answered operand is the given one on the answered axis, which counts from ``low``; guards
    that always hold there are gone from it. Only guards on the axis alone can be turned into a
    range; where others vary along it the range is empty.
    """
    low, high = 0, axis.size
    for value in ex.walk([operand]):
        if value.kind not in (ex.LOAD, ex.CHOOSE):
            continue
        for condition in value.data[2] if value.kind == ex.LOAD else value.data:
            if axis not in condition.index.axes():
                continue
            step = condition.index.coefficient(axis)
            if step is None or step <= 0 or condition.index.axes() != {axis}:
                return 0, 0, operand, axis
            shift = condition.index.constant
            low = max(low, -(-(condition.low - shift) // step))
            high = min(high, (condition.high - shift) // step + 1)
    if low >= high:
        return 0, 0, operand, axis
    if low == 0 and high == axis.size:
        return low, high, operand, axis
    part = Axis(high - low, axis.name)
    return low, high, operand.substitute_axes({axis: ix.of_atom(part) + low}), part
