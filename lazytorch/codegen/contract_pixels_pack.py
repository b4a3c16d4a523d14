"""A convolution's kernel packed once for all work-items, as OpenCL C for CPU devices.

Register tiles with vectors along the output channels read the kernel as [register tile][run of
channels][kernel position][channel][lane], from its first element to its last. As it lies in a
model, output channels are far apart: where channels and kernel positions are contiguous, squares
are read along them and turned around in registers. Knows tilings and the emitter; must not
choose sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen import ctypes
from lazytorch.codegen.contract_fetch import FETCH
from lazytorch.codegen.contract_form import Form, affine, has_unit_stride
from lazytorch.codegen.contract_pixels import PixelTiling, conditions
from lazytorch.codegen.contract_transpose import transposed
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store, extent

# Elements that a work-item packs, about.
ITEM = 1 << 14
# Squares, or channels, between asking for one and reading it: without it a kernel of 512 x 512 x
# 3 x 3 took 1.8 ms to pack, with it 0.4.
AHEAD = 2


@dataclass(frozen=True)
class PixelPackBody:
    """The kernel of ``form``, its vector operand, is written to array ``target``."""

    form: Form
    tiling: PixelTiling
    target: int

    @property
    def batch(self) -> tuple[Axis, ...]:
        return batch_of(self.form)

    @property
    def per_item(self) -> int:
        """Runs of channels that one work-item packs."""
        return min(self.tiling.runs, max(1, ITEM // self.tiling.run_elements))

    def expressions(self) -> list[Expression]:
        return [self.form.vector]

    def stores(self) -> list[Store]:
        last = ix.of_int(packed_elements(self.form, self.tiling) - 1)
        return [Store(self.target, last, self.form.vector)]


def batch_of(form: Form) -> tuple[Axis, ...]:
    """The batch axes on which the kernel depends: groups, not images."""
    used = form.vector.axes()
    return tuple(axis for axis in form.batch if axis in used)


def packed_elements(form: Form, tiling: PixelTiling) -> int:
    """Elements of the packed kernel."""
    return extent(batch_of(form)) * tiling.register_tiles * tiling.tile_weights


def packed_kernel(form: Form, tiling: PixelTiling, number: int) -> Expression:
    """What stands for the kernel in a form that reads it from array ``number``: a load that ends
    where the array does, on the conditions that the kernel has."""
    last = ix.of_int(packed_elements(form, tiling) - 1)
    return ex.load(number, last, conditions(form.vector), form.accumulate)


def render_pixel_pack(body: PixelPackBody, emitter: Emitter, group: str) -> int:
    """Write the statements; the number of work-groups."""
    return _Renderer(body, emitter).render(group)


class _Renderer:
    def __init__(self, body: PixelPackBody, emitter: Emitter) -> None:
        self.body = body
        self.form = body.form
        self.tiling = body.tiling
        self.emitter = emitter
        self.operand = body.form.vector
        self.value_type = ctypes.value_type(body.form.accumulate)
        self.flat, self.flat_operand = _along_sum(body.form, body.tiling)

    def render(self, group: str) -> int:
        emitter, tiling, body = self.emitter, self.tiling, self.body
        parts, tiles = -(-tiling.runs // body.per_item), tiling.register_tiles
        emitter.line(f"const int part = {group} % {parts};")
        emitter.line(f"const int tile = {group} / {parts} % {tiles};")
        emitter.line(f"const int batch = {group} / {parts * tiles};")
        self.emitter.name_flat("batch", body.batch)
        emitter.open()
        size = tiling.channel.size if tiling.channel is not None else 1
        emitter.line(f"const int chunk0 = r * {tiling.run};")
        emitter.line(f"const int chunk = min({tiling.run}, {size} - chunk0);")
        pointer = f"__global {self.value_type} *"
        place = f"(size_t)(batch * {tiles} + tile) * {tiling.tile_weights}"
        array = emitter.names(body.target)
        emitter.line(f"{pointer}start = {array} + {place} + r * {tiling.run_elements};")
        single = len(tiling.channels) == 1 and tiling.channels[0].size >= tiling.width
        if single and self.flat is None:
            self._along_lanes()
        emitter.open()
        self._enter_vector()
        if single and self.flat is not None:
            emitter.open()
            self._squares(self.flat)
            emitter.close("if (whole) {")
        emitter.open()
        self._lane_by_lane()
        emitter.close("if (!whole) {" if single else "{")
        emitter.close(f"for (int v = 0; v < {tiling.nv}; v++) {{")
        stop = f"min((part + 1) * {body.per_item}, {tiling.runs})"
        emitter.close(f"for (int r = part * {body.per_item}; r < {stop}; r++) {{")
        return extent(body.batch) * tiles * parts

    def _enter_vector(self) -> None:
        """Declare the first output channel of vector ``v`` and whether it has all its lanes."""
        emitter, tiling = self.emitter, self.tiling
        lanes = tiling.phase_lanes
        emitter.line(f"__global {self.value_type} *d = start + v * {tiling.width};")
        emitter.line(f"const int q0 = (tile * {tiling.nv} + v) * {tiling.width};")
        emitter.line(f"const int lane = {f'q0 % {lanes}' if tiling.phases else 'q0'};")
        exists = f"lane + {tiling.width} <= {extent(tiling.channels)}"
        if tiling.phases:
            self.emitter.name_flat(f"q0 / {lanes}", tiling.phases)
            exists += f" && q0 < {extent(tiling.phases) * lanes}"
        emitter.line(f"const bool whole = {exists};")

    def _along_lanes(self) -> None:
        """Whole vectors, one channel and kernel position after the other."""
        emitter, tiling = self.emitter, self.tiling
        channels = tiling.channels[0]
        emitter.open()
        if tiling.channel is not None:
            emitter.name_axis(tiling.channel, "(chunk0 + k)")
        emitter.open()
        self._enter_vector()
        emitter.line("if (!whole) continue;")
        self._fetch_channel()
        emitter.open(channels, tiling.width)
        emitter.name_axis(channels, "lane")
        heads, at = self._open_taps()
        text = emitter.wide(self.operand, tiling.width)
        emitter.line(f"vstore{tiling.width}({text}, 0, d + {at});")
        self._close(heads)
        emitter.close("{")
        emitter.close(f"for (int v = 0; v < {tiling.nv}; v++) {{")
        emitter.close("for (int k = 0; k < chunk; k++) {")

    def _fetch_channel(self) -> None:
        """Ask for what the vector reads of a later channel: it is far away."""
        emitter, tiling = self.emitter, self.tiling
        loads = list(ex.loads_of([self.operand]))
        if len(loads) != 1 or tiling.channel is None:
            return
        number, index, _ = loads[0].data
        step = index.coefficient(tiling.channels[0])
        line = 64 // loads[0].dtype.itemsize
        if step is None or not 0 < step <= line:
            return
        emitter.helpers.setdefault("lt_fetch", FETCH)
        emitter.open()
        emitter.name_axis(tiling.channel, f"(chunk0 + min(k + {AHEAD}, chunk - 1))")
        emitter.name_axis(tiling.channels[0], "lane")
        for axis in tiling.taps:
            emitter.name_axis(axis, "0")
        emitter.line(f"lt_fetch({emitter.names(number)} + {emitter.index(index)} + i * {line});")
        count = -(-tiling.width * step // line) + 1
        emitter.close(f"for (int i = 0; i < {count}; i++) {{")

    def _squares(self, flat: Axis) -> None:
        """Read along channels and kernel positions, and turn squares around in registers."""
        emitter, tiling, width = self.emitter, self.tiling, self.tiling.width
        taps, channels = tiling.tap_count, tiling.channels[0]
        emitter.line(f"const int count = chunk * {taps};")
        emitter.open()
        # The last square is moved back over positions that are packed already.
        emitter.line(f"const int e = min(e0, count - {width});")
        self._fetch_ahead(flat)
        names = [f"s{lane}" for lane in range(width)]
        emitter.line(f"{self.value_type}{width} {', '.join(names)};")
        for lane, name in enumerate(names):
            emitter.open(flat, width)
            emitter.name_axis(flat, f"(chunk0 * {taps} + e)")
            emitter.name_axis(channels, f"(lane + {lane})")
            emitter.line(f"{name} = {emitter.wide(self.flat_operand, width)};")
            emitter.close("{")
        for text in transposed(names, self.value_type, emitter.fresh):
            emitter.line(text)
        step = tiling.nv * width
        for lane, name in enumerate(names):
            at = f"(e + {lane})"
            if taps > 1:
                at = f"({at} % {taps} * {tiling.run} + {at} / {taps})"
            emitter.line(f"vstore{width}({name}, 0, d + {at} * {step});")
        emitter.close(f"for (int e0 = 0; e0 < count; e0 += {width}) {{")

    def _fetch_ahead(self, flat: Axis) -> None:
        """Ask for the lines of a later square: sixteen streams are more than prefetchers follow."""
        emitter, tiling = self.emitter, self.tiling
        index = affine(self.flat_operand, (flat, *tiling.channels), self.flat_operand.dtype)
        if index is None:
            return
        emitter.helpers.setdefault("lt_fetch", FETCH)
        ahead = f"min(e0 + {AHEAD * tiling.width}, count - 1)"
        emitter.open()
        emitter.name_axis(flat, f"(chunk0 * {tiling.tap_count} + {ahead})")
        emitter.name_axis(tiling.channels[0], "(lane + l)")
        array = emitter.names(self.flat_operand.data[0])
        emitter.line(f"lt_fetch({array} + {emitter.index(index)});")
        emitter.close(f"for (int l = 0; l < {tiling.width}; l++) {{")

    def _lane_by_lane(self) -> None:
        emitter, tiling = self.emitter, self.tiling
        emitter.open()
        count = extent(tiling.channels)
        exists = f"lane + l < {count}"
        if tiling.phases:
            exists += f" && q0 < {extent(tiling.phases) * tiling.phase_lanes}"
        emitter.open()
        self.emitter.name_flat("(lane + l)", tiling.channels)
        emitter.open()
        if tiling.channel is not None:
            emitter.name_axis(tiling.channel, "(chunk0 + k)")
        heads, at = self._open_taps()
        emitter.line(f"d[{at} + l] = {emitter.value(self.operand)[0]};")
        self._close(heads)
        emitter.close("for (int k = 0; k < chunk; k++) {")
        emitter.close(f"if ({exists}) {{")
        step = tiling.nv * tiling.width
        emitter.open()
        emitter.line(f"d[k * {step} + l] = 0;")
        emitter.close(f"else for (int k = 0; k < {tiling.run * tiling.tap_count}; k++) {{")
        emitter.close(f"for (int l = 0; l < {tiling.width}; l++) {{")

    def _open_taps(self) -> tuple[list[str], str]:
        """Open the loops over kernel positions; their heads, and where channel ``k`` lies."""
        tiling, emitter = self.tiling, self.emitter
        heads, flat = [], "0"
        for number, axis in enumerate(tiling.taps):
            emitter.open()
            emitter.name_axis(axis, f"t{number}")
            heads.append(f"for (int t{number} = 0; t{number} < {axis.size}; t{number}++) {{")
            flat = f"({flat} * {axis.size} + t{number})" if number else f"t{number}"
        return heads, f"({flat} * {tiling.run} + k) * {tiling.nv * tiling.width}"

    def _close(self, heads: list[str]) -> None:
        for head in reversed(heads):
            self.emitter.close(head)


def _along_sum(form: Form, tiling: PixelTiling) -> tuple[Axis | None, Expression]:
    """(axis, kernel) with channels and kernel positions as one axis, where they are contiguous
    and a run of them is long enough for a square."""
    operand = form.vector
    if tiling.channel is None or conditions(operand) or len(tiling.channels) != 1:
        return None, operand
    shortest = tiling.channel.size - (tiling.runs - 1) * tiling.run
    if shortest * tiling.tap_count < tiling.width:
        return None, operand
    flat = Axis(tiling.channel.size * tiling.tap_count, "e")
    at = ix.of_atom(flat)
    replaced = {tiling.channel: at // tiling.tap_count}
    step = 1
    for axis in reversed(tiling.taps):
        replaced[axis] = at // step % axis.size
        step *= axis.size
    moved = operand.substitute_axes(replaced)
    return (flat, moved) if has_unit_stride(moved, flat) else (None, operand)
