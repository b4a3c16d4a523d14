"""Functions of nn.functional as PyTorch's own namespace has them: reductions are numbers.

``torch.kl_div(input, target, 1)`` is ``nn.functional.kl_div(..., reduction="mean")``: 0 stands
for "none", 1 for "mean", 2 for "sum".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.autograd.naming import shown_as
from lazytorch.functional import activation, adaptive_pooling, distance, loss
from lazytorch.functional.composite import in_place
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.tensor import Tensor

_REDUCTIONS = ("none", "mean", "sum")
MEAN = 1


def _named(reduction: int) -> str:
    if isinstance(reduction, bool) or not isinstance(reduction, int):
        raise TypeError(f"argument 'reduction' must be int, not {type(reduction).__name__}")
    if not 0 <= reduction < len(_REDUCTIONS):
        raise ValueError(f"reduction must be 0 (none), 1 (mean) or 2 (sum), but got {reduction}")
    return _REDUCTIONS[reduction]


def _core(function: Callable[..., Any]) -> Callable[..., Any]:
    return public(method=False, out=False)(function)


# Losses ---------------------------------------------------------------------------------------


@_core
def kl_div(
    input: Tensor, target: Tensor, reduction: int = MEAN, *, log_target: bool = False
) -> Any:
    """``nn.functional.kl_div``, whose mean is over all elements."""
    name = _named(reduction)
    if name == "mean":
        total = loss.kl_div(input, target, reduction="none", log_target=log_target)
        return loss.reduced(total, "mean")
    return loss.kl_div(input, target, reduction=name, log_target=log_target)


@_core
def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    """``nn.functional.poisson_nll_loss``."""
    return loss.poisson_nll_loss(
        input, target, log_input, full, eps=eps, reduction=_named(reduction)
    )


@_core
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None,
    pos_weight: Tensor | None = None, reduction: int = MEAN,
) -> Tensor:  # fmt: skip
    """``nn.functional.binary_cross_entropy_with_logits``."""
    return loss.binary_cross_entropy_with_logits(
        input, target, weight, pos_weight=pos_weight, reduction=_named(reduction)
    )


@_core
def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = MEAN
) -> Tensor:
    """``nn.functional.hinge_embedding_loss``."""
    return distance.hinge_embedding_loss(input, target, margin, reduction=_named(reduction))


@_core
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = MEAN
) -> Tensor:
    """``nn.functional.margin_ranking_loss``."""
    return distance.margin_ranking_loss(input1, input2, target, margin, reduction=_named(reduction))


@_core
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = MEAN
) -> Tensor:
    """``nn.functional.cosine_embedding_loss``."""
    return distance.cosine_embedding_loss(
        input1, input2, target, margin, reduction=_named(reduction)
    )


@_core
def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
    eps: float = 1e-6, swap: bool = False, reduction: int = MEAN,
) -> Tensor:  # fmt: skip
    """``nn.functional.triplet_margin_loss``."""
    return distance.triplet_margin_loss(
        anchor, positive, negative, margin, p, eps, swap, reduction=_named(reduction)
    )


# Activations and pooling ----------------------------------------------------------------------


@_core
@shown_as("RreluWithNoiseBackward0")
def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False
) -> Tensor:
    """``nn.functional.rrelu``."""
    return activation.rrelu(input, lower, upper, training)


def rrelu_(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False
) -> Tensor:
    """``rrelu`` that writes its result into ``input``."""
    return in_place(activation.rrelu, input, lower, upper, training)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """``threshold`` that writes its result into ``input``."""
    return in_place(activation.threshold, input, threshold, value)


@_core
@shown_as("SqueezeBackward1")
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """``nn.functional.adaptive_avg_pool1d``."""
    return adaptive_pooling.adaptive_avg_pool(1, input, output_size)


@_core
@shown_as("SqueezeBackward1")
def adaptive_max_pool1d(input: Tensor, output_size: Any) -> Any:
    """(maxima, indices) of ``nn.functional.adaptive_max_pool1d``."""
    return adaptive_pooling.adaptive_max_pool(1, input, output_size, True)


functions.rrelu_ = rrelu_
functions.threshold_ = threshold_
