"""Scaled dot-product attention: arguments as PyTorch takes them."""

from __future__ import annotations

import math
from typing import Any

from lazytorch import dtypes
from lazytorch.functional.attention_gradient import Manner, attention, dropout_for
from lazytorch.functional.composite import expanded, require_tensor, reshaped
from lazytorch.functional.dropout import check_probability
from lazytorch.ops.shapes import broadcast
from lazytorch.tensor.autocast import cast_in_regions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


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


def _check_mask(attn_mask: Any, scores: tuple[int, ...]) -> None:
    """Refuse a mask that is larger than the scores along an axis, or of another size."""
    if attn_mask is None:
        return
    shape = shape_of(attn_mask)
    fits = len(shape) <= len(scores) and all(
        extent in (1, wanted) for extent, wanted in zip(shape[::-1], scores[::-1])
    )
    if not fits:
        raise RuntimeError(
            f"attn_mask of shape {list(shape)} does not broadcast to the scores' shape "
            f"{list(scores)} (..., queries, keys): each of its axes, counted from the last, must "
            "have that size or 1"
        )


@cast_in_regions
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``softmax(query @ key^T * scale + mask) @ value`` over the last two dimensions.

    ``query`` is (..., L, E), ``key`` (..., S, E) and ``value`` (..., S, Ev); leading dimensions
    broadcast; the result is (..., L, Ev). ``attn_mask`` broadcasts to (..., L, S) and is bool
    (true: may look) or is added to the scores. ``is_causal`` lets query i look at keys up to i.
    ``scale`` is ``1 / sqrt(E)`` unless given. ``dropout_p`` drops weights, whether training or
    not. ``enable_gqa`` lets fewer key heads serve several query heads. A query that may look
    nowhere gives 0. The scores are never in memory, forwards or backwards.

    Source: A. Vaswani et al., "Attention is all you need", 2017, section 3.2.1.

    >>> q, k, v = (torch.ones(1, 2, 3, 4) for _ in range(3))
    >>> F.scaled_dot_product_attention(q, k, v, is_causal=True).shape
    torch.Size([1, 2, 3, 4])
    """
    _check(query, key, value, attn_mask, is_causal)
    check_probability(dropout_p, "scaled_dot_product_attention")
    if enable_gqa:
        heads = shape_of(query)[-3]
        if heads % shape_of(key)[-3] or heads % shape_of(value)[-3]:
            raise RuntimeError(
                "Number of heads in key and value must divide the number of heads in query"
            )
        key = _repeated_heads(key, heads // shape_of(key)[-3])
        value = _repeated_heads(value, heads // shape_of(value)[-3])
    lead = broadcast([shape_of(tensor)[:-2] for tensor in (query, key, value)])
    query, key, value = (
        expanded(tensor, (*lead, *shape_of(tensor)[-2:])) for tensor in (query, key, value)
    )
    scores = (*lead, shape_of(query)[-2], shape_of(key)[-2])
    _check_mask(attn_mask, scores)
    width = shape_of(query)[-1]
    factor = (1 / math.sqrt(width) if width else 0.0) if scale is None else float(scale)
    manner = Manner(factor, bool(is_causal), dropout_for(scores, dropout_p, query))
    return attention(query, key, value, attn_mask, manner)
