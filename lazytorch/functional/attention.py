"""Scaled dot-product attention, composed of two products and a softmax."""

from __future__ import annotations

import math
from typing import Any

from lazytorch import dtypes
from lazytorch.functional.composite import (
    expanded,
    iota,
    narrowed,
    require_tensor,
    reshaped,
    widened,
)
from lazytorch.functional.dropout import dropout
from lazytorch.functional.elementwise import where
from lazytorch.functional.softmax import softmax
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _causal(scores: Any) -> Any:
    """Where a query may look at a key: not after its own position."""
    queries, keys = shape_of(scores)[-2:]
    return reshaped(iota(queries, scores), (queries, 1)) >= iota(keys, scores)  # type: ignore[operator]


def _with_mask(scores: Any, attn_mask: Any) -> tuple[Any, Any]:
    """Scores with a mask applied, and where a query may look (``None``: everywhere)."""
    if dtype_of(attn_mask) is dtypes.bool_:
        return where(attn_mask, scores, -math.inf), attn_mask
    return scores + attn_mask, None


def _repeated_heads(value: Tensor, times: int) -> Tensor:
    """Each head of (..., H, L, E) ``times`` times in a row."""
    shape = shape_of(value)
    spread = reshaped(value, (*shape[:-2], 1, *shape[-2:]))
    spread = expanded(spread, (*shape[:-2], times, *shape[-2:]))
    return reshaped(spread, (*shape[:-3], shape[-3] * times, *shape[-2:]))


def _check(query: Any, key: Any, value: Any, attn_mask: Any, is_causal: bool) -> None:
    function = "scaled_dot_product_attention"
    for number, (tensor, name) in enumerate(((query, "query"), (key, "key"), (value, "value"))):
        require_tensor(tensor, function, name, number + 1)
    if not dtype_of(query) is dtype_of(key) is dtype_of(value):
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{dtype_of(query)!r} key.dtype: {dtype_of(key)!r} and value.dtype: "
            f"{dtype_of(value)!r} instead."
        )
    if any(len(shape_of(tensor)) < 2 for tensor in (query, key, value)):
        raise RuntimeError(
            "Expected query, key, and value to all be at least 2 dimensional, but got query.dim: "
            f"{len(shape_of(query))}, key.dim: {len(shape_of(key))} and value.dim: "
            f"{len(shape_of(value))} instead."
        )
    if attn_mask is None:
        return
    if is_causal:
        raise RuntimeError(
            "_scaled_dot_product_attention: Explicit attn_mask should not be set when "
            "is_causal=True"
        )
    if dtype_of(attn_mask) is not dtypes.bool_ and dtype_of(attn_mask) is not dtype_of(query):
        raise RuntimeError(
            "Expected attn_mask dtype to be bool or to match query dtype, but got "
            f"attn_mask.dtype: {dtype_of(attn_mask)!r} and  query.dtype: {dtype_of(query)!r} "
            "instead."
        )


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``softmax(query @ key.T * scale + mask) @ value`` over the last two dimensions.

    ``attn_mask`` is bool (true: may look) or is added to the scores. ``scale`` is
    ``1 / sqrt(E)`` unless given. ``enable_gqa`` lets fewer key heads serve several query heads.
    A query that may look nowhere gives NaN for an added mask and 0 for a bool one.
    """
    _check(query, key, value, attn_mask, is_causal)
    if enable_gqa:
        heads = shape_of(query)[-3]
        if heads % shape_of(key)[-3] or heads % shape_of(value)[-3]:
            raise RuntimeError(
                "Number of heads in key and value must divide the number of heads in query"
            )
        key = _repeated_heads(key, heads // shape_of(key)[-3])
        value = _repeated_heads(value, heads // shape_of(value)[-3])
    factor = 1 / math.sqrt(shape_of(query)[-1]) if scale is None else scale
    scores: Any = functions.matmul(query, functions.transpose(key, -2, -1))
    scores = widened(scores) * factor
    allowed = None
    if is_causal:
        scores = where(_causal(scores), scores, -math.inf)
    if attn_mask is not None:
        scores, allowed = _with_mask(scores, attn_mask)
    weights: Any = softmax(scores, -1)
    if allowed is not None:
        # Nothing to look at: exp(-inf) / 0 is NaN, PyTorch's answer is 0.
        weights = where(allowed, weights, 0)
    weights = dropout(weights, dropout_p, dropout_p > 0)
    return functions.matmul(narrowed(weights, query), value)  # type: ignore[no-any-return]
