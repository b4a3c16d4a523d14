"""What both directions of a tiled attention are written with: staging, products, rows.

Operands are staged in local memory, which on a CPU is a piece of the core's own cache: row by
row, or turned around so that vectors run along the keys. A product of two staged arrays is a
loop of register tiles, each a call of a helper function. Knows the emitter and layouts.
"""

from __future__ import annotations

from lazytorch.codegen import ctypes
from lazytorch.codegen.attention import local_arrays
from lazytorch.codegen.choice import AttentionSchedule
from lazytorch.codegen.contract_form import has_unit_stride
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.stores import store_all
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import AttentionBody, AttentionResult
from lazytorch.ops import elementwise


class TileWriter:
    """Writes pieces of one attention kernel."""

    def __init__(self, form: AttentionBody, tiling: AttentionSchedule, emitter: Emitter) -> None:
        self.form = form
        self.tiling = tiling
        self.emitter = emitter
        self.type = ctypes.value_type(form.accumulate)
        self.vector = f"{self.type}{tiling.width}"
        self.mask = f"{ctypes.mask_type(form.accumulate)}{tiling.width}"
        self.low = f"(-{'INFINITY' if self.type == 'float' else '(double)INFINITY'})"
        self.names = {name: emitter.fresh(name) for name in local_arrays(form, tiling)}

    def declarations(self) -> list[str]:
        """The local arrays."""
        return [
            f"__local {self.type} {self.names[name]}[{size}] __attribute__((aligned(64)));"
            for name, size in local_arrays(self.form, self.tiling).items()
        ]

    def line(self, text: str) -> None:
        self.emitter.line(text)

    def bind_batch(self, head: str) -> None:
        """Name the leading axes after the flat number of a head."""
        step = 1
        for axis in reversed(self.form.batch):
            if axis.size == 1:
                self.emitter.name_axis(axis, "0")
                continue
            name = self.emitter.fresh("b")
            self.line(f"const int {name} = {head} / {step} % {axis.size};")
            self.emitter.name_axis(axis, name)
            step *= axis.size

    # Staging ------------------------------------------------------------------------------------

    def clear(self, name: str, count: str) -> None:
        """Zeros into the first ``count`` elements (whole vectors) of a local array."""
        width = self.tiling.width
        self.line(
            f"for (int z = 0; z < {count}; z += {width}) "
            f"vstore{width}(({self.vector})(0), 0, {name} + z);"
        )

    def along(self, value: Expression, axis: Axis, start: str, count: str, place: str) -> None:
        """``count`` elements of a value along an axis from ``start``, into a local array."""
        width, emitter = self.tiling.width, self.emitter
        emitter.line("int n = 0;")
        # A loop that plainly never runs must not be written: a driver crashed compiling one.
        if axis.size >= width:
            emitter.open(axis, width)
            emitter.name_axis(axis, f"({start} + n)")
            emitter.line(f"vstore{width}({emitter.wide(value, width)}, 0, {place} + n);")
            emitter.close(f"for (; n + {width} <= {count}; n += {width}) {{")
        emitter.open()
        emitter.name_axis(axis, f"({start} + n)")
        emitter.line(f"({place})[n] = {emitter.value(value)[0]};")
        emitter.close(f"for (; n < {count}; n++) {{")

    def stage_rows(
        self, name: str, value: Expression, row: Axis, column: Axis, first: str, count: int
    ) -> None:
        """``count`` rows from ``first``, padded to whole vectors with zeros."""
        emitter, width = self.emitter, self.tiling.width
        pitch = -(-column.size // width) * width
        emitter.open()
        emitter.line(f"__local {self.type} *d = {self.names[name]} + r * {pitch};")
        if column.size != pitch or row.size % count:
            self.clear("d", str(pitch))
        emitter.open()
        emitter.name_axis(row, f"({first} + r)")
        self.along(value, column, "0", str(column.size), "d")
        emitter.close(f"if ({first} + r < {row.size}) {{" if row.size % count else "{")
        emitter.close(f"for (int r = 0; r < {count}; r++) {{")

    def stage_turned(self, name: str, value: Expression, row: Axis, column: Axis) -> None:
        """``keys`` rows from ``k0`` with each column contiguous; zeros behind the last row."""
        emitter, width, keys = self.emitter, self.tiling.width, self.tiling.keys
        target = self.names[name]
        emitter.open()
        emitter.open()
        if row.size < width:
            emitter.line(";")
        elif has_unit_stride(value, row):
            emitter.open(row, width)
            emitter.name_axis(row, "(k0 + r)")
            emitter.name_axis(column, "c")
            text = emitter.wide(value, width)
            emitter.line(f"vstore{width}({text}, 0, {target} + c * {keys} + r);")
            emitter.close(f"for (int c = 0; c < {column.size}; c++) {{")
        else:
            self._squares(target, value, row, column)
        whole = f"k0 + r + {width} <= {row.size}" if row.size >= width else "0"
        emitter.close(f"if ({whole}) {{")
        emitter.open()
        emitter.line(f"{self.type} x = 0;")
        emitter.open()
        emitter.name_axis(row, "(k0 + r + l)")
        emitter.name_axis(column, "c")
        emitter.line(f"x = {emitter.value(value)[0]};")
        emitter.close(f"if (k0 + r + l < {row.size}) {{")
        emitter.line(f"{target}[c * {keys} + r + l] = x;")
        loops = f"for (int c = 0; c < {column.size}; c++) for (int l = 0; l < {width}; l++)"
        emitter.close(f"else {loops} {{")
        emitter.close(f"for (int r = 0; r < {keys}; r += {width}) {{")

    def _squares(self, target: str, value: Expression, row: Axis, column: Axis) -> None:
        """Squares of rows turned around in registers, and what is left one by one."""
        emitter, width, keys = self.emitter, self.tiling.width, self.tiling.keys
        emitter.line("int c = 0;")
        if column.size >= width:
            self._square(target, value, row, column)
        emitter.open()
        emitter.open()
        emitter.name_axis(row, "(k0 + r + l)")
        emitter.name_axis(column, "c")
        emitter.line(f"{target}[c * {keys} + r + l] = {emitter.value(value)[0]};")
        emitter.close(f"for (int l = 0; l < {width}; l++) {{")
        emitter.close(f"for (; c < {column.size}; c++) {{")

    def _square(self, target: str, value: Expression, row: Axis, column: Axis) -> None:
        emitter, width, keys = self.emitter, self.tiling.width, self.tiling.keys
        names = [f"r{lane}" for lane in range(width)]
        emitter.open()
        emitter.line(f"{self.vector} {', '.join(names)};")
        for lane, name in enumerate(names):
            emitter.open(column, width)
            emitter.name_axis(column, "c")
            emitter.name_axis(row, f"(k0 + r + {lane})")
            emitter.line(f"{name} = {emitter.wide(value, width)};")
            emitter.close("{")
        for text in transposed(names, self.type, emitter.fresh):
            emitter.line(text)
        for lane, name in enumerate(names):
            emitter.line(f"vstore{width}({name}, 0, {target} + (c + {lane}) * {keys} + r);")
        emitter.close(f"for (; c + {width} <= {column.size}; c += {width}) {{")

    # Products -----------------------------------------------------------------------------------

    def product(
        self,
        sums: str,
        pitch: int,
        scalars: tuple[str, int, int],
        vectors: tuple[str, int],
        size: tuple[int, str, str],
        add: bool,
        space: str = "__local",
    ) -> None:
        """``sums`` (rows, columns) = or += scalars (rows, depth) @ vectors (depth, columns).

        ``scalars`` is (place, step of a row, step along the sum), ``vectors`` (place, step along
        the sum), ``size`` (rows, columns, depth). Columns are counted in whole vectors: up to a
        tile more than asked are computed.
        """
        rows, columns, depth = size
        tiling = self.tiling
        place, row_step, depth_step = scalars
        other, other_step = vectors
        lanes = tiling.vectors * tiling.width
        whole = pitch // lanes * lanes
        heads = [(tiling.vectors, f"for (int v = 0; v < min({columns}, {whole}); v += {lanes})")]
        if whole < pitch:
            heads.append((1, f"for (int v = {whole}; v < {columns}; v += {tiling.width})"))
        for number, head in heads:
            name = self._tile_helper(number, space)
            self.line(
                f"{head} for (int t = 0; t < {rows}; t += {tiling.rows}) "
                f"{name}({sums} + t * {pitch} + v, {pitch}, {place} + t * {row_step}, {row_step}, "
                f"{depth_step}, {other} + v, {other_step}, {depth}, {int(add)});"
            )

    def _tile_helper(self, vectors: int, space: str) -> str:
        """The name of the function that computes one register tile."""
        rows, width = self.tiling.rows, self.tiling.width
        name = f"lt_tile_{self.type}{width}_{rows}x{vectors}{space.strip('_')[0]}"
        if name in self.emitter.helpers:
            return name
        cells = [(i, j) for i in range(rows) for j in range(vectors)]
        t, v = self.type, self.vector
        lines = [
            f"inline void {name}(",
            f"    {space} {t} *restrict c, int c_row, __local const {t} *restrict a, int a_row,",
            f"    int a_step, __local const {t} *restrict b, int b_step, int n, int add) {{",
            f"  {v} {', '.join(f'c{i}_{j} = 0' for i, j in cells)};",
            "  if (add) {",
            *(f"    c{i}_{j} = vload{width}({j}, c + {i} * c_row);" for i, j in cells),
            "  }",
            "  for (int k = 0; k < n; k++) {",
            *(f"    const {v} b{j} = vload{width}({j}, b);" for j in range(vectors)),
        ]
        for i in range(rows):
            lines.append(f"    const {v} a{i} = ({v})(a[{i} * a_row]);")
            lines += [f"    c{i}_{j} = fma(a{i}, b{j}, c{i}_{j});" for j in range(vectors)]
        lines += [
            "    a += a_step; b += b_step;",
            "  }",
            *(f"  vstore{width}(c{i}_{j}, {j}, c + {i} * c_row);" for i, j in cells),
            "}",
        ]
        self.emitter.helpers[name] = "\n".join(lines)
        return name

    # Rows of scores -----------------------------------------------------------------------------

    def across(self, name: str, text: str) -> str:
        """C text of the sum or maximum ('fmax') of a vector's lanes."""
        width = self.tiling.width
        function = f"lt_{name}_lanes_{self.vector}"
        if function not in self.emitter.helpers:
            lines = [f"inline {self.type} {function}({self.vector} x) {{"]
            half = width // 2
            now = "x"
            while half:
                kind = ctypes.vector(self.type, half)
                joined = f"{now}.lo + {now}.hi" if name == "sum" else f"fmax({now}.lo, {now}.hi)"
                lines.append(f"  const {kind} x{half} = {joined};")
                now, half = f"x{half}", half // 2
            self.emitter.helpers[function] = "\n".join([*lines, f"  return {now};", "}"])
        return f"{function}({text})"

    def exp(self, text: str, width: int) -> str:
        """C text of the exponential, as everywhere else."""
        dtype = self.form.accumulate
        return self.emitter.operation(elementwise.EXP, [text], dtype, dtype, width)

    def stage_bias(self) -> None:
        """The bias of the row's ``count`` keys from ``k0``, in a block of its own."""
        bias = self.form.bias
        if bias is None:
            return
        self.emitter.open()
        self.along(bias, self.form.keys, "k0", "count", self.names["bias"])
        self.emitter.close("{")

    def factors(self) -> str:
        """Emit dropout's factors of the vector at ``j``; their C name."""
        assert self.form.factor is not None
        return self.emitter.wide(self.form.factor, self.tiling.width)

    def lanes(self, first: str) -> str:
        """C text of the keys, counted from ``k0``, of the vector that begins at ``first``."""
        width = self.tiling.width
        kind = ctypes.mask_type(self.form.accumulate)
        numbers = ", ".join(map(str, range(width)))
        return f"(({self.mask})(({kind})({first})) + ({self.mask})({numbers}))"

    # Results ------------------------------------------------------------------------------------

    def store_row(self, result: AttentionResult, column: Axis, place: str, by: str) -> None:
        """The epilogue of one row at ``place``, each element times ``by``."""
        emitter, width = self.emitter, self.tiling.width
        key = ex.result(result.number, self.form.accumulate)
        emitter.open()
        emitter.line("int n = 0;")
        for lanes in (width, 1) if column.size >= width else (1,):
            if lanes > 1:
                emitter.open(column, lanes)
            else:
                emitter.open()
            emitter.name_axis(column, "n")
            kind = ctypes.vector(self.type, lanes)
            loaded = f"vload{width}(0, {place} + n)" if lanes > 1 else f"({place})[n]"
            emitter.line(f"const {kind} made = {loaded} * {by};")
            emitter.define(key, "made", lanes)
            self.store(result, lanes)
            step = f"for (; n + {lanes} <= {column.size}; n += {lanes}) {{"
            emitter.close(step)
        emitter.close("{")

    def store(self, result: AttentionResult, width: int) -> None:
        """The stores of a result whose value is defined."""
        store_all(result.epilogue, self.emitter, width)
