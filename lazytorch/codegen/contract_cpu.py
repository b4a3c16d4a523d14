"""A tiled contraction for CPU devices, as OpenCL C.

One work-item: for each block of the summed axes, stage the vector operand (and the scalar one
where it is a window) in local memory, then run the register tile over all panels of rows. Local
memory is a scratchpad that stays in the core's caches; work-groups hold one work-item, so no
barriers are needed. Knows forms, tilings and the emitter; must not choose tile sizes.
"""

from __future__ import annotations

from lazytorch.codegen.contract_body import TiledContractBody
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_stage import Stager
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.contract_tile import RegisterTileWriter
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.contract_turn import TurnedResults
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent


def render_cpu(body: TiledContractBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups.

    ``group`` is the C text of the body's linear group number.
    """
    return _Renderer(body, body.tiling, emitter).render(group)


class _Renderer:
    def __init__(self, body: TiledContractBody, tiling: Tiling, emitter: Emitter) -> None:
        self.body = body
        self.form: Form = body.form
        self.tiling = tiling
        self.emitter = emitter
        self.sums = Sums(body.form, emitter)
        self.sum_type = self.sums.type
        self.vector_type = f"{self.sum_type}{tiling.width}"
        self.stage_name = emitter.fresh("stage")
        self.box_name = emitter.fresh("box")
        self.tile_name = emitter.fresh("tile")
        self.blocks = tiling.blocks
        self.panels = tiling.panels
        self.turned_name = emitter.fresh("turned") if self._stores_along_rows() else ""
        self.stager = Stager(self.form, tiling, emitter, self.sums)
        self.turned = TurnedResults(self.form, tiling, emitter, self.stager, self.sums)

    # The whole ----------------------------------------------------------------------------------

    def render(self, group: str) -> int:
        emitter, tiling = self.emitter, self.tiling
        counts = self._work_items()
        self._decompose(group, counts)
        many = self.blocks.count > 1
        if tiling.turned:
            self.turned.declare()
        if many or tiling.splits > 1:
            emitter.open()
            self._enter_block("blk")
            self._block()
            first, last = self._block_range()
            emitter.close(f"for (int blk = {first}; blk < {last}; blk++) {{")
        else:
            emitter.open()
            self._enter_block("0")
            self._block()
            emitter.close("{")
        if tiling.turned:
            self.turned.store(self.tile_name)
        total = 1
        for _, count in counts:
            total *= count
        emitter.declarations.extend(self._declarations())
        return total

    def _work_items(self) -> list[tuple[str, int]]:
        tiling = self.tiling
        counts = [("row_tile", tiling.row_tiles), ("column_tile", tiling.column_tiles)]
        if tiling.vector_windows:
            counts.append(("other", extent(self._other_columns())))
        counts.append(("split", tiling.splits))
        counts.append(("batch", self.form.batch_count))
        return counts

    def _other_columns(self) -> tuple[Axis, ...]:
        windowed = {window.free for window in self.tiling.vector_windows}
        return tuple(axis for axis in self.form.columns if axis not in windowed)

    def _decompose(self, group: str, counts: list[tuple[str, int]]) -> None:
        step = 1
        for name, count in counts:
            text = f"{group} / {step}" if step > 1 else group
            self.emitter.line(f"const int {name} = {f'({text}) % {count}' if count > 1 else '0'};")
            step *= count
        self.emitter.name_flat("batch", self.form.batch)
        if self.tiling.vector_windows:
            self.emitter.name_flat("other", self._other_columns())
        if self.body.split is not None:
            self.emitter.name_axis(self.body.split, "split")
        lanes, panels = self.tiling.lanes, self.tiling.row_panels
        self.emitter.line(f"const int panel0 = row_tile * {panels};")
        self.emitter.line(f"const int panel1 = min(panel0 + {panels}, {self.panels.count});")
        if self.tiling.vector_windows:
            self.emitter.line(f"const int row0 = column_tile * {self.tiling.window_rows};")
            self.emitter.line("const int lane0 = 0;")
        else:
            self.emitter.line(f"const int lane0 = column_tile * {lanes};")

    def _block_range(self) -> tuple[str, str]:
        splits, count = self.tiling.splits, self.blocks.count
        if splits == 1:
            return "0", str(count)
        return f"split * {count} / {splits}", f"(split + 1) * {count} / {splits}"

    def _enter_block(self, block: str) -> None:
        blocks, emitter = self.blocks, self.emitter
        emitter.line(f"const int chunk0 = {block} % {blocks.chunks} * {blocks.chunk};")
        if blocks.outer:
            emitter.line(f"const int outer_block = {block} / {blocks.chunks};")
            self.emitter.name_flat("outer_block", blocks.outer)
        size = blocks.axis.size if blocks.axis is not None else 1
        if size % blocks.chunk == 0:
            emitter.line(f"const int chunk = {blocks.chunk};")
        else:
            emitter.line(f"const int chunk = min({blocks.chunk}, {size} - chunk0);")

    def _block(self) -> None:
        tiling, emitter = self.tiling, self.emitter
        if tiling.vector_windows:
            self.stager.stage_box_vector(self.stage_name)
        elif not tiling.in_place:
            self.stager.stage_panel(self.stage_name)
        if tiling.scalar_windows:
            self.stager.stage_box_scalar(self.box_name)
        loops = [
            f"for (int v0 = 0; v0 < {tiling.column_groups}; v0 += {tiling.nv}) {{",
            "for (int panel = panel0; panel < panel1; panel++) {",
        ]
        if tiling.panels_outside:
            loops.reverse()
        emitter.open()
        emitter.open()
        self._tile()
        emitter.close(loops[1])
        emitter.close(loops[0])

    # One register tile --------------------------------------------------------------------------

    def _tile(self) -> None:
        emitter, tiling, panels = self.emitter, self.tiling, self.panels
        if panels.outer:
            emitter.line(f"const int outer_panel = panel / {panels.along};")
            self.emitter.name_flat("outer_panel", panels.outer)
        if panels.axis is None:
            emitter.line("const int start = 0, skipped = 0;")
        else:
            last = panels.axis.size - panels.chunk
            at = (
                f"panel % {panels.along} * {panels.chunk}"
                if panels.outer
                else f"panel * {panels.chunk}"
            )
            emitter.line(f"const int wanted = {at};")
            start = "wanted" if tiling.packed_panels else f"min(wanted, {last})"
            emitter.line(f"const int start = {start};")
            emitter.line(f"const int skipped = (wanted - start) * {extent(panels.inner)};")
        accumulators = [(i, j) for i in range(panels.mr) for j in range(tiling.nv)]
        names = ", ".join(f"c{i}_{j} = 0" for i, j in accumulators)
        emitter.line(f"{self.vector_type} {names};")
        RegisterTileWriter(
            self.form, tiling, emitter, self.stager, self.sum_type, self.stage_name, self.box_name
        ).write()
        self._finish(accumulators)

    # Results ------------------------------------------------------------------------------------

    def _finish(self, accumulators: list[tuple[int, int]]) -> None:
        tiling, emitter = self.tiling, self.emitter
        many = self.blocks.count > 1
        if tiling.turned:
            first = f"blk == {self._block_range()[0]}" if many else None
            self.turned.keep(self.tile_name, first)
            return
        size = self.panels.mr * tiling.nv * tiling.width
        at = self.tile_name
        if many:
            tiles = tiling.column_groups // tiling.nv
            at += f" + ((panel - panel0) * {tiles} + v0 / {tiling.nv}) * {size}"
        emitter.line(f"__local {self.sum_type} *t = {at};")
        width, nv = tiling.width, tiling.nv
        plain = [f"vstore{width}(c{i}_{j}, {i * nv + j}, t);" for i, j in accumulators]
        if not many:
            for text in plain:
                emitter.line(text)
            self._epilogue()
            return
        first, last = self._block_range()
        emitter.line(f"if (blk == {first}) {{")
        for text in plain:
            emitter.line("  " + text)
        emitter.line("} else {")
        for i, j in accumulators:
            place = f"{i * nv + j}, t"
            emitter.line(f"  vstore{width}(vload{width}({place}) + c{i}_{j}, {place});")
        emitter.line("}")
        emitter.open()
        self._epilogue()
        emitter.close(f"if (blk + 1 == {last}) {{")

    def _epilogue(self) -> None:
        """The stores for every row and vector of the finished tile."""
        emitter, tiling, panels = self.emitter, self.tiling, self.panels
        if self.turned_name:
            self._epilogue_across()
            return
        emitter.open()
        inner = extent(panels.inner)
        if panels.axis is not None:
            emitter.line(f"const int chunk_row = start + i / {inner};")
            emitter.name_axis(panels.axis, "chunk_row")
        if panels.inner:
            emitter.line(f"const int inner_row = i % {inner};")
            self.emitter.name_flat("inner_row", panels.inner)
        emitter.open()
        self._epilogue_lanes()
        emitter.close(f"for (int v = 0; v < {tiling.nv}; v++) {{")
        end = str(panels.mr)
        if tiling.packed_panels and panels.axis is not None:
            end = f"min({panels.mr}, ({panels.axis.size} - start) * {inner})"
        emitter.close(f"for (int i = skipped; i < {end}; i++) {{")

    def _stores_along_rows(self) -> bool:
        """Whether the results of a column, not those of a row, are neighbours in memory."""
        form, panels, tiling = self.form, self.panels, self.tiling
        if panels.axis is None or panels.inner or len(form.columns) != 1 or panels.mr < 4:
            return False
        if tiling.in_place or tiling.vector_windows or tiling.scalar_windows:
            return False
        return all(store.index.coefficient(panels.axis) == 1 for store in form.epilogue)

    def _epilogue_across(self) -> None:
        """The stores for every column of the finished tile, several rows at once."""
        emitter, tiling, panels = self.emitter, self.tiling, self.panels
        assert panels.axis is not None
        mr = panels.mr
        self._turn_tile()
        emitter.open()
        emitter.line(f"const int q = lane0 + v0 * {tiling.width} + l;")
        self.stager.declare_lanes("q")
        emitter.open()
        self.stager.bind_lanes()
        emitter.open()
        for at, width in _pieces(mr, tiling.width):
            emitter.open(panels.axis, width)
            emitter.name_axis(panels.axis, f"(start + {at})")
            place = f"{self.turned_name} + l * {mr} + {at}"
            text = f"vload{width}(0, {place})" if width > 1 else f"({place})[0]"
            self.sums.store(text, width, self.form.epilogue)
            emitter.close("{")
        emitter.close(f"if (skipped == 0 && start + {mr} <= {panels.axis.size}) {{")
        emitter.open()
        emitter.name_axis(panels.axis, "(start + i)")
        self.sums.store(f"{self.turned_name}[l * {mr} + i]", 1, self.form.epilogue)
        end = f"min({mr}, {panels.axis.size} - start)"
        emitter.close(f"else for (int i = skipped; i < {end}; i++) {{")
        emitter.close(f"if ({self.stager.lanes_exist(1)}) {{")
        emitter.close(f"for (int l = 0; l < {tiling.nv * tiling.width}; l++) {{")

    def _turn_tile(self) -> None:
        """Write the finished tile as [column][row], in squares that are turned in registers."""
        emitter, mr = self.emitter, self.panels.mr
        pitch = self.tiling.nv * self.tiling.width
        side = min(8, 1 << (mr.bit_length() - 1))
        square = [f"r{i}" for i in range(side)]
        vector = f"{self.sum_type}{side}"
        emitter.open()
        # The last square is moved back over rows that are written already.
        for at in dict.fromkeys(min(at, mr - side) for at in range(0, mr, side)):
            emitter.open()
            emitter.line(f"{vector} {', '.join(square)};")
            for i, name in enumerate(square):
                emitter.line(f"{name} = vload{side}(0, t + {(at + i) * pitch} + l);")
            for text in transposed(square, self.sum_type, emitter.fresh):
                emitter.line(text)
            for i, name in enumerate(square):
                emitter.line(
                    f"vstore{side}({name}, 0, {self.turned_name} + (l + {i}) * {mr} + {at});"
                )
            emitter.close("{")
        emitter.close(f"for (int l = 0; l < {pitch}; l += {side}) {{")

    def _epilogue_lanes(self) -> None:
        emitter, tiling, form = self.emitter, self.tiling, self.form
        width = tiling.width
        emitter.line(f"const int q = lane0 + (v0 + v) * {width};")
        place = f"t + (i * {tiling.nv} + v) * {width}"
        if not form.columns:
            emitter.open()
            self.sums.store(f"({place})[0]", 1, form.epilogue)
            emitter.close("if (q == 0) {")
            return
        self.stager.declare_lanes("q")
        size = form.columns[-1].size
        if size >= width:
            self._lanes(place, 0, width)
            emitter.close(f"if ({self.stager.lanes_exist(width)}) {{")
        else:
            emitter.line("if (0) {}")
        if tiling.is_aligned or (len(form.columns) == 1 and not tiling.vector_windows):
            # A line's last vector was read from where it still lies inside.
            shift = f" + {tiling.unread_lanes}" if tiling.unread_lanes else ""
            self._partial_lanes(place + shift, size % width)
            return
        emitter.open()
        emitter.open()
        self.stager.declare_lanes("(q + l)")
        self._lanes(place, 0, 1, " + l")
        emitter.close(f"if ({self.stager.lanes_exist(1)}) {{")
        emitter.close(f"for (int l = 0; l < {width}; l++) {{")
        emitter.close("else {")

    def _partial_lanes(self, place: str, count: int) -> None:
        """The last ``count`` lanes of a line, in ever smaller vectors."""
        if count == 0:
            return
        emitter = self.emitter
        emitter.open()
        start = 0
        piece = self.tiling.width
        while piece > 1:
            piece //= 2
            if count & piece:
                self._lanes(place, start, piece)
                emitter.close("{")
                start += piece
        emitter.close(f"else if ({self.stager.lanes_exist(count)}) {{")

    def _lanes(self, place: str, start: int, width: int, more: str = "") -> None:
        """Open a block and store ``width`` lanes of a vector in it."""
        emitter, form = self.emitter, self.form
        at = f"{place}{more}" + (f" + {start}" if start else "")
        if width > 1:
            emitter.open(form.columns[-1], width)
            loaded = f"vload{width}(0, {at})"
        else:
            emitter.open()
            loaded = f"({at})[0]"
        self.stager.bind_lanes(start)
        self.sums.store(loaded, width, form.epilogue)

    # Local memory -------------------------------------------------------------------------------

    def _declarations(self) -> tuple[str, ...]:
        tiling = self.tiling
        sizes = {self.stage_name: tiling.stage_elements, self.tile_name: tiling.tile_elements}
        if self.turned_name:
            sizes[self.turned_name] = self.panels.mr * tiling.nv * tiling.width
        if self.stager.box is not None:
            sizes[self.box_name] = self.stager.box.size
        return tuple(
            f"__local {self.sum_type} {name}[{size}] __attribute__((aligned(64)));"
            for name, size in sizes.items()
            if size
        )


def _pieces(count: int, width: int) -> list[tuple[int, int]]:
    """``count`` neighbours as (first, number) in vectors of at most ``width``, ever smaller."""
    pieces = []
    first = 0
    while first < count:
        while width > count - first:
            width //= 2
        pieces.append((first, width))
        first += width
    return pieces
