"""Reductions: sums, means, extremes, counts and norms over dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.dtypes import DType
from lazytorch.ops import reduction as ops
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.recorder import infer_and_record, record
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh
from lazytorch.ops import movement

Dims = Any


def axes_of(dim: Dims, rank: int) -> tuple[int, ...]:
    """The dimensions meant by ``dim``: all for ``None`` and for an empty sequence."""
    if dim is None:
        return tuple(range(rank))
    if isinstance(dim, int):
        return (normalize_axis(dim, rank),) if rank else _checked_scalar(dim)
    axes = [normalize_axis(axis, rank) for axis in dim]
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"dim {axes[-1]} appears multiple times in the list of dims")
    if not axes or not rank:
        return tuple(range(rank))
    return tuple(sorted(axes))


def _checked_scalar(dim: int) -> tuple[int, ...]:
    normalize_axis(dim, 0)
    return ()


def kept_shape(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape with reduced dimensions kept as 1."""
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def reduce_value(op: Any, input: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The reduction without history."""
    node = node_of(input)
    shape = node.shape
    if axes:
        node = infer_and_record(op, (node,), (axes,))
        if keepdim:
            kept = kept_shape(shape, axes)
            node = record(movement.RESHAPE, (node,), (kept,), kept, node.dtype, node.device)
    return fresh(node, input._device)


def spread(value: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Any:
    """A reduced value with its dimensions back, repeated over them."""
    if not keepdim:
        value = value.reshape(kept_shape(shape, axes))
    return value.expand(shape)


# attrs of all rules below: (shape of the input, axes, keepdim)
def _sum_gradient(g: Any, attrs: Any) -> Any:
    return spread(g, *attrs)


_sum_all_rule = Rule("SumBackward0", (_sum_gradient,))
_sum_rule = Rule("SumBackward1", (_sum_gradient,))


def _accumulation_dtype(input: Tensor, dtype: DType | None) -> Tensor:
    if dtype is not None:
        return cast(input, dtype)
    return cast(input, dtypes.int64) if dtype_of(input).kind in "iub" else input


def sum(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The sum over dimensions (all for ``None``); integers and bools give int64.

    >>> sum(tensor([[1., 2.], [3., 4.]]), 0)
    tensor([4., 6.])
    """
    values = _accumulation_dtype(input, dtype)
    shape = shape_of(values)
    axes = axes_of(dim, len(shape))
    out = reduce_value(ops.SUM, values, axes, keepdim)
    rule = _sum_all_rule if dim is None else _sum_rule
    return attach(out, rule, (values,), (shape, axes, keepdim))


public()(sum)


def _mean_gradient(g: Any, attrs: Any) -> Any:
    shape, axes, keepdim, size = attrs
    return spread(g / size, shape, axes, keepdim)


_mean_all_rule = Rule("MeanBackward0", (_mean_gradient,))
_mean_rule = Rule("MeanBackward1", (_mean_gradient,))


@public()
def mean(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The arithmetic mean over dimensions of a floating-point tensor."""
    values = input if dtype is None else cast(input, dtype)
    kind = dtype_of(values)
    if kind.kind != "f":
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point "
            f"or complex dtype. Got: {scalar_name(kind)}. Convert with .float() first."
        )
    shape = shape_of(values)
    axes = axes_of(dim, len(shape))
    size = count(tuple(shape[axis] for axis in axes))
    total = reduce_value(ops.SUM, values, axes, keepdim)
    out = functions.div(total, float(size))
    rule = _mean_all_rule if dim is None else _mean_rule
    return attach(out, rule, (values,), (shape, axes, keepdim, float(size)))
