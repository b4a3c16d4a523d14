"""Elementwise functions of several numbers: arithmetic, powers, comparison, logic, choice.

Most are one primitive behind the checks that PyTorch makes. Functions of one number are in
``unary``.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import by_operand, shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label, named
from lazytorch.dtypes import DType
from lazytorch.functional.composite import require_tensor
from lazytorch.ops import elementwise as ops
from lazytorch.tensor.apply import apply, binary, cast, combined, operand_device, to_operand
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.promotion import result_type, scalar_name
from lazytorch.tensor.recorder import c_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

# Arithmetic -----------------------------------------------------------------------------------

_NO_BOOL = (
    "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to "
    "invert a mask, use the `~` or `logical_not()` operator instead."
)
plain_add = binary(ops.ADD, None)
plain_sub = binary(ops.SUB, None, refused=_NO_BOOL)
plain_mul = binary(ops.MUL, None)
plain_div = binary(ops.DIV, None, floating=True)
operator_add = binary(ops.ADD, None, operator=True)
operator_sub = binary(ops.SUB, None, refused=_NO_BOOL, operator=True)
operator_mul = binary(ops.MUL, None, operator=True)
operator_div = binary(ops.DIV, None, floating=True, operator=True)
_rsub_rule = named(ops.SUB, "RsubBackward1")


def _check_alpha(alpha: Any, dtype: DType) -> None:
    if dtype.kind != "f" and isinstance(alpha, float):
        raise RuntimeError(
            "For integral input tensors, argument alpha must not be a floating point number."
        )
    if isinstance(alpha, bool) and dtype.kind != "b":
        raise RuntimeError("Boolean alpha only supported for Boolean results.")


@public(inplace=True)
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``.

    >>> add(tensor([1., 2.]), 1)
    tensor([2., 3.])
    """
    if alpha.__class__ is not int or alpha != 1:
        _check_alpha(alpha, result_type(input, other))
        other = plain_mul(other, alpha) if isinstance(other, Tensor) else other * alpha
    return plain_add(input, other)


@public(inplace=True, aliases=("subtract",))
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``; bool tensors are refused."""
    if alpha.__class__ is not int or alpha != 1:
        _check_alpha(alpha, result_type(input, other))
        other = plain_mul(other, alpha) if isinstance(other, Tensor) else other * alpha
    return plain_sub(input, other)


@public()
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """``other - alpha * input``."""
    require_tensor(input, "rsub", "input", 1)
    name = "RsubBackward0" if isinstance(other, Tensor) else "RsubBackward1"
    return label(sub(other, input, alpha=alpha), name)


@public(inplace=True, aliases=("multiply",))
def mul(input: Any, other: Any) -> Tensor:
    """``input * other``."""
    return plain_mul(input, other)


@public(inplace=True, aliases=("divide",))
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; ``rounding_mode`` 'trunc' or 'floor' rounds the quotient."""
    if rounding_mode is None:
        return plain_div(input, other)
    return _rounded_quotient(input, other, rounding_mode)


@shown_as("DivBackward2")
def _rounded_quotient(input: Any, other: Any, rounding_mode: str) -> Tensor:
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"'{rounding_mode}'"
        )
    (first, second), dtype = combined((input, other))
    if dtype.kind == "f":
        return functions.trunc(plain_div(first, second))
    quotient = floor_divide(first, second)
    uneven = plain_ne(plain_mul(quotient, second), first)
    below = plain_lt(quotient, 0)
    return where(logical_and(uneven, below), plain_add(quotient, 1), quotient)


@public(inplace=True)
def true_divide(input: Any, other: Any) -> Tensor:
    """``input / other``; integers give floating point."""
    return plain_div(input, other)


def check_no_zero(divisor: Tensor) -> None:
    """Refuse an integer division by zero where the call is, as PyTorch does."""
    if dtype_of(divisor).kind in "iub" and bool(np.any(every_value(divisor) == 0)):
        raise RuntimeError("ZeroDivisionError: integer division or modulo by zero")


