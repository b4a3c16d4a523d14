"""Activation functions: maps, most with a gradient formula of their own.

The formulas follow from elementary calculus; each stands beside its function. Where a branch
that is not taken could overflow, its argument is clipped, so that zero times infinity never
reaches a gradient of any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.composite import (
    axis_of,
    constant,
    erf,
    exp,
    expm1,
    larger,
    log1p,
    magnitude,
    narrowed,
    number,
    part,
    require_floating,
    require_tensor,
    reshaped,
    smaller,
    tanh,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.unary import sigmoid as logistic
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Formula = Callable[..., Any]


def _by_formula(name: str, rule_name: str, value: Formula, slope: Formula) -> Callable[..., Tensor]:
    """An activation from ``value(x, *attrs)`` and ``slope(g, x, *attrs)``."""

    def gradient(g: Any, x: Any, attrs: Any) -> Any:
        return slope(widened(g), widened(x), *attrs)

    rule = Rule(rule_name, (gradient,))

    def activation(input: Tensor, *attrs: Any) -> Tensor:
        require_tensor(input, name, "input", 1)
        require_floating(input, f"{name}_cpu")
        with no_grad():
            out = narrowed(value(widened(input), *attrs), input)
        return attach(out, rule, (input,), attrs)

    return activation


# Rectifiers -----------------------------------------------------------------------------------

_RELU = Rule("ReluBackward0", (lambda g, out, f: f.where(out <= 0, 0, g),))


@public(inplace=True)
def relu(input: Tensor) -> Tensor:
    """``max(input, 0)``; the gradient at 0 is 0.

    >>> relu(tensor([-1., 2.]))
    tensor([0., 2.])
    """
    require_tensor(input, "relu", "input", 1)
    if dtype_of(input) is dtypes.bool_:
        raise RuntimeError("Boolean inputs not supported for relu")
    with no_grad():
        out = larger(input, 0)
    return attach(out, _RELU, (input,))


_HARDTANH = Rule(
    "HardtanhBackward0",
    (lambda g, x, attrs, f: f.where((x <= attrs[0]) | (x >= attrs[1]), 0, g),),
)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``input`` limited to [min_val, max_val]; the gradient at and beyond the limits is 0."""
    require_tensor(input, "hardtanh", "input", 1)
    if dtype_of(input) is dtypes.bool_:
        raise NotImplementedError("Bool inputs not supported for hardtanh")
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if dtype_of(input).kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    with no_grad():
        out = smaller(larger(input, min_val), max_val)
    return attach(out, _HARDTANH, (input,), (min_val, max_val))


def relu6(input: Tensor) -> Tensor:
    """``min(max(input, 0), 6)``."""
    return hardtanh(input, 0, 6)


leaky_relu = _by_formula(
    "leaky_relu", "LeakyReluBackward0",
    lambda x, slope: where(x > 0, x, x * slope),
    lambda g, x, slope: where(x > 0, g, g * slope),
)  # fmt: skip

_threshold = _by_formula(
    "threshold", "ThresholdBackward0",
    lambda x, limit, value: where(x <= limit, number(value, x), x),
    lambda g, x, limit, value: where(x <= limit, 0, g),
)  # fmt: skip


@public("threshold", method=False, inplace=False)
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """``input`` where it is above ``threshold``, ``value`` elsewhere; integers stay integers."""
    if isinstance(input, Tensor) and dtype_of(input).kind in "iu":
        return where(input <= int(threshold), number(int(value), input), input)  # type: ignore[operator]
    return _threshold(input, threshold, value)


def _prelu_gradient(g: Any, x: Any, y: Any) -> Any:
    return where(x > 0, g, g * y)


def _prelu_weight_gradient(g: Any, x: Any) -> Any:
    return where(x > 0, 0, g * x)


_PRELU = Rule("PreluKernelBackward0", (_prelu_gradient, _prelu_weight_gradient))


