"""A recurrent operation as OpenCL C: the loop over time, the gates, and what a step keeps.

See ``ops.recurrence`` for the formulas and the sections of the results, ``recurrent_product``
for the products. Each work-item has the rows from ``first`` to ``end``; nothing is shared
between work-items.
"""

from __future__ import annotations

from collections.abc import Callable

from lazytorch.codegen import ctypes
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.recurrent import TiledRecurrentBody
from lazytorch.codegen.recurrent_gates import Lanes, gate_gradients, gate_values
from lazytorch.codegen.recurrent_product import Rows, write_product
from lazytorch.ops.recurrence import Sections, gradient_sections, sections


def local_size(body: TiledRecurrentBody) -> int:
    """Work-items in a work-group."""
    return body.local


def render_recurrent(body: TiledRecurrentBody, emitter: Emitter, local: int, group: str) -> int:
    """Write the body's statements; the number of work-groups (of ``local`` work-items)."""
    item = group if local == 1 else f"({group} * {local} + (int)get_local_id(0))"
    emitter.open()
    emitter.line(f"const int first = {item} * {body.rows};")
    emitter.line(f"const int end = min(first + {body.rows}, {body.of.batch});")
    if body.is_gradient:
        _Gradient(body, emitter).write()
    else:
        _Forward(body, emitter).write()
    emitter.close("{")
    return -(-body.of.batch // (body.rows * local))


class _Steps:
    """What both directions share: names of arrays, loops over rows and columns."""

    def __init__(self, body: TiledRecurrentBody, emitter: Emitter) -> None:
        self.body = body
        self.of = body.of
        self.emitter = emitter
        self.dtype = body.body.operands[0].dtype
        self.type_name = ctypes.value_type(self.dtype)
        self.lengths = self.operand("lengths")

    def operand(self, part: str) -> str | None:
        """The C name of an optional operand."""
        number = self.body.operand(part)
        return None if number is None else self.emitter.names(number)

    def declare(self, name: str, text: str, const: bool = True) -> None:
        """A pointer."""
        constness = "const " if const else ""
        self.emitter.line(f"__global {constness}{self.type_name} *{name} = {text};")

    def declare_sections(self, prefix: str, array: str, parts: Sections, const: bool) -> None:
        """Pointers to all parts of an array."""
        for name, (offset, _) in parts.items():
            self.declare(prefix + name, f"{array} + {offset}", const)

    def time_loop(self, backwards: bool, step: Callable[[], None]) -> None:
        """``time`` in order, with ``before``, the time before it in the layer's own order, and
        ``started``: whether there is one."""
        emitter, steps = self.emitter, self.of.steps
        emitter.open()
        falling = self.of.reverse != backwards
        emitter.line(f"const int time = {f'{steps - 1} - step' if falling else 'step'};")
        emitter.line(f"const int before = time {'+' if self.of.reverse else '-'} 1;")
        emitter.line(f"const int started = step {f'< {steps - 1}' if backwards else '> 0'};")
        step()
        emitter.close(f"for (int step = 0; step < {steps}; step++) {{")

    def at(self, section: str, width: int, time: str = "time") -> str:
        """C text of a section's first row at a time."""
        return f"({section} + {time} * {self.of.batch * width})"

    def for_rows(self, alive: Callable[[], None], ended: Callable[[], None] | None = None) -> None:
        """``alive`` for each row, ``ended`` for rows whose sequence is over."""
        emitter = self.emitter
        emitter.open()
        emitter.open()
        alive()
        if self.lengths is None or ended is None:
            emitter.close("{")
        else:
            emitter.close(f"if (time < (int){self.lengths}[row]) {{")
            emitter.open()
            ended()
            emitter.close("else {")
        emitter.close("for (int row = first; row < end; row++) {")

    def for_columns(self, columns: int, statements: Callable[[Lanes], None]) -> None:
        """``statements`` over the columns ``j`` in vectors, then one by one."""
        emitter, width = self.emitter, self.body.width
        emitter.line("{ int j = 0;")
        if width > 1 and columns >= width:
            emitter.open()
            statements(Lanes(emitter, self.dtype, width))
            emitter.close(f"for (; j + {width} <= {columns}; j += {width}) {{")
        if width == 1 or columns % width:
            emitter.open()
            statements(Lanes(emitter, self.dtype, 1))
            emitter.close(f"for (; j < {columns}; j++) {{")
        emitter.line("}")

    def state_before(self, name: str, section: str, width: int, given: str | None) -> None:
        """Declare ``name``: the state before this step, only read where :meth:`known`."""
        start = given or section
        self.declare(name, f"started ? {self.at(section, width, 'before')} : {start}")

    @property
    def known(self) -> str:
        """C text: whether there is a state before this step other than zeros."""
        return "1" if "hidden" in self.of.parts else "started"


class _Forward(_Steps):
    @property
    def _kept(self) -> str:
        """C text of the step whose place in what is kept for a gradient is written."""
        return "time" if self.of.keeps else "0"

    def write(self) -> None:
        of, emitter = self.of, self.emitter
        self.declare("gates", emitter.names(self.body.body.operands[0].data[0]))
        self.declare_sections("to_", emitter.names(self.body.body.target), sections(of), False)
        self.time_loop(False, self._step)

    def _step(self) -> None:
        of, body = self.of, self.body
        self.state_before("hidden_before", "to_output", of.width, self.operand("hidden"))
        if of.mode == "lstm":
            self.state_before("cell_before", "to_cell", of.hidden, self.operand("cell"))
        products = Rows(self.at("to_saved", of.saved, self._kept), of.saved)
        if not of.saved:
            products = Rows(self.at("to_output", of.hidden), of.hidden)
        depth = str(of.width) if self.known == "1" else f"(started ? {of.width} : 0)"
        write_product(
            body, self.emitter, self.type_name, Rows("hidden_before", of.width), body.recurrent,
            products, depth,
        )  # fmt: skip
        self.for_rows(self._gates, self._ended)
        if body.projecting is not None:
            write_product(
                body, self.emitter, self.type_name,
                Rows(self.at("to_unprojected", of.hidden, self._kept), of.hidden), body.projecting,
                Rows(self.at("to_output", of.width), of.width), str(of.hidden),
            )  # fmt: skip
            if self.lengths is not None:
                self.for_rows(lambda: None, lambda: self._keep("output", "hidden", of.width))

    def _rows(self) -> None:
        """Pointers of one row: ``x`` the input's products, ``s`` the saved gates, ``h`` and
        ``c`` the new states, ``hb`` and ``cb`` those before."""
        of = self.of
        row = f"(time * {of.batch} + row)"
        kept = row if of.keeps else "row"
        self.declare("x", f"gates + {row} * {of.gates}")
        made = f"to_unprojected + {kept}" if of.projected else f"to_output + {row}"
        self.declare("h", f"{made} * {of.hidden}", False)
        self.declare("hb", f"hidden_before + row * {of.width}")
        if of.saved:
            self.declare("s", f"to_saved + {kept} * {of.saved}", False)
        if of.mode == "lstm":
            self.declare("c", f"to_cell + {row} * {of.hidden}", False)
            self.declare("cb", f"cell_before + row * {of.hidden}")

    def _gates(self) -> None:
        self._rows()
        bias = self.operand("bias")
        self.for_columns(
            self.of.hidden, lambda lanes: gate_values(lanes, self.of, self.known, bias)
        )

    def _ended(self) -> None:
        """The states stay; what the gradient reads is zero."""
        of = self.of
        self._rows()
        if of.saved:
            self.for_columns(of.saved, lambda lanes: lanes.store("s", lanes.number(0)))
        if of.projected:
            self.for_columns(of.hidden, lambda lanes: lanes.store("h", lanes.number(0)))
        else:
            self._keep("output", "hidden", of.width)
        if of.mode == "lstm":
            self._keep("cell", "cell", of.hidden)

    def _keep(self, section: str, state: str, width: int) -> None:
        place = f"to_{section} + (time * {self.of.batch} + row) * {width}"
        self.declare(f"kept_{state}", place, False)
        self.declare(f"known_{state}", f"{state}_before + row * {width}")
        self.for_columns(
            width,
            lambda lanes: lanes.store(f"kept_{state}", lanes.load_if(self.known, f"known_{state}")),
        )


class _Gradient(_Steps):
    def write(self) -> None:
        of, emitter = self.of, self.emitter
        self.declare_sections(
            "from_", emitter.names(self.body.body.operands[0].data[0]), sections(of), True
        )
        self.declare_sections(
            "to_", emitter.names(self.body.body.target), gradient_sections(of), False
        )
        self.for_rows(self._start)
        self.time_loop(True, self._step)

    def _start(self) -> None:
        """The running gradients of the states begin as those of the last ones."""
        self._begin("hidden", self.of.width)
        if self.of.mode == "lstm":
            self._begin("cell", self.of.hidden)

    def _begin(self, state: str, width: int) -> None:
        given = self.operand(f"grad_{state}")
        self.declare(f"d{state}", f"to_{state} + row * {width}", False)
        if given is not None:
            self.declare(f"given_{state}", f"{given} + row * {width}")
        self.for_columns(
            width,
            lambda lanes: lanes.store(
                f"d{state}", lanes.number(0) if given is None else lanes.load(f"given_{state}")
            ),
        )

    def _step(self) -> None:
        of, body = self.of, self.body
        if of.mode == "gru":
            self.state_before("hidden_before", "from_output", of.width, self.operand("hidden"))
        if of.mode == "lstm":
            self.state_before("cell_before", "from_cell", of.hidden, self.operand("cell"))
        if body.projecting is not None:
            self.for_rows(lambda: self._arrive(False), lambda: self._arrive(True))
            write_product(
                body, self.emitter, self.type_name,
                Rows(self.at("to_output", of.width), of.width), body.projecting,
                Rows(f"{self.at('to_gates', of.gates)} + {3 * of.hidden}", of.gates),
                str(of.width),
            )  # fmt: skip
        self.for_rows(lambda: self._gates(False), lambda: self._gates(True))
        section = "to_recurrent" if of.mode == "gru" else "to_gates"
        if self.known != "1":
            self.emitter.open()
        write_product(
            body, self.emitter, self.type_name, Rows(self.at(section, of.gates), of.gates),
            body.recurrent, Rows("to_hidden", of.width), str(of.gates),
            add=of.mode == "gru" or self.lengths is not None,
        )  # fmt: skip
        if self.known != "1":
            # Nobody wants the gradient of a first state that was not given.
            self.emitter.close("if (started) {")
            self.emitter.open()
            self.for_rows(self._nothing)
            self.emitter.close("else {")

    def _nothing(self) -> None:
        self.declare("dh", f"to_hidden + row * {self.of.width}", False)
        self.for_columns(self.of.width, lambda lanes: lanes.store("dh", lanes.number(0)))

    def _arriving(self, lanes: Lanes) -> str:
        """The gradient of this step's state: from later steps and from the output."""
        if self.operand("grad_output") is None:
            return lanes.load("dh")
        return f"{lanes.load('dh')} + {lanes.load('go')}"

    def _declare_arriving(self) -> None:
        of = self.of
        self.declare("dh", f"to_hidden + row * {of.width}", False)
        given = self.operand("grad_output")
        if given is not None:
            self.declare("go", f"{given} + (time * {of.batch} + row) * {of.width}")

    def _arrive(self, ended: bool) -> None:
        """Keep the gradient of this step's projected state."""
        of = self.of
        self._declare_arriving()
        self.declare("d", f"to_output + (time * {of.batch} + row) * {of.width}", False)

        def statements(lanes: Lanes) -> None:
            lanes.define("total", self._arriving(lanes))
            lanes.store("d", "total")
            if self.lengths is not None:
                lanes.store("dh", "total" if ended else lanes.number(0))

        self.for_columns(of.width, statements)

    def _gates(self, ended: bool) -> None:
        of = self.of
        row = f"(time * {of.batch} + row)"
        self._declare_arriving()
        self.declare("d", f"to_gates + {row} * {of.gates}", False)
        if of.mode == "gru":
            self.declare("e", f"to_recurrent + {row} * {of.gates}", False)
        if ended:
            self._pass_on()
            return
        if of.saved:
            self.declare("s", f"from_saved + {row} * {of.saved}")
        self.declare("h", f"from_output + {row} * {of.width}")
        if of.mode == "gru":
            self.declare("hb", f"hidden_before + row * {of.width}")
        if of.mode == "lstm":
            self.declare("c", f"from_cell + {row} * {of.hidden}")
            self.declare("cb", f"cell_before + row * {of.hidden}")
            self.declare("dc", f"to_cell + row * {of.hidden}", False)

        def statements(lanes: Lanes) -> None:
            arriving = lanes.load(f"d + {3 * of.hidden}") if of.projected else self._arriving(lanes)
            lanes.define("dm", arriving)
            gate_gradients(lanes, of, self.known)
            if self.lengths is not None and of.mode != "gru" and not of.projected:
                lanes.store("dh", lanes.number(0))

        self.for_columns(of.hidden, statements)

    def _pass_on(self) -> None:
        """A row that is over: no gates, and the state's gradient goes on to the one before."""
        of = self.of
        if not of.projected:
            self.for_columns(of.width, lambda lanes: lanes.store("dh", self._arriving(lanes)))
        self.for_columns(of.gates, lambda lanes: lanes.store("d", lanes.number(0)))
        if of.mode == "gru":
            self.for_columns(of.gates, lambda lanes: lanes.store("e", lanes.number(0)))
