"""Norms of the elements of tensors."""

from __future__ import annotations

from typing import Any

from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.dtypes import DType
from lazytorch.functional.reduction import Dims, axes_of, reduce_value, spread
from lazytorch.ops import reduction as ops
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import can_cast, scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

_INFINITY = float("inf")


def _gradient(g: Any, x: Any, out: Any, attrs: Any, f: Any) -> Any:
    """``sign(x) (|x| / norm)^(p - 1)``; where that has no limit, at 0, it is 0."""
    order, form = attrs[0], attrs[1:]
    incoming, norm = spread(g, *form), spread(out, *form)
    if order == 0:
        return f.zeros_like(x)
    if order == 1:
        return f.sign(x) * incoming
    if order == 2:
        return f.where(norm == 0, 0, incoming * (x / norm))
    if abs(order) == _INFINITY:
        chosen = f.logical_or(f.abs(x) == norm, f.isnan(x)).to(g.dtype)
        return f.sign(x) * (chosen / f.sum(chosen, form[1], keepdim=True)) * incoming
    if order < 1:
        powers = f.sign(x) * f.where(x == 0, 0, f.pow(f.abs(x), order - 1))
        return powers * incoming * f.pow(norm, 1 - order)
    powers = f.sign(x) * f.pow(f.abs(x), order - 1)
    return powers * f.where(norm == 0, 0, incoming / f.pow(norm, order - 1))


_rule = Rule("LinalgVectorNormBackward0", (_gradient,))


def _converted(input: Tensor, dtype: DType | None) -> Tensor:
    """The input in the dtype to compute in, which must be wider and of the same kind."""
    own = dtype_of(input)
    name = "linalg.vector_norm"
    if own.kind not in "fc":
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {scalar_name(own)}"
        )
    if dtype is None:
        return input
    if dtype.kind not in "fc":
        raise RuntimeError(
            f"{name}: dtype should be floating point or complex, but got {scalar_name(dtype)}"
        )
    if dtype.kind != own.kind:
        kind = "complex" if own.kind == "c" else "real"
        raise RuntimeError(
            f"{name}: dtype should be {kind} for {kind} inputs, but got {scalar_name(dtype)}"
        )
    if dtype.itemsize < own.itemsize or not can_cast(own, dtype):
        raise RuntimeError(
            f"{name}: the dtype of the input ({scalar_name(own)}) should be convertible without "
            f"narrowing to the specified dtype ({scalar_name(dtype)})"
        )
    return cast(input, dtype)


def _check_identity(order: Any, shape: tuple[int, ...], axes: tuple[int, ...], all_: bool) -> None:
    """Norms that are a largest or smallest element need one."""
    if order >= 0 and order != _INFINITY:
        return
    for axis in axes:
        if shape[axis] == 0:
            where = "an empty tensor" if all_ else f"the dimension {axis}"
            reason = "" if all_ else "this dimension is empty and "
            raise RuntimeError(
                f"linalg.vector_norm cannot compute the {order} norm on {where} because "
                f"{reason}the operation does not have an identity"
            )


def vector_norm(
    input: Tensor, ord: Any = 2, dim: Dims = None, keepdim: bool = False, *,
    dtype: DType | None = None,
) -> Tensor:  # fmt: skip
    """The norm of the elements over dimensions: any order, infinities and 0 included.

    ``sum(|x|^p)^(1/p)``; the number of elements other than 0 for order 0, the largest and smallest
    magnitude for inf and -inf. Float and complex dtypes, the result is real; ``dtype`` is what to
    compute in. ``RuntimeError`` for other dtypes and for extremes of nothing.

    >>> vector_norm(tensor([3., 4.]))
    tensor(5.)
    """
    if isinstance(ord, str):
        raise TypeError("linalg_vector_norm(): argument 'ord' (position 2) must be Number, not str")
    values = _converted(input, dtype)
    if dtype_of(values).kind == "c":
        values = functions.abs(values)
    shape = tuple(shape_of(values))
    axes = axes_of(dim, len(shape))
    _check_identity(ord, shape, axes, dim is None)
    out = _value(fresh(node_of(values), values._device), ord, axes, keepdim)
    return attach(out, _rule, (values,), (ord, shape, axes, keepdim))


def _value(x: Tensor, order: Any, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    if order == 0:
        counted = cast(functions.ne(x, 0), dtype_of(x))
        return fresh(node_of(reduce_value(ops.SUM, counted, axes, keepdim)), x._device)
    if order == 2:
        total = reduce_value(ops.SUM, functions.mul(x, x), axes, keepdim)
        return functions.sqrt(total)  # type: ignore[no-any-return]
    magnitudes = functions.abs(x)
    if abs(order) == _INFINITY:
        return reduce_value(ops.MAX if order > 0 else ops.MIN, magnitudes, axes, keepdim)
    if order == 1:
        return reduce_value(ops.SUM, magnitudes, axes, keepdim)
    total = reduce_value(ops.SUM, functions.pow(magnitudes, order), axes, keepdim)
    return functions.pow(total, 1.0 / order)  # type: ignore[no-any-return]


@public()
def norm(
    input: Tensor, p: Any = "fro", dim: Dims = None, keepdim: bool = False,
    dtype: DType | None = None,
) -> Tensor:  # fmt: skip
    """The p-norm over dimensions; 'fro' (and ``None``) is the Euclidean one, 'nuc' the sum of
    singular values."""
    if isinstance(p, str) and p != "fro":
        axes = tuple(range(len(shape_of(input)))) if dim is None else dim
        return functions.matrix_norm(input, p, axes, keepdim, dtype)
    order = 2 if p in ("fro", None) else p
    return vector_norm(input, order, dim, keepdim, dtype=dtype)


@public()
@shown_as("DistBackward0")
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference of two tensors."""
    return vector_norm(functions.sub(input, other), p)
