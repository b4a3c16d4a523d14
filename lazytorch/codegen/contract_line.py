"""Staging one line of an operand in local memory, as OpenCL C.

Where no guard differs along the line it is copied in vectors, elsewhere element by element.
"""

from __future__ import annotations

from lazytorch.codegen.contract_box import interior
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis


class LineStager:
    """Writes the statements that copy lines, in vectors of ``width`` where that can be."""

    def __init__(self, emitter: Emitter, width: int, sums: Sums) -> None:
        self.emitter = emitter
        self.width = width
        self.sums = sums

    def stage(
        self, operand: Expression, axis: Axis, to: str, stride: int = 1, phase: int = 0
    ) -> None:
        """Stage positions phase, phase + stride, … along the axis at ``to``."""
        count = -(-(axis.size - phase) // stride)
        if count <= 0:
            return
        if stride > 1:
            short = Axis(count, "w")
            operand = operand.substitute_axes({axis: ix.of_atom(short) * stride + phase})
            axis = short
        if count == 1:
            self._store_at(operand, axis, "0", to)
            return
        low, high, rest, part = interior(operand, axis)
        width = self.width
        while width > high - low:
            width //= 2
        if width < 4:
            self._scalars(operand, axis, 0, count, to)
            return
        self._scalars(operand, axis, 0, low, to)
        emitter = self.emitter
        emitter.open(part, width)
        emitter.line(f"const int w = min(v, {high - width});")
        emitter.name_axis(part, "w" if part is axis else f"(w - {low})")
        text = self.sums.of_value(emitter.wide(rest, width), width)
        emitter.line(f"vstore{width}({text}, 0, {to} + w);")
        emitter.close(f"for (int v = {low}; v < {high}; v += {width}) {{")
        self._scalars(operand, axis, high, count, to)

    def _scalars(self, operand: Expression, axis: Axis, low: int, high: int, to: str) -> None:
        if low < high:
            self.emitter.open()
            self._store_at(operand, axis, "w", to)
            self.emitter.close(f"for (int w = {low}; w < {high}; w++) {{")

    def _store_at(self, operand: Expression, axis: Axis, at: str, to: str) -> None:
        self.emitter.open()
        self.emitter.name_axis(axis, at)
        text = self.sums.of_value(self.emitter.value(operand)[0], 1)
        self.emitter.line(f"({to})[{at}] = {text};")
        self.emitter.close("{")
