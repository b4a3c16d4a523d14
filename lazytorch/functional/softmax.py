"""softmax, log_softmax, logsumexp and their relatives.

Each is a maximum, a sum and maps over one row, so that the scheduler can make one kernel of
it; the rules read the result, not the input, and are one sum and maps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.dtypes import DType
from lazytorch.functional.composite import (
    axis_of,
    exp,
    log,
    max_over,
    narrowed,
    require_floating,
    require_tensor,
    reshaped,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _axes(input: Tensor, dim: int) -> tuple[int, ...]:
    axis = axis_of(input, dim)
    return (axis,) if shape_of(input) else ()


def _softmax_gradient(g: Any, out: Any, attrs: Any) -> Any:
    # d out_i / d x_j = out_i (1[i = j] - out_j); contracted with g.
    y, g = widened(out), widened(g)
    product = g * y
    return product - y * sum_over(product, attrs)


_SOFTMAX = Rule("SoftmaxBackward0", (_softmax_gradient,))


def _prepared(input: Any, function: str, dtype: DType | None) -> Tensor:
    require_tensor(input, function, "input", 1)
    if dtype is not None:
        input = cast(input, dtype)
    require_floating(input, f"{function}_lastdim_kernel_impl")
    return input  # type: ignore[no-any-return]


@public(aliases=("special_softmax",))
def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """``exp(input)`` divided by its sum along ``dim``; same shape.

    ``dtype`` converts the input first. Integers without ``dtype`` raise NotImplementedError.

    >>> softmax(tensor([0., 0.]), 0)
    tensor([0.5000, 0.5000])
    """
    input = _prepared(input, "softmax", dtype)
    axes = _axes(input, dim)
    with no_grad():
        x = widened(input)
        powers = exp(x - max_over(x, axes))  # type: ignore[operator]
        out = narrowed(powers / sum_over(powers, axes), input)  # type: ignore[operator]
    return attach(out, _SOFTMAX, (input,), axes)


def _log_softmax_gradient(g: Any, out: Any, attrs: Any) -> Any:
    # d out_i / d x_j = 1[i = j] - softmax_j.
    g = widened(g)
    return g - exp(widened(out)) * sum_over(g, attrs)


_LOG_SOFTMAX = Rule("LogSoftmaxBackward0", (_log_softmax_gradient,))


@public(aliases=("special_log_softmax",))
def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """``log(softmax(input, dim))`` without overflow or loss of small values; same shape.

    >>> log_softmax(tensor([0., 0.]), 0)
    tensor([-0.6931, -0.6931])
    """
    input = _prepared(input, "log_softmax", dtype)
    axes = _axes(input, dim)
    with no_grad():
        x = widened(input)
        shifted = x - max_over(x, axes)  # type: ignore[operator]
        out = narrowed(shifted - log(sum_over(exp(shifted), axes)), input)  # type: ignore[operator]
    return attach(out, _LOG_SOFTMAX, (input,), axes)


def log_sum_exp(x: Tensor, axes: Sequence[int]) -> Tensor:
    """``log(sum(exp(x)))`` along ``axes``, which stay; no rule of its own.

    An infinite maximum is not subtracted: inf - inf would be NaN.
    """
    largest = max_over(x, axes)
    largest = where(functions.isfinite(largest), largest, 0.0)
    return log(sum_over(exp(x - largest), axes)) + largest  # type: ignore[operator, no-any-return]


def _logsumexp_gradient(g: Any, x: Any, out: Any, attrs: Any) -> Any:
    (kept,) = attrs
    total = reshaped(widened(out), kept)
    # A row of minus infinities has no direction of growth: its gradient is zero, not NaN.
    total = where(total == -math.inf, 0.0, total)
    return reshaped(widened(g), kept) * exp(widened(x) - total)


_LOGSUMEXP = Rule("LogsumexpBackward0", (_logsumexp_gradient,))


@public(aliases=("special_logsumexp",))
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input)))`` along one or several dimensions without overflow."""
    require_tensor(input, "logsumexp", "input", 1)
    if dtype_of(input).kind not in "fc":
        input = cast(input, get_default_dtype())
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    rank = len(shape_of(input))
    axes = tuple(sorted({axis_of(input, axis) for axis in dims})) if rank else ()
    axes = axes if dims or not rank else tuple(range(rank))
    if dtype_of(input).kind == "c":
        return label(_complex_logsumexp(input, axes, keepdim), "LogsumexpBackward0")
    with no_grad():
        kept = narrowed(log_sum_exp(widened(input), axes), input)
        shape = shape_of(kept)
        short = tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
        out = kept if keepdim else reshaped(kept, short)
    return attach(out, _LOGSUMEXP, (input,), (shape,))


def _complex_logsumexp(input: Any, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The largest real part is taken out: it alone decides how large an exponential is."""
    with no_grad():
        largest = max_over(functions.real_part(input), axes)
        largest = where(functions.isfinite(largest), largest, 0.0)
    total = functions.log(functions.sum(functions.exp(input - largest), axes, keepdim=True))
    out = total + largest
    return out if keepdim else functions.squeeze(out, axes)  # type: ignore[no-any-return]


def implicit_dim(name: str, rank: int) -> int:
    """The dimension that ``F.softmax`` without ``dim`` has always meant, with its warning."""
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include "
        "dim=X as an argument.",
        stacklevel=4,
    )
    return 0 if rank in (0, 1, 3) else 1


def softmin(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """``softmax(-input, dim)``: largest for the smallest elements."""
    return softmax(-input, dim, dtype)  # type: ignore[operator]


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample of the Gumbel-softmax distribution along ``dim``; one-hot when ``hard``.

    A hard sample has the gradient of the soft one. Source: E. Jang et al., "Categorical
    reparameterization with Gumbel-softmax", ICLR 2017.
    """
    with no_grad():
        # -log of an exponential variable is Gumbel distributed; 1 - u keeps log away from 0.
        uniform = functions.rand_like(logits)
        noise = -log(-log1p_minus(uniform))
    soft = softmax((logits + noise) / tau, dim)  # type: ignore[operator]
    if not hard:
        return soft
    chosen = soft.argmax(dim, keepdim=True)  # type: ignore[attr-defined]
    with no_grad():
        one_hot = functions.zeros_like(logits).scatter(dim, chosen, 1.0)
        difference = one_hot - soft
    return difference + soft  # type: ignore[no-any-return]


def log1p_minus(uniform: Tensor) -> Tensor:
    """``log(1 - uniform)``."""
    return log(1 - uniform)  # type: ignore[operator]
