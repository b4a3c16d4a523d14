"""Running scans in vectors on CPU devices, each row in its own order.

Rows are independent, so vectors run across them and every row is combined exactly as one after
the other. Where rows lie side by side (``columns``) a work-item carries a panel of them from step
to step and memory is read in its own order; where the scanned axis is the contiguous one
(``squares``) a square of rows by positions is read in vectors, turned in registers, combined and
turned back.
"""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen import ctypes, lanes
from lazytorch.codegen.choice import wished_walk
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter, bind_rows
from lazytorch.codegen.sequential import render_scan
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import ScanBody, extent

# Columns of a panel at most: their running results stay in the first cache.
PANEL = 2048
# Costs from which a value stands in the text once, in a loop, and not once for each row of a
# square: a running sum of normal numbers compiles in 0.5 s instead of 1.1. What is cheap to write
# down is a tenth quicker without the way through memory.
LONG_VALUE = 40


@dataclass(frozen=True)
class ScanStyle:
    """``kind`` is 'columns' or 'squares', ``axis`` the one that vectors run along in memory."""

    kind: str
    axis: Axis
    width: int


def possible_styles(body: ScanBody, target: Target) -> list[str]:
    """The ways in which a scan can be done, the rules' choice first."""
    style = _vector_style(body, target)
    return ["elements"] if style is None else [style.kind, "elements"]


def scan_style(body: ScanBody, target: Target) -> ScanStyle | None:
    """How a scan is done in vectors, or None where it is done element by element."""
    wish = wished_walk(body)
    return None if wish is not None and wish.style == "elements" else _vector_style(body, target)


def _vector_style(body: ScanBody, target: Target) -> ScanStyle | None:
    if target.family != "cpu":
        return None
    if body.rows and body.index.coefficient(body.rows[-1]) == 1:
        column = body.rows[-1]
        width = lanes.axis_width(column, target.vector_width)
        return ScanStyle("columns", column, width) if width > 1 else None
    if body.index.coefficient(body.axis) != 1:
        return None
    width = target.vector_width if body.value.dtype.compute.itemsize <= 4 else 8
    width = min(width, target.vector_width)
    fits = width > 1 and body.axis.size >= width and extent(body.rows) >= width
    return ScanStyle("squares", body.axis, width) if fits else None


def render_wide_scan(
    body: ScanBody,
    emitter: Emitter,
    values: dict[int, DType],
    target: Target,
    style: ScanStyle,
    group: str,
) -> int:
    """Write the statements; the number of work-groups (of one work-item)."""
    writer = _Writer(body, emitter, values, style)
    if style.kind == "columns":
        return writer.columns(target, group)
    return writer.squares(group)


