"""Functions of one number: signs, rounding, classes of numbers, exponentials, angles.

Most are one primitive behind the checks that PyTorch makes; the tables near the end give the plain
ones their public names and in-place forms.
"""

from __future__ import annotations

import math
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.composite import require_tensor
from lazytorch.functional.elementwise import (
    _is_complex,
    clamp,
    detached,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    plain_add,
    plain_div,
    plain_eq,
    plain_ge,
    plain_gt,
    plain_lt,
    plain_mul,
    plain_ne,
    plain_sub,
    square,
    where,
)
from lazytorch.ops import elementwise as ops
from lazytorch.tensor.apply import (
    apply,
    binary,
    cast,
    combined,
    unary,
)
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import (
    get_default_dtype,
)
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor

_neg = unary(ops.NEG, None, False)


@public(inplace=True, aliases=("negative",))
def neg(input: Tensor) -> Tensor:
    """``-input``; bools are refused."""
    if dtype_of(input) is dtypes.bool_:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, use the `~` or `logical_not()` operator instead."
        )
    return _neg(input)


_isnan = unary(ops.IS_NAN, None, False)


@public()
def isnan(input: Tensor) -> Tensor:
    """Where ``input`` is not a number."""
    if dtype_of(input).kind != "f":
        return functions.zeros_like(input, dtype=dtypes.bool_)
    return _isnan(input)


@public()
def isinf(input: Tensor) -> Tensor:
    """Where ``input`` is plus or minus infinity."""
    if dtype_of(input).kind == "c":
        return logical_or(*(isinf(part) for part in functions.complex_parts(detached(input))))
    if dtype_of(input).kind != "f":
        return functions.zeros_like(input, dtype=dtypes.bool_)
    return plain_eq(_magnitude(detached(input)), math.inf)


@public()
def isfinite(input: Tensor) -> Tensor:
    """Where ``input`` is a finite number."""
    if dtype_of(input).kind == "c":
        return logical_and(*(isfinite(part) for part in functions.complex_parts(detached(input))))
    if dtype_of(input).kind != "f":
        return functions.ones_like(input, dtype=dtypes.bool_)
    return plain_lt(_magnitude(detached(input)), math.inf)


@public()
def isposinf(input: Tensor) -> Tensor:
    """Where ``input`` is plus infinity."""
    return plain_eq(input, math.inf)


@public()
def isneginf(input: Tensor) -> Tensor:
    """Where ``input`` is minus infinity."""
    return plain_eq(input, -math.inf)


@public()
def isreal(input: Tensor) -> Tensor:
    """Where the imaginary part is 0: everywhere in a tensor that is not complex."""
    if _is_complex(input):
        return plain_eq(functions.imaginary_part(input), 0)
    return functions.ones_like(input, dtype=dtypes.bool_)


_magnitude = unary(ops.ABS, None, False)


@public(inplace=True, aliases=("absolute",))
def abs(input: Tensor) -> Tensor:
    """The magnitude of each element."""
    if dtype_of(input) is dtypes.bool_:
        raise RuntimeError("The `abs` operator on a bool tensor is not supported.")
    return _magnitude(input)


_sign_rule = Rule("SignBackward0", (lambda g, f: f.zeros_like(g),))


@public(inplace=True)
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1 by the sign of each element."""
    dtype = dtype_of(input)
    if dtype is dtypes.bool_:
        return functions.clone(input)
    if dtype.kind == "c":
        raise RuntimeError(
            "Unlike NumPy, torch.sign doesn't return the sign of a complex tensor: use torch.sgn()"
        )
    with no_grad():
        above = cast(plain_gt(input, 0), dtype)
        if dtype.kind == "u":
            return above
        out = plain_sub(above, cast(plain_lt(input, 0), dtype))
    return attach(out, _sign_rule, (input,))


@public(inplace=True)
@shown_as("SgnBackward0")
def sgn(input: Tensor) -> Tensor:
    """``sign`` of real tensors, ``input / abs(input)`` of complex ones (0 at 0)."""
    return functions.complex_sign(input) if dtype_of(input).kind == "c" else sign(input)


@public()
def signbit(input: Tensor) -> Tensor:
    """Where the sign bit is set, minus zero included."""
    dtype = dtype_of(input)
    if dtype.kind in "ub":
        return functions.zeros_like(input, dtype=dtypes.bool_)
    if dtype.kind == "i":
        return plain_lt(input, 0)
    bits = {2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64}[dtype.itemsize]
    return plain_lt(apply(ops.BITCAST, (detached(input),), (bits,)), 0)


@public(inplace=True)
@shown_as("CopysignBackward0")
def copysign(input: Tensor, other: Any) -> Tensor:
    """The magnitude of ``input`` with the sign of ``other``."""
    require_tensor(input, "copysign", "input", 1)
    (first, second), _ = combined((input, other), floating=True)
    flipped = plain_ne(signbit(first), signbit(second))
    return where(flipped, _neg(first), first)


_round = unary(ops.ROUND, None, False)


@public(inplace=True)
def round(input: Tensor, *, decimals: int | None = None) -> Tensor:
    """Rounded to the nearest integer (halves to even), or to ``decimals`` digits."""
    if decimals is None:
        return _round(input)
    return _round_to(input, decimals)


@shown_as("RoundBackward1")
def _round_to(input: Tensor, decimals: int) -> Tensor:
    if decimals == 0:
        return _round(input)
    if dtype_of(input).kind != "f":
        raise RuntimeError("round() with decimals takes floating-point tensors")
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return plain_div(_round(plain_mul(input, scale)), scale)
    return plain_mul(_round(plain_div(input, scale)), scale)


_fraction_rule = Rule("FracBackward0", (lambda g: g,))


@public(inplace=True)
def frac(input: Tensor) -> Tensor:
    """The part behind the decimal point, with the sign of ``input``."""
    with no_grad():
        out = plain_sub(input, trunc(input))
    return attach(out, _fraction_rule, (input,))


_sigmoid_rule = Rule("SigmoidBackward0", (lambda g, out: g * ((1 - out) * out),))


@public(inplace=True, aliases=("special_expit",))
def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-input))``."""
    with no_grad():
        out = plain_div(1, plain_add(_exp(_neg(_floating(input))), 1))
    return attach(out, _sigmoid_rule, (input,))


