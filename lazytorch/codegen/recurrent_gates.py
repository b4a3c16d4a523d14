"""The gates of one step of a recurrent layer and their gradients, as OpenCL C.

The formulas are those of ``ops.recurrence``, over the columns ``j`` of one row in vectors or one
by one. The pointers they use are declared by ``recurrent_render``: ``x`` the input's products,
``s`` the gates that are kept (first the state's products), ``h``, ``c`` the states, ``hb``, ``cb``
those before; ``dm`` the state's gradient, ``dh``, ``dc`` the running ones, ``d`` and ``e`` the
gradients of the products.
"""

from __future__ import annotations

from lazytorch.codegen import ctypes
from lazytorch.codegen.emitter import Emitter
from lazytorch.dtypes import DType
from lazytorch.ops import elementwise
from lazytorch.ops.recurrence import Recurrence


class Lanes:
    """Statements about ``width`` columns from ``j`` on."""

    def __init__(self, emitter: Emitter, dtype: DType, width: int) -> None:
        self.emitter = emitter
        self.dtype = dtype
        self.width = width
        self.type_name = ctypes.vector(ctypes.value_type(dtype), width)

    def number(self, value: float) -> str:
        return f"({self.type_name})({ctypes.literal(value, self.dtype)})"

    def load(self, place: str) -> str:
        if self.width == 1:
            return f"({place})[j]"
        return f"vload{self.width}(0, {place} + j)"

    def load_if(self, known: str, place: str) -> str:
        """The columns where ``known`` holds, else 0."""
        if known == "1":
            return self.load(place)
        return f"({known} ? {self.load(place)} : {self.number(0)})"

    def store(self, place: str, text: str) -> None:
        if self.width == 1:
            self.emitter.line(f"({place})[j] = {text};")
        else:
            self.emitter.line(f"vstore{self.width}({text}, 0, {place} + j);")

    def define(self, name: str, text: str) -> None:
        self.emitter.line(f"const {self.type_name} {name} = {text};")

    def sigmoid(self, text: str) -> str:
        one = self.number(1)
        return f"{one} / ({one} + exp(-({text})))"

    def relu(self, text: str) -> str:
        operands = [text, self.number(0)]
        return self.emitter.operation(
            elementwise.MAXIMUM, operands, self.dtype, self.dtype, self.width
        )


def gate_values(lanes: Lanes, of: Recurrence, known: str, bias: str | None) -> None:
    """One step forward: states and gates from the two products."""
    if of.mode == "gru":
        _gru(lanes, of.hidden, known, bias)
    elif of.mode == "lstm":
        _lstm(lanes, of.hidden, known)
    else:
        lanes.define("p", f"{lanes.load('x')} + {lanes.load('h')}")
        lanes.store("h", "tanh(p)" if of.mode == "rnn_tanh" else lanes.relu("p"))


def _lstm(lanes: Lanes, hidden: int, known: str) -> None:
    for number, name in enumerate("ifgo"):
        text = f"{lanes.load(f'x + {number * hidden}')} + {lanes.load(f's + {number * hidden}')}"
        lanes.define(name, f"tanh({text})" if name == "g" else lanes.sigmoid(text))
    lanes.define("cell", f"f * {lanes.load_if(known, 'cb')} + i * g")
    lanes.store("c", "cell")
    lanes.store("h", "o * tanh(cell)")
    for number, name in enumerate("ifgo"):
        lanes.store(f"s + {number * hidden}", name)


def _gru(lanes: Lanes, hidden: int, known: str, bias: str | None) -> None:
    def product(number: int) -> str:
        text = lanes.load(f"s + {number * hidden}")
        return f"({text} + {lanes.load(f'{bias} + {number * hidden}')})" if bias else text

    for number, name in enumerate("rz"):
        text = f"{lanes.load(f'x + {number * hidden}')} + {product(number)}"
        lanes.define(name, lanes.sigmoid(text))
    lanes.define("q", product(2))
    lanes.define("n", f"tanh({lanes.load(f'x + {2 * hidden}')} + r * q)")
    lanes.store("h", f"n + z * ({lanes.load_if(known, 'hb')} - n)")
    for number, name in enumerate("rzqn"):
        lanes.store(f"s + {number * hidden}", name)


def gate_gradients(lanes: Lanes, of: Recurrence, known: str) -> None:
    """One step back: gradients of the products, and what goes to the states before."""
    if of.mode == "gru":
        _gru_gradient(lanes, of.hidden, known)
    elif of.mode == "lstm":
        _lstm_gradient(lanes, of.hidden, known)
    else:
        lanes.define("out", lanes.load("h"))
        if of.mode == "rnn_tanh":
            lanes.store("d", f"dm * ({lanes.number(1)} - out * out)")
            return
        zero = lanes.number(0)
        kept = "dm" if lanes.width == 1 else "dm, out > " + zero
        if lanes.width == 1:
            lanes.store("d", f"out > {zero} ? {kept} : {zero}")
        else:
            lanes.store("d", f"select({zero}, {kept})")


def _lstm_gradient(lanes: Lanes, hidden: int, known: str) -> None:
    one = lanes.number(1)
    for number, name in enumerate("ifgo"):
        lanes.define(name, lanes.load(f"s + {number * hidden}"))
    lanes.define("t", f"tanh({lanes.load('c')})")
    lanes.define("dcell", f"{lanes.load('dc')} + dm * o * ({one} - t * t)")
    lanes.store("d", f"dcell * g * i * ({one} - i)")
    before = lanes.load_if(known, "cb")
    lanes.store(f"d + {hidden}", f"dcell * {before} * f * ({one} - f)")
    lanes.store(f"d + {2 * hidden}", f"dcell * i * ({one} - g * g)")
    lanes.store(f"d + {3 * hidden}", f"dm * t * o * ({one} - o)")
    lanes.store("dc", "dcell * f")


def _gru_gradient(lanes: Lanes, hidden: int, known: str) -> None:
    one = lanes.number(1)
    for number, name in enumerate("rzqn"):
        lanes.define(name, lanes.load(f"s + {number * hidden}"))
    lanes.define("dn", f"dm * ({one} - z) * ({one} - n * n)")
    lanes.define("dz", f"dm * ({lanes.load_if(known, 'hb')} - n) * z * ({one} - z)")
    lanes.define("dr", f"dn * q * r * ({one} - r)")
    for number, name in enumerate(("dr", "dz", "dn")):
        lanes.store(f"d + {number * hidden}", name)
    for number, name in enumerate(("dr", "dz", "dn * r")):
        lanes.store(f"e + {number * hidden}", name)
    lanes.store("dh", "dm * z")
