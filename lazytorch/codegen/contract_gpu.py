"""A tiled contraction for GPUs, as OpenCL C.

A work-group computes a tile of rows by columns: both operands' parts of a short block of the sum
go through local memory (their prologues are computed on the way), and each work-item keeps a
small square of sums in registers. Batch, rows, columns and summed axes are each walked as one
flat position, so every contraction is a batched matrix product here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen import ctypes
from lazytorch.codegen.choice import GroupSchedule
from lazytorch.codegen.contract_form import Form, has_unit_stride
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store

_UNSIGNED = {"int": "uint", "long": "ulong"}


@dataclass(frozen=True)
class GroupTiling:
    """Work-groups of ``side * side`` items, ``each * each`` sums an item, blocks of ``depth``."""

    side: int
    each: int
    depth: int
    splits: int

    @property
    def edge(self) -> int:
        """Rows and columns of a work-group's tile."""
        return self.side * self.each

    @property
    def local(self) -> int:
        return self.side * self.side


@dataclass(frozen=True)
class GroupContractBody:
    """A contraction with its schedule for a GPU.

    ``split`` numbers the partial sums, as in ``TiledContractBody``.
    """

    form: Form
    tiling: GroupTiling
    split: Axis | None = None

    def expressions(self) -> list[Expression]:
        return [self.form.scalar, self.form.vector, *(s.value for s in self.form.epilogue)]

    def stores(self) -> list[Store]:
        return list(self.form.epilogue)


