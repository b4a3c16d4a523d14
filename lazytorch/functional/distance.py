"""Lengths, distances and similarities of vectors, and the losses made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.autograd.naming import shown_as
from lazytorch.functional.activation import logsigmoid
from lazytorch.functional.composite import (
    axis_of,
    larger,
    padded,
    reshaped,
    sum_over,
    windowed,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.loss import reduced, reduction_of
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import result_type
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


@public(method=False)
@shown_as("SumBackward1")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along ``dim``; lengths are at least ``eps``."""
    dtype = result_type(x1, x2)
    if dtype.kind != "f":
        raise RuntimeError(
            f"expected common dtype to be floating point, yet common dtype is {dtype!r}"
        )
    a: Any = functions.converted(x1, x1._device, dtype)
    b: Any = functions.converted(x2, x1._device, dtype)
    rank = max(len(shape_of(a)), len(shape_of(b)))
    a, b = (reshaped(t, (1,) * (rank - len(shape_of(t))) + shape_of(t)) for t in (a, b))
    axis = axis_of(a, dim)
    a, b = (t if rank else reshaped(t, (1,)) for t in (a, b))
    if shape_of(a)[axis] != shape_of(b)[axis]:
        # A component that counts several times belongs to the length as often.
        a, b = functions.broadcast_tensors(a, b)
    first = a / larger(functions.norm(a, 2, axis, keepdim=True), eps)
    second = b / larger(functions.norm(b, 2, axis, keepdim=True), eps)
    return sum_over(first * second, (axis,), keep=False)


@public(method=False)
@shown_as("NormBackward1")
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` along the last dimension."""
    gap: Any = x1 - x2  # type: ignore[operator]
    return functions.norm(gap + eps, p, -1, keepdim=keepdim)  # type: ignore[no-any-return]


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
    size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """1 - cosine for targets 1, the cosine above ``margin`` for targets -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    if len(shape_of(target)) not in (0, 1) or len(shape_of(input1)) != len(shape_of(target)) + 1:
        raise RuntimeError(
            f"{len(shape_of(target))}D target tensor expects {len(shape_of(target)) + 1}D input "
            f"tensors, but found inputs with sizes {list(shape_of(input1))} and "
            f"{list(shape_of(input2))}."
        )
    axis = len(shape_of(target))
    a: Any = input1
    b: Any = input2
    tiny = 1e-12
    product = functions.sum(a * b, axis)
    lengths = (functions.sum(a * a, axis) + tiny) * (functions.sum(b * b, axis) + tiny)
    cosine = product / functions.sqrt(lengths)
    far = functions.clamp_min(cosine - margin, 0)
    values = where(target == 1, 1 - cosine, where(target == -1, far, 0))  # type: ignore[arg-type]
    return reduced(values, reduction)


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
    size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``max(0, -target * (input1 - input2) + margin)``."""
    reduction = reduction_of(size_average, reduce, reduction)
    ranks = {len(shape_of(tensor)) for tensor in (input1, input2, target)}
    if len(ranks) != 1:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.shape}, input2: {input2.shape}, target: {target.shape} "
        )
    a: Any = input1
    return reduced(functions.clamp_min(-target * (a - input2) + margin, 0), reduction)  # type: ignore[operator]


def hinge_embedding_loss(
    input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The input for targets 1, ``max(0, margin - input)`` for targets -1."""
    reduction = reduction_of(size_average, reduce, reduction)
    x: Any = input
    apart = where(target == 1, 0, functions.clamp_min(margin - x, 0))  # type: ignore[arg-type]
    together = where(target == -1, 0, x)  # type: ignore[arg-type]
    return reduced(apart + together, reduction)  # type: ignore[operator]


def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``log(1 + exp(-target * input))``."""
    reduction = reduction_of(size_average, reduce, reduction)
    x: Any = input
    return reduced(-logsigmoid(target * x), reduction)


def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """The mean over classes of binary cross entropy with logits."""
    reduction = reduction_of(size_average, reduce, reduction)
    x: Any = input
    t: Any = target
    values = -(t * logsigmoid(x) + (1 - t) * logsigmoid(-x))
    if weight is not None:
        values = values * weight
    axis = len(shape_of(values)) - 1
    rows = sum_over(values, (axis,), keep=False) / shape_of(input)[axis]  # type: ignore[operator]
    return reduced(rows, reduction)


def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2,
    eps: float = 1e-6, swap: bool = False, size_average: bool | None = None,
    reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``."""
    reduction = reduction_of(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None, margin: float = 1.0,
    swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``triplet_margin_loss`` with any distance."""
    reduction = reduction_of(None, None, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = distance_function or pairwise_distance
    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, distance: Callable[..., Tensor],
    margin: float, swap: bool, reduction: str,
) -> Tensor:  # fmt: skip
    ranks = [len(shape_of(tensor)) for tensor in (anchor, positive, negative)]
    if len(set(ranks)) > 1:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of "
            "dimensions, but got: anchor {}D, positive {}D, and negative {}D inputs".format(*ranks)
        )
    near: Any = distance(anchor, positive)
    far: Any = distance(anchor, negative)
    if swap:
        far = functions.minimum(far, distance(positive, negative))
    return reduced(functions.clamp_min(near - far + margin, 0), reduction)


@public(method=False)
@shown_as("PdistBackward0")
def pdist(input: Tensor, p: float = 2) -> Tensor:
    """The p-distances of all pairs of rows of a matrix (n, d): n (n - 1) / 2 of them.

    Pairs come in the order (0, 1), (0, 2), ..., (1, 2), ....

    >>> pdist(tensor([[0., 0.], [3., 4.], [0., 1.]]))
    tensor([5.0000, 1.0000, 4.2426])
    """
    shape = shape_of(input)
    if len(shape) != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {len(shape)}D")
    if dtype_of(input).kind != "f":
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = np.triu_indices(shape[0], 1)
    device = input._device
    a: Any = functions.index_select(input, 0, functions.tensor(first, device=device))
    b: Any = functions.index_select(input, 0, functions.tensor(second, device=device))
    return functions.norm(a - b, p, -1)  # type: ignore[no-any-return]


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """The input divided by ``(k + alpha * mean of squares of size channels) ** beta``."""
    x: Any = input
    if len(shape_of(x)) < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality                          input (got "
            f"{len(shape_of(x))} dimensions)"
        )
    if count(shape_of(x)) == 0:
        return input
    shape = shape_of(x)
    widths = [(0, 0)] * len(shape)
    widths[1] = (size // 2, (size - 1) // 2)
    neighbours = windowed(padded(x * x, widths), 1, size, 1)
    total = sum_over(neighbours, (len(shape),), keep=False)
    # PyTorch's mean of integers is an integer.
    rounding = None if dtype_of(x).kind == "f" else "trunc"
    mean = functions.div(total, size, rounding_mode=rounding)
    divisor = functions.pow(mean * alpha + k, beta)
    return x / divisor  # type: ignore[no-any-return]


def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """The input divided by its p-norm along ``dim``, or by ``eps`` where that is larger."""
    x: Any = input
    length = functions.norm(x, p, dim, keepdim=True)
    result = x / functions.clamp_min(length, eps)
    if out is None:
        return result  # type: ignore[no-any-return]
    functions.copy_out(out, result)
    return out
