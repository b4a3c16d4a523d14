"""The kernels of ``torch_like`` as one writes them for JAX: pure functions, to be jitted.

Every program takes the module ``jax`` and its options and returns a function of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def matmul(jax: Any, transpose_a: bool = False, transpose_b: bool = False) -> Function:
    """``a @ b``, where each may be looked at transposed."""

    def call(a: Any, b: Any) -> Any:
        return (a.swapaxes(-2, -1) if transpose_a else a) @ (
            b.swapaxes(-2, -1) if transpose_b else b
        )

    return call


def convolution(jax: Any, stride: int, padding: int, groups: int = 1) -> Function:
    """Two-dimensional convolution in PyTorch's layout."""

    def call(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups,
        )  # fmt: skip

    return call


def _convolution_gradient(wanted: int) -> Function:
    """The gradient alone: what the forward pass would compute is not used, and not computed."""

    def program(jax: Any, **options: int) -> Function:
        function = convolution(jax, **options)

        def call(x: Any, w: Any, g: Any) -> Any:
            if wanted == 0:
                return jax.vjp(lambda x: function(x, w), x)[1](g)[0]
            return jax.vjp(lambda w: function(x, w), w)[1](g)[0]

        return call

    return program


def attention(jax: Any) -> Function:
    """Causal attention of (batch, heads, length, width)."""

    def call(q: Any, k: Any, v: Any) -> Any:
        # JAX wants (batch, length, heads, width).
        q, k, v = (array.swapaxes(1, 2) for array in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, is_causal=True).swapaxes(1, 2)

    return call


def attention_backward(jax: Any) -> Function:
    """Attention and its three gradients."""
    function = attention(jax)

    def call(q: Any, k: Any, v: Any, g: Any) -> Any:
        y, backward = jax.vjp(function, q, k, v)
        return (y, *backward(g))

    return call


def layer_norm(jax: Any, epsilon: float = 1e-5) -> Function:
    """Layer norm over the last axis (Ba et al. 2016, equation 4)."""

    def call(x: Any, w: Any, b: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + epsilon) * w + b

    return call


def adds(jax: Any, count: int) -> Function:
    """A chain of tiny additions."""

    def call(a: Any) -> Any:
        b = a
        for _ in range(count):
            b = b + a
        return b

    return call


def group_norm(jax: Any, groups: int = 8, epsilon: float = 1e-5) -> Function:
    """Normalized over each group of channels, scaled and shifted channel by channel."""

    def call(x: Any, w: Any, b: Any) -> Any:
        y = x.reshape(x.shape[0], groups, -1)
        y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + epsilon)
        return y.reshape(x.shape) * w[:, None, None] + b[:, None, None]

    return call


def scatter_add(jax: Any) -> Function:
    """Added along each row at positions of its own."""
    return lambda x, i, y: x.at[jax.numpy.arange(x.shape[0])[:, None], i].add(y)


def _embedding(jax: Any) -> Function:
    return lambda i, w: w[i]


def _gradient(function: Callable[[Any], Function], fixed: int = 0) -> Callable[[Any], Function]:
    """The gradients of all inputs but the ``fixed`` first ones, the last argument being the
    output's."""

    def program(jax: Any) -> Function:
        inner = function(jax)

        def call(*arguments: Any) -> Any:
            *inputs, g = arguments
            kept = inputs[:fixed]
            return jax.vjp(lambda *free: inner(*kept, *free), *inputs[fixed:])[1](g)

        return call

    return program


PROGRAMS: dict[str, Callable[..., Function]] = {
    "matmul": matmul,
    "convolution": convolution,
    "convolution_input_gradient": _convolution_gradient(0),
    "convolution_weight_gradient": _convolution_gradient(1),
    "attention": attention,
    "attention_backward": attention_backward,
    "multiply-add": lambda jax: lambda a, b: a * b + 0.5 * a,
    "exp": lambda jax: jax.numpy.exp,
    "gelu": lambda jax: lambda a: jax.nn.gelu(a, approximate=True),
    "softmax": lambda jax: lambda x: jax.nn.softmax(x, -1),
    "log_softmax": lambda jax: lambda x: jax.nn.log_softmax(x, -1),
    "layer_norm": layer_norm,
    "sum_rows": lambda jax: lambda x: x.sum(0),
    "sum_columns": lambda jax: lambda x: x.sum(1),
    "sum_all": lambda jax: lambda x: x.sum(),
    "max_columns": lambda jax: lambda x: x.max(1),
    "cumsum": lambda jax: lambda x: jax.numpy.cumsum(x, 1),
    # An array of another layout, not another look at the same memory.
    "transpose": lambda jax: lambda x: jax.lax.optimization_barrier(x.T),
    "mean_columns": lambda jax: lambda x: x.mean(1),
    "argmax_columns": lambda jax: lambda x: x.argmax(1),
    "cummax": lambda jax: lambda x: jax.lax.cummax(x, x.ndim - 1),
    "gather": lambda jax: lambda x, i: jax.numpy.take_along_axis(x, i, 1),
    "index_select": lambda jax: lambda x, i: x[i],
    "group_norm": group_norm,
    "group_norm_gradient": _gradient(group_norm),
    "layer_norm_gradient": _gradient(layer_norm),
    "scatter_add": scatter_add,
    "embedding": _embedding,
    "embedding_gradient": _gradient(_embedding, fixed=1),
    "concatenate": lambda jax: lambda x, y: jax.numpy.concatenate([x, y], 1),
    "sort": lambda jax: lambda x: jax.numpy.sort(x, 1),
    "topk": lambda jax: lambda x: jax.lax.top_k(x, 16)[0],
    "adds": adds,
}