@public()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``input`` where positive, ``weight * input`` elsewhere.

    ``weight`` holds one number, or one for each channel (dimension 1 of the input).
    """
    shape, extents = shape_of(input), shape_of(weight)
    if len(extents) > 1:
        raise RuntimeError(
            f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {len(extents)}"
        )
    numbers = extents[0] if extents else 1
    if dtype_of(input) is not dtype_of(weight):
        raise RuntimeError(
            f"prelu: Type promoting not supported. Got {dtype_of(input)!r} and {dtype_of(weight)!r}"
        )
    if numbers != 1:
        if not shape:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = shape[1] if len(shape) > 1 else 1
        if channels != numbers:
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. Found parameter numbers "
                f"= {numbers} and channel size = {channels}."
            )
    weight = reshaped(weight, tuple(numbers if axis == 1 else 1 for axis in range(len(shape))))
    with no_grad():
        out = where(input > 0, input, weight * input)  # type: ignore[operator]
    return attach(out, _PRELU, (input, weight))


@shown_as("RreluWithNoiseBackward0")
def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
    generator: Any = None,
) -> Tensor:  # fmt: skip
    """``leaky_relu`` whose slope is drawn from [lower, upper] while training, else the middle."""
    if lower > upper:
        raise RuntimeError(
            f"Lower bound should be less than or equal to the upper bound: got {lower} and {upper}"
        )
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    with no_grad():
        slope = functions.rand_like(input, generator=generator) * (upper - lower) + lower
        slope = where(input > 0, 1.0, slope)  # type: ignore[operator]
    return input * slope  # type: ignore[operator, no-any-return]


# Exponential units ----------------------------------------------------------------------------


def _negative_part(x: Any) -> Any:
    """``min(x, 0)``, with a gradient of 0 at 0."""
    return where(x < 0, x, 0)


# scale * (x, or alpha * (exp(x * inner) - 1) below zero)
_exponential_unit = _by_formula(
    "elu", "EluBackward0",
    lambda x, alpha, scale, inner: where(x > 0, x, expm1(x * inner) * alpha) * scale,
    lambda g, x, alpha, scale, inner: (
        where(x <= 0, g * exp(_negative_part(x) * inner) * (alpha * inner), g) * scale
    ),
)  # fmt: skip

# The fixed point of zero mean and unit variance: G. Klambauer et al., "Self-normalizing neural
# networks", NeurIPS 2017.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``input`` where positive, ``alpha * (exp(input) - 1)`` elsewhere."""
    return _exponential_unit(input, alpha, 1, 1)


@public(method=False, inplace=True)
def selu(input: Tensor) -> Tensor:
    """The self-normalizing exponential unit."""
    return _exponential_unit(input, _SELU_ALPHA, _SELU_SCALE, 1)


@public(method=False, inplace=True)
@shown_as("CeluBackward0")
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """``max(0, input) + min(0, alpha * (exp(input / alpha) - 1))``."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _exponential_unit(input, alpha, 1, 1 / alpha)


# Smooth units ---------------------------------------------------------------------------------


def _silu_slope(g: Any, x: Any) -> Any:
    gate = logistic(x)
    return g * (gate * ((1 - gate) * x + 1))


_real_silu = _by_formula("silu", "SiluBackward0", lambda x: x / (exp(-x) + 1), _silu_slope)


def silu(input: Any) -> Tensor:
    """``input * sigmoid(input)``, also of complex numbers."""
    if isinstance(input, Tensor) and dtype_of(input).kind == "c":
        return label(input / (functions.exp(-input) + 1), "SiluBackward0")  # type: ignore[operator]
    return _real_silu(input)


def _softplus_of(x: Any) -> Any:
    """``log(1 + exp(x))`` for every x: exp only of what is not positive."""
    return log1p(exp(-magnitude(x))) + larger(x, 0)


def _mish_slope(g: Any, x: Any) -> Any:
    bent = tanh(_smooth_softplus(x))
    return g * (bent + x * logistic(x) * (1 - bent * bent))


_smooth_softplus = _by_formula(
    "softplus", "SoftplusBackward0", _softplus_of, lambda g, x: g * logistic(x)
)
mish = _by_formula("mish", "MishBackward0", lambda x: x * tanh(_softplus_of(x)), _mish_slope)


def _gelu_value(x: Any) -> Any:
    return x * (erf(x * constant(math.sqrt(0.5), x)) + 1) * 0.5


def _gelu_slope(g: Any, x: Any) -> Any:
    # d/dx x Phi(x) = Phi(x) + x phi(x), Phi and phi of the standard normal distribution.
    below = (erf(x * constant(math.sqrt(0.5), x)) + 1) * 0.5
    density = exp(x * x * -0.5) * constant(1 / math.sqrt(2 * math.pi), x)
    return g * (below + x * density)


_GELU_INNER = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715


def _gelu_bend(x: Any) -> Any:
    cubic = x * x * constant(_GELU_CUBIC, x) + 1
    return tanh(x * cubic * constant(_GELU_INNER, x))


def _gelu_tanh_slope(g: Any, x: Any) -> Any:
    bent = _gelu_bend(x)
    inner = (x * x * constant(3 * _GELU_CUBIC, x) + 1) * constant(_GELU_INNER, x)
    return g * ((bent + 1) * 0.5 + x * (1 - bent * bent) * inner * 0.5)


# D. Hendrycks, K. Gimpel, "Gaussian error linear units", 2016: exact, and by tanh.
_gelu = _by_formula("GeluKernelImpl", "GeluBackward0", _gelu_value, _gelu_slope)
_gelu_tanh = _by_formula(
    "GeluKernelImpl", "GeluBackward0", lambda x: x * (_gelu_bend(x) + 1) * 0.5, _gelu_tanh_slope
)


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """``input`` times the standard normal distribution function of it.

    ``approximate='tanh'`` uses the usual approximation by tanh.
    """
    if approximate == "none":
        return _gelu(input)
    if approximate == "tanh":
        return _gelu_tanh(input)
    raise RuntimeError(
        f"approximate argument must be either none or tanh, but got {approximate!r}."
    )


_softplus = _by_formula(
    "softplus", "SoftplusBackward0",
    lambda x, beta, limit: where(x * beta > limit, x, log1p(exp(x * beta)) / beta),
    lambda g, x, beta, limit: where(x * beta > limit, g, g * logistic(x * beta)),
)  # fmt: skip


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``; the input itself above ``threshold / beta``."""
    return _softplus(input, beta, threshold)


