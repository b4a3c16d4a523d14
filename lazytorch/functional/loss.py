"""Losses that compare element by element: squared, absolute, binary, divergences, margins.

The losses of classes stand in ``classification``. Most rules come from one pattern: a value
and its slopes by input and target, a weight for each element, and a reduction.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import by_reduction, shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.activation import logsigmoid
from lazytorch.functional.composite import (
    exp,
    known_values,
    larger,
    log,
    log1p,
    magnitude,
    require_tensor,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.unary import sigmoid
from lazytorch.ops.shapes import broadcast, count
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import result_type
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Formula = Callable[..., Any]

# Reduction ------------------------------------------------------------------------------------


def reduction_of(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction, whose two deprecated arguments are still understood."""
    if size_average is not None or reduce is not None:
        average = size_average is None or size_average
        chosen = "none" if reduce is False else "mean" if average else "sum"
        warnings.warn(
            "size_average and reduce args will be deprecated, please use "
            f"reduction='{chosen}' instead.",
            stacklevel=3,
        )
        return chosen
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(values: Tensor, reduction: str) -> Tensor:
    """``values`` themselves, their sum, or their mean."""
    if reduction == "none":
        return values
    total = sum_over(values, tuple(range(len(shape_of(values)))), keep=False)
    if reduction == "sum":
        return total
    return label(total / count(shape_of(values)), "MeanBackward0")  # type: ignore[operator]


def share(g: Any, reduction: str, size: int) -> Any:
    """The gradient of each element from that of the reduced value."""
    return g / size if reduction == "mean" else g


# The pattern ----------------------------------------------------------------------------------


def _elementwise_loss(
    rule_name: str, value: Formula, input_slope: Formula, target_slope: Formula
) -> Callable[..., Tensor]:
    """A loss from formulas of (input, target, *attrs)."""

    def by_input(g: Any, x: Any, y: Any, attrs: Any) -> Any:
        reduction, size, *rest = attrs
        return share(widened(g), reduction, size) * input_slope(widened(x), widened(y), *rest)

    def by_target(g: Any, x: Any, y: Any, attrs: Any) -> Any:
        reduction, size, *rest = attrs
        return share(widened(g), reduction, size) * target_slope(widened(x), widened(y), *rest)

    rule = Rule(rule_name, (by_input, by_target))

    def loss(input: Tensor, target: Tensor, reduction: str, *attrs: Any) -> Tensor:
        size = count(broadcast((shape_of(input), shape_of(target))))
        with no_grad():
            values = value(widened(input), widened(target), *attrs)
            out = functions.converted(
                reduced(values, reduction), input._device, result_type(input, target)
            )
        return attach(out, rule, (input, target), (reduction, size, *attrs))

    return loss


def _warn_of_broadcast(input: Tensor, target: Tensor) -> None:
    if shape_of(input) != shape_of(target):
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


def _pair(function: str, input: Any, target: Any) -> None:
    require_tensor(input, function, "input", 1)
    require_tensor(target, function, "target", 2)
    _warn_of_broadcast(input, target)


