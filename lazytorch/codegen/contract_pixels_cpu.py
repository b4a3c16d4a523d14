"""A convolution with vectors along its output channels, as OpenCL C for CPU devices.

One work-item: for every row tile, for every block of channels, stage the input's window in local
memory, run the register tiles, and turn the finished ones around. Knows tilings
and the emitter; must not choose sizes.
"""

from __future__ import annotations

from lazytorch.codegen.contract_body import PixelContractBody
from lazytorch.codegen.contract_line import LineStager
from lazytorch.codegen.contract_pixels import (
    UNROLLED,
    conditions,
    panel_axis,
    through_places,
)
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import index as ix
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store, extent


def render_pixels(body: PixelContractBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups."""
    return _Renderer(body, emitter).render(group)


class _Renderer:
    def __init__(self, body: PixelContractBody, emitter: Emitter) -> None:
        self.form = body.form
        self.batch = body.batch
        self.tiling = body.tiling
        self.emitter = emitter
        self.sums = Sums(body.form, emitter)
        self.sum_type = self.sums.type
        self.vector_type = f"{self.sum_type}{self.tiling.width}"
        self.names = {name: emitter.fresh(name) for name in self.tiling.local_elements}
        self.names["kernel"] = emitter.fresh("kernel_values")
        self.kernel_space = f"__global const {self.sum_type} *restrict"
        self.lines = LineStager(emitter, self.tiling.width, self.sums)

    # The whole ----------------------------------------------------------------------------------

    def render(self, group: str) -> int:
        emitter, tiling, form = self.emitter, self.tiling, self.form
        for name, size in tiling.local_elements.items():
            emitter.declarations.append(
                f"__local {self.sum_type} {self.names[name]}[{size}] __attribute__((aligned(64)));"
            )
        columns, shares = tiling.column_tiles, tiling.shares
        emitter.line(f"const int column_tile = {group} % {columns};")
        emitter.line(f"const int share = {group} / {columns} % {shares};")
        emitter.line(f"const int batch = {group} / {columns * shares};")
        self.emitter.name_flat("batch", form.batch)
        emitter.line(f"const int lane0 = column_tile * {tiling.column_groups * tiling.width};")
        self._declare_kernel()
        if tiling.blocks == 1:
            self._enter_block("0")
        emitter.open()
        self._enter_row_tile()
        if tiling.blocks == 1:
            self._stage_box()
            self._register_tiles()
        else:
            emitter.open()
            self._enter_block("block")
            self._stage_box()
            self._register_tiles()
            emitter.close(f"for (int block = 0; block < {tiling.blocks}; block++) {{")
        total = tiling.row_tiles
        emitter.close(
            f"for (int row_tile = share * {total} / {shares}; "
            f"row_tile < (share + 1) * {total} / {shares}; row_tile++) {{"
        )
        return form.batch_count * columns * shares

    def _declare_kernel(self) -> None:
        """Name the packed kernel and the first register tile that the work-item reads of it."""
        emitter, tiling = self.emitter, self.tiling
        # Wrapping integers are summed in the unsigned type of the same size.
        cast = f"(__global const {self.sum_type} *)"
        array = emitter.names(self.form.vector.data[0])
        emitter.line(f"{self.kernel_space} {self.names['kernel']} = {cast}{array};")
        groups, step = "0", 1
        for axis in reversed(self.form.batch):
            if axis in self.batch:
                at = emitter.index(ix.of_atom(axis))
                groups = f"{groups} + {at} * {step}" if step > 1 else at
                step *= axis.size
        per_item = tiling.column_groups // tiling.nv
        tile = f"({groups}) * {tiling.register_tiles} + column_tile * {per_item}"
        emitter.line(f"const int kernel_tile0 = {tile};")

    def _enter_block(self, block: str) -> None:
        tiling, line = self.tiling, self.emitter.line
        line(f"const int chunk0 = {block} * {tiling.chunk};")
        size = tiling.channel.size if tiling.channel is not None else 1
        if size % tiling.chunk == 0:
            line(f"const int chunk = {tiling.chunk};")
        else:
            line(f"const int chunk = min({tiling.chunk}, {size} - chunk0);")

    def _enter_row_tile(self) -> None:
        tiling, line = self.tiling, self.emitter.line
        line(f"const int image0 = row_tile / {tiling.heights} * {tiling.per_tile};")
        count = extent(tiling.images)
        line(f"const int images = min({tiling.per_tile}, {count} - image0);")
        size = tiling.places[0].axis.size
        line(f"const int wanted0 = row_tile % {tiling.heights} * {tiling.height};")
        line(f"const int end0 = min(wanted0 + {tiling.height}, {size});")
        # The last tile's window is moved back, so that every tile stages equally much.
        line(f"const int first0 = min(wanted0, {size - tiling.height});")

    # Staging ------------------------------------------------------------------------------------

    def _name_columns(self) -> None:
        """Name the column axes of lane ``q``."""
        tiling = self.tiling
        if tiling.phases:
            self.emitter.name_flat(f"(q / {tiling.phase_lanes})", tiling.phases)
            self.emitter.name_flat(f"(q % {tiling.phase_lanes})", tiling.channels)
        else:
            self.emitter.name_flat("q", tiling.channels)

    def _exists(self) -> str:
        """The condition that lane ``q`` stands for an output channel."""
        tiling = self.tiling
        if not tiling.phases:
            return f"q < {extent(tiling.channels)}"
        count = extent(tiling.phases) * tiling.phase_lanes
        return f"q < {count} && q % {tiling.phase_lanes} < {extent(tiling.channels)}"

    def _close(self, heads: list[str]) -> None:
        for head in reversed(heads):
            self.emitter.close(head)

    def _stage_box(self) -> None:
        """Stage the input's window as [channel][image][position]...[position]."""
        emitter, tiling = self.emitter, self.tiling
        operand, positions = through_places(self.form.scalar, tiling.places)
        heads = ["for (int k = 0; k < chunk; k++) {"]
        emitter.open()
        if tiling.channel is not None:
            emitter.name_axis(tiling.channel, "(chunk0 + k)")
        emitter.open()
        heads.append("for (int image = 0; image < images; image++) {")
        self.emitter.name_flat("(image0 + image)", tiling.images)
        place = f"{self.names['box']} + k * {tiling.plane} + image * {tiling.image_elements}"
        for number, position in enumerate(positions[:-1]):
            emitter.open()
            counter = f"u{number}"
            heads.append(
                f"for (int {counter} = 0; {counter} < {tiling.extents[number]}; {counter}++) {{"
            )
            at = counter
            if number == 0:
                at = f"(first0 * {tiling.places[0].stride} + {counter})"
            emitter.name_axis(position, at)
            place += f" + {counter} * {tiling.steps[number]}"
        emitter.line(f"__local {self.sum_type} *d = {place};")
        self.lines.stage(operand, positions[-1], "d")
        self._close(heads)

    # Register tiles -----------------------------------------------------------------------------

    def _register_tiles(self) -> None:
        """The loops over the register tiles of a row tile, vectors of channels outermost."""
        emitter, tiling = self.emitter, self.tiling
        emitter.line("int number = 0;")
        heads = [f"for (int v0 = 0; v0 < {tiling.column_groups}; v0 += {tiling.nv}) {{"]
        emitter.open()
        heads.append("for (int image = 0; image < images; image++) {")
        emitter.open()
        self.emitter.name_flat("(image0 + image)", tiling.images)
        at = f"image * {tiling.image_elements}"
        for number, place in enumerate(tiling.places[: tiling.depth + 1]):
            first, end = ("wanted0", "end0") if number == 0 else ("0", str(place.axis.size))
            step = tiling.steps[number] * place.stride
            name = f"p{number}"
            emitter.open()
            if number < tiling.depth:
                heads.append(f"for (int {name} = {first}; {name} < {end}; {name}++) {{")
                emitter.name_axis(place.axis, name)
                position = name
            else:
                heads.append(
                    f"for (int {name} = {first}; {name} < {end}; {name} += {tiling.lines}) {{"
                )
                # The last panel is moved back; rows that it repeats are not stored again.
                emitter.line(f"const int start = min({name}, {end} - {tiling.lines});")
                emitter.line(f"const int skipped = ({name} - start) * {tiling.inner};")
                position = "start"
            at += f" + ({position} - first0) * {step}" if number == 0 else f" + {position} * {step}"
        self._tile(at)
        self._close(heads)

    def _tile(self, at: str) -> None:
        emitter, tiling = self.emitter, self.tiling
        space = f"__local const {self.sum_type} *restrict"
        accumulators = [(i, j) for i in range(tiling.mr) for j in range(tiling.nv)]
        many = tiling.blocks > 1
        names = ", ".join(f"c{i}_{j} = 0" for i, j in accumulators)
        emitter.line(f"{self.vector_type} {names};")
        if many:
            sums = f"{self.names['sums']} + number * {tiling.tile_elements}"
            emitter.line(f"__local {self.sum_type} *s = {sums};")
            emitter.line("number++;")
            emitter.line("if (block > 0) {")
            for n, (i, j) in enumerate(accumulators):
                emitter.line(f"  c{i}_{j} = vload{tiling.width}({n}, s);")
            emitter.line("}")
        emitter.line(f"{space} left = {self.names['box']} + {at};")
        tile = f"(kernel_tile0 + v0 / {tiling.nv}) * (size_t){tiling.tile_weights}"
        emitter.line(
            f"{self.kernel_space} right = {self.names['kernel']} + {tile}"
            f" + chunk0 * {tiling.tap_count * tiling.nv * tiling.width};"
        )
        self._taps()
        if not many:
            self._finish()
            return
        emitter.line(f"if (block + 1 < {tiling.blocks}) {{")
        for n, (i, j) in enumerate(accumulators):
            emitter.line(f"  vstore{tiling.width}(c{i}_{j}, {n}, s);")
        emitter.line("}")
        emitter.open()
        self._finish()
        emitter.close("else {")

    def _taps(self) -> None:
        """The multiply-adds: loops over runs of channels, kernel positions, a run's channels."""
        emitter, tiling = self.emitter, self.tiling
        step = tiling.nv * tiling.width
        if tiling.phases:
            at = f"((lane0 + v0 * {tiling.width}) / {tiling.phase_lanes})"
            emitter.open()
            self.emitter.name_flat(at, tiling.phases)
        emitter.open()
        emitter.line(f"const int run = min({tiling.run}, chunk - run0);")
        heads, moved, flat = self._open_taps()
        known = {*tiling.phases, *tiling.taps}
        decided = tuple(c for c in conditions(self.form.vector) if c.index.axes() <= known)
        if decided:
            # The kernel was filled up with zeros to have equally many positions a phase.
            emitter.line(f"if (!({emitter.guard(decided)})) continue;")
        emitter.line(
            f"__local const {self.sum_type} *restrict a = left + run0 * {tiling.plane}{moved};"
        )
        per_run = tiling.tap_count * step
        emitter.line(
            f"{self.kernel_space} b = right + run0 * {per_run} + {flat} * {tiling.run * step};"
        )
        emitter.line("int k = 0;")
        for count in (UNROLLED, 1) if tiling.run >= UNROLLED else (1,):
            emitter.open()
            for number in range(count):
                self._multiply(number * tiling.plane, number * step)
            emitter.line(f"a += {count * tiling.plane}; b += {count * step};")
            emitter.close(f"for (; k + {count} <= run; k += {count}) {{")
        for head in reversed(heads):
            emitter.close(head)
        emitter.close(f"for (int run0 = 0; run0 < chunk; run0 += {tiling.run}) {{")
        if tiling.phases:
            emitter.close("{")

    def _open_taps(self) -> tuple[list[str], str, str]:
        """Open the loops over kernel positions: (their heads, C text that moves the pixels, C
        text of the position's number)."""
        emitter, tiling = self.emitter, self.tiling
        moves = {
            place.window.tap: place.window.dilation * step
            for place, step in zip(tiling.places, tiling.steps)
            if place.window is not None
        }
        heads = []
        left, flat = "", "0"
        for number, axis in enumerate(tiling.taps):
            emitter.open()
            name = f"t{number}"
            emitter.name_axis(axis, name)
            loop = f"for (int {name} = 0; {name} < {axis.size}; {name}++) {{"
            heads.append(f"__attribute__((opencl_unroll_hint(1))) {loop}")
            left += f" + {name} * {moves[axis]}"
            flat = f"({flat} * {axis.size} + {name})" if number else name
        return heads, left, flat

    def _row_offsets(self) -> list[int]:
        tiling = self.tiling
        offsets = [0]
        for number in range(tiling.depth, len(tiling.places)):
            place = tiling.places[number]
            count = tiling.lines if number == tiling.depth else place.axis.size
            step = tiling.steps[number] * place.stride
            offsets = [at + step * n for at in offsets for n in range(count)]
        return offsets

    def _multiply(self, left: int, right: int) -> None:
        width, line, vector = self.tiling.width, self.emitter.line, self.vector_type
        floating = self.form.accumulate.kind == "f"
        line("{")
        for j in range(self.tiling.nv):
            line(f"  const {vector} w{j} = vload{width}(0, b + {right + j * width});")
        for i, offset in enumerate(self._row_offsets()):
            terms = [f"const {vector} s = ({vector})(a[{offset + left}]);"]
            for j in range(self.tiling.nv):
                c = f"c{i}_{j}"
                terms.append(f"{c} = fma(s, w{j}, {c});" if floating else f"{c} += s * w{j};")
            line(f"  {{ {' '.join(terms)} }}")
        line("}")

    # Results ------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Turn the tile around and store every channel's pixels."""
        emitter, tiling = self.emitter, self.tiling
        width, mr, pitch = tiling.width, tiling.mr, tiling.turned_pitch
        turned = self.names["turned"]
        for j in range(tiling.nv):
            for base in range(0, mr, width):
                square = [f"c{min(base + i, mr - 1)}_{j}" for i in range(width)]
                results = [f"r{i}" for i in range(width)]
                emitter.open()
                emitter.line(f"{self.vector_type} {', '.join(results)};")
                for text in transposed(square, self.sum_type, emitter.fresh, results):
                    emitter.line(text)
                for lane in range(width):
                    at = (j * width + lane) * pitch + base
                    emitter.line(f"vstore{width}(r{lane}, 0, {turned} + {at});")
                emitter.close("{")
        first, row, stores = panel_axis(tiling, self.form.epilogue)
        emitter.open()
        emitter.line(f"const int q = lane0 + v0 * {width} + l;")
        emitter.line(f"if (!({self._exists()})) continue;")
        self._name_columns()
        emitter.name_axis(first, "start")
        emitter.line(f"__local const {self.sum_type} *u = {turned} + l * {pitch};")
        emitter.open()
        at, piece = 0, width
        while at < mr:
            while piece > mr - at:
                piece //= 2
            self._store(row, stores, str(at), piece)
            at += piece
        size = tiling.height if tiling.depth == 0 else tiling.places[tiling.depth].axis.size
        whole = size % tiling.lines == 0 and (
            tiling.depth > 0 or tiling.places[0].axis.size % tiling.height == 0
        )
        if whole:
            emitter.close("{")
        else:
            emitter.close("if (skipped == 0) {")
            emitter.open()
            self._store(row, stores, "i", 1)
            emitter.close(f"else for (int i = skipped; i < {mr}; i++) {{")
        emitter.close(f"for (int l = 0; l < {tiling.nv * width}; l++) {{")

    def _store(self, row: Axis, stores: list[Store], at: str, width: int) -> None:
        emitter = self.emitter
        if width > 1:
            emitter.open(row, width)
            text = f"vload{width}(0, u + {at})"
        else:
            emitter.open()
            text = f"u[{at}]"
        emitter.name_axis(row, at)
        self.sums.store(text, width, stores)
        emitter.close("{")
