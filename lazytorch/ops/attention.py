"""attention: softmax(scale * query @ key^T + bias) @ value, and its gradient, as one operation.

With scores s = scale * q k^T + bias (keys after a query's own position left out where causal),
l = log(sum exp s) and p = exp(s - l), the results are

    output    = (p * factor) @ value             logsumexp = l
    value'    = (p * factor)^T @ g               d = p * (factor * (g @ value^T) - delta)
    query'    = scale * d @ key                  key' = scale * d^T @ query

where ``factor`` is dropout's (0, or 1 / (1 - p)) and delta = sum over columns of g * output. A
query that may look at no key gets output 0 and logsumexp +inf, so that its p is 0 again.

Operands are query (..., L, E), key (..., S, E), value (..., S, Ev) of one leading shape, scale
(), then bias and factor, each broadcastable to (..., L, S), where attrs say so. An operation has
one result, so rows that differ only in which result they name are one computation; kernels make
all of them at once. Results lie as a projection behind the attention reads them: with two or
more leading axes the last of those (the heads) goes inside the positions.

Source: T. Dao et al., "FlashAttention: fast and memory-efficient exact attention with
IO-awareness", 2022; the gradient's formulas are those of its appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register


class AttentionAttrs(NamedTuple):
    """``result`` is one of 'output', 'logsumexp', or of 'query', 'key', 'value' (gradients)."""

    result: str
    causal: bool
    has_bias: bool
    has_factor: bool

    @property
    def is_gradient(self) -> bool:
        return self.result in ("query", "key", "value")


class Operands(NamedTuple):
    """Sources by name; the last three only for gradients.

    An output may name the logsumexp as a last source that it does not read: then whoever computes
    the output, of which a tape keeps the logsumexp, computes both.
    """

    query: Any
    key: Any
    value: Any
    scale: Any
    bias: Any
    factor: Any
    gradient: Any
    logsumexp: Any
    delta: Any


def operands(attrs: AttentionAttrs, sources: Sequence[Any]) -> Operands:
    """The sources of an operation by name, ``None`` for those it does not have."""
    rest = list(sources[4:])
    bias = rest.pop(0) if attrs.has_bias else None
    factor = rest.pop(0) if attrs.has_factor else None
    query, key, value, scale = sources[:4]
    if not attrs.is_gradient:
        (witness,) = rest or (None,)
        return Operands(query, key, value, scale, bias, factor, None, witness, None)
    gradient, logsumexp, delta = rest
    return Operands(query, key, value, scale, bias, factor, gradient, logsumexp, delta)


def computation(attrs: AttentionAttrs, sources: Sequence[Any]) -> tuple[Any, ...]:
    """What rows that are one computation have in common, whichever result they name."""
    count = 4 + attrs.has_bias + attrs.has_factor + 3 * attrs.is_gradient
    return (attrs.is_gradient, *attrs[1:], *sources[:count])


def heads_inside(shape: Sequence[Any]) -> tuple[Any, ...]:
    """(..., H, L, E) as (..., L, H, E): how results lie in memory."""
    if len(shape) < 4:
        return tuple(shape)
    return (*shape[:-3], shape[-2], shape[-3], shape[-1])


def _infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    named = AttentionAttrs(*attrs)
    given = operands(named, shapes)
    lead, length = given.query[:-2], given.query[-2]
    if given.key[:-2] != lead or given.value[:-2] != lead or given.key[-1] != given.query[-1]:
        raise RuntimeError(
            f"attention of query {given.query}, key {given.key} and value {given.value}: the "
            "leading axes and the widths of query and key must be equal"
        )
    if named.result == "logsumexp":
        return (*lead, length), types[0].compute
    shape = {
        "output": (*lead, length, given.value[-1]), "query": given.query, "key": given.key,
        "value": given.value,
    }[named.result]  # fmt: skip
    return heads_inside(shape), types[0]


def _scores(
    query: np.ndarray, key: np.ndarray, scale: Any, bias: Any, causal: bool
) -> np.ndarray:
    """The scores of every query and key, in the type of the operands."""
    scores = np.matmul(query * scale, np.swapaxes(key, -1, -2))
    if bias is not None:
        scores = scores + bias
    if causal:
        allowed = np.tri(query.shape[-2], key.shape[-2], dtype=bool)
        scores = np.where(allowed, scores, -np.inf).astype(scores.dtype, copy=False)
    return scores


def attend(given: Operands, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """(output, logsumexp) of operands that are arrays of one floating-point type."""
    scores = _scores(given.query, given.key, given.scale, given.bias, causal)
    # fmax: a NaN among the scores must reach the sum, not make every score look masked.
    highest = np.fmax.reduce(scores, axis=-1, keepdims=True, initial=-np.inf)
    base = np.where(np.isneginf(highest), 0, highest).astype(scores.dtype)
    weights = np.exp(scores - base)
    total = weights.sum(-1, keepdims=True)
    inverse = np.where(total == 0, 0, 1 / np.where(total == 0, 1, total)).astype(scores.dtype)
    logsumexp = np.where(total == 0, np.inf, base + np.log(np.where(total == 0, 1, total)))
    if given.factor is not None:
        weights = weights * given.factor
    output = np.matmul(weights, given.value) * inverse
    return output, logsumexp[..., 0].astype(scores.dtype)


def attend_backward(given: Operands, causal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of (query, key, value), from operands that are arrays of one type."""
    scores = _scores(given.query, given.key, given.scale, given.bias, causal)
    weights = np.exp(scores - given.logsumexp[..., None])
    through = np.matmul(given.gradient, np.swapaxes(given.value, -1, -2))
    kept = weights
    if given.factor is not None:
        kept, through = weights * given.factor, through * given.factor
    change = weights * (through - given.delta[..., None])
    return (
        np.matmul(change, given.key) * given.scale,
        np.matmul(np.swapaxes(change, -1, -2), given.query) * given.scale,
        np.matmul(np.swapaxes(kept, -1, -2), given.gradient),
    )


def _numpy(attrs: tuple[Any, ...], *arrays: np.ndarray) -> np.ndarray:
    named = AttentionAttrs(*attrs)
    kind = arrays[0].dtype
    wide = kind if kind.itemsize > 2 else np.dtype(np.float32)
    given = operands(named, [array.astype(wide, copy=False) for array in arrays])
    with np.errstate(all="ignore"):
        if named.is_gradient:
            made = dict(zip(("query", "key", "value"), attend_backward(given, named.causal)))
        else:
            made = dict(zip(("output", "logsumexp"), attend(given, named.causal)))
    result = made[named.result]
    if named.result == "logsumexp":
        return result
    order = heads_inside(range(result.ndim))
    return result.transpose(order).astype(kind, copy=False)


ATTENTION = register(
    OpDef(name="attention", kind="attention", arity=-1, infer=_infer, numpy=_numpy)
)
