"""Attention as one operation on the tape, and its gradients of every order.

Forwards and backwards it is the operation ``ops.attention``, whose kernels hold no scores. What
it cannot give, gradients of gradients and of an added mask, is composed of products and a
softmax. Knows tensors that fit each other already; arguments are checked in ``attention``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    constant,
    iota,
    max_over,
    narrowed,
    permuted,
    recorded,
    reshaped,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.softmax import softmax
from lazytorch.ops import elementwise
from lazytorch.ops.attention import ATTENTION, AttentionAttrs, heads_inside
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import apply, cast, scalar_tensor
from lazytorch.tensor.attach import functions
from lazytorch.tensor.generator import Draw, draw
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Dropout:
    """Random bits, which are made again where they are wanted, and the probability of 0."""

    draw: Draw
    p: float


@dataclass(frozen=True)
class Manner:
    """How one attention is computed, besides its operands."""

    scale: float
    causal: bool
    dropout: Dropout | None


def dropout_for(scores: Shape, p: float, like: Tensor) -> Dropout | None:
    """The next random bits of the generator, one for each score; ``None`` without dropout."""
    if p == 0:
        return None
    return Dropout(draw(scores, like._device, None), p)


def _factor(manner: Manner, like: Tensor) -> Any:
    """What dropout multiplies the weights by: 0, or 1 / (1 - p)."""
    dropout = manner.dropout
    if dropout is None:
        return None
    place = like._device
    with no_grad():
        shift = scalar_tensor(8, dtypes.uint32, place)
        bits = apply(elementwise.SHIFT_RIGHT, (dropout.draw.bits(), shift))
        uniform: Any = cast(bits, dtypes.float32) * 2.0**-24  # type: ignore[operator]
        wide = dtype_of(like).compute
        kept = scalar_tensor(0.0 if dropout.p == 1 else 1 / (1 - dropout.p), wide, place)
        return where(uniform >= dropout.p, kept, constant(0, kept))


def _bias(mask: Any, like: Tensor) -> Any:
    """What a mask adds to the scores: itself, or minus infinity where a bool one forbids."""
    if mask is None:
        return None
    if dtype_of(mask) is dtypes.bool_:
        zero = scalar_tensor(0, dtype_of(like).compute, like._device)
        return where(mask, zero, constant(-math.inf, zero))
    return cast(mask, dtype_of(like).compute)


# Composed -----------------------------------------------------------------------------------------


def _weights(query: Tensor, key: Tensor, mask: Any, manner: Manner) -> Any:
    """The probabilities; 0 for a query that may look at no key."""
    scores: Any = functions.matmul(widened(query), functions.transpose(widened(key), -2, -1))
    scores = scores * manner.scale
    if manner.causal:
        length, keys = shape_of(scores)[-2:]
        allowed: Any = reshaped(iota(length, scores), (length, 1)) >= iota(keys, scores)  # type: ignore[operator]
        scores = where(allowed, scores, -math.inf)
    if mask is None or 0 in shape_of(scores):
        return softmax(scores, -1)
    scores = scores + _bias(mask, query)
    with no_grad():
        somewhere = max_over(scores, (len(shape_of(scores)) - 1,)) > -math.inf  # type: ignore[operator]
    # Twice, because the gradient of a softmax over nothing is NaN even where it is not used.
    return where(somewhere, softmax(where(somewhere, scores, 0), -1), 0)


def composed(query: Tensor, key: Tensor, value: Tensor, mask: Any, manner: Manner) -> Tensor:
    """The attention of products and a softmax: for operands without elements."""
    weights = _weights(query, key, mask, manner)
    factor = _factor(manner, query)
    weights = weights if factor is None else weights * factor
    return narrowed(functions.matmul(weights, widened(value)), query)


def _composed_gradients(
    g: Any, query: Any, key: Any, value: Any, mask: Any, manner: Manner
) -> tuple[Any, ...]:
    weights = _weights(query, key, mask, manner)
    through = functions.matmul(widened(g), functions.transpose(widened(value), -2, -1))
    kept, factor = weights, _factor(manner, query)
    if factor is not None:
        kept, through = weights * factor, through * factor
    product = weights * through
    change = product - weights * sum_over(product, (len(shape_of(product)) - 1,))
    return (
        functions.matmul(change, widened(key)) * manner.scale,
        functions.matmul(functions.transpose(change, -2, -1), widened(query)) * manner.scale,
        functions.matmul(functions.transpose(kept, -2, -1), widened(g)),
        change,
    )


# One operation ------------------------------------------------------------------------------------


def _inside(tensor: Tensor) -> Tensor:
    """(..., H, L, E) as (..., L, H, E), or back."""
    return permuted(tensor, heads_inside(range(len(shape_of(tensor)))))


def _sources(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, manner: Manner
) -> tuple[tuple[Tensor, ...], tuple[bool, bool]]:
    """The operation's sources, and whether there are a bias and a factor among them."""
    bias, factor = _bias(mask, query), _factor(manner, query)
    if bias is not None:
        missing = len(shape_of(query)) - len(shape_of(bias))
        bias = reshaped(bias, (*(1,) * missing, *shape_of(bias)))
    scale = scalar_tensor(manner.scale, dtype_of(query).compute, query._device)
    optional = tuple(source for source in (bias, factor) if source is not None)
    return (query, key, value, scale, *optional), (bias is not None, factor is not None)


def _gradients(
    g: Any, query: Any, key: Any, value: Any, mask: Any, attrs: Any, extra: Any, needs: Any
) -> tuple[Any, ...]:
    (manner,) = attrs
    if mode.enabled:
        return _composed_gradients(g, query, key, value, mask, manner)
    raw, logsumexp = extra
    sources, has = _sources(query, key, value, mask, manner)
    raw_g = _inside(g)
    delta = sum_over(widened(raw_g) * widened(raw), (len(shape_of(raw)) - 1,), keep=False)  # type: ignore[operator]
    if len(shape_of(raw)) > 3:
        rank = len(shape_of(delta))
        delta = permuted(delta, (*range(rank - 2), rank - 1, rank - 2))
    sources = (*sources, g, logsumexp, delta)
    made = [
        _inside(recorded(ATTENTION, sources, AttentionAttrs(name, manner.causal, *has)))
        if needed
        else None
        for name, needed in zip(("query", "key", "value"), needs)
    ]
    if mask is None or not needs[3]:
        return (*made, None)
    return (*made, _composed_gradients(g, query, key, value, mask, manner)[3])


_RULE = Rule("ScaledDotProductFlashAttentionForCpuBackward0", _gradients)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Any, manner: Manner) -> Tensor:
    """The attention of operands with one leading shape; ``mask`` broadcasts to the scores."""
    if not count(shape_of(query)) or not count(shape_of(key)) or not count(shape_of(value)):
        return composed(query, key, value, mask, manner)
    given = (query, key, value, mask)
    taped = mode.enabled and any(t is not None and t._requires_grad for t in given)
    with no_grad():
        sources, has = _sources(query, key, value, mask, manner)
        kept: tuple[Tensor, ...] = ()
        if taped:
            attrs = AttentionAttrs("logsumexp", manner.causal, *has)
            kept = (recorded(ATTENTION, sources, attrs),)
        attrs = AttentionAttrs("output", manner.causal, *has)
        raw = recorded(ATTENTION, (*sources, *kept), attrs)
        out = _inside(raw)
    return attach(out, _RULE, given, (manner,), (raw, *kept)) if taped else out
