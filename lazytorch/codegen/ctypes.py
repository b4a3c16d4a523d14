"""OpenCL C spellings: types, literals, conversions, and the helper functions of our own.

A helper is written where OpenCL C's own function differs from PyTorch's: NaN in maximum and
minimum, the sign of a remainder, shifts by too much, integer powers, 16-bit floats.
"""

from __future__ import annotations

import math
from typing import Any

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ops.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

_UNSIGNED = {
    "char": "uchar", "uchar": "uchar", "short": "ushort", "ushort": "ushort",
    "int": "uint", "uint": "uint", "long": "ulong", "ulong": "ulong",
}  # fmt: skip
_MASK = {1: "char", 2: "short", 4: "int", 8: "long"}


def value_type(dtype: DType) -> str:
    """The C type in which values of the dtype are computed."""
    return dtype.compute.c_name


def storage_type(dtype: DType) -> str:
    """The C type of an array's elements."""
    return dtype.c_name


def mask_type(dtype: DType) -> str:
    """The signed integer type as wide as computed values, which vector selects want."""
    return _MASK[dtype.compute.real.itemsize]


def vector(type_name: str, width: int) -> str:
    """``float`` and 16 give ``float16``; width 1 is the scalar."""
    return type_name if width == 1 else f"{type_name}{width}"


def conversion(type_name: str, width: int) -> str:
    """The spelling of a value-preserving conversion, to be followed by an argument in ()."""
    return f"({type_name})" if width == 1 else f"convert_{type_name}{width}"


def complex_conversion(text: str, source: DType, target: DType) -> str:
    """A number converted to a complex type, or a complex one to another or to bool; never a
    vector, because bodies with complex numbers have none."""
    if target.kind == "b":
        return f"(uchar)any({text} != ({source.c_name})(0))"
    if source.kind == "c":
        return f"convert_{target.c_name}({text})"
    part = target.real
    return f"({target.c_name})({conversion(part.c_name, 1)}({text}), {literal(0, part)})"


def broadcast(text: str, type_name: str, width: int) -> str:
    """A scalar repeated in every lane."""
    return text if width == 1 else f"({type_name}{width})({text})"


def literal(value: Any, dtype: DType) -> str:
    """A number as C text of the dtype's compute type."""
    compute = dtype.compute
    if compute.kind == "c":
        parts = (literal(part, compute.real) for part in (value.real, value.imag))
        return f"(({compute.c_name})({', '.join(parts)}))"
    if compute.kind == "f":
        number = float(value)
        if math.isnan(number):
            return "NAN" if compute is dtypes.float32 else "((double)NAN)"
        if math.isinf(number):
            name = "INFINITY" if compute is dtypes.float32 else "((double)INFINITY)"
            return name if number > 0 else f"(-{name})"
        text = (
            float(number).hex() if number else ("-0.0" if math.copysign(1, number) < 0 else "0.0")
        )
        text = text if compute is dtypes.float64 else f"{text}f"
        return f"({text})" if text.startswith("-") else text
    if compute.kind == "b":
        return "1" if value else "0"
    whole = int(value)
    if compute is dtypes.int64:
        return "(-0x7fffffffffffffffL - 1)" if whole == -(1 << 63) else f"({whole}L)"
    if compute is dtypes.int32:
        return "(-0x7fffffff - 1)" if whole == -(1 << 31) else f"({whole})"
    suffix = {"uint": "u", "ulong": "ul"}.get(compute.c_name, "")
    return f"(({compute.c_name}){whole}{suffix})"


def placeholders(dtype: DType, width: int) -> dict[str, str]:
    """What fills the named fields of an operation's C text."""
    name = value_type(dtype)
    unsigned = _UNSIGNED.get(name, name)
    return {
        "t": name,
        "w": "" if width == 1 else str(width),
        "m": mask_type(dtype),
        "f": "" if dtype.compute.real is dtypes.float64 else "f",
        "cast": conversion(name, width),
        "unsigned": conversion(unsigned, width),
    }


def helper_source(name: str, type_name: str, width: int) -> str:
    """The definition of helper ``lt_<name>`` for one type; its name carries the type."""
    full = f"lt_{name}_{vector(type_name, width)}"
    t = vector(type_name, width)
    body = _bodies(name, type_name, width)
    if body is None:
        raise KeyError(f"no helper function {name!r} for {t}")
    parameters = "T a" if name in _ONE_PARAMETER else "T a, T b"
    return f"inline {t} {full}({parameters.replace('T', t)}) {{ {body.replace('T', t)} }}"