class _Writer:
    def __init__(
        self, body: ScanBody, emitter: Emitter, values: dict[int, DType], style: ScanStyle
    ) -> None:
        self.body = body
        self.emitter = emitter
        self.values = values
        self.style = style
        self.type_name = ctypes.value_type(body.value.dtype)
        assert body.op.identity is not None
        self.identity = ctypes.literal(body.op.identity(body.value.dtype), body.value.dtype)

    def _combined(self, held: str, text: str, width: int) -> str:
        compute = self.body.value.dtype.compute
        return self.emitter.operation(self.body.op.combine, [held, text], compute, compute, width)

    def _store(self, text: str, width: int) -> None:
        body, emitter = self.body, self.emitter
        name = emitter.names(body.target)
        emitter.store_text(name, body.index, text, self.values[body.target], width)

    # Rows side by side --------------------------------------------------------------------------

    def columns(self, target: Target, group: str) -> int:
        """A work-item takes a panel of columns through all positions."""
        body, emitter, axis, width = self.body, self.emitter, self.style.axis, self.style.width
        outer = body.rows[:-1]
        rows = extent(outer)
        wanted = max(1, target.compute_units * 4 // rows)
        chunk = min(PANEL, -(-axis.size // (wanted * width)) * width)
        wish = wished_walk(body)
        if wish is not None and wish.share:
            chunk = min(PANEL, -(-min(wish.share, axis.size) // width) * width)
        chunks = -(-axis.size // chunk)
        type_name = emitter.index_type
        row, start, stop, held, step = map(emitter.fresh, ("row", "from", "to", "held", "k"))
        emitter.open()
        emitter.line(f"const {type_name} {row} = {group} / {chunks};")
        emitter.line(f"const {type_name} {start} = ({type_name})({group} % {chunks}) * {chunk};")
        end = f"min(({type_name}){axis.size}, {start} + {chunk})"
        emitter.line(f"const {type_name} {stop} = {end};")
        bind_rows(emitter, outer, row)
        emitter.line(f"{self.type_name} {held}[{chunk}];")
        emitter.line(f"for (int i = 0; i < {chunk}; i++) {held}[i] = {self.identity};")
        emitter.open()
        emitter.name_axis(body.axis, step)
        column = emitter.fresh("c")
        emitter.line(f"{type_name} {column} = {start};")
        for part in (width, 1) if axis.size % width else (width,):
            emitter.open(axis, part)
            emitter.name_axis(axis, column)
            self._one_step(f"{held} + ({column} - {start})", part)
            emitter.close(f"for (; {column} + {part} <= {stop}; {column} += {part}) {{")
        emitter.close(f"for (int {step} = 0; {step} < {body.axis.size}; {step}++) {{")
        emitter.close("{")
        return rows * chunks

    def _one_step(self, place: str, width: int) -> None:
        """Combine ``width`` columns with what is held for them."""
        emitter = self.emitter
        made = emitter.fresh("made")
        held = f"vload{width}(0, {place})" if width > 1 else f"*({place})"
        text = self._combined(held, emitter.wide(self.body.value, width), width)
        emitter.line(f"const {ctypes.vector(self.type_name, width)} {made} = {text};")
        if width > 1:
            emitter.line(f"vstore{width}({made}, 0, {place});")
        else:
            emitter.line(f"*({place}) = {made};")
        self._store(made, width)

    # Contiguous along the scan ------------------------------------------------------------------

    def squares(self, group: str) -> int:
        """A work-item takes as many rows as a vector has lanes."""
        body, emitter, width = self.body, self.emitter, self.style.width
        count = extent(body.rows)
        type_name = emitter.index_type
        first = emitter.fresh("row")
        emitter.open()
        emitter.line(f"const {type_name} {first} = ({type_name}){group} * {width};")
        emitter.open()
        self._square_rows(first)
        emitter.close(f"if ({first} + {width} <= {count}) {{")
        if count % width:
            row = emitter.fresh("row")
            emitter.open()
            bind_rows(emitter, body.rows, row)
            render_scan(body, emitter, self.values)
            emitter.close(f"else for ({type_name} {row} = {first}; {row} < {count}; {row}++) {{")
        emitter.close("{")
        return -(-count // width)

    def _square_rows(self, first: str) -> None:
        """Whole squares of the rows from ``first`` on, then what is left of each row."""
        body, emitter, width = self.body, self.emitter, self.style.width
        size = body.axis.size
        vector = f"{self.type_name}{width}"
        held, start = emitter.fresh("held"), emitter.fresh("k")
        names = [emitter.fresh("x") for _ in range(width)]
        emitter.line(f"{vector} {held} = {self.identity};")
        emitter.open()
        self._read_square(first, start, names)
        self._turn(names)
        before = held
        for name in names:
            emitter.line(f"{name} = {self._combined(before, name, width)};")
            before = name
        emitter.line(f"{held} = {before};")
        self._turn(names)
        for lane, name in enumerate(names):
            self._enter(f"({first} + {lane})", start, width)
            self._store(name, width)
            emitter.close("{")
        whole = size // width * width
        emitter.close(f"for (int {start} = 0; {start} < {whole}; {start} += {width}) {{")
        if whole < size:
            self._ends(first, held, whole)

    def _read_square(self, first: str, start: str, names: list[str]) -> None:
        """Declare ``names`` with the rows of a square."""
        body, emitter, width = self.body, self.emitter, self.style.width
        vector = f"{self.type_name}{width}"
        if ex.cost(body.value) < LONG_VALUE:
            emitter.line(f"{vector} {', '.join(names)};")
            for number, name in enumerate(names):
                self._enter(f"({first} + {number})", start, width)
                emitter.line(f"{name} = {emitter.wide(body.value, width)};")
                emitter.close("{")
            return
        square, lane = emitter.fresh("square"), emitter.fresh("lane")
        emitter.line(f"{self.type_name} {square}[{width * width}];")
        self._enter(f"({first} + {lane})", start, width)
        value = emitter.wide(body.value, width)
        emitter.line(f"vstore{width}({value}, {lane}, {square});")
        loop = f"for (int {lane} = 0; {lane} < {width}; {lane}++) {{"
        emitter.close(f"__attribute__((opencl_unroll_hint(1))) {loop}")
        for number, name in enumerate(names):
            emitter.line(f"{vector} {name} = vload{width}({number}, {square});")

    def _enter(self, row: str, start: str, width: int) -> None:
        emitter = self.emitter
        emitter.open(self.style.axis, width)
        bind_rows(emitter, self.body.rows, row)
        emitter.name_axis(self.style.axis, start)

    def _turn(self, names: list[str]) -> None:
        for text in transposed(names, self.type_name, self.emitter.fresh):
            self.emitter.line(text)

    def _ends(self, first: str, held: str, whole: int) -> None:
        """The positions behind the last whole square, row by row."""
        body, emitter, width = self.body, self.emitter, self.style.width
        totals, lane, step = (emitter.fresh(stem) for stem in ("totals", "lane", "k"))
        emitter.line(f"{self.type_name} {totals}[{width}];")
        emitter.line(f"vstore{width}({held}, 0, {totals});")
        emitter.open()
        bind_rows(emitter, body.rows, f"({first} + {lane})")
        emitter.open()
        emitter.name_axis(body.axis, step)
        text = self._combined(f"{totals}[{lane}]", emitter.value(body.value)[0], 1)
        emitter.line(f"{totals}[{lane}] = {text};")
        self._store(f"{totals}[{lane}]", 1)
        emitter.close(f"for (int {step} = {whole}; {step} < {body.axis.size}; {step}++) {{")
        emitter.close(f"for (int {lane} = 0; {lane} < {width}; {lane}++) {{")