def _divided(op: Any, name: str | None = None) -> Any:
    rule = named(op, name) if name else None
    plain = binary(op, rule)

    def divided(input: Any, other: Any) -> Tensor:
        if isinstance(other, float) and isinstance(input, Tensor):
            return plain(input, other)
        (first, second), dtype = combined((input, other))
        if dtype is dtypes.bool_:
            raise NotImplementedError(f"\"{op.name}\" not implemented for 'Bool'")
        check_no_zero(second)
        return apply(op, (first, second), (), rule)

    return divided


_floor_divided = _divided(ops.FLOOR_DIVIDE)
_remaindered = _divided(ops.REMAINDER)
_fmodded = _divided(ops.FMOD)


@public(inplace=True)
def floor_divide(input: Any, other: Any) -> Tensor:
    """``input / other`` rounded towards minus infinity; integers stay integers."""
    return _floor_divided(input, other)


@public(inplace=True)
@shown_as(by_operand("RemainderBackward"))
def remainder(input: Any, other: Any) -> Tensor:
    """``input - other * floor(input / other)``: has the sign of ``other``."""
    return _remaindered(input, other)


@public(inplace=True)
@shown_as(by_operand("FmodBackward"))
def fmod(input: Tensor, other: Any) -> Tensor:
    """``input - other * functions.trunc(input / other)``: has the sign of ``input``."""
    require_tensor(input, "fmod", "input", 1)
    return _fmodded(input, other)


# Powers ---------------------------------------------------------------------------------------

_power = binary(ops.POW, named(ops.POW, "PowBackward1"))
_power_scalar = binary(
    ops.POW,
    Rule("PowBackward0", (lambda g, x, y, f: g * (y * f.pow(x, f.exponent_below(y))), None)),
)
_squared = Rule("PowBackward0", (lambda g, x, f: g * (x * 2),))
_powered_zero = Rule("PowBackward0", (lambda g, f: f.zeros_like(g),))


def exponent_below(exponent: Tensor) -> Any:
    """``exponent - 1`` for an exponent that came as a Python number."""
    value = node_of(exponent)
    return (value.attrs[0] if value.buffer is None else value.buffer) - 1


functions.exponent_below = exponent_below


@public(inplace=True)
def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power of ``exponent``; integers to negative powers are refused."""
    if isinstance(exponent, complex) and isinstance(input, Tensor):
        return functions.complex_power(input, exponent)
    if isinstance(exponent, (int, float)) and isinstance(input, Tensor):
        return _power_by_number(input, exponent)
    if isinstance(input, (int, float)) and isinstance(exponent, Tensor):
        if result_type(input, exponent) is dtypes.bool_:
            return cast(_power(to_long(input), exponent), dtypes.bool_)
    (first, second), dtype = combined((input, exponent))
    if dtype.kind == "c":
        return functions.complex_power(first, second)
    if dtype is dtypes.bool_:
        raise NotImplementedError("\"pow\" not implemented for 'Bool': convert with .long() first")
    rule = _POWER_RULE if isinstance(input, Tensor) else _NUMBER_POWER_RULE
    return apply(ops.POW, (first, second), (), rule)


_POWER_RULE = named(ops.POW, "PowBackward1")
_NUMBER_POWER_RULE = named(ops.POW, "PowBackward2")


def to_long(value: Any) -> int:
    """A bool or integer number as an int."""
    return int(value)


def _power_by_number(input: Tensor, exponent: Any) -> Tensor:
    if dtype_of(input).kind == "c":
        return functions.complex_power(input, exponent)
    if dtype_of(input).kind != "f":
        if not isinstance(exponent, float) and exponent < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        if dtype_of(input) is dtypes.bool_ and isinstance(exponent, (bool, int)):
            powered = pow(cast(input, dtypes.int64), int(exponent))
            return cast(powered, dtypes.bool_) if isinstance(exponent, bool) else powered
        return _power_scalar(input, exponent)
    if exponent == 2:
        with no_grad():
            out = plain_mul(input, input)
        return attach(out, _squared, (input,))
    if exponent == 1:
        return attach(fresh(node_of(input), input._device), _IDENTITY_POWER, (input,))
    if exponent == 0:
        return attach(functions.ones_like(input), _powered_zero, (input,))
    if exponent == 0.5:
        return attach(apply(ops.SQRT, (detached(input),)), _SQRT_POWER, (input,))
    return _power_scalar(input, exponent)


_IDENTITY_POWER = Rule("PowBackward0", (lambda g: g,))
_SQRT_POWER = Rule("PowBackward0", (lambda g, out: g / (out * 2),))


def detached(tensor: Tensor) -> Tensor:
    """The tensor's value without history, for composites that bring a rule of their own."""
    return fresh(node_of(tensor), tensor._device)