def _weighted(values: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Values times a weight for each; the mean divides by the sum of weights."""
    if weight is None:
        return reduced(values, reduction)
    if shape_of(weight) != shape_of(values):
        raise ValueError("Inputs and weight must have the same size.")
    values = values * weight  # type: ignore[operator]
    if reduction != "mean":
        return reduced(values, reduction)
    return reduced(values, "sum") / reduced(weight, "sum")  # type: ignore[operator]


_mse = _elementwise_loss(
    "MseLossBackward0",
    lambda x, t: (x - t) * (x - t), lambda x, t: (x - t) * 2, lambda x, t: (t - x) * 2,
)  # fmt: skip


def mse_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``(input - target) ** 2``: its mean, sum, or every element.

    >>> mse_loss(tensor([1., 2.]), tensor([1., 4.]))
    tensor(2.)
    """
    reduction = reduction_of(size_average, reduce, reduction)
    _pair("mse_loss", input, target)
    if weight is not None:
        return _weighted(_mse(input, target, "none"), weight, reduction)
    return _mse(input, target, reduction)


_l1 = _elementwise_loss(
    "L1LossBackward0",
    lambda x, t: magnitude(x - t),
    lambda x, t: functions.sign(x - t),
    lambda x, t: functions.sign(t - x),
)


def l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``|input - target|``: its mean, sum, or every element."""
    reduction = reduction_of(size_average, reduce, reduction)
    _pair("l1_loss", input, target)
    if "c" in (dtype_of(input).kind, dtype_of(target).kind):
        # The distance of complex numbers is real.
        distance = functions.abs(functions.sub(input, target))
        if weight is not None:
            return _weighted(distance, weight, reduction)
        return reduced(distance, reduction)
    if weight is not None:
        return _weighted(_l1(input, target, "none"), weight, reduction)
    names = {"mean": "MeanBackward0", "sum": "SumBackward0", "none": "AbsBackward0"}
    return label(_l1(input, target, reduction), names[reduction])


def _huber_value(x: Any, t: Any, delta: float) -> Any:
    gap = magnitude(x - t)
    return where(gap <= delta, gap * gap * 0.5, (gap - 0.5 * delta) * delta)


def _huber_slope(x: Any, t: Any, delta: float) -> Any:
    gap = x - t
    return where(gap < -delta, -delta, where(gap > delta, delta, gap))


_huber = _elementwise_loss(
    "HuberLossBackward0", _huber_value, _huber_slope, lambda x, t, delta: _huber_slope(t, x, delta)
)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Squared within ``delta`` of the target, linear beyond."""
    reduction = reduction_of(None, None, reduction)
    _pair("huber_loss", input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    if weight is not None:
        values: Any = _huber(input, target, "none", delta)
        if shape_of(weight) != shape_of(values):
            raise ValueError("Inputs and weight must have the same size.")
        # Unlike the squared and absolute losses, the mean counts elements, not weights.
        return reduced(values * weight, reduction)
    return _huber(input, target, reduction, delta)


def _smooth_value(x: Any, t: Any, beta: float) -> Any:
    gap = magnitude(x - t)
    return where(gap < beta, gap * gap * 0.5 / beta, gap - 0.5 * beta)


def _smooth_slope(x: Any, t: Any, beta: float) -> Any:
    gap = x - t
    return where(gap <= -beta, -1, where(gap >= beta, 1, gap / beta))


_smooth_l1 = _elementwise_loss(
    "SmoothL1LossBackward0",
    _smooth_value, _smooth_slope, lambda x, t, beta: _smooth_slope(t, x, beta),
)  # fmt: skip


def smooth_l1_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", beta: float = 1.0,
) -> Tensor:  # fmt: skip
    """``huber_loss`` divided by ``beta``; ``l1_loss`` when ``beta`` is 0."""
    reduction = reduction_of(size_average, reduce, reduction)
    _pair("smooth_l1_loss", input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return _l1(input, target, reduction)
    return _smooth_l1(input, target, reduction, beta)


# Binary targets -------------------------------------------------------------------------------


def _bce_value(x: Any, t: Any) -> Any:
    # log is limited to -100, so that a wrong certainty has a finite loss.
    return (t - 1) * larger(log1p(-x), -100) - t * larger(log(x), -100)


_bce = _elementwise_loss(
    "BinaryCrossEntropyBackward0", _bce_value,
    lambda x, t: (x - t) / larger((1 - x) * x, 1e-12),
    lambda x, t: log1p(-x) - log(x),
)  # fmt: skip


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``-(target * log(input) + (1 - target) * log(1 - input))`` of probabilities.

    Inputs outside [0, 1] raise RuntimeError when their values are known already.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if shape_of(input) != shape_of(target):
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) is deprecated. Please ensure they have the same size."
        )
    if dtype_of(input) is not dtype_of(target):
        raise RuntimeError(
            f"Found dtype {dtype_of(target)!r} but expected {dtype_of(input)!r}: convert the target"
        )
    known = known_values(input)
    if known is not None and known.size and not (known.min() >= 0 and known.max() <= 1):
        raise RuntimeError("all elements of input should be between 0 and 1")
    if weight is None:
        return _bce(input, target, reduction)
    return reduced(_bce(input, target, "none") * weight, reduction)  # type: ignore[operator]


