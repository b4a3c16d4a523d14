"""Reductions: sums, means, extremes and counts over dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.dtypes import DType
from lazytorch.functional.product_gradients import product_gradient
from lazytorch.ops import movement
from lazytorch.ops import reduction as ops
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.recorder import infer_and_record, record
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Dims = Any


def axes_of(dim: Dims, rank: int) -> tuple[int, ...]:
    """The dimensions meant by ``dim``: all for ``None`` and for an empty sequence."""
    if rank > 64:
        raise RuntimeError(f"only tensors with up to 64 dims are supported, but got {rank}")
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
    if kind.kind not in "fc":
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


def _product_gradient(g: Any, x: Any, out: Any, attrs: Any, f: Any) -> Any:
    _, axes, _ = attrs
    return product_gradient(spread(g, *attrs), x, spread(out, *attrs), axes, f)


def prod_over(input: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The product over several dimensions, kept as 1."""
    shape = shape_of(input)
    out = reduce_value(ops.PROD, input, axes, True)
    return attach(out, _prod_rule, (input,), (shape, axes, True))


_prod_all_rule = Rule("ProdBackward0", (_product_gradient,))
_prod_rule = Rule("ProdBackward1", (_product_gradient,))
functions.prod_over = prod_over
functions.product_gradient = lambda g, x, out, axes: _product_gradient(
    g, x, out, (shape_of(x), axes, False), functions
)


@public()
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """The product over one dimension, or over all; integers and bools give int64."""
    values = _accumulation_dtype(input, dtype)
    shape = shape_of(values)
    axes = axes_of(dim, len(shape))
    out = reduce_value(ops.PROD, values, axes, keepdim)
    rule = _prod_all_rule if dim is None else _prod_rule
    return attach(out, rule, (values,), (shape, axes, keepdim))


