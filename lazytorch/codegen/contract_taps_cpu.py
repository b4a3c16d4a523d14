"""A convolution's weight gradient, one kernel position at a time, as OpenCL C for CPU devices.

One work-item: for every block of the sum, stage the output's gradient and the input, then run the
register tiles at every kernel position over the positions that it reaches inside the image, and
add them to the sums in local memory. Knows tilings and the emitter; must not choose sizes.
"""

from __future__ import annotations

from lazytorch.codegen.contract_body import TapContractBody
from lazytorch.codegen.contract_sums import Sums
from lazytorch.codegen.contract_taps import Side, flattened_run, through_sides
from lazytorch.codegen.contract_transpose import interleaved, transposed
from lazytorch.codegen.contract_turn import store_turned
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import extent

# Positions of a line written out one after the other, where they are not interleaved images.
UNROLLED = 4


def render_taps(body: TapContractBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups."""
    return _Renderer(body, emitter).render(group)


class _Renderer:
    def __init__(self, body: TapContractBody, emitter: Emitter) -> None:
        self.form = body.form
        self.split = body.split
        self.tiling = body.tiling
        self.emitter = emitter
        self.sums = Sums(body.form, emitter)
        self.vector_type = f"{self.sums.type}{self.tiling.width}"
        self.names = {name: emitter.fresh(name) for name in self.tiling.local_elements}

    # The whole ----------------------------------------------------------------------------------

    def render(self, group: str) -> int:
        emitter, tiling, form = self.emitter, self.tiling, self.form
        line = emitter.line
        for name, size in tiling.local_elements.items():
            emitter.declarations.append(
                f"__local {self.sums.type} {self.names[name]}[{size}] __attribute__((aligned(64)));"
            )
        step = 1
        counts = {
            "column_tile": tiling.column_tiles,
            "row_tile": tiling.row_tiles,
            "split": tiling.splits,
            "batch": form.batch_count,
        }
        for name, count in counts.items():
            line(f"const int {name} = {group} / {step} % {count};")
            step *= count
        emitter.name_flat("batch", form.batch)
        if self.split is not None:
            emitter.name_axis(self.split, "split")
        line(f"const int lane0 = column_tile * {tiling.column_groups * tiling.width};")
        line(f"const int channel0 = row_tile * {tiling.channels};")
        line(f"const int channels = min({tiling.channels}, {tiling.channel.size} - channel0);")
        line(f"const int item_row0 = channel0 * {tiling.taps};")
        line(f"const int item_rows = channels * {tiling.taps};")
        line(f"const int block0 = split * {tiling.blocks} / {tiling.splits};")
        line(f"const int block1 = (split + 1) * {tiling.blocks} / {tiling.splits};")
        emitter.open()
        self._enter_block()
        self._stage_gradient()
        self._stage_input()
        self._register_tiles()
        emitter.close("for (int block = block0; block < block1; block++) {")
        store_turned(form, emitter, self.sums, self, tiling, self.names["sums"])
        return step

    def _enter_block(self) -> None:
        tiling, line = self.tiling, self.emitter.line
        side, window = tiling.sides[0], tiling.sides[0].window
        count = extent(tiling.images)
        line(f"const int image0 = block / {tiling.chunks} * {tiling.per_block};")
        line(f"const int images = min({tiling.per_block}, {count} - image0);")
        line(f"const int first = block % {tiling.chunks} * {tiling.height};")
        line(f"const int end = min(first + {tiling.height}, {side.output.size});")
        # Positions of the input that the block touches, counted without the padding.
        reach = (side.kernel.size - 1) * window.stride + 1 - side.low
        line(f"const int input0 = max(0, first * {window.dilation} - {side.low});")
        line(f"const int input1 = min({side.size}, (end - 1) * {window.dilation} + {reach});")

    # Lanes --------------------------------------------------------------------------------------

    def declare_lanes(self, q: str) -> None:
        """Declare ``lane``, the output channel."""
        self.emitter.line(f"const int lane = {q};")

    def lanes_exist(self, reach: int) -> str:
        """The condition that ``reach`` lanes from the declared one stand for channels."""
        return f"lane + {reach} <= {self.tiling.columns}"

    def bind_lanes(self, lane: int = 0) -> None:
        """Name the output channel ``lane`` lanes after the declared one."""
        self.emitter.name_axis(self.form.columns[0], f"(lane + {lane})" if lane else "lane")

    # Staging ------------------------------------------------------------------------------------

    def _stage_gradient(self) -> None:
        """Stage the vector operand as [register tile][image][position][lane]."""
        emitter, tiling = self.emitter, self.tiling
        outputs = tuple(side.output for side in tiling.sides)
        together, step = tiling.together, tiling.nv * tiling.width
        emitter.open()
        self.declare_lanes(f"lane0 + v * {tiling.width}")
        emitter.open()
        emitter.name_flat("(image0 + image)", tiling.images)
        place = (
            f"{self.names['turned']} + v / {tiling.nv} * {tiling.tile_elements} + "
            f"v % {tiling.nv} * {tiling.width} + image % {together} * {step} + "
            f"image / {together} * {tiling.image_outputs * together * step}"
        )
        operand, axis, heads, at, count = self._run(
            self.form.vector, outputs, tiling.flat_vector, "first", "end", tiling.inner_outputs
        )
        emitter.line(f"__local {self.sums.type} *d = {place} + {at[1]} * {together * step};")
        self._squares(operand, axis, at[0], count, together * step)
        for head in reversed(heads):
            emitter.close(head)
        emitter.close("for (int image = 0; image < images; image++) {")
        emitter.close(f"for (int v = 0; v < {tiling.column_groups}; v++) {{")

    def _run(
        self,
        operand: Expression,
        axes: tuple[Axis, ...],
        flat: bool,
        first: str,
        end: str,
        inner: int,
    ) -> tuple[Expression, Axis, list[str], tuple[str, str], str]:
        """(operand, axis, loops, (first position, where it is staged), count) of one run.

        The block's part is from ``first`` to ``end`` along the first axis. Where the axes cannot
        be walked as one, loops over all but the last are opened.
        """
        emitter = self.emitter
        if flat or len(axes) == 1:
            operand, axis = flattened_run(operand, axes)
            count = f"({end} - {first}) * {inner}"
            return operand, axis, [], (f"{first} * {inner}", "0"), count
        heads, at = [], "0"
        for number, axis in enumerate(axes[:-1]):
            name = f"u{number}"
            emitter.open()
            low, high = (first, end) if number == 0 else ("0", str(axis.size))
            emitter.name_axis(axis, name)
            heads.append(f"for (int {name} = {low}; {name} < {high}; {name}++) {{")
            here = f"({name} - {low})" if number == 0 else name
            at = f"({at} * {axis.size} + {here})" if number else here
        return operand, axes[-1], heads, ("0", f"{at} * {axes[-1].size}"), str(axes[-1].size)

    def _squares(self, operand: Expression, axis: Axis, first: str, count: str, step: int) -> None:
        """Stage a run of the vector operand, vectors of positions turned around."""
        emitter, width = self.emitter, self.tiling.width
        emitter.line(f"const int count = {count};")
        emitter.open()
        emitter.open()
        # The last square is moved back over positions that are staged already.
        emitter.line(f"const int k = min(kk, count - {width});")
        names = [f"r{i}" for i in range(width)]
        emitter.line(f"{self.vector_type} {', '.join(names)};")
        for lane, name in enumerate(names):
            emitter.open(axis, width)
            emitter.name_axis(axis, f"({first} + k)")
            self.bind_lanes(lane)
            emitter.line(f"{name} = {self.sums.of_value(emitter.wide(operand, width), width)};")
            emitter.close("{")
        for text in transposed(names, self.sums.type, emitter.fresh):
            emitter.line(text)
        for lane, name in enumerate(names):
            emitter.line(f"vstore{width}({name}, 0, d + (k + {lane}) * {step});")
        emitter.close(f"for (int kk = 0; kk < count; kk += {width}) {{")
        emitter.close(f"if (count >= {width} && {self.lanes_exist(width)}) {{")
        emitter.open()
        emitter.open()
        emitter.line(f"{self.sums.type} x = 0;")
        emitter.open()
        emitter.name_axis(axis, f"({first} + k)")
        emitter.name_axis(self.form.columns[0], "(lane + l)")
        emitter.line(f"x = {self.sums.of_value(emitter.value(operand)[0], 1)};")
        emitter.close(f"if (lane + l < {self.tiling.columns}) {{")
        emitter.line(f"d[k * {step} + l] = x;")
        emitter.close(f"for (int l = 0; l < {width}; l++) {{")
        emitter.close("else for (int k = 0; k < count; k++) {")

    def _stage_input(self) -> None:
        """Stage the scalar operand as [channel][image][position], padding left out."""
        emitter, tiling = self.emitter, self.tiling
        together = tiling.together
        operand, positions = through_sides(self.form.scalar, tiling)
        emitter.open()
        emitter.name_axis(tiling.channel, "(channel0 + channel)")
        emitter.open()
        operand, axis, heads, at, count = self._run(
            operand, positions, tiling.flat_scalar, "input0", "input1", tiling.inner_inputs
        )
        emitter.line(
            f"__local {self.sums.type} *d = {self.names['box']} + channel * {tiling.pitch} + "
            f"image * {tiling.image_inputs} + {at[1]} * {together};"
        )
        self._copies(operand, axis, at[0], count)
        for head in reversed(heads):
            emitter.close(head)
        emitter.close(f"for (int image = 0; image < images; image += {together}) {{")
        emitter.close("for (int channel = 0; channel < channels; channel++) {")

    def _copies(self, operand: Expression, axis: Axis, first: str, count: str) -> None:
        """Stage a run of the scalar operand, interleaved with that of the images beside it."""
        emitter, together = self.emitter, self.tiling.together
        emitter.line(f"const int count = {count};")
        for width in (self.tiling.width, 1):
            emitter.open()
            back = f"min(kk, count - {width})" if width > 1 else "kk"
            emitter.line(f"const int k = {back};")
            typed = self.vector_type if width > 1 else self.sums.type
            names = [f"r{i}" for i in range(together)]
            emitter.line(f"{typed} {', '.join(names)};")
            for number, name in enumerate(names):
                emitter.open(axis if width > 1 else None, width)
                emitter.name_flat(f"(image0 + image + {number})", self.tiling.images)
                emitter.name_axis(axis, f"({first} + k)")
                text = emitter.wide(operand, width) if width > 1 else emitter.value(operand)[0]
                emitter.line(f"{name} = {self.sums.of_value(text, width)};")
                emitter.close("{")
            if width > 1:
                for text in interleaved(names, self.sums.type, width, emitter.fresh):
                    emitter.line(text)
            for number, name in enumerate(names):
                at = f"k * {together} + {number * width}"
                store = (
                    f"vstore{width}({name}, 0, d + {at});" if width > 1 else f"d[{at}] = {name};"
                )
                emitter.line(store)
            head = f"for (int kk = 0; kk < count; kk += {width}) {{"
            emitter.close(f"if (count >= {width}) {head}" if width > 1 else f"else {head}")

    # Register tiles -----------------------------------------------------------------------------

    def _register_tiles(self) -> None:
        """The loops over register tiles and kernel positions."""
        emitter, tiling = self.emitter, self.tiling
        heads = [
            f"for (int v0 = 0; v0 < {tiling.column_groups}; v0 += {tiling.nv}) {{",
            f"for (int row = 0; row < channels; row += {tiling.mr}) {{",
            f"for (int tap = 0; tap < {tiling.taps}; tap++) {{",
        ]
        for _ in heads:
            emitter.open()
        step = 1
        for number in range(len(tiling.sides) - 1, -1, -1):
            side = tiling.sides[number]
            emitter.line(f"const int t{number} = tap / {step} % {side.kernel.size};")
            step *= side.kernel.size
            self._range(number, side)
        names = [f"c{i}_{j}" for i in range(tiling.mr) for j in range(tiling.nv)]
        emitter.line(f"{self.vector_type} {', '.join(f'{name} = 0' for name in names)};")
        self._lines()
        self._keep()
        for head in reversed(heads):
            emitter.close(head)

    def _range(self, number: int, side: Side) -> None:
        """Declare the output's positions at which the kernel's lies inside the image."""
        window, line = side.window, self.emitter.line
        first, end = ("first", "end") if number == 0 else ("0", str(side.output.size))
        step, far = window.dilation, side.low + side.size - 1
        shift = f"t{number} * {window.stride}"
        line(f"const int far{number} = {far} - {shift};")
        low = f"max(0, {side.low + step - 1} - {shift}) / {step}"
        line(f"const int low{number} = max({first}, {low});")
        high = f"far{number} < 0 ? 0 : min({end}, far{number} / {step} + 1)"
        line(f"const int high{number} = {high};")

    def _lines(self) -> None:
        """The loops over images and lines, and along a line."""
        emitter, tiling = self.emitter, self.tiling
        together, step = tiling.together, tiling.nv * tiling.width
        space = f"__local const {self.sums.type} *restrict"
        heads = [f"for (int image = 0; image < images; image += {together}) {{"]
        emitter.open()
        last = len(tiling.sides) - 1
        left, right = "0", "0"
        for number, side in enumerate(tiling.sides):
            name = f"p{number}" if number < last else f"low{number}"
            if number < last:
                emitter.open()
                heads.append(f"for (int {name} = low{number}; {name} < high{number}; {name}++) {{")
            window = side.window
            at = f"{name} * {window.dilation} + t{number} * {window.stride} - {side.low}"
            if number == 0:
                left, right = f"({at} - input0)", f"({name} - first)"
            else:
                left = f"({left} * {side.size} + {at})"
                right = f"({right} * {side.output.size} + {name})"
        emitter.line(
            f"{space} a = {self.names['box']} + row * {tiling.pitch} + "
            f"image * {tiling.image_inputs} + {left} * {together};"
        )
        emitter.line(
            f"{space} b = {self.names['turned']} + v0 / {tiling.nv} * {tiling.tile_elements} + "
            f"(image * {tiling.image_outputs} + {right} * {together}) * {step};"
        )
        self._along(last)
        for head in reversed(heads):
            emitter.close(head)

    def _along(self, last: int) -> None:
        """The multiply-adds along a line."""
        emitter, tiling = self.emitter, self.tiling
        together, step = tiling.together, tiling.nv * tiling.width
        move = tiling.sides[-1].window.dilation * together
        emitter.line(f"int p{last} = low{last};")
        for count in (1,) if together > 1 else (UNROLLED, 1):
            emitter.open()
            for number in range(count):
                for image in range(together):
                    self._multiply(number * move + image, (number * together + image) * step)
            emitter.line(f"a += {count * move}; b += {count * together * step};")
            emitter.close(f"for (; p{last} + {count} <= high{last}; p{last} += {count}) {{")

    def _multiply(self, left: int, right: int) -> None:
        tiling, line, vector = self.tiling, self.emitter.line, self.vector_type
        floating = self.form.accumulate.kind == "f"
        line("{")
        for j in range(tiling.nv):
            at = right + j * tiling.width
            line(f"  const {vector} w{j} = vload{tiling.width}(0, b + {at});")
        for i in range(tiling.mr):
            terms = [f"const {vector} s = ({vector})(a[{i * tiling.pitch + left}]);"]
            for j in range(tiling.nv):
                c = f"c{i}_{j}"
                terms.append(f"{c} = fma(s, w{j}, {c});" if floating else f"{c} += s * w{j};")
            line(f"  {{ {' '.join(terms)} }}")
        line("}")

    def _keep(self) -> None:
        """Put the accumulators where the work-item's sums wait, or add them to those."""
        emitter, tiling, width = self.emitter, self.tiling, self.tiling.width
        rows = tiling.turned_rows
        emitter.line(
            f"__local {self.sums.type} *t = {self.names['sums']} + "
            f"(v0 * {rows} + row * {tiling.taps} + tap) * {width};"
        )
        places = {
            f"c{i}_{j}": f"{j * rows + i * tiling.taps}, t"
            for i in range(tiling.mr)
            for j in range(tiling.nv)
        }
        emitter.line("if (block == block0) {")
        for name, at in places.items():
            emitter.line(f"  vstore{width}({name}, {at});")
        emitter.line("} else {")
        for name, at in places.items():
            emitter.line(f"  vstore{width}(vload{width}({at}) + {name}, {at});")
        emitter.line("}")


__all__ = ["TapContractBody", "render_taps"]
