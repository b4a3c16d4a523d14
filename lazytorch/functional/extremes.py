"""Largest and smallest elements with their places, and running sums, products and extremes."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.dtypes import DType
from lazytorch.functional import results
from lazytorch.functional.bounds import remember_range
from lazytorch.functional.product_gradients import running_product_gradient
from lazytorch.functional.reduction import (
    _accumulation_dtype,
    _max_rule,
    _min_rule,
    _no_empty,
    amax,
    amin,
    extreme_over,
    reduce_value,
    spread,
)
from lazytorch.ops import movement, reduction
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.ranges import iota
from lazytorch.tensor.recorder import infer_and_record, record
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh


def axis_positions(input: Tensor, axis: int, dtype: DType = dtypes.int32) -> Tensor:
    """0, 1, 2, ... along one axis, in a shape that broadcasts against ``input``."""
    shape = shape_of(input)
    counted = node_of(iota(shape[axis], dtype, input._device))
    wanted = tuple(extent if number == axis else 1 for number, extent in enumerate(shape))
    if len(shape) > 1:
        counted = record(movement.RESHAPE, (counted,), (wanted,), wanted, dtype, counted.device)
    return fresh(counted, input._device)


def first_position(input: Tensor, best: Tensor, axis: int, keepdim: bool) -> Tensor:
    """Where along an axis ``input`` first equals ``best`` (kept as 1); NaN equals NaN."""
    plain = fresh(node_of(input), input._device)
    hit = functions.eq(plain, best)
    if dtype_of(input).kind == "f":
        hit = functions.logical_or(hit, functions.isnan(plain))
    extent = shape_of(input)[axis]
    chosen = functions.where(hit, axis_positions(input, axis), _number(extent, input))
    place = cast(reduce_value(reduction.MIN, chosen, (axis,), keepdim), dtypes.int64)
    return remember_range(place, 0, extent - 1)


def _number(value: int, like: Tensor) -> Tensor:
    return functions.tensor(value, dtype=dtypes.int32, device=like._device)


def _place(op: Any, input: Tensor, dim: int | None, keepdim: bool, name: str) -> Tensor:
    shape = shape_of(input)
    if dtype_of(input) is dtypes.bool_:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for 'Bool'")
    if dim is None:
        if not input.numel():
            raise IndexError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            )
        flat = functions.reshape(fresh(node_of(input), input._device), (-1,))
        found = _place(op, flat, 0, False, name)
        return functions.reshape(found, (1,) * len(shape)) if keepdim else found
    axis = normalize_axis(dim, len(shape))
    if not shape:
        return functions.zeros((), dtype=dtypes.int64, device=input._device)
    _no_empty(input, (axis,), name)
    best = reduce_value(op, fresh(node_of(input), input._device), (axis,), True)
    return first_position(input, best, axis, keepdim)


@public()
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The place of the largest element (the first of equals), in one dimension or in all."""
    return _place(reduction.MAX, input, dim, keepdim, "argmax")


@public()
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The place of the smallest element (the first of equals), in one dimension or in all."""
    return _place(reduction.MIN, input, dim, keepdim, "argmin")


def _chosen_gradient(g: Any, attrs: Any, extra: Any, f: Any) -> Any:
    """The gradient goes to the one element that was chosen."""
    shape, axis, keepdim = attrs
    here = f.eq(axis_positions_of(shape, axis, g), spread(extra, shape, (axis,), keepdim))
    return f.where(here, spread(g, shape, (axis,), keepdim), 0)


def axis_positions_of(shape: tuple[int, ...], axis: int, like: Tensor) -> Tensor:
    """``axis_positions`` for a shape alone, as int64."""
    counted = iota(shape[axis], dtypes.int64, like._device)
    wanted = tuple(extent if number == axis else 1 for number, extent in enumerate(shape))
    return functions.reshape(counted, wanted)


_max_dim_rule = Rule("MaxBackward0", (_chosen_gradient,))
_min_dim_rule = Rule("MinBackward0", (_chosen_gradient,))


def _with_place(
    op: Any, input: Tensor, dim: int, keepdim: bool, rule: Rule, name: str, result: Any
) -> Any:
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not shape:
        zero = functions.zeros((), dtype=dtypes.int64, device=input._device)
        return result(label(functions.clone(input), rule.name), zero)
    _no_empty(input, (axis,), name)
    plain = fresh(node_of(input), input._device)
    best = reduce_value(op, plain, (axis,), True)
    place = first_position(input, best, axis, keepdim)
    values = best
    if not keepdim:
        node = node_of(best)
        dropped = shape[:axis] + shape[axis + 1 :]
        values = fresh(
            record(movement.RESHAPE, (node,), (dropped,), dropped, node.dtype, node.device),
            input._device,
        )
    attach(values, rule, (input,), (shape, axis, keepdim), place)
    return result(values, place)


@public("max")
def maximum_of(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element of all; (values, indices) over a dimension; or ``maximum`` of two."""
    if isinstance(dim, Tensor):
        return functions.maximum(input, dim)
    if dim is None:
        return extreme_over(reduction.MAX, input, None, False, _max_rule, "max")
    return _with_place(reduction.MAX, input, dim, keepdim, _max_dim_rule, "max", results.Max)


