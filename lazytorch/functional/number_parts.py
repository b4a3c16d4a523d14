"""Elementwise functions of how numbers are written: exponents, neighbours, steps, divisors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, attach_many, label
from lazytorch.dtypes import DType
from lazytorch.functional import results
from lazytorch.functional.composite import detached, magnitude, narrowed, require_tensor, widened
from lazytorch.functional.elementwise import plain_div, plain_mul, where
from lazytorch.functional.host import on_host
from lazytorch.ops import elementwise as ops
from lazytorch.tensor.apply import apply, cast, combined
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import get_default_dtype, result_type, scalar_name
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor

_INTEGERS = {2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64}


def _bits(values: Tensor) -> Any:
    """Floating-point numbers as the integers their bits spell."""
    return apply(ops.BITCAST, (values,), (_INTEGERS[dtype_of(values).itemsize],))


def _from_bits(bits: Tensor, dtype: DType) -> Any:
    return apply(ops.BITCAST, (bits,), (dtype,))


# Mantissa and exponent ------------------------------------------------------------------------

_frexp_rule = Rule("FrexpBackward0", (lambda g, f, extra: f.ldexp(g[0], -extra),))


def _split(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissa and exponent by the bits of IEEE 754: float32 has 23 of fraction, float64 52."""
    dtype = dtype_of(values)
    digits, width = (52, 11) if dtype is dtypes.float64 else (23, 8)
    bias = (1 << (width - 1)) - 2
    x: Any = values
    # Subnormal numbers have no exponent of their own until they are scaled up.
    small = magnitude(x) < 2.0 ** (1 - bias)
    bits = _bits(where(small, x * 2.0**digits, x))
    field = (bits >> digits) & ((1 << width) - 1)
    plain = (x == 0) | (magnitude(x) == math.inf) | (x != x)
    kept = ~(((1 << width) - 1) << digits)
    mantissa = _from_bits((bits & kept) | (bias << digits), dtype)
    exponent = field - where(small, bias + digits, bias)
    return where(plain, x, mantissa), cast(where(plain, 0, exponent), dtypes.int32)


@public()
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with ``input = mantissa * 2 ** exponent`` and 0.5 <= |mantissa| < 1.

    The exponent is int32. 0, infinities and NaN are their own mantissa, with exponent 0.
    ``RuntimeError`` for integers and bools.

    >>> frexp(tensor([3.])).exponent
    tensor([2], dtype=torch.int32)
    """
    require_tensor(input, "frexp", "input", 1)
    if dtype_of(input).kind != "f":
        raise RuntimeError(
            f"torch.frexp() only supports floating-point dtypes, but got {dtype_of(input)!r}"
        )
    with no_grad():
        mantissa, exponent = _split(widened(detached(input)))
        mantissa = narrowed(mantissa, input)
    attach_many(
        (mantissa, exponent), _frexp_rule, (input,), extra=exponent, differentiable=(True, False)
    )
    return results.FrExp(mantissa, exponent)


@public(inplace=True)
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """``input * 2 ** other``; two integer tensors give the default dtype.

    >>> ldexp(tensor([1., 3.]), tensor([2, -1]))
    tensor([4.0000, 1.5000])
    """
    require_tensor(input, "ldexp", "input", 1)
    require_tensor(other, "ldexp", "other", 2)
    return label(plain_mul(input, functions.pow(2.0, other)), "LdexpBackward0")


_nextafter_rule = Rule(
    "NextafterBackward0",
    (lambda g, x, y, f: f.where(x == y, 0, g), lambda g, f: f.zeros_like(g)),
)


@public(inplace=True)
def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The number that follows ``input`` in the direction of ``other``.

    Of floating-point tensors that broadcast; ``other`` itself where both are equal, NaN where
    one is.

    >>> nextafter(tensor([1.]), tensor([2.])) - 1 == 2.0 ** -23
    tensor([True])
    """
    require_tensor(input, "nextafter", "input", 1)
    require_tensor(other, "nextafter", "other", 2)
    (first, second), dtype = combined((input, other))
    if dtype.kind != "f":
        raise NotImplementedError(
            f"\"nextafter_cpu\" not implemented for '{scalar_name(dtype)}': it takes floating point"
        )
    with no_grad():
        x: Any = detached(first)
        y: Any = detached(second)
        bits = _bits(x)
        one = functions.ones((), dtype=dtype_of(bits), device=x._device)
        outwards = (x < y) == (x > 0)
        moved = _from_bits(where(outwards, bits + one, bits - one), dtype)
        smallest = functions.copysign(_from_bits(one, dtype), y)
        out = where(x == y, y, where(x == 0, smallest, moved))
        out = where((x != x) | (y != y), math.nan, out)
    return attach(out, _nextafter_rule, (first, second))