_ONE_PARAMETER = ("round_half", "round_bfloat", "float_order")


def _choose(condition: str, then: str, otherwise: str, width: int) -> str:
    if width == 1:
        return f"(({condition}) ? ({then}) : ({otherwise}))"
    return f"select({otherwise}, {then}, {condition})"


def _bodies(name: str, type_name: str, width: int) -> str | None:
    floating = type_name in ("float", "double")
    signed = type_name in ("char", "short", "int", "long")
    one = f"(T)({1})"
    zero = "(T)(0)"
    either = "||" if width == 1 else "|"
    both = "&&" if width == 1 else "&"
    if name == "complex_product":
        return "return (T)(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);"
    if name == "complex_quotient":
        # Smith's way: dividing by the larger part first neither overflows nor underflows early.
        return (
            "if (fabs(b.x) >= fabs(b.y)) { if (b.x == 0 && b.y == 0) return a / fabs(b.x);"
            f" const {type_name[:-1]} r = b.y / b.x, d = b.x + b.y * r;"
            " return (T)((a.x + a.y * r) / d, (a.y - a.x * r) / d); }"
            f" const {type_name[:-1]} r = b.x / b.y, d = b.x * r + b.y;"
            " return (T)((a.x * r + a.y) / d, (a.y * r - a.x) / d);"
        )
    if name == "maximum":
        return f"return {_choose(f'(a > b) {either} (a != a)', 'a', 'b', width)};"
    if name == "minimum":
        return f"return {_choose(f'(a < b) {either} (a != a)', 'a', 'b', width)};"
    if name == "remainder" and floating:
        wrong = f"(r != {zero}) {both} ((r < {zero}) != (b < {zero}))"
        fixed = _choose(wrong, "r + b", "r", width)
        sign = _choose(f"r == {zero}", "copysign(r, b)", "r", width)
        return f"T r = fmod(a, b); r = {fixed}; return {sign};"
    if name == "floor_divide" and floating:
        wrong = f"(r != {zero}) {both} ((r < {zero}) != (b < {zero}))"
        return (
            f"T r = fmod(a, b); T q = (a - r) / b; q = {_choose(wrong, f'q - {one}', 'q', width)};"
            f" T f = floor(q); f = {_choose('q - f > (T)(0.5f)', f'f + {one}', 'f', width)};"
            f" f = {_choose(f'q == {zero}', f'copysign({zero}, a / b)', 'f', width)};"
            f" return {_choose(f'b == {zero}', 'a / b', 'f', width)};"
        )
    if name in ("remainder", "floor_divide", "fmod") and signed:
        # x / -1 overflows (and traps) for the smallest x; handle it as negation.
        safe = _choose(f"(b == {zero}) {either} (b == (T)(-1))", one, "b", width)
        wrong = f"(r != {zero}) {both} ((r < {zero}) != (b < {zero}))"
        start = f"T d = {safe}; T q = a / d; T r = a - q * d;"
        negated = _choose("b == (T)(-1)", f"{zero} - a", "q", width)
        if name == "fmod":
            return f"{start} return r;"
        if name == "remainder":
            return f"{start} return {_choose(wrong, 'r + b', 'r', width)};"
        floor = _choose(wrong, f"q - {one}", "q", width)
        return f"{start} q = {floor}; return {negated};"
    if name in ("remainder", "floor_divide", "fmod"):
        symbol = "/" if name == "floor_divide" else "%"
        return f"return (T)(a {symbol} {_choose(f'b == {zero}', one, 'b', width)});"
    if name == "power":
        return _integer_power(signed, width, one, zero)
    if name in ("shift_left", "shift_right"):
        return _shift(name, type_name, width, signed)
    if name == "float_order":
        return _float_order(type_name)
    if name == "round_half" and type_name == "float":
        # An array of half is refused without cl_khr_fp16; a pointer to half is not.
        suffix = "" if width == 1 else str(width)
        return (
            f"ushort h[{width}]; vstore_half{suffix}(a, 0, (half*)h);"
            f" return vload_half{suffix}(0, (half*)h);"
        )
    if name == "round_bfloat" and type_name == "float":
        u, w = vector("uint", width), "" if width == 1 else str(width)
        return (
            f"{u} x = as_uint{w}(a); {u} y = (x + 0x7fffu + ((x >> 16) & 1u)) & 0xffff0000u;"
            f" return {_choose('a != a', 'a', f'as_float{w}(y)', width)};"
        )
    return None