@public("min")
def minimum_of(input: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element of all; (values, indices) over a dimension; or ``minimum`` of two."""
    if isinstance(dim, Tensor):
        return functions.minimum(input, dim)
    if dim is None:
        return extreme_over(reduction.MIN, input, None, False, _min_rule, "min")
    return _with_place(reduction.MIN, input, dim, keepdim, _min_dim_rule, "min", results.Min)


@public(out=Target(exact=2))
@shown_as("AminmaxBackward0")
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(smallest, largest) over one dimension or all."""
    if dim is None and not count(shape_of(input)):
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
            "identity."
        )
    return results.AMinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


# Running combinations -------------------------------------------------------------------------


def scanned(op: Any, input: Tensor, axis: int) -> Tensor:
    """A running combination without history; a 0-d tensor is its own."""
    if not shape_of(input):
        return fresh(node_of(input), input._device)
    return fresh(infer_and_record(op, (node_of(input),), (axis,)), input._device)


def reversed_cumsum(input: Any, axis: int) -> Any:
    """Sums from each element to the end."""
    if not input.ndim:
        return input
    return functions.flip(functions.cumsum(functions.flip(input, (axis,)), axis), (axis,))


_cumsum_rule = Rule("CumsumBackward0", (lambda g, attrs: reversed_cumsum(g, attrs[0]),))


_cumprod_rule = Rule(
    "CumprodBackward0",
    (lambda g, x, out, attrs, f: running_product_gradient(g, x, out, attrs[0], f),),
)


@public(inplace=True)
def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """Running sums along a dimension."""
    values = _accumulation_dtype(input, dtype)
    axis = normalize_axis(dim, len(shape_of(values)))
    return attach(scanned(reduction.CUMSUM, values, axis), _cumsum_rule, (values,), (axis,))


@public(inplace=True)
def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """Running products along a dimension."""
    values = _accumulation_dtype(input, dtype)
    axis = normalize_axis(dim, len(shape_of(values)))
    return attach(scanned(reduction.CUMPROD, values, axis), _cumprod_rule, (values,), (axis,))


def _place_gradient(g: Any, attrs: Any, extra: Any, f: Any) -> Any:
    shape, axis = attrs
    zeros = f.zeros(shape, dtype=g.dtype, device=g.device)
    return f.scatter_primitive(zeros, extra, g, axis, "add")


_cummax_rule = Rule("CummaxBackward0", (_place_gradient,))
_cummin_rule = Rule("CumminBackward0", (_place_gradient,))


def _running_extreme(op: Any, input: Tensor, dim: int, rule: Rule, result: Any) -> Any:
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    plain = fresh(node_of(input), input._device)
    if not shape:
        return result(functions.clone(input), functions.zeros((), dtype=dtypes.int64))
    values = scanned(op, plain, axis)
    hit = functions.eq(plain, values)
    if dtype_of(input).kind == "f":
        hit = functions.logical_or(hit, functions.isnan(plain))
    marked = functions.where(hit, axis_positions(input, axis), _number(0, input))
    place = cast(scanned(reduction.CUMMAX, marked, axis), dtypes.int64)
    remember_range(place, 0, max(shape[axis] - 1, 0))
    attach(values, rule, (input,), (shape, axis), place)
    return result(values, place)


@public()
@shown_as("CummaxBackward0")
def cummax(input: Tensor, dim: int) -> Any:
    """(running maximum, its place) along a dimension."""
    return _running_extreme(reduction.CUMMAX, input, dim, _cummax_rule, results.CumMax)


@public()
@shown_as("CumminBackward0")
def cummin(input: Tensor, dim: int) -> Any:
    """(running minimum, its place) along a dimension."""
    return _running_extreme(reduction.CUMMIN, input, dim, _cummin_rule, results.CumMin)


@public()
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """``log(cumsum(exp(input)))``, shifted by the running maximum of the whole dimension."""
    axis = normalize_axis(dim, len(shape_of(input)))
    if not shape_of(input):
        row = logcumsumexp(functions.reshape(input, (1,)), 0)
        return label(functions.reshape(row, ()), "LogcumsumexpBackward0")
    plain = functions.real_part(fresh(node_of(input), input._device))
    peak = reduce_value(reduction.MAX, plain, (axis,), True)
    peak = functions.where(functions.isfinite(peak), peak, 0)
    out = functions.log(cumsum(functions.exp(functions.sub(input, peak)), axis))
    return label(functions.add(out, peak), "LogcumsumexpBackward0")


@public()
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> Tensor:
    """Differences of neighbours along a dimension, taken ``n`` times."""
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if not shape_of(input):
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n == 0:
        return functions.clone(input)
    parts = [part for part in (prepend, input, append) if part is not None]
    values: Any = functions.cat(parts, dim) if len(parts) > 1 else input
    axis = normalize_axis(dim, values.ndim)
    for _ in range(n):
        length = values.shape[axis]
        if length == 0:
            break
        ahead, behind = values.narrow(axis, 1, length - 1), values.narrow(axis, 0, length - 1)
        if dtype_of(values) is dtypes.bool_:
            values = functions.logical_xor(ahead, behind)
        else:
            values = functions.sub(ahead, behind)
    return values
