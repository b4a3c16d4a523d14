"""Sorting and what rests on it: topk, unique, counting."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.tape import label, named
from lazytorch.functional import results
from lazytorch.functional.bounds import remember_range
from lazytorch.functional.composite import require_tensor
from lazytorch.functional.shape import reshape, sliced
from lazytorch.ops import elementwise, indexing, ordering
from lazytorch.ops.shapes import normalize_axis
from lazytorch.schedule import choices
from lazytorch.tensor.apply import apply, cast
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.batching.examples import check_same_shape
from lazytorch.tensor.batching.values import computed
from lazytorch.tensor.creation import tensor as make_tensor
from lazytorch.tensor.ranges import iota
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

_sort_rule = named(indexing.GATHER, "SortBackward0")
_topk_rule = named(indexing.GATHER, "TopkBackward0")


def _key_words(values: Tensor, descending: bool) -> list[tuple[Tensor, int]]:
    """int32 keys in the order of the values, with the bits they use; NaN counts as the largest.

    Values of 64 bits have two, the less significant one first.
    """
    dtype = dtype_of(values)
    if dtype.kind == "c":
        raise RuntimeError(
            f"Sort does not support complex dtypes on CPU, but the input is {dtype!r}: "
            "order its absolute values or one of its parts"
        )
    if dtype.kind == "f":
        wide = dtype is dtypes.float64
        values = values if wide else cast(values, dtypes.float32)
        bits = apply(elementwise.BITCAST, (values,), (dtypes.int64 if wide else dtypes.int32,))
        keys = apply(ordering.FLOAT_ORDER, (bits,))
    elif dtype is dtypes.uint64:
        keys = functions.bitwise_xor(cast(values, dtypes.int64), -(1 << 63))
    else:
        wide = dtype.itemsize == 8 or dtype is dtypes.uint32
        keys = cast(values, dtypes.int64 if wide else dtypes.int32)
    if descending:
        keys = functions.bitwise_not(keys)
    if dtype_of(keys) is dtypes.int32:
        # Without a sign of its own a narrow dtype needs a bit more.
        narrow = 8 if dtype.kind == "b" else 8 * dtype.itemsize + 8 * (dtype.kind == "u")
        return [(keys, 32 if dtype.kind == "f" else narrow)]
    high = cast(functions.bitwise_right_shift(keys, 32), dtypes.int32)
    # As a number without sign: its lowest becomes the lowest with sign.
    low = functions.bitwise_xor(cast(keys, dtypes.int32), -(1 << 31))
    return [(low, 32), (high, 32)]


def _sorted_pairs(pairs: Tensor, bits: int) -> Tensor:
    """Rows of pairs in order."""
    size, run = shape_of(pairs)[-1], choices.SORTED_RUN
    pairs = apply(ordering.SORTED_RUNS, (pairs,), (run, run, bits))
    while run < size:
        pairs = apply(ordering.MERGED_RUNS, (pairs,), (run,))
        run *= 2
    return pairs


def _first_pairs(pairs: Tensor, bits: int, count: int) -> Tensor:
    """The first ``count`` pairs of each row in order: the first of those of its parts."""
    run = choices.SORTED_RUN
    while shape_of(pairs)[-1] > run:
        pairs = apply(ordering.SORTED_RUNS, (pairs,), (run, count, bits))
    return apply(ordering.SORTED_RUNS, (pairs,), (run, count, bits))


def _order(input: Tensor, axis: int, descending: bool, count: int | None = None) -> Tensor:
    """The places of the elements of a dimension in their stable order, or of the first few."""
    size = shape_of(input)[axis]
    if not input.numel() or count == 0:
        shape = list(shape_of(input))
        shape[axis] = size if count is None else count
        return functions.zeros(shape, dtype=dtypes.int64, device=input._device)
    values = functions.movedim(fresh(node_of(input), input._device), axis, -1)
    places = iota(size, dtypes.int32, input._device)
    words = _key_words(values, descending)
    few = count is not None and count <= choices.FIRST_FEW and len(words) == 1
    order: Tensor | None = None
    for keys, bits in words:
        if order is not None:
            keys = apply(indexing.GATHER, (keys, order), (keys.ndim - 1,))
        pairs = apply(ordering.PAIR, (keys, places))
        found = _first_pairs(pairs, bits, count) if few and count else _sorted_pairs(pairs, bits)
        found = cast(cast(found, dtypes.int32), dtypes.int64)
        order = found if order is None else apply(indexing.GATHER, (order, found), (keys.ndim - 1,))
    assert order is not None
    if count is not None and not few:
        order = sliced(order, order.ndim - 1, 0, count)
    if count is not None or axis != order.ndim - 1:
        order = functions.contiguous_value(functions.movedim(order, -1, axis))
    return remember_range(order, 0, size - 1)


def _sort_name(input: Tensor, *_: Any, stable: bool | None = None, **__: Any) -> str:
    return "SortBackward0" if stable is None else "SortBackward1"


@public()
@shown_as(_sort_name)
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) in order along a dimension; equal elements keep theirs."""
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not shape:
        return results.Sort(functions.clone(input), functions.zeros((), dtype=dtypes.int64))
    order = _order(input, axis, descending)
    return results.Sort(apply(indexing.GATHER, (input, order), (axis,), _sort_rule), order)