@public(inplace=True, aliases=("special_logit",))
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """``log(input / (1 - input))``, with ``input`` limited to [eps, 1 - eps] if given."""
    values = _floating(input)
    if eps is not None:
        values = clamp(values, eps, 1 - eps)
    odds = plain_div(values, plain_sub(1, values))
    return label(functions.log(odds), "LogitBackward0")


@public(aliases=("special_xlogy",), inplace=True)
def xlogy(input: Any, other: Any) -> Tensor:
    """``input * log(other)``, 0 where ``input`` is 0 and ``other`` is no NaN."""
    (first, second), _ = combined((input, other), floating=True)
    product = plain_mul(first, functions.log(second))
    silent = logical_and(plain_eq(first, 0), logical_not(isnan(second)))
    return label(where(silent, 0.0, product), "XlogyBackward0")


@public()
def positive(input: Tensor) -> Tensor:
    """The tensor itself; bools are refused."""
    if dtype_of(input) is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def _floating(input: Tensor) -> Tensor:
    return input if dtype_of(input).kind in "fc" else cast(input, get_default_dtype())


_exp = unary(ops.EXP, None, True)

_TRANSCENDENTAL = {
    "exp": (), "exp2": (), "expm1": (), "log": (), "log2": (), "log10": (), "log1p": (),
    "sqrt": (), "rsqrt": (), "sin": (), "cos": (), "tan": (), "asin": ("arcsin",),
    "acos": ("arccos",), "atan": ("arctan",), "sinh": (), "cosh": (), "tanh": (),
    "asinh": ("arcsinh",), "acosh": ("arccosh",), "atanh": ("arctanh",), "erf": (), "erfc": (),
    "lgamma": (),
}  # fmt: skip
_ROUNDING = {"floor": (), "ceil": (), "trunc": ("fix",)}


def _public_unary(name: str, aliases: tuple[str, ...], floating: bool) -> Any:
    plain = unary(getattr(ops, name.upper()), None, floating)

    def function(input: Tensor) -> Tensor:
        return plain(input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` of each element."
    return public(inplace=True, aliases=aliases)(function)


for _name, _aliases in _TRANSCENDENTAL.items():
    globals()[_name] = _public_unary(_name, _aliases, True)
for _name, _aliases in _ROUNDING.items():
    globals()[_name] = _public_unary(_name, _aliases, False)
trunc = functions.trunc

_arctangent = binary(ops.ATAN2, None, floating=True, tensors=2)


@public(inplace=True, aliases=("arctan2",))
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input)."""
    return _arctangent(input, other)


@public(inplace=True)
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """``sqrt(input ** 2 + other ** 2)``."""
    require_tensor(other, "hypot", "other", 1)
    return label(functions.sqrt(plain_add(square(input), square(other))), "HypotBackward0")


@public()
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """``log(exp(input) + exp(other))`` without overflow; of complex numbers the one with the
    larger real part is taken out."""
    if _is_complex(input) or _is_complex(other):
        return label(_complex_logaddexp(input, other), "LogaddexpBackward0")
    largest = maximum(input, other)
    same = plain_eq(input, other)
    gap = where(same, functions.zeros_like(largest), _neg(abs(plain_sub(input, other))))
    return label(plain_add(largest, functions.log1p(_exp(gap))), "LogaddexpBackward0")


def _complex_logaddexp(input: Tensor, other: Tensor) -> Tensor:
    above = plain_ge(functions.real_part(input), functions.real_part(other))
    large, small = where(above, input, other), where(above, other, input)
    # Two equal infinities have no difference.
    gap = where(plain_eq(large, small), functions.zeros_like(large), plain_sub(small, large))
    return plain_add(large, functions.log1p(_exp(gap)))


@public(inplace=True)
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """``input`` with NaN and infinities replaced by numbers."""
    dtype = dtype_of(input)
    if dtype.kind != "f":
        return functions.clone(input)
    limit = functions.finfo(dtype).max
    out = where(isnan(input), 0.0 if nan is None else nan, input)
    out = where(plain_eq(input, math.inf), limit if posinf is None else posinf, out)
    out = where(plain_eq(input, -math.inf), -limit if neginf is None else neginf, out)
    return label(out, "NanToNumBackward0")
