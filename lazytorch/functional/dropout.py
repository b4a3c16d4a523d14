"""Dropout and its variants: a random mask, kept as bits, and a scale.

The mask is made of random bits that can be computed again from their seed and offset, so the
way back reads no mask from memory unless that is cheaper. The probability is a kernel argument:
changing it changes no plan.
"""

from __future__ import annotations

import math
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import detached, narrowed, require_tensor
from lazytorch.functional.elementwise import where
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]


def check_probability(p: float, function: str) -> None:
    """``ValueError`` for a probability of dropout outside [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p} ({function})")


def _kept(input: Tensor, shape: Shape, p: float) -> Any:
    """A mask that is true with probability 1 - p."""
    return functions.rand(shape, device=input._device) >= p


def _dropout_gradient(g: Any, extra: Any, attrs: Any) -> Any:
    return g * cast(extra, dtype_of(g)) * attrs[0]


_DROPOUT = Rule("NativeDropoutBackward0", (_dropout_gradient,))


def _masked(input: Tensor, mask_shape: Shape, p: float) -> Tensor:
    """The input with masked-out elements 0 and the others divided by 1 - p."""
    scale = 0.0 if p == 1 else 1 / (1 - p)
    with no_grad():
        mask = _kept(input, mask_shape, p)
        out: Any = detached(input) * cast(mask, dtype_of(input)) * scale  # type: ignore[operator]
        out = narrowed(out, input)
    return attach(out, _DROPOUT, (input,), (scale,), mask)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element 0 with probability ``p``, else divided by ``1 - p``.

    The input itself when not ``training``. A probability outside [0, 1] raises ValueError.
    """
    require_tensor(input, "dropout", "input", 1)
    check_probability(p, "dropout")
    if not training or p == 0:
        return input
    return _masked(input, shape_of(input), p)


def _per_channel(input: Tensor, has_batch: bool = True) -> Shape:
    shape = shape_of(input)
    kept = 2 if has_batch else 1
    return (*shape[:kept], *(1 for _ in shape[kept:]))


def channel_dropout(
    input: Tensor, p: float = 0.5, training: bool = True, has_batch: bool = True
) -> Tensor:
    """Whole channels (dimension 1, or 0 without a batch) dropped with probability ``p``."""
    check_probability(p, "feature_dropout")
    if not training or p == 0:
        return input
    if len(shape_of(input)) < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return _masked(input, _per_channel(input, has_batch), p)


# What a self-normalizing unit gives for minus infinity: -scale * alpha of selu.
_SATURATED = -1.7580993408473766


def _alpha(input: Tensor, mask_shape: Shape, p: float) -> Tensor:
    """Masked-out elements at selu's lower limit, then scaled back to mean 0 and variance 1.

    Source: G. Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017, appendix.
    """
    x: Any = input
    if p == 1:
        return x * 0  # type: ignore[no-any-return]
    scale = 1 / math.sqrt((_SATURATED * _SATURATED * p + 1) * (1 - p))
    shift = -scale * _SATURATED * p
    with no_grad():
        mask = _kept(input, mask_shape, p)
    return where(mask, x * scale + shift, _SATURATED * scale + shift)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """Dropout that keeps the mean and variance of self-normalizing networks."""
    check_probability(p, "alpha_dropout")
    if not training or p == 0:
        return input
    return _alpha(input, shape_of(input), p)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """``alpha_dropout`` of whole channels."""
    check_probability(p, "feature_alpha_dropout")
    if not training or p == 0:
        return input
    if len(shape_of(input)) < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return _alpha(input, _per_channel(input), p)


@public("dropout", method=False, inplace=True, out=False)
def _torch_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Each element 0 with probability ``p``, else divided by ``1 - p``."""
    return dropout(input, p, train)


@public("alpha_dropout", method=False, inplace=True, out=False)
def _torch_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Dropout that keeps mean and variance of self-normalizing networks."""
    return alpha_dropout(input, p, train)


@public("feature_dropout", method=False, inplace=True, out=False)
def _torch_feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Whole channels dropped."""
    return channel_dropout(input, p, train)


@public("feature_alpha_dropout", method=False, inplace=True, out=False)
def _torch_feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """``alpha_dropout`` of whole channels."""
    return feature_alpha_dropout(input, p, train)
