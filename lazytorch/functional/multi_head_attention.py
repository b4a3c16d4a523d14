"""Attention with several heads between its projections: multi_head_attention_forward.

A. Vaswani et al., "Attention is all you need", 2017, section 3.2.2.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from lazytorch import dtypes
from lazytorch.functional.attention import scaled_dot_product_attention
from lazytorch.functional.dropout import dropout
from lazytorch.functional.linalg import linear
from lazytorch.functional.padding import pad
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# Arguments ----------------------------------------------------------------------------------------


def _rank(tensor: Tensor) -> int:
    return len(shape_of(tensor))


def _check_ranks(
    query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Any, attn_mask: Any, heads: int
) -> bool:
    """Whether the inputs have a batch dimension."""
    rank = _rank(query)
    if rank not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor"
        )
    kind = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if _rank(key) != rank or _rank(value) != rank:
        raise AssertionError(
            f"For {kind} `query`, expected `key` and `value` to be {rank}-D but found "
            f"{_rank(key)}-D and {_rank(value)}-D tensors respectively"
        )
    if key_padding_mask is not None and _rank(key_padding_mask) != rank - 1:
        raise AssertionError(
            f"For {kind} `query`, expected `key_padding_mask` to be `None` or {rank - 1}-D but "
            f"found {_rank(key_padding_mask)}-D tensor instead"
        )
    if attn_mask is not None and _rank(attn_mask) not in (2, 3):
        raise AssertionError(
            f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found "
            f"{_rank(attn_mask)}-D tensor instead"
        )
    if rank == 2 and attn_mask is not None and _rank(attn_mask) == 3:
        expected = (heads, shape_of(query)[0], shape_of(key)[0])
        if shape_of(attn_mask) != expected:
            raise AssertionError(
                f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}"
            )
    return rank == 3


def _additive(mask: Any, name: str, like: Tensor, other: Any = None) -> Any:
    """A mask as numbers to add to the scores: minus infinity where a boolean one is true."""
    if mask is None:
        return None
    dtype = dtype_of(mask)
    if dtype is not dtypes.bool_ and dtype.kind != "f":
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and dtype_of(other) is not dtype:
        warnings.warn(
            f"Support for mismatched {name} and attn_mask is deprecated. Use same type for both "
            "instead.",
            stacklevel=4,
        )
    if dtype.kind == "f":
        return mask
    zeros = functions.zeros(shape_of(mask), dtype=dtype_of(like), device=like.device)
    return functions.masked_fill(zeros, mask, -math.inf)


def _checked_attn_mask(mask: Any, batch: int, heads: int, targets: int, sources: int) -> Any:
    """A mask (1 or N * heads, L, S)."""
    if mask is None:
        return None
    two = _rank(mask) == 2
    expected = (targets, sources) if two else (batch * heads, targets, sources)
    if shape_of(mask) != expected:
        raise RuntimeError(
            f"The shape of the {_rank(mask)}D attn_mask is {mask.shape}, but should be {expected}."
        )
    return functions.unsqueeze(mask, 0) if two else mask


# Projections --------------------------------------------------------------------------------------


def _projected(
    query: Tensor, key: Tensor, value: Tensor, packed: Any, bias: Any, separate: Any
) -> list[Any]:
    """Query, key and value by one packed matrix (3 E, E) or by three."""
    sources = (query, key, value)
    biases = (None, None, None) if bias is None else functions.chunk(bias, 3)
    if separate is not None:
        width = shape_of(query)[-1]
        for name, weight, source in zip("qkv", separate, sources):
            if shape_of(weight) != (width, shape_of(source)[-1]):
                raise AssertionError(
                    f"expecting {name} weights shape of {(width, shape_of(source)[-1])}, but got "
                    f"{weight.shape}"
                )
        weights: Any = separate
    elif key is value and query is key:
        return list(functions.chunk(linear(query, packed, bias), 3, -1))
    else:
        weights = functions.chunk(packed, 3)
    return [linear(source, weight, b) for source, weight, b in zip(sources, weights, biases)]


def _heads_first(tensor: Any, rows: int, width: int) -> Any:
    """(L, N, E) as (N * heads, L, E / heads)."""
    return functions.transpose(tensor.reshape(shape_of(tensor)[0], rows, width), 0, 1)


def _static(static: Tensor, name: str, rows: int, width: int) -> Tensor:
    if shape_of(static)[0] != rows:
        raise AssertionError(f"expecting {name}.size(0) of {rows}, but got {shape_of(static)[0]}")
    if shape_of(static)[2] != width:
        raise AssertionError(f"expecting {name}.size(2) of {width}, but got {shape_of(static)[2]}")
    return static


class _Keys:
    """Keys and values (N * heads, S, width) with the two masks over them."""

    def __init__(self, key: Any, value: Any, attn_mask: Any, padding: Any) -> None:
        self.key, self.value = key, value
        self.attn_mask, self.padding = attn_mask, padding

    def add(self, key: Tensor, value: Tensor, axis: int) -> None:
        """One more position, which every query may look at."""
        self.key = functions.cat([self.key, key], axis)
        self.value = functions.cat([self.value, value], axis)
        self.attn_mask = None if self.attn_mask is None else pad(self.attn_mask, (0, 1))
        self.padding = None if self.padding is None else pad(self.padding, (0, 1))

    def mask(self, batch: int, heads: int) -> Any:
        """Both masks as one, (N * heads or 1, L or 1, S)."""
        if self.padding is None:
            return self.attn_mask
        sources = shape_of(self.key)[1]
        if shape_of(self.padding) != (batch, sources):
            raise AssertionError(
                f"expecting key_padding_mask shape of {(batch, sources)}, but got "
                f"{tuple(self.padding.shape)}"
            )
        rows = self.padding.reshape(batch, 1, 1, sources).expand(-1, heads, -1, -1)
        rows = rows.reshape(batch * heads, 1, sources)
        return rows if self.attn_mask is None else self.attn_mask + rows


def _biased(keys: _Keys, bias_k: Any, bias_v: Any, static: bool, batch: int) -> None:
    if bias_k is None and bias_v is None:
        return
    if bias_k is None or bias_v is None:
        present, absent = ("bias_k", "bias_v") if bias_v is None else ("bias_v", "bias_k")
        raise AssertionError(f"{present} is set but {absent} is None")
    if static:
        raise AssertionError("bias cannot be added to static key or static value.")
    keys.add(bias_k.repeat(1, batch, 1), bias_v.repeat(1, batch, 1), 0)


# The function -------------------------------------------------------------------------------------


def multi_head_attention_forward(
    query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None,
    bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor,
    out_proj_bias: Tensor | None, training: bool = True, key_padding_mask: Tensor | None = None,
    need_weights: bool = True, attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None, static_v: Tensor | None = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Projections, attention of ``num_heads`` heads, and the output's projection.

    ``query`` is (L, N, E) or (L, E), ``key`` and ``value`` (S, N, ...). The result is like the
    query, and with ``need_weights`` the attention weights (N, L, S) averaged over the heads, or
    (N, heads, L, S). Masks are boolean (true: may not look) or added to the scores:
    ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or (N * heads, L, S). ``is_causal`` says
    that ``attn_mask`` is the causal one. Shapes that do not fit raise AssertionError or
    RuntimeError.
    """
    had_batch = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not had_batch:
        same = (key is query, value is key)
        query = functions.unsqueeze(query, 1)
        key = query if same[0] else functions.unsqueeze(key, 1)
        value = key if same[1] else functions.unsqueeze(value, 1)
        if key_padding_mask is not None:
            key_padding_mask = functions.unsqueeze(key_padding_mask, 0)
    targets, batch, width = shape_of(query)
    if width != embed_dim_to_check:
        raise AssertionError(
            f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}"
        )
    if width % num_heads:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    padding = _additive(key_padding_mask, "key_padding_mask", query, attn_mask)
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint: make the mask with "
            "Transformer.generate_square_subsequent_mask"
        )
    causal = is_causal and padding is None and not need_weights
    mask = None if causal else _additive(attn_mask, "attn_mask", query)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    _check_sources(key, value, separate, in_proj_weight)
    q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias, separate)
    mask = _checked_attn_mask(mask, batch, num_heads, targets, shape_of(key)[0])
    keys = _Keys(k, v, mask, padding)
    _biased(keys, bias_k, bias_v, static_k is not None or static_v is not None, batch)
    rows, each = batch * num_heads, width // num_heads
    q = _heads_first(q, rows, each)
    keys.key = (
        _heads_first(keys.key, rows, each)
        if static_k is None
        else _static(static_k, "static_k", rows, each)
    )
    keys.value = (
        _heads_first(keys.value, rows, each)
        if static_v is None
        else _static(static_v, "static_v", rows, each)
    )
    if add_zero_attn:
        nothing = q.new_zeros((rows, 1, each))
        keys.add(nothing, nothing, 1)
    chance = dropout_p if training else 0.0
    attend = _with_weights if need_weights else _without_weights
    out, weights = attend(q, keys, batch, num_heads, chance, causal)
    out = linear(out.reshape(targets * batch, width), out_proj_weight, out_proj_bias)
    out = out.reshape(targets, batch, shape_of(out)[1])  # type: ignore[attr-defined]
    if weights is not None and average_attn_weights:
        weights = functions.mean(weights, 1)
    if not had_batch:
        out = functions.squeeze(out, 1)
        weights = None if weights is None else functions.squeeze(weights, 0)
    return out, weights