def _integer_power(signed: bool, width: int, one: str, zero: str) -> str:
    loop = "T r = (T)(1); T x = a; T n = b;"
    if width == 1:
        step = "while (n > 0) { if (n & 1) r = r * x; x = x * x; n >>= 1; }"
    else:
        step = (
            f"for (int i = 0; i < 63; i++) {{ r = select(r, r * x, (n & {one}) != {zero});"
            f" x = x * x; n >>= {one}; }}"
        )
    if not signed:
        return f"{loop} {step} return r;"
    parity = _choose(f"(b & {one}) == {zero}", one, "(T)(-1)", width)
    by_sign = _choose(f"a == {one}", one, _choose("a == (T)(-1)", parity, zero, width), width)
    clipped = _choose(f"b < {zero}", zero, "b", width)
    return f"{loop} n = {clipped}; {step} return {_choose(f'b < {zero}', by_sign, 'r', width)};"


def _shift(name: str, type_name: str, width: int, signed: bool) -> str:
    bits = {"char": 8, "uchar": 8, "short": 16, "ushort": 16, "int": 32, "uint": 32}.get(
        type_name, 64
    )
    either = "||" if width == 1 else "|"
    outside = f"(b >= (T)({bits}))" + (f" {either} (b < (T)(0))" if signed else "")
    safe = _choose(outside, "(T)(0)", "b", width)
    if name == "shift_left":
        return f"T s = {safe}; return {_choose(outside, '(T)(0)', '(T)(a << s)', width)};"
    beyond = _choose("a < (T)(0)", "(T)(-1)", "(T)(0)", width) if signed else "(T)(0)"
    return f"T s = {safe}; return {_choose(outside, beyond, '(T)(a >> s)', width)};"


def _float_order(type_name: str) -> str:
    """See ``ops.ordering``: sign and magnitude to two's complement, NaN above everything."""
    shift, largest, infinity = (
        (63, "0x7fffffffffffffffL", "0x7ff0000000000000L") if type_name == "long"
        else (31, "0x7fffffff", "0x7f800000")
    )  # fmt: skip
    return (
        f"T s = a >> {shift}; T size = a & (T)({largest});"
        f" T none = ((T)({infinity}) - size) >> {shift};"
        f" return (((size ^ s) - s) & ~none) | (none & (T)({largest}));"
    )


def philox_source(width: int) -> str:
    """``lt_philox<width>(seed, offset, index)``: the random bits of elements ``index``.

    See ``lazytorch.ops.philox`` for the generator and its source.
    """
    uint, ulong = vector("uint", width), vector("ulong", width)
    to_uint = conversion("uint", width)
    suffix = "" if width == 1 else str(width)
    if width == 1:
        pick = "word == 0 ? x0 : word == 1 ? x1 : word == 2 ? x2 : x3"
    else:
        pick = "select(select(x0, x1, word == 1), select(x2, x3, word == 3), word >= 2)"
    return f"""
inline {uint} lt_philox{suffix}(ulong seed, ulong offset, {ulong} index) {{
  {ulong} counter = offset + (index >> 2);
  {uint} word = {to_uint}(index) & 3;
  {uint} x0 = {to_uint}(counter), x1 = {to_uint}(counter >> 32), x2 = 0, x3 = 0;
  uint k0 = (uint)seed, k1 = (uint)(seed >> 32);
  for (int i = 0; i < {ROUNDS}; i++) {{
    {uint} h0 = mul_hi(({uint})({MULTIPLIERS[0]}u), x0), l0 = {MULTIPLIERS[0]}u * x0;
    {uint} h1 = mul_hi(({uint})({MULTIPLIERS[1]}u), x2), l1 = {MULTIPLIERS[1]}u * x2;
    x0 = h1 ^ x1 ^ k0; x1 = l1; x2 = h0 ^ x3 ^ k1; x3 = l0;
    k0 += {KEY_STEPS[0]}u; k1 += {KEY_STEPS[1]}u;
  }}
  return {pick};
}}
"""