@public()
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The places of the elements in order along a dimension."""
    return sort(input, dim, descending, stable).indices


@public()
def msort(input: Tensor) -> Tensor:
    """Sorted along the first dimension."""
    return sort(input, 0).values


@public()
@shown_as("TopkBackward0")
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the ``k`` largest or smallest along a dimension, in order."""
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not 0 <= k <= (shape[axis] if shape else 1):
        raise RuntimeError("selected index k out of range")
    if not shape:
        return results.TopK(functions.clone(input), functions.zeros((), dtype=dtypes.int64))
    order = _order(input, axis, largest, k)
    return results.TopK(apply(indexing.GATHER, (input, order), (axis,), _topk_rule), order)


@public(out=Target(apart=True, exact=1))
@shown_as("KthvalueBackward0")
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(value, index) of the k-th smallest element along a dimension, counted from 1."""
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not 1 <= k <= (shape[axis] if shape else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")
    ordered = sort(input, axis)
    if not shape:
        return results.KthValue(*ordered)
    values, indices = (_picked(part, axis, k - 1, keepdim) for part in ordered)
    return results.KthValue(label(values, "KthvalueBackward0"), indices)


def _picked(tensor: Tensor, axis: int, place: int, keepdim: bool) -> Tensor:
    part = sliced(tensor, axis, place, place + 1)
    picked = part if keepdim else functions.squeeze(part, axis)
    return functions.clone(picked)


# What depends on the values -------------------------------------------------------------------


def _leaf(array: np.ndarray, like: Tensor) -> Tensor:
    values = np.ascontiguousarray(array)
    return fresh(engine.leaf_from_array(values, like._device.runtime), like._device)


@public(out=False)
def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
    dim: int | None = None,
) -> Any:  # fmt: skip
    """The different elements in order, with where each went and how often it occurs.

    The number of results depends on the values, so this computes them.
    """
    check_same_shape("torch.unique", input)
    array = functions.peek(input)
    axis = None if dim is None else normalize_axis(dim, array.ndim)
    found, inverse, counts = np.unique(
        array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    parts = [_leaf(found, input)]
    if return_inverse:
        shape = array.shape if axis is None else (-1,)
        parts.append(_leaf(inverse.reshape(shape).astype(np.int64), input))
    if return_counts:
        parts.append(_leaf(counts.astype(np.int64), input))
    return parts[0] if len(parts) == 1 else tuple(parts)


@public(out=False)
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Neighbouring equal elements taken together."""
    check_same_shape("torch.unique_consecutive", input)
    array = functions.peek(input)
    if dim is None:
        array = array.reshape(-1)
        axis = 0
    else:
        axis = normalize_axis(dim, array.ndim)
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    starts = np.ones(rows.shape[0], bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(1)
    places = np.flatnonzero(starts)
    parts = [_leaf(np.take(array, places, axis), input)]
    if return_inverse:
        inverse = np.cumsum(starts) - 1
        shape = shape_of(input) if dim is None else (-1,)
        parts.append(_leaf(inverse.astype(np.int64).reshape(shape), input))
    if return_counts:
        counts = np.diff(np.append(places, rows.shape[0]))
        parts.append(_leaf(counts.astype(np.int64), input))
    return parts[0] if len(parts) == 1 else tuple(parts)


@public(out=False)
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often (or with which weight) each non-negative integer occurs in a vector."""
    if len(shape_of(input)) != 1 or dtype_of(input).kind not in "iu":
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    check_same_shape("torch.bincount", input)
    array = functions.peek(input)
    if array.size and array.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return _leaf(np.bincount(array, minlength=minlength).astype(np.int64), input)
    if shape_of(weights) != shape_of(input):
        raise RuntimeError("weights should be 1-d and have the same length as input")
    heavy = functions.peek(weights)
    total = np.bincount(array, heavy, minlength)
    wanted = np.float32 if dtype_of(weights) is dtypes.float32 else np.float64
    return _leaf(total.astype(wanted), input)


@public()
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall in each of ``bins`` equal intervals between two bounds."""

    def counts_of(array: np.ndarray) -> np.ndarray:
        low, high = float(min), float(max)
        if low == high:
            low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        if low == high:
            low, high = low - 1, high + 1
        counts, _ = np.histogram(array, bins, (low, high))
        return counts.astype(dtype_of(input).numpy)

    return computed(counts_of, input)


@public()
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Where elements are among ``test_elements``."""
    left = elements if isinstance(elements, Tensor) else make_tensor(elements)
    right = test_elements if isinstance(test_elements, Tensor) else make_tensor(test_elements)
    apart = functions.eq(functions.unsqueeze(left, -1), reshape(right, (-1,)))
    found = functions.any(apart, -1)
    return functions.logical_not(found) if invert else found


# Comparison of whole tensors ------------------------------------------------------------------


@public(out=False)
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements."""
    if shape_of(input) != shape_of(other):
        return False
    return bool(np.array_equal(functions.peek(input), functions.peek(other)))


@public(out=False)
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Where ``|input - other| <= atol + rtol * |other|``."""
    require_tensor(input, "isclose", "input", 1)
    require_tensor(other, "isclose", "other", 2)
    for name, given in (("rtol", rtol), ("atol", atol)):
        if given < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {given}")
    same = functions.eq(input, other)
    if equal_nan and dtype_of(input).kind == "f":
        both = functions.logical_and(functions.isnan(input), functions.isnan(other))
        same = functions.logical_or(same, both)
    if dtype_of(input) is dtypes.bool_:
        return same
    gap = functions.abs(functions.sub(input, other))
    allowed = functions.add(functions.mul(functions.abs(other), rtol), atol)
    near = functions.logical_and(functions.isfinite(gap), functions.le(gap, allowed))
    return functions.logical_or(same, near)


@public(out=False)
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether all elements are close."""
    return bool(functions.all(isclose(input, other, rtol, atol, equal_nan)))