@public(inplace=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """``pow`` computed in float64, or complex128 of complex numbers."""
    if not isinstance(input, Tensor) and not isinstance(exponent, Tensor):
        raise TypeError(
            "float_power() received an invalid combination of arguments - got "
            f"({type(input).__name__}, {type(exponent).__name__}): one must be a Tensor"
        )
    wide = dtypes.complex128 if any(map(_is_complex, (input, exponent))) else dtypes.float64
    if isinstance(input, Tensor):
        input = cast(input, wide)
    if isinstance(exponent, Tensor):
        exponent = cast(exponent, wide)
    return pow(input, exponent)


def _is_complex(operand: Any) -> bool:
    """Whether a tensor or a Python number is complex."""
    if isinstance(operand, Tensor):
        return dtype_of(operand).kind == "c"
    return isinstance(operand, complex)


@public(inplace=True)
def square(input: Tensor) -> Tensor:
    """``input * input``."""
    return pow(input, 2)


_reciprocal_rule = Rule("ReciprocalBackward0", (lambda g, out: -g * (out * out),))


@public(inplace=True)
def reciprocal(input: Tensor) -> Tensor:
    """``1 / input``."""
    with no_grad():
        out = plain_div(1, input)
    return attach(out, _reciprocal_rule, (input,))


# Comparison and logic -------------------------------------------------------------------------

plain_eq = binary(ops.EQ, None, tensors=1)
plain_ne = binary(ops.NE, None, tensors=1)
plain_lt = binary(ops.LT, None, tensors=1)
plain_le = binary(ops.LE, None, tensors=1)
plain_gt = binary(ops.GT, None, tensors=1)
plain_ge = binary(ops.GE, None, tensors=1)


def _comparison(name: str, alias: str, plain: Any, reading: str) -> None:
    def compare(input: Tensor, other: Any) -> Tensor:
        return plain(input, other)

    compare.__name__ = compare.__qualname__ = name
    compare.__doc__ = f"Where ``input`` is {reading} ``other``, as bool."
    public(inplace=True, aliases=(alias,) if alias else ())(compare)


for _row in (
    ("eq", "", plain_eq, "equal to"),
    ("ne", "not_equal", plain_ne, "different from"),
    ("lt", "less", plain_lt, "less than"),
    ("le", "less_equal", plain_le, "at most"),
    ("gt", "greater", plain_gt, "greater than"),
    ("ge", "greater_equal", plain_ge, "at least"),
):
    _comparison(*_row)


def truth(value: Any) -> Tensor:
    """A tensor as bool: where it is not zero."""
    return value if dtype_of(value) is dtypes.bool_ else cast(value, dtypes.bool_)


def _logical(name: str, op: Any) -> Any:
    def logical(input: Tensor, other: Tensor) -> Tensor:
        require_tensor(input, name, "input", 1)
        require_tensor(other, name, "other", 1)
        first, second = truth(input), truth(other)
        return apply(op, (first, second))

    logical.__name__ = logical.__qualname__ = name
    logical.__doc__ = f"``{name.split('_')[1]}`` of the truth of two tensors, as bool."
    return public(inplace=True)(logical)


logical_and = _logical("logical_and", ops.BIT_AND)
logical_or = _logical("logical_or", ops.BIT_OR)
logical_xor = _logical("logical_xor", ops.BIT_XOR)


@public(inplace=True)
def logical_not(input: Tensor) -> Tensor:
    """Where ``input`` is zero, as bool."""
    return apply(ops.BIT_NOT, (truth(input),))


def _bitwise(name: str, op: Any, shift: bool = False) -> Any:
    plain = binary(op, None)

    def bitwise(input: Any, other: Any) -> Tensor:
        dtype = result_type(input, other)
        if dtype.kind == "f" or (shift and dtype.kind == "b"):
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{scalar_name(dtype)}': it takes integers"
                + ("" if shift else " or bools")
            )
        if dtype is dtypes.bool_:
            pair = combined((input, other))[0]
            return apply(op, pair)
        return plain(input, other)

    bitwise.__name__ = bitwise.__qualname__ = name
    bitwise.__doc__ = f"``{name.replace('_', ' ')}`` of integers" + ("." if shift else " or bools.")
    return public(inplace=True)(bitwise)


