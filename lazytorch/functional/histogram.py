"""Histograms of one and several dimensions. They compute the values of their input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.functional import results
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import computed_all
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.ranges import linspace_array
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _limits(points: np.ndarray, range: Sequence[float] | None) -> list[tuple[float, float]]:
    """The outer edges of each dimension: given ones, or the least and the greatest element."""
    found: list[tuple[float, float]] = []
    for number in np.arange(points.shape[1]):
        if range is not None:
            low, high = float(range[2 * number]), float(range[2 * number + 1])
        elif len(points):
            low, high = float(points[:, number].min()), float(points[:, number].max())
        else:
            low, high = 0.0, 1.0
        if not (np.isfinite(low) and np.isfinite(high)):
            raise RuntimeError(
                f"torch.histogramdd: dimension {number}'s range [{low:g}, {high:g}] is not finite"
            )
        if low > high:
            raise RuntimeError(
                f"torch.histogramdd: min should not exceed max, but got min {low:g} max {high:g} "
                f"for dimension {number}"
            )
        found.append((low - 0.5, high + 0.5) if low == high else (low, high))
    return found


def _given_edges(edges: Tensor, number: int, input: Tensor) -> np.ndarray:
    if len(shape_of(edges)) != 1:
        raise RuntimeError(
            "torch.histogramdd: bins tensor should have one dimension, but got "
            f"{len(shape_of(edges))} dimensions in the bins tensor for dimension {number}"
        )
    if dtype_of(edges) is not dtype_of(input):
        raise RuntimeError(
            "torch.histogramdd: input tensor and bins tensors should have the same dtype, but got "
            f"input with dtype {dtype_of(input).name} and bins for dimension {number} with dtype "
            f"{dtype_of(edges).name}"
        )
    if not shape_of(edges)[0]:
        raise RuntimeError(
            "torch.histogramdd: bins tensor should have at least 1 element, but got 0 for "
            f"dimension {number}"
        )
    return np.array(functions.peek(edges))


def _edges(input: Tensor, points: np.ndarray, bins: list[Any], range: Any) -> list[np.ndarray]:
    if all(isinstance(edges, Tensor) for edges in bins):
        if range is not None:
            raise TypeError("histogram(): range is given by the bins when these are tensors")
        return [_given_edges(edges, number, input) for number, edges in enumerate(bins)]
    for number, wanted in enumerate(bins):
        if wanted <= 0:
            raise RuntimeError(
                f"torch.histogram(): bins must be > 0, but got {wanted} for dimension {number}"
            )
    limits = _limits(points, range)
    return [
        linspace_array(low, high, wanted + 1, dtype_of(input))
        for wanted, (low, high) in zip(bins, limits)
    ]


def _counted(
    points: np.ndarray, edges: list[np.ndarray], weights: np.ndarray | None, density: bool
) -> np.ndarray:
    """How many rows (or which weight) lie in each box; the last box has its upper edge."""
    sizes = [len(line) - 1 for line in edges]
    inside = np.ones(len(points), bool)
    flat = np.zeros(len(points), np.int64)
    for column, line, size in zip(points.T, edges, sizes):
        place = np.searchsorted(line, column, side="right") - 1
        place = np.where(column == line[-1], size - 1, place)
        inside &= (column >= line[0]) & (column <= line[-1])
        flat = flat * size + place
    heavy = None if weights is None else weights.reshape(-1)[inside]
    total = np.bincount(flat[inside], heavy, int(np.prod(sizes))).astype(np.float64)
    counts = total.reshape(sizes)
    if not density:
        return counts
    with np.errstate(all="ignore"):
        counts = counts / counts.sum()
        for axis, line in enumerate(edges):
            shape = [-1 if number == axis else 1 for number in np.arange(len(edges))]
            counts = counts / np.diff(line.astype(np.float64)).reshape(shape)
    return counts


def _histogram(
    input: Tensor, columns: int, bins: list[Any], range: Any, weight: Tensor | None, density: bool
) -> tuple[Tensor, list[Tensor]]:
    dtype = dtype_of(input)
    if dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError(
            f"\"histogramdd\" not implemented for '{scalar_name(dtype)}': convert with .float()"
        )
    if weight is not None:
        if dtype_of(weight) is not dtype:
            raise RuntimeError(
                "torch.histogramdd: if weight tensor is provided, input tensor and weight tensor "
                f"should have the same dtype, but got input({dtype.name}), and "
                f"weight({dtype_of(weight).name})"
            )
    rows = count(shape_of(input)) // max(columns, 1)

    def counted(values: np.ndarray, weights: np.ndarray | None = None) -> list[np.ndarray]:
        points = values.reshape(rows, columns)
        edges = _edges(input, points, bins, range)
        return [_counted(points, edges, weights, density).astype(dtype.numpy), *edges]

    counts, *edges = computed_all(counted, *([input] if weight is None else [input, weight]))
    return counts, edges


def _check_weight(input: Tensor, shape: tuple[int, ...], weight: Tensor | None) -> None:
    if weight is not None and shape_of(weight) != shape:
        raise RuntimeError(
            "torch.histogramdd: if weight tensor is provided it should have the same shape as the "
            f"input tensor excluding its innermost dimension, but got input with shape "
            f"{list(shape_of(input))} and weight with shape {list(shape_of(weight))}"
        )


@public()
def histogram(
    input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None,
    density: bool = False,
) -> Any:  # fmt: skip
    """(hist, bin_edges): how many elements lie in each bin.

    ``bins``: their number, spread evenly over ``range`` (by default from the least to the
    greatest element), or the ascending edges as a tensor of the input's dtype. The last bin
    includes its upper edge. ``weight``, of the input's shape, counts instead of 1; ``density``
    divides by the sum and each bin's width. ``NotImplementedError`` unless float32 or float64.

    >>> histogram(tensor([1., 2., 1.]), 2, range=(0., 2.)).hist
    tensor([0., 3.])
    """
    _check_weight(input, shape_of(input), weight)
    hist, edges = _histogram(input, 1, [bins], range, weight, density)
    return results.Histogram(hist, edges[0])


@public(method=False, out=False)
def histogramdd(
    input: Tensor, bins: Any, range: Any = None, weight: Tensor | None = None,
    density: bool = False,
) -> Any:  # fmt: skip
    """(hist, bin_edges): how many points of an N-dimensional space lie in each box.

    ``input`` holds a point in its last dimension, of size N. ``bins``: a number for all
    dimensions, one for each, or tensors of edges; ``range``: 2 N limits.

    >>> histogramdd(tensor([[0., 1.], [1., 0.]]), 2).hist
    tensor([[0., 1.],
            [1., 0.]])
    """
    shape = shape_of(input)
    if len(shape) < 2:
        raise RuntimeError(
            f"torch.histogramdd: input tensor should have at least 2 dimensions, but got "
            f"{len(shape)}"
        )
    columns = shape[-1]
    wanted = [bins] * columns if isinstance(bins, int) else list(bins)
    if len(wanted) != columns:
        raise RuntimeError(
            "histogramdd: The size of bins must be equal to the innermost dimension of the input."
        )
    if range is not None and len(range) != 2 * columns:
        raise RuntimeError(
            f"torch.histogramdd: for a {columns}-dimensional histogram range should have "
            f"{2 * columns} elements, but got {len(range)}"
        )
    _check_weight(input, shape[:-1], weight)
    hist, edges = _histogram(input, columns, wanted, range, weight, density)
    return results.HistogramDD(hist, tuple(edges))
