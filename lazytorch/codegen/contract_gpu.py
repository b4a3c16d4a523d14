"""A tiled contraction for GPUs, as OpenCL C.

A work-group computes a tile of rows by columns. Both operands' parts of a short block of the sum
go through local memory (their prologues are computed on the way); while a block is multiplied, the
next one is already on its way into registers. Where a kernel may require a size of its sub-groups,
their items share the rows' factors through registers. Each work-item keeps a rectangle of sums in
vector registers. Batch, rows, columns and summed axes are each walked as one flat position, so
every contraction is a batched matrix product here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen import ctypes
from lazytorch.codegen.contract_body import GroupContractBody
from lazytorch.codegen.contract_form import has_unit_stride
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.reduce_loops import SUBGROUPS
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis

# Tiles of rows that share a band: groups that run together then share columns in L2.
BAND = 8


@dataclass(frozen=True)
class _Operand:
    """One operand's part of a block: ``edge`` free positions by ``depth`` summed ones.

    ``vector`` elements are read at once, ``along_sum`` or along the free axes; an item reads
    ``count`` of these pieces.
    """

    name: str
    value: Expression
    axes: tuple[Axis, ...]
    start: str
    size: int
    edge: int
    vector: int
    along_sum: bool
    pieces: int
    count: int
    line: Axis | None

    @property
    def direct(self) -> bool:
        """Whether it goes to local memory in a loop, without waiting in registers."""
        return self.vector == 1 and self.count > 2


def _guarded(value: Expression, axis: Axis) -> bool:
    """Whether some load exists only at some positions of the axis: it is read one by one."""
    return any(
        axis in condition.index.axes()
        for load in ex.loads_of([value])
        for condition in load.data[2]
    )


def render_gpu(body: GroupContractBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups."""
    return GroupRenderer(body, emitter).render(group)