@public()
def nansum(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """``sum`` with NaN counted as zero."""
    kept = functions.where(functions.isnan(input), 0, input)
    return label(sum(kept, dim, keepdim, dtype=dtype), "NansumBackward0")


@public()
def nanmean(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Tensor:
    """``mean`` of what is not NaN."""
    here = functions.logical_not(functions.isnan(input))
    total = nansum(input, dim, keepdim, dtype=dtype)
    return functions.div(total, sum(here, dim, keepdim))


@public()
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements are not zero."""
    return sum(cast(functions.ne(input, 0), dtypes.int64), dim)


# any, all -------------------------------------------------------------------------------------


def _truth_reduction(name: str, op: Any) -> None:
    def reduce(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
        axes = axes_of(dim, len(shape_of(input)))
        out = reduce_value(op, cast(input, dtypes.bool_), axes, keepdim)
        # PyTorch keeps bytes as bytes.
        return cast(out, dtypes.uint8) if dtype_of(input) is dtypes.uint8 else out

    reduce.__name__ = reduce.__qualname__ = name
    reduce.__doc__ = f"Whether {name} element over the dimensions is not zero."
    public()(reduce)


_truth_reduction("any", ops.MAX)
_truth_reduction("all", ops.MIN)


# Moments --------------------------------------------------------------------------------------


def _variance_gradient(g: Any, x: Any, attrs: Any, f: Any) -> Any:
    shape, axes, keepdim, divisor = attrs
    centred = x - f.mean(x, axes, keepdim=True)
    return spread(g, shape, axes, keepdim) * (centred * (2.0 / divisor))


def _deviation_gradient(g: Any, x: Any, out: Any, attrs: Any, f: Any) -> Any:
    scaled = f.where(out == 0, 0, g / (out * 2))
    return _variance_gradient(scaled, x, attrs, f)


_variance_rule = Rule("VarBackward0", (_variance_gradient,))
_deviation_rule = Rule("StdBackward0", (_deviation_gradient,))


def _moment_arguments(
    input: Tensor, dim: Any, unbiased: Any, correction: Any, name: str
) -> tuple[tuple[int, ...], float]:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if dtype_of(input).kind not in "fc":
        raise RuntimeError(f"{name} only support floating point and complex dtypes")
    if unbiased is not None and correction is None:
        correction = int(unbiased)
    amount = 1 if correction is None else correction
    axes = axes_of(dim, len(shape_of(input)))
    size = count(tuple(shape_of(input)[axis] for axis in axes))
    return axes, float(max(size - amount, 0))


def _variance(input: Tensor, axes: tuple[int, ...], keepdim: bool, divisor: float) -> Tensor:
    values = fresh(node_of(input), input._device)
    centred = functions.sub(values, mean(values, axes, keepdim=True))
    squares = functions.mul(centred, centred)
    total = reduce_value(ops.SUM, squares, axes, keepdim)
    return functions.div(total, divisor)


@public()
def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The variance over dimensions; divides by ``n - correction`` (1 if not given)."""
    axes, divisor = _moment_arguments(input, dim, unbiased, correction, "var")
    if dtype_of(input).kind == "c":
        first, second = functions.complex_parts(input)
        return functions.add(
            var(first, dim, unbiased, keepdim, correction=correction),
            var(second, dim, unbiased, keepdim, correction=correction),
        )
    out = _variance(input, axes, keepdim, divisor)
    attrs = (shape_of(input), axes, keepdim, divisor or float("nan"))
    return attach(out, _variance_rule, (input,), attrs)


@public()
def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Tensor:  # fmt: skip
    """The standard deviation over dimensions; divides by ``n - correction`` (1 if not given)."""
    axes, divisor = _moment_arguments(input, dim, unbiased, correction, "std")
    if dtype_of(input).kind == "c":
        variance = var(input, dim, unbiased, keepdim, correction=correction)
        return label(functions.sqrt(variance), "StdBackward0")
    out = functions.sqrt(_variance(input, axes, keepdim, divisor))
    attrs = (shape_of(input), axes, keepdim, divisor or float("nan"))
    return attach(out, _deviation_rule, (input,), attrs)


@public(method=False, out=False)
@shown_as("VarMeanBackward0")
def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(variance, mean) over dimensions."""
    variance = var(input, dim, unbiased, keepdim, correction=correction)
    return variance, mean(input, None if isinstance(dim, bool) else dim, keepdim)


@public(method=False, out=False)
@shown_as("StdMeanBackward0")
def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
    correction: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(standard deviation, mean) over dimensions."""
    deviation = std(input, dim, unbiased, keepdim, correction=correction)
    return deviation, mean(input, None if isinstance(dim, bool) else dim, keepdim)


# logsumexp and extremes -----------------------------------------------------------------------


def _logsumexp_gradient(g: Any, x: Any, out: Any, attrs: Any, f: Any) -> Any:
    return spread(g, *attrs) * f.exp(x - spread(out, *attrs))


_logsumexp_rule = Rule("LogsumexpBackward0", (_logsumexp_gradient,))


@public()
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """``log(sum(exp(input)))`` over dimensions without overflow."""
    values = input if dtype_of(input).kind == "f" else cast(input, dtypes.float32)
    shape = shape_of(values)
    axes = axes_of(dim, len(shape))
    plain = fresh(node_of(values), values._device)
    peak = reduce_value(ops.MAX, plain, axes, True)
    peak = functions.where(functions.isfinite(peak), peak, 0)
    total = reduce_value(ops.SUM, functions.exp(functions.sub(plain, peak)), axes, True)
    out = functions.add(functions.log(total), peak)
    if not keepdim:
        out = fresh(node_of(out.reshape(_dropped(shape, axes))), out._device)
    return attach(out, _logsumexp_rule, (values,), (shape, axes, keepdim))


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def _no_empty(input: Tensor, axes: tuple[int, ...], name: str) -> None:
    shape = shape_of(input)
    empty = next((axis for axis in axes if shape[axis] == 0), None)
    if empty is not None:
        raise IndexError(
            f"{name}(): Expected reduction dim {empty} to have non-zero size, but the shape is "
            f"{list(shape)}"
        )


def _extreme_gradient(g: Any, x: Any, out: Any, attrs: Any, f: Any) -> Any:
    """Shared evenly between equal elements, as in PyTorch."""
    chosen = (x == spread(out, *attrs)).to(g.dtype)
    shared = chosen / f.sum(chosen, attrs[1], keepdim=True) if attrs[1] else chosen
    return shared * spread(g, *attrs)


_amax_rule = Rule("AmaxBackward0", (_extreme_gradient,))
_amin_rule = Rule("AminBackward0", (_extreme_gradient,))
_max_rule = Rule("MaxBackward1", (_extreme_gradient,))
_min_rule = Rule("MinBackward1", (_extreme_gradient,))


@public()
def amax(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest element over dimensions; the gradient is shared between equal ones."""
    return extreme_over(ops.MAX, input, dim, keepdim, _amax_rule, "amax")


@public()
def amin(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest element over dimensions; the gradient is shared between equal ones."""
    return extreme_over(ops.MIN, input, dim, keepdim, _amin_rule, "amin")


def extreme_over(op: Any, input: Tensor, dim: Dims, keepdim: bool, rule: Rule, name: str) -> Tensor:
    """``amax`` or ``amin`` under the name of a function."""
    shape = shape_of(input)
    axes = axes_of(dim, len(shape))
    if 0 in shape and (dim is None or dim == ()):
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
            "reduction dim with the 'dim' argument."
        )
    _no_empty(input, axes, name)
    out = reduce_value(op, input, axes, keepdim)
    return attach(out, rule, (input,), (shape, axes, keepdim))