def philox_words_source(width: int) -> str:
    """``lt_philox_words<width>(seed, block, words)``: the bits of ``2 * width`` elements in turn,
    from the first of block number ``block`` on; ``width`` is 8 or 16.

    A block gives four elements, so a quarter of the work of ``lt_philox`` for each of them. Words
    stand in the lower halves of 64-bit lanes, where one multiplication gives both halves of the
    product; what is above them is cleared only where it would be seen.
    """
    blocks = width // 2
    ulong, pairs, words = f"ulong{blocks}", f"ulong{width}", f"uint{width}"
    lanes = ", ".join(map(str, range(blocks)))
    return f"""
inline void lt_philox_words{width}(ulong seed, ulong block, uint* words) {{
  const {ulong} low = 0xffffffffUL, counter = block + ({ulong})({lanes});
  {ulong} x0 = counter, x1 = counter >> 32, x2 = 0, x3 = 0;
  uint k0 = (uint)seed, k1 = (uint)(seed >> 32);
  for (int i = 0; i < {ROUNDS}; i++) {{
    const {ulong} first = (x0 & low) * {MULTIPLIERS[0]}UL, second = (x2 & low) * {MULTIPLIERS[1]}UL;
    x0 = (second >> 32) ^ x1 ^ (ulong)k0; x1 = second & low;
    x2 = (first >> 32) ^ x3 ^ (ulong)k1; x3 = first & low;
    k0 += {KEY_STEPS[0]}u; k1 += {KEY_STEPS[1]}u;
  }}
  {pairs} drawn;
  drawn.even = (x0 & low) | (x1 << 32);
  drawn.odd = (x2 & low) | (x3 << 32);
  vstore{width}(as_{words}(drawn.lo), 0, words);
  vstore{width}(as_{words}(drawn.hi), 1, words);
}}
"""


# Floating-point types whose values kernels hold as float32.
SHORT_FLOATS = (dtypes.float16, dtypes.bfloat16)


def short_float_bits(dtype: DType, width: int) -> tuple[str, str]:
    """Name and text of the function that gives the bits of 16-bit floats held as float32."""
    lanes = "" if width == 1 else str(width)
    name = f"lt_{dtype.name}_bits{lanes}"
    if dtype is dtypes.float16:
        body = f"ushort{lanes} r; vstore_half{lanes}(a, 0, (half*)&r); return r;"
    else:
        body = f"return convert_ushort{lanes}(as_uint{lanes}(a) >> 16);"
    return name, f"inline ushort{lanes} {name}(float{lanes} a) {{ {body} }}"


def short_float_value(dtype: DType, width: int) -> tuple[str, str]:
    """Name and text of the function that gives the float32 value of the bits of 16-bit floats."""
    lanes = "" if width == 1 else str(width)
    name = f"lt_{dtype.name}_value{lanes}"
    if dtype is dtypes.float16:
        body = f"return vload_half{lanes}(0, (const half*)&a);"
    else:
        body = f"return as_float{lanes}(convert_uint{lanes}(a) << 16);"
    return name, f"inline float{lanes} {name}(ushort{lanes} a) {{ {body} }}"


# A cache line: what a store that passes by the caches has to fill at once.
LINE_BYTES = 64


def stream_source(type_name: str, width: int) -> str:
    """``lt_stream_<type><width>(value, place)``: a store that passes by the caches.

    An ordinary store first reads the line it overwrites: a third of a large copy's traffic. Such a
    store needs an aligned address (memory shared with NumPy may have any), and a compiler that has
    a name for it; those of CPU drivers, made from Clang, do. A fence follows the last one.
    """
    vector_type = vector(type_name, width)
    return f"""
inline void lt_stream_{vector_type}({vector_type} value, __global {type_name}* place) {{
#ifdef __has_builtin
#if __has_builtin(__builtin_nontemporal_store)
  if (((size_t)place & (sizeof({vector_type}) - 1)) == 0) {{
    __builtin_nontemporal_store(value, (__global {vector_type}*)place);
    return;
  }}
#endif
#endif
  vstore{width}(value, 0, place);
}}
"""


BOUND = """
inline long lt_bound(long i, long n, int code, __global int* bounds) {
  if (i >= 0 && i < n) return i;
  bounds[0] = code; bounds[1] = (int)i;
  return 0;
}
"""