class GroupRenderer:
    """Writes one body."""

    def __init__(self, body: GroupContractBody, emitter: Emitter) -> None:
        self.body = body
        self.form = body.form
        self.tiling = body.tiling
        self.emitter = emitter
        self.sums = Sums(body.form, emitter)
        self.sum_type = self.sums.type
        self.row_vector = self.tiling.vector_of(self.tiling.row_each)
        self.column_vector = self.tiling.vector_of(self.tiling.column_each)
        form, tiling = self.form, self.tiling
        self.left = self._operand("left", form.scalar, form.rows, "row0", tiling.row_edge)
        self.right = self._operand(
            "right", form.vector, form.columns, "column0", tiling.column_edge
        )

    def _operand(
        self, stem: str, value: Expression, axes: tuple[Axis, ...], start: str, edge: int
    ) -> _Operand:
        tiling, form = self.tiling, self.form
        along_sum = bool(form.summed) and has_unit_stride(value, form.summed[-1])
        line = form.summed[-1] if along_sum else axes[-1] if axes else None
        vector = 1
        if line is not None and has_unit_stride(value, line) and not _guarded(value, line):
            limit = tiling.depth if along_sum else edge
            while vector < 4 and line.size % (vector * 2) == 0 and limit % (vector * 2) == 0:
                vector *= 2
        pieces = edge * tiling.depth // vector
        size = 1
        for axis in axes:
            size *= axis.size
        return _Operand(
            self.emitter.fresh(stem), value, axes, start, size, edge, vector, along_sum, pieces,
            -(-pieces // tiling.local), line,
        )  # fmt: skip

    def render(self, group: str) -> int:
        tiling, emitter = self.tiling, self.emitter
        for operand in (self.left, self.right):
            size = tiling.buffers * tiling.depth * tiling.pitch(operand.edge)
            emitter.declarations.append(
                f"__local {self.sum_type} {operand.name}[{size}] __attribute__((aligned(16)));"
            )
        self._item()
        emitter.line(f"const int x = item % {tiling.columns}, y = item / {tiling.columns};")
        groups = self._place(group)
        self._declare_sums()
        self._blocks()
        self._results()
        return groups

    def _item(self) -> None:
        """Name the work-item, so that a sub-group's items are neighbours in a row."""
        size = self.tiling.subgroup
        if not size:
            self.emitter.line("const int item = get_local_id(0);")
            return
        self.emitter.helpers.setdefault("subgroups", SUBGROUPS)
        self.emitter.line("const int lane = get_sub_group_local_id();")
        self.emitter.line(f"const int item = get_sub_group_id() * {size} + lane;")

    # Where the work-group is --------------------------------------------------------------------

    def _place(self, group: str) -> int:
        """Name the group's tile, part of the sum and batch; the number of groups."""
        form, tiling, emitter = self.form, self.tiling, self.emitter
        row_tiles = -(-form.row_count // tiling.row_edge)
        column_tiles = -(-form.column_count // tiling.column_edge)
        tiles = row_tiles * column_tiles
        emitter.line(f"const int tile = {group} % {tiles};")
        band = BAND * column_tiles
        emitter.line(f"const int first_row = tile / {band} * {BAND};")
        emitter.line(f"const int band = min({BAND}, {row_tiles} - first_row);")
        emitter.line(f"const int column0 = tile % {band} / band * {tiling.column_edge};")
        emitter.line(f"const int row0 = (first_row + tile % {band} % band) * {tiling.row_edge};")
        emitter.line(f"const int part = {group} / {tiles} % {tiling.splits};")
        emitter.line(f"const int batch = {group} / {tiles * tiling.splits};")
        self.emitter.name_flat("batch", form.batch)
        if self.body.split is not None:
            emitter.name_axis(self.body.split, "part")
        total = form.summed_count
        share = -(-total // (tiling.depth * tiling.splits)) * tiling.depth
        first = f"part * {share}" if tiling.splits > 1 else "0"
        last = f"min({total}, part * {share} + {share})" if tiling.splits > 1 else str(total)
        emitter.line(f"const int first = {first}, last = {last};")
        return form.batch_count * tiling.splits * tiles

    # The loop over the sum ----------------------------------------------------------------------

    def _declare_sums(self) -> None:
        names = [f"c{i}_{j} = 0" for i, j in self._sums()]
        self.emitter.line(f"{self._vector(self.column_vector)} {', '.join(names)};")

    def _sums(self) -> list[tuple[int, int]]:
        vectors = self.tiling.column_each // self.column_vector
        return [(i, j) for i in range(self.tiling.row_each) for j in range(vectors)]

    def _vector(self, width: int) -> str:
        return ctypes.vector(self.sum_type, width)

    def _blocks(self) -> None:
        """Each round fetches a block and multiplies the one before it."""
        tiling, emitter = self.tiling, self.emitter
        depth = tiling.depth
        fetched = [operand for operand in (self.left, self.right) if not operand.direct]
        for operand in fetched:
            names = [f"{operand.name}_{n} = 0" for n in range(operand.count)]
            emitter.line(f"{self._vector(operand.vector)} {', '.join(names)};")
        emitter.open()
        emitter.line(f"const int next = k0 + {depth};")
        now = then = ""
        if tiling.buffers > 1:
            emitter.line(f"const int odd = (next - first) / {depth} % 2;")
            now, then = "(1 - odd)", "odd"
        emitter.open()
        for operand in fetched:
            self._fetch(operand)
        emitter.close("if (next < last) {")
        emitter.open()
        self.multiply(now)
        emitter.close("if (k0 >= first) {")
        if tiling.buffers == 1:
            emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
        for operand in (self.left, self.right):
            if operand.direct:
                self._copy(operand, then)
            else:
                self._keep(operand, then)
        emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
        emitter.close(f"for (int k0 = first - {depth}; k0 < last; k0 += {depth}) {{")

    def _fetch(self, operand: _Operand) -> None:
        """Read the item's pieces of the next block into registers."""
        for number in range(operand.count):
            self.emitter.open(operand.line if operand.vector > 1 else None, operand.vector)
            more = f" + {number * self.tiling.local}" if number else ""
            self.emitter.line(f"const int piece = item{more};")
            target = f"{operand.name}_{number}"
            self.emitter.line(f"{target} = 0;")
            self._read(operand, target)
            self.emitter.close("{")

    def _read(self, operand: _Operand, target: str) -> None:
        """Set ``target`` to the named piece of the next block where there is one."""
        emitter, form = self.emitter, self.form
        k, f = self._position(operand)
        emitter.line(f"const int free = {operand.start} + {f}, summed = next + {k};")
        emitter.open()
        self.emitter.name_flat("free", operand.axes)
        self.emitter.name_flat("summed", form.summed)
        text = emitter.wide(operand.value, operand.vector)
        emitter.line(f"{target} = {self.sums.of_value(text, operand.vector)};")
        exists = f"free < {operand.size} && summed < last"
        if operand.pieces % self.tiling.local and not operand.direct:
            exists = f"piece < {operand.pieces} && {exists}"
        emitter.close(f"if ({exists}) {{")

    def _position(self, operand: _Operand) -> tuple[str, str]:
        """(summed, free) position in the block of the named piece's first element."""
        if operand.along_sum:
            line = self.tiling.depth // operand.vector
            return f"piece % {line} * {operand.vector}", f"piece / {line}"
        line = operand.edge // operand.vector
        return f"piece / {line}", f"piece % {line} * {operand.vector}"

    def _copy(self, operand: _Operand, half: str) -> None:
        """Read the next block straight into local memory: for what is dear to address."""
        emitter = self.emitter
        emitter.open()
        emitter.line(f"{self.sum_type} value = 0;")
        self._read(operand, "value")
        self._write(operand, half, "value")
        emitter.close(
            f"for (int piece = item; piece < {operand.pieces}; piece += {self.tiling.local}) {{"
        )

    def _keep(self, operand: _Operand, half: str) -> None:
        """Write the fetched pieces into local memory, the free axes fastest."""
        local = self.tiling.local
        for number in range(operand.count):
            self.emitter.open()
            more = f" + {number * local}" if number else ""
            self.emitter.line(f"const int piece = item{more};")
            self._write(operand, half, f"{operand.name}_{number}")
            ragged = operand.pieces % local and number == operand.count - 1
            self.emitter.close(
                f"if (item + {number * local} < {operand.pieces}) {{" if ragged else "{"
            )

    def _write(self, operand: _Operand, half: str, held: str) -> None:
        emitter, vector = self.emitter, operand.vector
        pitch = self.tiling.pitch(operand.edge)
        k, f = self._position(operand)
        place = f"{operand.name}{self._half(operand, half)} + ({k}) * {pitch} + {f}"
        emitter.line(f"__local {self.sum_type} *d = {place};")
        if vector == 1:
            emitter.line(f"d[0] = {held};")
        elif operand.along_sum:
            for lane in range(vector):
                emitter.line(f"d[{lane * pitch}] = {held}.s{lane};")
        else:
            emitter.line(f"*(__local {self._vector(vector)} *)d = {held};")

    def _half(self, operand: _Operand, half: str) -> str:
        size = self.tiling.depth * self.tiling.pitch(operand.edge)
        return f" + {half} * {size}" if half else ""

    def multiply(self, half: str) -> None:
        """One block's products, from local memory into the sums."""
        tiling, emitter, size = self.tiling, self.emitter, self.tiling.subgroup
        emitter.open()
        if size:
            # Each item of a sub-group holds the rows' factors at another position of the sum.
            self._factors("held", self.left, half, "near + lane")
            emitter.open()
            emitter.line("const int k = near + s;")
        else:
            self._factors("p", self.left, half, "k")
        self._factors("q", self.right, half, "k")
        for i, j in self._sums():
            factor = ctypes.broadcast(self._row(i), self.sum_type, self.column_vector)
            if size and j == 0:
                emitter.line(f"const {self.sum_type} r{i} = {self._row(i, told=True)};")
            if self.form.accumulate.kind == "f":
                emitter.line(f"c{i}_{j} = fma({factor}, q{j}, c{i}_{j});")
            else:
                emitter.line(f"c{i}_{j} += {factor} * q{j};")
        if size:
            emitter.close(f"for (int s = 0; s < {size}; s++) {{")
            emitter.close(f"for (int near = 0; near < {tiling.depth}; near += {size}) {{")
            return
        emitter.close(f"for (int k = 0; k < {tiling.depth}; k++) {{")

    def _factors(self, name: str, operand: _Operand, half: str, k: str) -> None:
        """Read the item's factors of one side at position ``k`` of the block."""
        tiling = self.tiling
        is_left = operand is self.left
        place, items = ("y", tiling.rows) if is_left else ("x", tiling.columns)
        width = self.row_vector if is_left else self.column_vector
        each = tiling.row_each if is_left else tiling.column_each
        kind, pitch = self._vector(width), tiling.pitch(operand.edge)
        for piece in range(each // width):
            at = f"{operand.name}{self._half(operand, half)} + ({k}) * {pitch} "
            at += f"+ {piece * items * width} + {place} * {width}"
            self.emitter.line(f"const {kind} {name}{piece} = *(__local const {kind} *)({at});")

    def _row(self, i: int, told: bool = False) -> str:
        """C text of row ``i``'s factor; ``told`` by the item of the sub-group that holds it."""
        if self.tiling.subgroup and not told:
            return f"r{i}"
        stem = "held" if told else "p"
        row = f"{stem}{i // self.row_vector}"
        if self.row_vector > 1:
            row += f".s{i % self.row_vector}"
        return f"sub_group_broadcast({row}, s)" if told else row

    # Results ------------------------------------------------------------------------------------

    def _results(self) -> None:
        """The epilogue for each of the item's sums, in vectors where the output's lines allow."""
        tiling, emitter, form = self.tiling, self.emitter, self.form
        sums, v = self._sums(), self.row_vector
        held = self.column_vector
        # A loop over a copy keeps the code short; the sums themselves stay in registers.
        emitter.line(f"{self.sum_type} sums[{len(sums) * held}];")
        for number, (i, j) in enumerate(sums):
            text = f"vstore{held}(c{i}_{j}, {number}, sums);"
            emitter.line(text if held > 1 else f"sums[{number}] = c{i}_{j};")
        last = form.columns[-1].size if form.columns else 1
        width = held if last % held == 0 else 1
        each = tiling.column_each // width
        emitter.open()
        emitter.line(f"const int i = e / {each}, j = e % {each} * {width};")
        emitter.line(f"const int row = row0 + i / {v} * {tiling.rows * v} + y * {v} + i % {v};")
        at = f"j / {held} * {tiling.columns * held} + x * {held} + j % {held}"
        emitter.line(f"const int column = column0 + {at};")
        self.emitter.name_flat("row", form.rows)
        self._store(f"vload{width}(e, sums)" if width > 1 else "sums[e]", width)
        emitter.close(f"for (int e = 0; e < {tiling.row_each * each}; e++) {{")

    def _store(self, text: str, width: int) -> None:
        emitter, form = self.emitter, self.form
        emitter.open(form.columns[-1] if width > 1 else None, width)
        self.emitter.name_flat("column", form.columns)
        self.sums.store(text, width, form.epilogue)
        emitter.close(f"if (row < {form.row_count} && column < {form.column_count}) {{")