bitwise_and = _bitwise("bitwise_and", ops.BIT_AND)
bitwise_or = _bitwise("bitwise_or", ops.BIT_OR)
bitwise_xor = _bitwise("bitwise_xor", ops.BIT_XOR)
bitwise_left_shift = _bitwise("bitwise_left_shift", ops.SHIFT_LEFT, shift=True)
bitwise_right_shift = _bitwise("bitwise_right_shift", ops.SHIFT_RIGHT, shift=True)


@public(inplace=True)
def bitwise_not(input: Tensor) -> Tensor:
    """Every bit flipped; of bools, their negation."""
    if dtype_of(input).kind == "f":
        raise TypeError(
            "~ (operator.invert) is only implemented on integer and Boolean-type tensors"
        )
    return apply(ops.BIT_NOT, (input,))


# Choice ---------------------------------------------------------------------------------------


@public("where")
def _where_method(input: Tensor, condition: Tensor, other: Any) -> Tensor:
    return where(condition, input, other)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` holds, ``other`` elsewhere; all broadcast.

    With the condition alone: the indices where it holds.
    """
    if input is None and other is None:
        return functions.nonzero(condition, as_tuple=True)
    if not isinstance(condition, Tensor):
        raise TypeError(
            f"where(): argument 'condition' (position 1) must be Tensor, not "
            f"{type(condition).__name__}"
        )
    if dtype_of(condition) is dtypes.uint8:
        condition = truth(condition)
    if dtype_of(condition) is not dtypes.bool_:
        raise RuntimeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{scalar_name(dtype_of(condition))}"
        )
    dtype = result_type(input, other)
    place = operand_device((condition, input, other))
    return apply(
        ops.WHERE,
        (
            to_operand(condition, dtypes.bool_, place),
            to_operand(input, dtype, place),
            to_operand(other, dtype, place),
        ),
    )


public(method=False)(where)


_filled_rule = Rule(
    "MaskedFillBackward0",
    (lambda g, y, f: f.where(y, 0, g), None, lambda g, y, f: f.where(y, g, 0)),
)
_filled_by_tensor_rule = _filled_rule.under("MaskedFillBackward1")


@public(inplace=True)
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with ``value`` where ``mask`` holds."""
    if dtype_of(mask) is not dtypes.bool_:
        raise RuntimeError(
            f"masked_fill_ only supports boolean masks, but got mask with dtype {dtype_of(mask)!r}"
        )
    dtype = dtype_of(input)
    if isinstance(value, Tensor):
        if shape_of(value):
            raise RuntimeError(
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{len(shape_of(value))} dimension(s)."
            )
    whole = not isinstance(value, float) or value.is_integer()
    if (dtype.kind != "c" and _is_complex(value)) or (dtype.kind in "iub" and not whole):
        raise RuntimeError(f"value cannot be converted to type {c_name(dtype)} without overflow")
    rule = _filled_by_tensor_rule if isinstance(value, Tensor) else _filled_rule
    value = to_operand(value, dtype, input._device)
    with no_grad():
        out = apply(ops.WHERE, (mask, value, input))
    return attach(out, rule, (input, mask, value))


def _extreme(name: str, op: Any) -> Any:
    plain = binary(op, None, tensors=2)

    def extreme(input: Tensor, other: Tensor) -> Tensor:
        return plain(input, other)

    extreme.__name__ = extreme.__qualname__ = name
    extreme.__doc__ = f"The elementwise {name} of two tensors; NaN if one of them is."
    return public()(extreme)


maximum = _extreme("maximum", ops.MAXIMUM)
minimum = _extreme("minimum", ops.MINIMUM)
_max_with = binary(ops.MAXIMUM, None)
_min_with = binary(ops.MINIMUM, None)


@public()
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The elementwise maximum that ignores NaN."""
    require_tensor(other, "fmax", "other", 1)
    best = where(functions.isnan(other), input, maximum(input, other))
    return label(where(functions.isnan(input), other, best), "FmaxBackward0")


@public()
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The elementwise minimum that ignores NaN."""
    require_tensor(other, "fmin", "other", 1)
    best = where(functions.isnan(other), input, minimum(input, other))
    return label(where(functions.isnan(input), other, best), "FminBackward0")


def _clamp_gradient(g: Any, x: Any, f: Any, attrs: Any) -> Any:
    low, high = attrs
    inside = None
    if low is not None:
        inside = x >= low
    if high is not None:
        below = x <= high
        inside = below if inside is None else f.logical_and(inside, below)
    return f.where(inside, g, f.zeros_like(g))


_clamp_rule = Rule("ClampBackward1", (_clamp_gradient,))


@public(inplace=True, aliases=("clip",))
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``input`` limited to [min, max]; each bound a number, a tensor or ``None``."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    dtype = result_type(*(value for value in (input, min, max) if value is not None))
    out = cast(input, dtype)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return _clamp_to_tensors(out, min, max)
    with no_grad():
        limited = out
        if min is not None:
            limited = _max_with(limited, min)
        if max is not None:
            limited = _min_with(limited, max)
    return attach(limited, _clamp_rule, (out,), (min, max))


def _clamp_to_tensors(input: Tensor, min: Any, max: Any) -> Tensor:
    out = input
    if min is not None:
        low = to_operand(min, dtype_of(input), input._device)
        out = where(logical_or(plain_ge(out, low), functions.isnan(out)), out, low)
        out = where(functions.isnan(low), low, out)
    if max is not None:
        high = to_operand(max, dtype_of(input), input._device)
        out = where(logical_or(plain_le(out, high), functions.isnan(out)), out, high)
        out = where(functions.isnan(high), high, out)
    return label(out, "ClampBackward0")


@public(inplace=True)
@shown_as(by_operand("ClampMinBackward"))
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """``input``, at least ``min``."""
    return clamp(input, min=min)


@public(inplace=True)
@shown_as(by_operand("ClampMaxBackward"))
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """``input``, at most ``max``."""
    return clamp(input, max=max)


# Fused multiply-adds --------------------------------------------------------------------------


@public(inplace=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``, exact at both ends."""
    if dtype_of(end) is not dtype_of(input):
        raise RuntimeError(
            f"expected dtype {dtype_of(input)!r} for `end` but got dtype {dtype_of(end)!r}"
        )
    if isinstance(weight, Tensor):
        near_start = plain_lt(weight.abs(), 0.5)  # type: ignore[attr-defined]
        difference = plain_sub(end, input)
        from_start = plain_add(input, plain_mul(weight, difference))
        from_end = plain_sub(end, plain_mul(difference, plain_sub(1, weight)))
        return label(where(near_start, from_start, from_end), "LerpBackward1")
    if builtins.abs(weight) < 0.5:
        out = plain_add(input, plain_mul(plain_sub(end, input), weight))
    else:
        out = plain_sub(end, plain_mul(plain_sub(end, input), 1 - weight))
    return label(out, "LerpBackward0")


@public(inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    product = plain_mul(tensor1, tensor2)
    if not _is_one(value):
        product = plain_mul(product, value)
    return label(plain_add(input, product), "AddcmulBackward0")


@public(inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2`` of floating-point tensors."""
    if dtype_of(tensor1).kind not in "fc" and dtype_of(tensor2).kind not in "fc":
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported: convert one of the tensors "
            "to floating point first, e.g. with .float()"
        )
    quotient = plain_div(tensor1, tensor2)
    if not _is_one(value):
        quotient = plain_mul(quotient, value)
    return label(plain_add(input, quotient), "AddcdivBackward0")


def _is_one(value: Any) -> bool:
    return not isinstance(value, Tensor) and value == 1