logsigmoid = _by_formula(
    "log_sigmoid", "LogSigmoidBackward0",
    lambda x: smaller(x, 0) - log1p(exp(-magnitude(x))),
    lambda g, x: g * logistic(-x),
)  # fmt: skip


def softsign(input: Tensor) -> Tensor:
    """``input / (1 + |input|)``."""
    return input / (functions.abs(input) + 1)  # type: ignore[operator, no-any-return]


def tanhshrink(input: Tensor) -> Tensor:
    """``input - tanh(input)``."""
    return input - functions.tanh(input)  # type: ignore[no-any-return]


# Piecewise linear units -----------------------------------------------------------------------

hardsigmoid = _by_formula(
    "hardsigmoid", "HardsigmoidBackward0",
    lambda x: smaller(larger(x + 3, 0), 6) / 6,
    lambda g, x: where((x > -3) & (x < 3), g / 6, 0),
)  # fmt: skip
hardswish = _by_formula(
    "hardswish", "HardswishBackward0",
    lambda x: x * smaller(larger(x + 3, 0), 6) / 6,
    lambda g, x: where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g)),
)  # fmt: skip
_softshrink = _by_formula(
    "softshrink", "SoftshrinkBackward0",
    lambda x, bound: where(x > bound, x - bound, where(x < -bound, x + bound, x * 0)),
    lambda g, x, bound: where((x >= -bound) & (x <= bound), 0, g),
)  # fmt: skip
_hardshrink = _by_formula(
    "hardshrink", "HardshrinkBackward0",
    lambda x, bound: where((x >= -bound) & (x <= bound), 0, x),
    lambda g, x, bound: where((x >= -bound) & (x <= bound), 0, g),
)  # fmt: skip


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``input`` moved towards 0 by ``lambd``, and 0 where it is nearer than that."""
    dtype = dtype_of(input)
    if dtype.kind == "f" and not 0 <= lambd <= functions.finfo(dtype).max:
        raise RuntimeError(
            f"lambda must be in range [0, {functions.finfo(dtype).max:g}] for input dtype "
            f"{scalar_name(dtype)}, but found {float(lambd):g}"
        )
    return _softshrink(input, lambd)


@public()
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``input``, but 0 where its magnitude is at most ``lambd``."""
    return _hardshrink(input, lambd)


def _glu_gradient(g: Any, x: Any, attrs: Any, f: Any) -> Any:
    axis, half = attrs
    x, g = widened(x), widened(g)
    gate = logistic(part(x, axis, half, half))
    gated = g * gate
    return f.cat((gated, gated * (1 - gate) * part(x, axis, 0, half)), axis)


_GLU = Rule("GluBackward0", (_glu_gradient,))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of ``input`` along ``dim`` times the sigmoid of the second."""
    require_tensor(input, "glu", "input", 1)
    if not shape_of(input):
        raise RuntimeError("glu does not support 0-dimensional tensors")
    require_floating(input, "glu_cpu")
    axis = axis_of(input, dim)
    extent = shape_of(input)[axis]
    if extent % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {extent}")
    half = extent // 2
    with no_grad():
        x = widened(input)
        out = narrowed(
            part(x, axis, 0, half) * logistic(part(x, axis, half, half)),  # type: ignore[operator]
            input,
        )
    return attach(out, _GLU, (input,), (axis, half))