def _logits_value(x: Any, t: Any, weight: Any = None) -> Any:
    # -log sigmoid(x), without overflow for either sign of x.
    positive = log1p(exp(-magnitude(x))) + larger(-x, 0)
    if weight is None:
        return (1 - t) * x + positive
    return (1 - t) * x + ((weight - 1) * t + 1) * positive


def _logits_slope(x: Any, t: Any, weight: Any = None) -> Any:
    if weight is None:
        return sigmoid(x) - t
    return (1 - t) - ((weight - 1) * t + 1) * sigmoid(-x)


def _logits_target_slope(x: Any, t: Any, weight: Any = None) -> Any:
    if weight is None:
        return -x
    return (weight - 1) * -logsigmoid(x) - x


_bce_with_logits = _elementwise_loss(
    "BinaryCrossEntropyWithLogitsBackward0", _logits_value, _logits_slope, _logits_target_slope
)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean", pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``binary_cross_entropy`` of ``sigmoid(input)``, finite for every input.

    ``pos_weight`` multiplies the loss of positive targets.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if shape_of(input) != shape_of(target):
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    extra = () if pos_weight is None else (pos_weight,)
    if weight is None:
        return _bce_with_logits(input, target, reduction, *extra)
    values = _bce_with_logits(input, target, "none", *extra)
    return reduced(values * weight, reduction)  # type: ignore[operator]


# Divergences and likelihoods ------------------------------------------------------------------


def _times_log(t: Any) -> Any:
    """``t * log(t)``, 0 at 0."""
    return where(t == 0, 0, t * log(where(t == 0, 1, t)))


_kl = _elementwise_loss(
    "KlDivBackward0",
    lambda x, t: _times_log(t) - t * x,
    lambda x, t: -t,
    lambda x, t: where(t == 0, 0, log(where(t == 0, 1, t)) + 1 - x),
)
_kl_of_logs = _elementwise_loss(
    "KlDivBackward0",
    lambda x, t: exp(t) * (t - x),
    lambda x, t: -exp(t),
    lambda x, t: exp(t) * (t - x + 1),
)


@shown_as(by_reduction(None))
def kl_div(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean", log_target: bool = False,
) -> Tensor:  # fmt: skip
    """``target * (log(target) - input)``, with ``input`` (and perhaps the target) in logs.

    ``reduction='batchmean'`` divides the sum by the first extent, which is the mathematical
    definition; 'mean' divides by the number of elements.
    """
    loss = _kl_of_logs if log_target else _kl
    if reduction == "batchmean":
        extents = shape_of(input)
        return loss(input, target, "sum") / (extents[0] if extents else 1)  # type: ignore[operator]
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support "
            "size.'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.'mean' will be changed to behave the same as 'batchmean' in the next "
            "major release.",
            stacklevel=3,
        )
    return loss(input, target, reduction_of(size_average, reduce, reduction))


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool = True, full: bool = False,
    size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The negative log likelihood of counts under a Poisson distribution."""
    reduction = reduction_of(size_average, reduce, reduction)
    x: Any = input
    t: Any = target
    values = functions.exp(x) - t * x if log_input else x - t * functions.log(x + eps)
    if full:
        clipped = where(t > 1, t, 1.0)
        stirling = clipped * log(clipped) - clipped + 0.5 * log(2 * math.pi * clipped)
        values = values + where(t > 1, stirling, 0.0)
    return reduced(values, reduction)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The negative log likelihood of ``target`` under normal distributions."""
    x: Any = input
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = functions.full_like(input, var)
    spread: Any = var
    if shape_of(spread) != shape_of(x):
        extents = shape_of(x)
        if extents[:-1] == shape_of(spread):
            spread = functions.unsqueeze(spread, -1)
        elif extents[:-1] != shape_of(spread)[:-1] or shape_of(spread)[-1:] != (1,):
            if any(a != b and b != 1 for a, b in zip(extents, shape_of(spread))):
                raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    known = known_values(spread)
    if known is not None and known.size and known.min() < 0:
        raise ValueError("var has negative entry/entries")
    with no_grad():
        limited = larger(spread, eps)
    # The limit is invisible to the gradient, as if it had been set in place.
    spread = spread + (limited - functions.detach(spread))
    values = (log(spread) + (x - target) * (x - target) / spread) * 0.5
    if full:
        values = values + 0.5 * math.log(2 * math.pi)
    return reduced(values, reduction)