# Steps and scales -----------------------------------------------------------------------------


def _no_heaviside_gradient(g: Any) -> Any:
    raise RuntimeError("derivative for aten::heaviside is not implemented")


_heaviside_rule = Rule("NotImplemented", (_no_heaviside_gradient, _no_heaviside_gradient))


@public(inplace=True)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 below 0, 1 above, ``values`` at 0; both tensors have one dtype. It has no gradient.

    >>> heaviside(tensor([-1., 0., 2.]), tensor([0.5]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    require_tensor(input, "heaviside", "input", 1)
    require_tensor(values, "heaviside", "values", 2)
    if dtype_of(input).kind == "c" or dtype_of(values).kind == "c":
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if dtype_of(input) is not dtype_of(values):
        raise RuntimeError(
            "heaviside is not yet implemented for tensors with different dtypes: got "
            f"{dtype_of(input)!r} and {dtype_of(values)!r}"
        )
    with no_grad():
        x, at_zero = detached(input), detached(values)
        above = cast(functions.gt(x, 0), dtype_of(x))
        out = where(functions.eq(x, 0), at_zero, above)
    return attach(out, _heaviside_rule, (input, values))


@public(inplace=True, aliases=("special_sinc",))
def sinc(input: Tensor) -> Tensor:
    """``sin(pi * input) / (pi * input)``, 1 at 0."""
    scaled = plain_mul(input, math.pi)
    zero = functions.eq(scaled, 0)
    safe = where(zero, 1.0, scaled)
    return label(where(zero, 1.0, plain_div(functions.sin(safe), safe)), "SincBackward0")


def _in_radians(name: str, factor: float) -> None:
    def convert(input: Tensor) -> Tensor:
        floating = dtype_of(input).kind == "f"
        return plain_mul(input if floating else cast(input, get_default_dtype()), factor)

    convert.__name__ = convert.__qualname__ = name
    convert.__doc__ = f"``{name}`` of each element."
    public(inplace=True)(shown_as(f"{name[:3].title()}2{name[4:].title()}Backward0")(convert))


_in_radians("deg2rad", math.pi / 180)
_in_radians("rad2deg", 180 / math.pi)


@public()
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """``log2(2 ** input + 2 ** other)`` without overflow."""
    dtype = result_type(input, other)
    if dtype.kind in "iub":
        raise NotImplementedError(
            f"\"logaddexp2_cpu\" not implemented for '{scalar_name(dtype)}': convert with .float()"
        )
    factor = math.log(2)
    joined = functions.logaddexp(plain_mul(input, factor), plain_mul(other, factor))
    return label(plain_div(joined, factor), "Logaddexp2Backward0")


# Integers -------------------------------------------------------------------------------------


def _integer_pair(name: str, function: Any) -> None:
    def compute(input: Tensor, other: Tensor) -> Tensor:
        require_tensor(input, name, "input", 1)
        require_tensor(other, name, "other", 2)
        pair, dtype = combined((input, other))
        if dtype.kind not in "iu":
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{scalar_name(dtype)}': it takes integers"
            )
        return on_host(name, function, *pair)

    compute.__name__ = compute.__qualname__ = name
    compute.__doc__ = f"The {name} of integers."
    public(inplace=True)(compute)


_integer_pair("gcd", np.gcd)
_integer_pair("lcm", np.lcm)


@public(method=False, out=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Positions in a flat array as coordinates in one of ``shape``, a tensor for each axis.

    ``indices`` is an integer tensor, ``shape`` an int or a sequence of ints; else ``TypeError``.

    >>> unravel_index(tensor([5]), (2, 3))
    (tensor([1]), tensor([2]))
    """
    dtype = dtype_of(indices)
    if dtype.kind not in "iu":
        raise TypeError(f"expected 'indices' to be integer dtype, but got {dtype!r}")
    if not isinstance(shape, (int, tuple, list)):
        raise TypeError(f"expected 'shape' to be int or sequence of ints, but got {type(shape)}")
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    for extent in extents:
        if not isinstance(extent, int):
            raise TypeError(
                f"expected 'shape' sequence to only contain ints, but got {type(extent)}"
            )
    if any(extent < 0 for extent in extents):
        raise ValueError(f"'shape' cannot have negative values, but got {tuple(extents)}")
    found: list[Tensor] = []
    rest: Any = cast(detached(indices), dtypes.int64)
    for extent in reversed(extents):
        found.append(functions.remainder(rest, extent))
        rest = functions.floor_divide(rest, extent)
    return tuple(reversed(found))
