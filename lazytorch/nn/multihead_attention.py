"""Attention of several heads with its projections."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.nn import functional as F
from lazytorch.nn import init
from lazytorch.nn.linear import NonDynamicallyQuantizableLinear
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.tensor import Tensor

_SOURCES = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class MultiheadAttention(Module):
    """Attention of ``num_heads`` heads, each over ``embed_dim / num_heads`` features (Vaswani et
    al., Attention Is All You Need, 2017, section 3.2.2).

    ``kdim`` and ``vdim`` are the features of key and value where they differ from the query's.
    ``add_bias_kv`` appends a learned key and value, ``add_zero_attn`` one of zeros. A head size
    that is no whole number raises ``AssertionError``.

    >>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.ones(4, 5, 8)
    >>> [part.shape for part in attention(x, x, x)]
    [torch.Size([4, 5, 8]), torch.Size([4, 5, 5])]
    """

    bias_k: Tensor | None
    bias_v: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim == self.vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")
        options = {"device": device, "dtype": dtype}
        if self._qkv_same_embed_dim:
            self.in_proj_weight = Parameter(torch.empty((3 * embed_dim, embed_dim), **options))
            for name in _SOURCES:
                self.register_parameter(name, None)
        else:
            for name, width in zip(_SOURCES, (embed_dim, self.kdim, self.vdim)):
                setattr(self, name, Parameter(torch.empty((embed_dim, width), **options)))
            self.register_parameter("in_proj_weight", None)
        if bias:
            self.in_proj_bias = Parameter(torch.empty(3 * embed_dim, **options))
        else:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias=bias, **options)
        if add_bias_kv:
            self.bias_k = Parameter(torch.empty((1, 1, embed_dim), **options))
            self.bias_v = Parameter(torch.empty((1, 1, embed_dim), **options))
        else:
            self.bias_k = self.bias_v = None
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for name in ("in_proj_weight", *_SOURCES):
            weight = getattr(self, name)
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None and self.bias_v is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The attended values, and the weights where ``need_weights`` asks for them.

        ``query`` is (L, N, E), or (N, L, E) with ``batch_first``, or (L, E); ``key`` and ``value``
        are (S, N, ...) likewise. Boolean masks are true where nobody may look, others are added to
        the scores: ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or (N * heads, L, S).
        ``is_causal`` says that ``attn_mask`` is the causal one. Weights are (N, L, S), or
        (N, heads, L, S) without ``average_attn_weights``; without ``need_weights`` the scores are
        never in memory.
        """
        turned = self.batch_first and query.dim() == 3
        if turned:
            # The same tensor stays the same: one projection then serves them all.
            seen: dict[int, Tensor] = {}
            query, key, value = (
                seen.setdefault(id(source), source.transpose(0, 1))
                for source in (query, key, value)
            )
        separate: dict[str, Any] = {}
        if not self._qkv_same_embed_dim:
            separate = {name: getattr(self, name) for name in _SOURCES}
            separate["use_separate_proj_weight"] = True
        output, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight,
            self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn, self.dropout,
            self.out_proj.weight, self.out_proj.bias, training=self.training,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            average_attn_weights=average_attn_weights, is_causal=is_causal, **separate,
        )  # fmt: skip
        return (output.transpose(0, 1) if turned else output), weights
