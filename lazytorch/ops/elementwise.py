"""The elementwise primitives: one row each.

Sources broadcast against each other as in NumPy and share one dtype (casts are explicit).

Placeholders of the C texts: ``{0} {1} {2}`` the operands, ``{t}`` the C type of the result,
``{cast}`` a conversion to the result type and ``{unsigned}`` one to the unsigned type of the
same width (vector and scalar conversions are spelled differently), ``{m}`` the signed integer
type as wide as the result, ``{w}`` the vector width ('' for scalars), ``{f}`` the suffix of
floating-point literals. A predicate's text is a bare C comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register
from lazytorch.ops.shapes import broadcast

Gradient = tuple[Any, ...]


def _infer_same(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return broadcast(shapes), types[0]


def _infer_bool(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return broadcast(shapes), dtypes.bool_


def _quiet(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The NumPy meaning of a map: attributes first, no floating-point warnings."""

    def compute(attrs: tuple[Any, ...], *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return compute


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute 16-bit floats in float32 and round, as PyTorch does on a CPU."""

    def compute(*arrays: np.ndarray) -> Any:
        wanted = arrays[0].dtype
        if wanted.itemsize == 2 and wanted.kind not in "iu":
            return np.asarray(function(*(a.astype(np.float32) for a in arrays))).astype(wanted)
        return function(*arrays)

    return compute


def scipy_special(name: str) -> Callable[..., Any]:
    """A function of scipy.special, imported at first use: importing SciPy takes 0.1 s."""

    def compute(*arrays: np.ndarray) -> Any:
        from scipy import special

        return getattr(special, name)(*arrays)

    return compute


def _map(
    name: str,
    arity: int,
    function: Callable[..., Any],
    c: str | dict[str, str],
    gradient: Gradient | None = None,
    *,
    cost: int = 1,
    predicate: bool = False,
    floating_result: bool = False,
    c_vector: dict[str, str] | None = None,
) -> OpDef:
    texts = {"*": c} if isinstance(c, str) else {k: v for ks, v in c.items() for k in ks}
    return register(
        OpDef(
            name=name,
            kind="map",
            arity=arity,
            infer=_infer_bool if predicate else _infer_same,
            numpy=_quiet(function if predicate else _in_float32(function)),
            c=texts,
            c_vector=c_vector or {},
            gradient=gradient,
            cost=cost,
            predicate=predicate,
            floating_result=floating_result,
        )
    )


def _wrapping(symbol: str) -> str:
    # Signed overflow is undefined in C; PyTorch's integers wrap.
    return f"{{cast}}({{unsigned}}({{0}}) {symbol} {{unsigned}}({{1}}))"


# Arithmetic -----------------------------------------------------------------------------------

ADD = _map(
    "add",
    2,
    np.add,
    {"fc": "({0} + {1})", "i": _wrapping("+"), "u": _wrapping("+"), "b": "({0} | {1})"},
    (lambda g: g, lambda g: g),
)
SUB = _map(
    "sub",
    2,
    np.subtract,
    {"fc": "({0} - {1})", "i": _wrapping("-"), "u": _wrapping("-")},
    (lambda g: g, lambda g: -g),
)
MUL = _map(
    "mul",
    2,
    np.multiply,
    {
        "f": "({0} * {1})",
        "c": "lt_complex_product({0}, {1})",
        "iu": _wrapping("*"),
        "b": "({0} & {1})",
    },
    (lambda g, y: g * y, lambda g, x: g * x),
)
DIV = _map(
    "div",
    2,
    np.true_divide,
    {"f": "({0} / {1})", "c": "lt_complex_quotient({0}, {1})"},
    (lambda g, y: g / y, lambda g, x, y: -g * ((x / y) / y)),
    cost=4,
    floating_result=True,
)
NEG = _map(
    "neg",
    1,
    np.negative,
    {"fc": "(-{0})", "i": "{cast}(-{unsigned}({0}))", "u": "{cast}(-{0})"},
    (lambda g: -g,),
)
ABS = _map(
    "abs",
    1,
    np.abs,
    {"f": "fabs({0})", "i": "{cast}(abs({0}))", "u": "{0}", "b": "{0}"},
    (lambda g, x, f: g * f.sign(x),),
)


def _floor_divide(x: np.ndarray, y: np.ndarray) -> Any:
    if x.dtype.kind in "iu":
        return np.floor_divide(x, np.where(y == 0, 1, y))
    remainder = np.fmod(x, y)
    quotient = (x - remainder) / y
    quotient = np.where((remainder != 0) & ((remainder < 0) != (y < 0)), quotient - 1, quotient)
    floored = np.floor(quotient)
    floored = np.where(quotient - floored > 0.5, floored + 1, floored)
    floored = np.where(quotient == 0, np.copysign(np.zeros_like(x), x / y), floored)
    return np.where(y == 0, x / y, floored).astype(x.dtype)


# Division by an integer zero is refused before a kernel runs; the kernels only have to survive it.
FLOOR_DIVIDE = _map(
    "floor_divide",
    2,
    _floor_divide,
    {
        "f": "lt_floor_divide({0}, {1})",
        "i": "lt_floor_divide({0}, {1})",
        "u": "lt_floor_divide({0}, {1})",
    },
    (lambda g, f: f.zeros_like(g), lambda g, f: f.zeros_like(g)),
    cost=12,
)


def _remainder(x: np.ndarray, y: np.ndarray) -> Any:
    if x.dtype.kind in "iu":
        return np.remainder(x, np.where(y == 0, 1, y))
    return np.remainder(x, y)


REMAINDER = _map(
    "remainder",
    2,
    _remainder,
    {
        "f": "lt_remainder({0}, {1})",
        "i": "lt_remainder({0}, {1})",
        "u": "lt_remainder({0}, {1})",
    },
    (lambda g: g, lambda g, x, y, f: -g * f.div(x, y, rounding_mode="floor")),
    cost=12,
)


def _fmod(x: np.ndarray, y: np.ndarray) -> Any:
    if x.dtype.kind in "iu":
        return np.fmod(x, np.where(y == 0, 1, y))
    return np.fmod(x, y)


FMOD = _map(
    "fmod",
    2,
    _fmod,
    {"f": "fmod({0}, {1})", "i": "lt_fmod({0}, {1})", "u": "lt_fmod({0}, {1})"},
    (lambda g: g, lambda g, x, y, f: -g * f.trunc(x / y)),
    cost=12,
)


def _power(x: np.ndarray, y: np.ndarray) -> Any:
    if x.dtype.kind in "iu":
        negative = y < 0
        result = np.power(x, np.where(negative, 0, y))
        by_sign = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
        return np.where(negative, by_sign, result).astype(x.dtype)
    return np.power(x, y)


def _base_gradient(g: Any, x: Any, y: Any, f: Any) -> Any:
    return f.where(y == 0, 0, g * (y * f.pow(x, y - 1)))


def _exponent_gradient(g: Any, x: Any, y: Any, out: Any, f: Any) -> Any:
    return g * f.where(f.logical_and(x == 0, y >= 0), 0, out * f.log(x))


POW = _map(
    "pow",
    2,
    _power,
    {"f": "pow({0}, {1})", "i": "lt_power({0}, {1})", "u": "lt_power({0}, {1})"},
    (_base_gradient, _exponent_gradient),
    cost=30,
)


def _share(f: Any, g: Any, wins: Any, ties: Any) -> Any:
    """PyTorch splits the gradient of maximum and minimum evenly between equal arguments."""
    return f.where(ties, g * 0.5, f.where(wins, g, 0))


MAXIMUM = _map(
    "maximum",
    2,
    np.maximum,
    {"f": "lt_maximum({0}, {1})", "i": "max({0}, {1})", "u": "max({0}, {1})", "b": "({0} | {1})"},
    (
        lambda g, x, y, f: _share(f, g, x > y, x == y),
        lambda g, x, y, f: _share(f, g, y > x, x == y),
    ),
)
MINIMUM = _map(
    "minimum",
    2,
    np.minimum,
    {"f": "lt_minimum({0}, {1})", "i": "min({0}, {1})", "u": "min({0}, {1})", "b": "({0} & {1})"},
    (
        lambda g, x, y, f: _share(f, g, x < y, x == y),
        lambda g, x, y, f: _share(f, g, y < x, x == y),
    ),
)

# Comparison and logic -------------------------------------------------------------------------

EQ = _map("eq", 2, np.equal, {"*": "({0} == {1})", "c": "all({0} == {1})"}, predicate=True)
NE = _map("ne", 2, np.not_equal, {"*": "({0} != {1})", "c": "any({0} != {1})"}, predicate=True)
LT = _map("lt", 2, np.less, "({0} < {1})", predicate=True)
LE = _map("le", 2, np.less_equal, "({0} <= {1})", predicate=True)
GT = _map("gt", 2, np.greater, "({0} > {1})", predicate=True)
GE = _map("ge", 2, np.greater_equal, "({0} >= {1})", predicate=True)
IS_NAN = _map("isnan", 1, np.isnan, {"*": "({0} != {0})", "c": "any({0} != {0})"}, predicate=True)


def _bits(name: str, function: Callable[..., Any], symbol: str) -> OpDef:
    return _map(name, 2, function, f"({{0}} {symbol} {{1}})")


BIT_AND = _bits("bitwise_and", np.bitwise_and, "&")
BIT_OR = _bits("bitwise_or", np.bitwise_or, "|")
BIT_XOR = _bits("bitwise_xor", np.bitwise_xor, "^")
BIT_NOT = _map(
    "bitwise_not", 1, np.invert, {"i": "(~{0})", "u": "{cast}(~{0})", "b": "({0} ^ ({t}{w})(1))"}
)


def _shift(function: Callable[..., Any]) -> Callable[..., Any]:
    def compute(x: np.ndarray, y: np.ndarray) -> Any:
        bits = x.dtype.itemsize * 8
        inside = (y >= 0) & (y < bits)
        shifted = function(x, np.where(inside, y, 0))
        beyond = np.zeros_like(x)
        if function is np.right_shift and x.dtype.kind == "i":
            beyond = np.where(x < 0, x.dtype.type(-1), beyond)
        return np.where(inside, shifted, beyond).astype(x.dtype)

    return compute


SHIFT_LEFT = _map("bitwise_left_shift", 2, _shift(np.left_shift), "lt_shift_left({0}, {1})", cost=3)
SHIFT_RIGHT = _map(
    "bitwise_right_shift", 2, _shift(np.right_shift), "lt_shift_right({0}, {1})", cost=3
)


# Transcendental -------------------------------------------------------------------------------


def _unary(
    name: str, function: Callable[..., Any], c: str, gradient: Gradient | None, cost: int
) -> OpDef:
    return _map(name, 1, function, {"f": c}, gradient, cost=cost, floating_result=True)


EXP = _unary("exp", np.exp, "exp({0})", (lambda g, out: g * out,), 10)
EXP2 = _unary("exp2", np.exp2, "exp2({0})", (lambda g, out: g * out * 0.6931471805599453,), 10)
EXPM1 = _unary("expm1", np.expm1, "expm1({0})", (lambda g, out: g * (out + 1),), 12)
LOG = _unary("log", np.log, "log({0})", (lambda g, x: g / x,), 12)
LOG2 = _unary("log2", np.log2, "log2({0})", (lambda g, x: g / (x * 0.6931471805599453),), 12)
LOG10 = _unary("log10", np.log10, "log10({0})", (lambda g, x: g / (x * 2.302585092994046),), 12)
LOG1P = _unary("log1p", np.log1p, "log1p({0})", (lambda g, x: g / (x + 1),), 14)
SQRT = _unary("sqrt", np.sqrt, "sqrt({0})", (lambda g, out: g / (out * 2),), 6)
RSQRT = _unary(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    "(1.0{f} / sqrt({0}))",
    (lambda g, out: g * (out * out * out) * -0.5,),
    8,
)
SIN = _unary("sin", np.sin, "sin({0})", (lambda g, x, f: g * f.cos(x),), 16)
COS = _unary("cos", np.cos, "cos({0})", (lambda g, x, f: -g * f.sin(x),), 16)
TAN = _unary("tan", np.tan, "tan({0})", (lambda g, out: g * (out * out + 1),), 20)
ASIN = _unary("asin", np.arcsin, "asin({0})", (lambda g, x, f: g * f.rsqrt(1 - x * x),), 20)
ACOS = _unary("acos", np.arccos, "acos({0})", (lambda g, x, f: -g * f.rsqrt(1 - x * x),), 20)
ATAN = _unary("atan", np.arctan, "atan({0})", (lambda g, x: g / (x * x + 1),), 20)
ATAN2 = _map(
    "atan2",
    2,
    np.arctan2,
    {"f": "atan2({0}, {1})"},
    (lambda g, x, y: g * y / (x * x + y * y), lambda g, x, y: -g * x / (x * x + y * y)),
    cost=24,
    floating_result=True,
)
SINH = _unary("sinh", np.sinh, "sinh({0})", (lambda g, x, f: g * f.cosh(x),), 20)
COSH = _unary("cosh", np.cosh, "cosh({0})", (lambda g, x, f: g * f.sinh(x),), 20)
TANH = _unary("tanh", np.tanh, "tanh({0})", (lambda g, out: g * (1 - out * out),), 16)
ASINH = _unary("asinh", np.arcsinh, "asinh({0})", (lambda g, x, f: g * f.rsqrt(x * x + 1),), 20)
ACOSH = _unary("acosh", np.arccosh, "acosh({0})", (lambda g, x, f: g * f.rsqrt(x * x - 1),), 20)
ATANH = _unary("atanh", np.arctanh, "atanh({0})", (lambda g, x: g / (1 - x * x),), 20)
ERF = _unary(
    "erf",
    scipy_special("erf"),
    "erf({0})",
    (lambda g, x, f: g * f.exp(-(x * x)) * 1.1283791670955126,),
    20,
)
ERFC = _unary(
    "erfc",
    scipy_special("erfc"),
    "erfc({0})",
    (lambda g, x, f: g * f.exp(-(x * x)) * -1.1283791670955126,),
    24,
)


def _lgamma(x: np.ndarray) -> Any:
    # SciPy answers -inf at -inf; PyTorch and OpenCL answer inf.
    return np.where(np.isinf(x), np.asarray(np.inf, x.dtype), scipy_special("gammaln")(x))


LGAMMA = _unary("lgamma", _lgamma, "lgamma({0})", (lambda g, x, f: g * f.digamma(x),), 40)


_no_slope = (lambda g, f: f.zeros_like(g),)


def _rounding(name: str, function: Callable[..., Any], c: str) -> OpDef:
    def compute(array: np.ndarray) -> Any:
        # NumPy turns rounded integers into floating point, depending on its version.
        return array if array.dtype.kind in "iub" else function(array)

    return _map(name, 1, compute, {"f": c, "i": "{0}", "u": "{0}", "b": "{0}"}, _no_slope)


FLOOR = _rounding("floor", np.floor, "floor({0})")
CEIL = _rounding("ceil", np.ceil, "ceil({0})")
TRUNC = _rounding("trunc", np.trunc, "trunc({0})")
# PyTorch rounds halves to even, which is OpenCL's rint, not its round.
ROUND = _rounding("round", np.rint, "rint({0})")

# Choice and conversion ------------------------------------------------------------------------


def _infer_where(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return broadcast(shapes), types[1]


WHERE = register(
    OpDef(
        name="where",
        kind="map",
        arity=3,
        infer=_infer_where,
        numpy=lambda attrs, condition, x, y: np.asarray(np.where(condition, x, y)),
        c={"*": "({0} ? {1} : {2})"},
        c_vector={"*": "select({2}, {1}, convert_{m}{w}({0}) != ({m}{w})0)"},
        gradient=(
            None,
            lambda g, x, f: f.where(x, g, 0),
            lambda g, x, f: f.where(x, 0, g),
        ),
    )
)


def _infer_cast(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return shapes[0], attrs[0]


def cast_array(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Convert as PyTorch does on x86: out-of-range floats become the integer's wrapped value."""
    if array.dtype == dtype.numpy:
        return array
    with np.errstate(all="ignore"):
        if dtype.kind == "b":
            return array != 0
        if array.dtype.kind == "c" and dtype.kind != "c":
            array = array.real
        if array.dtype.kind not in "iub" and dtype.kind in "iu":
            # Through int64, as the truncating conversion of x86 does for narrow types.
            return np.trunc(array.astype(np.float64)).astype(np.int64).astype(dtype.numpy)
        return array.astype(dtype.numpy)


CAST = register(
    OpDef(
        name="cast",
        kind="map",
        arity=1,
        infer=_infer_cast,
        numpy=lambda attrs, array: cast_array(array, attrs[0]),
        gradient=(lambda g: g,),
    )
)
BITCAST = register(
    OpDef(
        name="bitcast",
        kind="map",
        arity=1,
        infer=_infer_cast,
        numpy=lambda attrs, array: array.view(attrs[0].numpy),
    )
)


# Complex numbers --------------------------------------------------------------------------------
# Arithmetic that is not above is made of operations on the two parts, by functional.complex.


def _infer_part(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return shapes[0], types[0].real


def _infer_complex(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return broadcast(shapes), types[0].to_complex()


def _join(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    joined = np.empty(np.broadcast_shapes(real.shape, imaginary.shape), f"c{2 * real.itemsize}")
    joined.real = real
    joined.imag = imaginary
    return joined


REAL = register(
    OpDef(
        name="real",
        kind="map",
        arity=1,
        infer=_infer_part,
        numpy=lambda attrs, array: array.real.copy(),
        c={"f": "({0}).x"},
        gradient=(lambda g, f: f.complex(g, f.zeros_like(g)),),
    )
)
IMAGINARY = register(
    OpDef(
        name="imag",
        kind="map",
        arity=1,
        infer=_infer_part,
        numpy=lambda attrs, array: array.imag.copy(),
        c={"f": "({0}).y"},
        gradient=(lambda g, f: f.complex(f.zeros_like(g), g),),
    )
)
COMPLEX = register(
    OpDef(
        name="complex",
        kind="map",
        arity=2,
        infer=_infer_complex,
        numpy=lambda attrs, real, imaginary: _join(real, imaginary),
        c={"c": "(({t})({0}, {1}))"},
    )
)