def choose_group_tiling(
    form: Form, target: Target, schedule: GroupSchedule | None = None
) -> GroupTiling:
    """The tiling for a form on a GPU target."""
    if schedule is not None:
        return GroupTiling(schedule.side, schedule.each, schedule.depth, schedule.splits)
    side = 16 if target.max_work_group_size >= 256 else 8
    small = min(form.row_count, form.column_count) <= side * 2
    each = 2 if small or form.accumulate.itemsize > 4 else 4
    edge = side * each
    groups = form.batch_count * -(-form.row_count // edge) * -(-form.column_count // edge)
    wanted = 2 * target.compute_units
    splits = 1
    if groups < wanted and form.summed_count >= 512:
        splits = max(1, min(-(-wanted // groups), form.summed_count // 256, 64))
    return GroupTiling(side, each, 16, splits)


def render_gpu(body: GroupContractBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups."""
    return _Renderer(body, emitter).render(group)


class _Renderer:
    def __init__(self, body: GroupContractBody, emitter: Emitter) -> None:
        self.body = body
        self.form = body.form
        self.tiling = body.tiling
        self.emitter = emitter
        self.value_type = ctypes.value_type(body.form.accumulate)
        # Unsigned arithmetic wraps; signed overflow is undefined in C.
        self.sum_type = _UNSIGNED.get(self.value_type, self.value_type)
        self.left = emitter.fresh("left")
        self.right = emitter.fresh("right")

    def render(self, group: str) -> int:
        form, tiling, emitter = self.form, self.tiling, self.emitter
        edge, line = tiling.edge, emitter.line
        row_tiles = -(-form.row_count // edge)
        column_tiles = -(-form.column_count // edge)
        # One element of padding keeps a column of the tile off a single memory bank.
        for name in (self.left, self.right):
            emitter.declarations.append(
                f"__local {self.sum_type} {name}[{tiling.depth * (edge + 1)}];"
            )
        line("const int item = get_local_id(0);")
        line(f"const int x = item % {tiling.side}, y = item / {tiling.side};")
        line(f"const int column0 = {group} % {column_tiles} * {edge};")
        line(f"const int row0 = {group} / {column_tiles} % {row_tiles} * {edge};")
        line(f"const int part = {group} / {column_tiles * row_tiles} % {tiling.splits};")
        line(f"const int batch = {group} / {column_tiles * row_tiles * tiling.splits};")
        self._name_flat("batch", form.batch)
        if self.body.split is not None:
            emitter.name_axis(self.body.split, "part")
        pairs = [(i, j) for i in range(tiling.each) for j in range(tiling.each)]
        sums = ", ".join(f"c{i}_{j} = 0" for i, j in pairs)
        line(f"{self.sum_type} {sums};")
        self._blocks()
        self._results(pairs)
        return form.batch_count * tiling.splits * row_tiles * column_tiles

    def _name_flat(self, flat: str, axes: tuple[Axis, ...]) -> None:
        """Name the axes whose positions ``flat`` enumerates, the last one fastest."""
        step = 1
        for number, axis in enumerate(reversed(axes)):
            text = f"{flat} / {step}" if step > 1 else flat
            if number < len(axes) - 1:
                text = f"({text}) % {axis.size}"
            name = self.emitter.fresh("at")
            self.emitter.line(f"const int {name} = {text};")
            self.emitter.name_axis(axis, name)
            step *= axis.size

    def _blocks(self) -> None:
        """The loop over the sum."""
        tiling, emitter, form = self.tiling, self.emitter, self.form
        total = form.summed_count
        share = -(-total // (tiling.depth * tiling.splits)) * tiling.depth
        first = f"part * {share}" if tiling.splits > 1 else "0"
        last = f"min({total}, part * {share} + {share})" if tiling.splits > 1 else str(total)
        emitter.line(f"const int first = {first}, last = {last};")
        emitter.open()
        self._stage(self.left, form.scalar, form.rows, "row0", form.row_count)
        self._stage(self.right, form.vector, form.columns, "column0", form.column_count)
        emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
        emitter.open()
        each, side, pitch = tiling.each, tiling.side, tiling.edge + 1
        for i in range(each):
            emitter.line(
                f"const {self.sum_type} p{i} = {self.left}[k * {pitch} + y * {each} + {i}];"
            )
        for j in range(each):
            at = f"k * {pitch} + x + {j * side}"
            emitter.line(f"const {self.sum_type} q{j} = {self.right}[{at}];")
        for i in range(each):
            for j in range(each):
                if form.accumulate.kind == "f":
                    emitter.line(f"c{i}_{j} = fma(p{i}, q{j}, c{i}_{j});")
                else:
                    emitter.line(f"c{i}_{j} += p{i} * q{j};")
        emitter.close(f"for (int k = 0; k < {tiling.depth}; k++) {{")
        emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
        emitter.close(f"for (int k0 = first; k0 < last; k0 += {tiling.depth}) {{")

    def _stage(
        self, name: str, operand: Expression, axes: tuple[Axis, ...], start: str, count: int
    ) -> None:
        """Copy one operand's part of the block into local memory, zeros outside."""
        tiling, emitter, form = self.tiling, self.emitter, self.form
        edge, depth = tiling.edge, tiling.depth
        emitter.open()
        along_sum = bool(form.summed) and has_unit_stride(operand, form.summed[-1])
        if along_sum:
            emitter.line(f"const int k = e % {depth}, f = e / {depth};")
        else:
            emitter.line(f"const int k = e / {edge}, f = e % {edge};")
        emitter.line(f"const int free = {start} + f, summed = k0 + k;")
        emitter.line(f"{self.sum_type} v = 0;")
        emitter.open()
        self._name_flat("free", axes)
        self._name_flat("summed", form.summed)
        emitter.line(f"v = {self._as_sum(emitter.value(operand)[0])};")
        emitter.close(f"if (free < {count} && summed < last) {{")
        emitter.line(f"{name}[k * {edge + 1} + f] = v;")
        emitter.close(f"for (int e = item; e < {edge * depth}; e += {tiling.local}) {{")

    def _results(self, pairs: list[tuple[int, int]]) -> None:
        """The epilogue for each of the item's sums."""
        tiling, emitter, form = self.tiling, self.emitter, self.form
        each = tiling.each
        names = ", ".join(f"c{i}_{j}" for i, j in pairs)
        emitter.line(f"const {self.sum_type} sums[{each * each}] = {{{names}}};")
        emitter.open()
        emitter.line(f"const int row = row0 + y * {each} + e / {each};")
        emitter.line(f"const int column = column0 + x + e % {each} * {tiling.side};")
        emitter.open()
        self._name_flat("row", form.rows)
        self._name_flat("column", form.columns)
        text = "sums[e]" if self.sum_type == self.value_type else f"as_{self.value_type}(sums[e])"
        emitter.line(f"const {self.value_type} total = {text};")
        emitter.define(ex.result(form.number, form.accumulate), "total")
        for store in form.epilogue:
            target = emitter.names(store.target)
            emitter.store(target, store.index, store.value, store.value.dtype, 1)
        emitter.close(f"if (row < {form.row_count} && column < {form.column_count}) {{")
        emitter.close(f"for (int e = 0; e < {each * each}; e++) {{")

    def _as_sum(self, text: str) -> str:
        return text if self.sum_type == self.value_type else f"as_{self.sum_type}({text})"
