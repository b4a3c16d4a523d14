"""The kernels of ``torch_like`` as one writes them for NumPy, where one would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[..., Any]


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """``a @ b``, where each may be looked at transposed."""
    return (a.swapaxes(-2, -1) if transpose_a else a) @ (b.swapaxes(-2, -1) if transpose_b else b)


def gelu(a: Any) -> Any:
    """The approximation with tanh (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * a * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (a + 0.044715 * a * a * a)))


def softmax(x: Any) -> Any:
    """Softmax over the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def log_softmax(x: Any) -> Any:
    """Logarithm of softmax over the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    """Layer norm over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * w + b


def attention(q: Any, k: Any, v: Any) -> Any:
    """Causal attention of (batch, heads, length, width)."""
    scores = q @ k.swapaxes(-2, -1) / np.float32(np.sqrt(q.shape[-1]))
    hidden = np.triu(np.ones(scores.shape[-2:], bool), 1)
    return softmax(np.where(hidden, np.float32(-np.inf), scores)) @ v


def adds(a: Any, count: int) -> Any:
    """A chain of tiny additions."""
    b = a
    for _ in range(count):
        b = b + a
    return b


PROGRAMS: dict[str, Function] = {
    "matmul": matmul,
    "attention": attention,
    "multiply-add": lambda a, b: a * b + 0.5 * a,
    "exp": np.exp,
    "gelu": gelu,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "layer_norm": layer_norm,
    "sum_rows": lambda x: x.sum(0),
    "sum_columns": lambda x: x.sum(1),
    "sum_all": lambda x: x.sum(),
    "max_columns": lambda x: x.max(1),
    "cumsum": lambda x: x.cumsum(1),
    "transpose": lambda x: x.T.copy(),
    "mean_columns": lambda x: x.mean(1),
    "argmax_columns": lambda x: x.argmax(1),
    "cummax": lambda x: np.maximum.accumulate(x, -1),
    "gather": lambda x, i: np.take_along_axis(x, i, 1),
    "index_select": lambda x, i: x[i],
    "embedding": lambda i, w: w[i],
    "concatenate": lambda x, y: np.concatenate([x, y], 1),
    "sort": lambda x: np.sort(x, 1),
    "adds": adds,
}