def _check_sources(key: Tensor, value: Tensor, separate: Any, packed: Any) -> None:
    if separate is None:
        if shape_of(key) != shape_of(value):
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        if packed is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
        return
    if shape_of(key)[:2] != shape_of(value)[:2]:
        raise AssertionError(
            f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"  # type: ignore[index]
        )
    for name, weight in zip("qkv", separate):
        if weight is None:
            raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")


def _with_weights(
    q: Any, keys: _Keys, batch: int, heads: int, chance: float, causal: bool
) -> tuple[Any, Any]:
    """Outputs (L, N * heads, width), and weights (N, heads, L, S)."""
    scores = functions.bmm(q * math.sqrt(1 / shape_of(q)[2]), functions.transpose(keys.key, 1, 2))
    mask = keys.mask(batch, heads)
    weights = functions.softmax(scores if mask is None else scores + mask, -1)
    if chance > 0:
        weights = dropout(weights, chance)
    out = functions.transpose(functions.bmm(weights, keys.value), 0, 1)
    return out, weights.reshape(batch, heads, *shape_of(weights)[1:])


def _without_weights(
    q: Any, keys: _Keys, batch: int, heads: int, chance: float, causal: bool
) -> tuple[Any, None]:
    mask = keys.mask(batch, heads)
    if mask is not None:
        lead = (1, 1) if shape_of(mask)[0] == 1 else (batch, heads)
        mask = mask.reshape(*lead, *shape_of(mask)[1:])
    q, k, v = (
        tensor.reshape(batch, heads, *shape_of(tensor)[1:]) for tensor in (q, keys.key, keys.value)
    )
    out = scaled_dot_product_attention(q, k, v, mask, chance, causal)
    return functions.permute(out, (2, 0, 1, 3)), None
