"""The cross entropy of a linear layer's output, without keeping the output.

With :class:`LinearCrossEntropyOptions` the batch is taken in chunks: a chunk's logits are read
only by its losses, and made again for its gradients, so that memory holds those of one chunk at a
time where the whole batch times a vocabulary would not fit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import enable_grad, mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.dtypes import DType
from lazytorch.functional.classification import cross_entropy
from lazytorch.functional.composite import detached, joined, part, reshaped
from lazytorch.functional.elementwise import where
from lazytorch.functional.linalg import linear
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_POLICIES = ("auto", "accurate", "balanced", "compact")
_SUMS = (None, dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64)


@dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How the batch of :func:`linear_cross_entropy` is cut into chunks.

    ``batch_chunk_size`` rows a chunk, or ``chunking_method`` 'aspect_ratio:n': as many rows as
    make a chunk's logits an n-th of the input's size (the default, 'auto', is n = 2).
    ``acc_policy``, ``acc_dtype`` and ``allow_retain_graph`` are accepted: products are summed in
    float32 at least whatever they say, and a graph may be retained.

    Raises ``ValueError`` for settings that PyTorch does not know.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: DType | None = None

    def __post_init__(self) -> None:
        if self.acc_policy not in _POLICIES:
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}: use one of {_POLICIES}")
        if self.chunking_method not in (None, "auto"):
            name, colon, factor = self.chunking_method.partition(":")
            if name != "aspect_ratio" or (colon and not (factor.isdigit() and int(factor))):
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")
        if self.acc_dtype not in _SUMS:
            raise ValueError(f"acc_dtype must be a floating-point type, got {self.acc_dtype!r}")

    def rows(self, batch: int, features: int, classes: int) -> int:
        """Rows of a chunk."""
        if self.batch_chunk_size is not None:
            return self.batch_chunk_size
        if self.chunking_method is None:
            return max(batch, 1)
        _, _, factor = self.chunking_method.partition(":")
        times = int(factor or (2 if self.chunking_method == "auto" else 1))
        wanted = -(-batch // max(-(-classes // max(features, 1)), 1))
        return int(max((1 << max(wanted - 1, 0).bit_length()) // times, 1))


# Losses of rows, by chunks ------------------------------------------------------------------------


def _losses(x: Any, weight: Any, bias: Any, target: Any, classes: Any, ignored: int) -> Any:
    logits = linear(x, weight, bias)
    return cross_entropy(logits, target, classes, ignore_index=ignored, reduction="none")


def _chunks(batch: int, rows: int) -> list[tuple[int, int]]:
    return [(start, min(rows, batch - start)) for start in range(0, batch, rows)]


def _gradients(
    g: Any, attrs: Any, extra: Any, needs: Any, x: Any, weight: Any, bias: Any
) -> tuple[Any, ...]:
    rows, ignored = attrs
    target, classes = extra
    sources = (x, weight, bias)
    places = [place for place, needed in enumerate(needs) if needed and sources[place] is not None]
    result: list[Any] = [None, None, None]
    if mode.enabled:
        with enable_grad():
            losses = _losses(x, weight, bias, target, classes, ignored)
        wanted = [sources[place] for place in places]
        for place, found in zip(places, grad(losses, wanted, g, create_graph=True)):
            result[place] = found
        return tuple(result)
    pieces = []
    for start, size in _chunks(shape_of(x)[0], rows):
        leaves: list[Any] = [part(detached(x), 0, start, size), detached(weight), None]
        if bias is not None:
            leaves[2] = detached(bias)
        for place in places:
            leaves[place].requires_grad = True
        chosen = part(target, 0, start, size)
        with enable_grad():
            losses = _losses(leaves[0], leaves[1], leaves[2], chosen, classes, ignored)
        found = grad(losses, [leaves[place] for place in places], part(g, 0, start, size))
        for place, gradient in zip(places, found):
            if place == 0:
                pieces.append(gradient)
            else:
                sofar = result[place]
                result[place] = gradient if sofar is None else sofar + gradient
    if pieces:
        result[0] = joined(pieces, 0)
    return tuple(result)


_RULE = Rule("LinearCrossEntropyBackward0", _gradients)


def _chunked(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, classes: Tensor | None,
    ignored: int, rows: int,
) -> Tensor:  # fmt: skip
    """The loss of each row of x (batch, features)."""
    with no_grad():
        losses = [
            _losses(part(x, 0, start, size), weight, bias, part(target, 0, start, size),
                    classes, ignored)
            for start, size in _chunks(shape_of(x)[0], rows)
        ]  # fmt: skip
        out = joined(losses, 0)
    kept = None if classes is None else detached(classes)
    return attach(out, _RULE, (x, weight, bias), (rows, ignored), (detached(target), kept))


def _reduced(losses: Any, target: Any, classes: Any, ignored: int, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    with no_grad():
        counted = target != ignored
        share: Any = 1
        if classes is not None:
            share = classes[where(counted, target, 0)]
        total = where(counted, share, 0).to(losses.dtype).sum()
    return losses.sum() / total


# The function -------------------------------------------------------------------------------------


def _check(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    shape, wide = shape_of(input), shape_of(weight)
    if len(shape) not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {len(shape)}")
    if len(wide) < 2:
        raise RuntimeError(
            f"expected linear_weight with dimensionality at least 2, got {len(wide)}"
        )
    if shape[-1] != wide[-1]:
        raise RuntimeError(
            "expected equal input and linear_weight last dimensions (in_features), got "
            f"{shape[-1]} and {wide[-1]}, respectively"
        )
    if bias is not None and shape_of(bias) != wide[:-1]:
        raise RuntimeError(f"expected linear_bias shape {wide[:-1]}, got {shape_of(bias)}")
    if len(wide) > 2 and len(shape) == 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {wide} requires batched input, "
            f"(N, {shape[-1]}), got unbatched input with shape {shape}"
        )


def linear_cross_entropy(
    input: Tensor, linear_weight: Tensor, target: Tensor, *, linear_bias: Tensor | None = None,
    weight: Tensor | None = None, reduction: str = "mean", ignore_index: int | None = None,
    label_smoothing: float = 0.0, options: LinearCrossEntropyOptions | None = None,
) -> Tensor:  # fmt: skip
    """``cross_entropy(linear(input, linear_weight, linear_bias), target, ...)``.

    ``input`` is (features) or (N, features), ``linear_weight`` (C, features) or
    (C, d1, ..., features), ``target`` class indices or probabilities in the shape that
    ``cross_entropy`` takes for logits (N, C, d1, ...). With ``options`` the batch goes in chunks,
    for class indices without ``label_smoothing`` and without d1; others are computed whole, with
    a warning.

    Raises ``RuntimeError`` for shapes that do not fit and for an ``ignore_index`` beside
    probabilities.

    >>> linear_cross_entropy(ones(1, 2), zeros(4, 2), tensor([3]))
    tensor(1.3863)
    """
    _check(input, linear_weight, linear_bias)
    shape, wide = shape_of(input), shape_of(linear_weight)
    logits_shape = (*shape[:-1], *wide[:-1])
    if shape_of(target) == logits_shape and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    ignored = -100 if ignore_index is None else ignore_index
    if options is not None:
        by_chunks = len(wide) == 2 and not label_smoothing and dtype_of(target) is dtypes.int64
        if by_chunks and reduction in ("mean", "sum", "none"):
            x, places = input, target
            if len(shape) == 1:
                x, places = reshaped(input, (1, *shape)), reshaped(target, (1,))
            rows = options.rows(shape_of(x)[0], shape[-1], wide[0])
            losses = _chunked(x, linear_weight, linear_bias, places, weight, ignored, rows)
            out = _reduced(losses, places, weight, ignored, reduction)
            return reshaped(out, ()) if len(shape) == 1 else out
        warnings.warn(
            "linear_cross_entropy: options ignored; chunks need reduction in "
            "{'mean', 'sum', 'none'}, label_smoothing == 0, a target of dtype int64 and a weight "
            f"of two dimensions. Got reduction={reduction!r}, label_smoothing={label_smoothing}, "
            f"target.dtype={target.dtype}, linear_weight of shape {list(wide)}.",
            stacklevel=2,
        )
    flat = (count(wide[:-1]), wide[-1])
    bias = None if linear_bias is None else functions.reshape(linear_bias, flat[:1])
    logits = linear(input, functions.reshape(linear_weight, flat), bias)
    return cross_entropy(
        functions.reshape(logits, logits_shape), target, weight, ignore_index=ignored,
        reduction=reduction, label_smoothing=label_smoothing,
    )  # fmt: skip
