"""Gradients of products and running products, exact where factors are zero, of any order.

The gradient by one factor is the product of the others. Where nothing differentiates it again it
is the whole product divided by the factor, with a lone zero apart; that form is wrong to
differentiate (with two zeros the first order is 0 for good reasons, the second is not), so a
gradient that is itself recorded on the tape is made of the products before and behind each factor,
without a division.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import is_grad_enabled
from lazytorch.ops.shapes import count


def product_gradient(g: Any, x: Any, out: Any, axes: tuple[int, ...], f: Any) -> Any:
    """By the elements of a product over some axes; ``g`` and ``out`` are spread over them."""
    if is_grad_enabled() and axes:
        return g * _others(x, axes, f)
    zero = x == 0
    safe = f.where(zero, 1, x)
    zeros = f.sum(zero, axes, keepdim=True) if axes else zero.to(dtypes.int64)
    others = f.prod_over(safe, axes)
    without_zero = out / safe
    lone = f.where(f.logical_and(zero, zeros == 1), others, 0)
    apart = f.where(zeros == 0, without_zero, lone)
    return g * apart


def running_product_gradient(g: Any, x: Any, out: Any, axis: int, f: Any) -> Any:
    """By the elements of a running product along an axis."""
    if x.ndim and is_grad_enabled():
        return _before(x, axis, f) * _sums_behind(g, x, axis, f)
    # Before the first zero by division; at it, the products that leave it out; 0 behind.
    zero = x == 0
    seen = f.cumsum(zero, axis)
    first = f.logical_and(zero, seen == 1)
    divided = _from_the_end(g * out, axis, f) / f.where(zero, 1, x)
    leaving_out = f.cumprod(f.where(first, 1, x), axis)
    at_zero = _from_the_end(f.where(seen == 1, g * leaving_out, 0), axis, f)
    return f.where(first, at_zero, f.where(seen == 0, divided, 0))


def _from_the_end(x: Any, axis: int, f: Any) -> Any:
    """Sums from each element to the end."""
    return f.flip(f.cumsum(f.flip(x, (axis,)), axis), (axis,)) if x.ndim else x


def _before(x: Any, axis: int, f: Any) -> Any:
    """The product of what lies before each element; 1 for the first."""
    first, rest = f.split(x, [min(1, x.shape[axis]), max(x.shape[axis] - 1, 0)], axis)
    if not rest.numel():
        return f.ones_like(x)
    head = f.narrow(x, axis, 0, x.shape[axis] - 1)
    return f.cumprod(f.cat([f.ones_like(first), head], axis), axis)


def _sums_behind(g: Any, x: Any, axis: int, f: Any) -> Any:
    """``g[k] + x[k+1] * (g[k+1] + x[k+2] * (...))``, in log2(n) steps that double their reach."""
    length = x.shape[axis]
    total, factor = g, _moved_up(x, 1, axis, f)
    reach = 1
    while reach < length:
        total = total + factor * _moved_up(total, reach, axis, f)
        factor = factor * _moved_up(factor, reach, axis, f)
        reach *= 2
    return total


def _moved_up(x: Any, steps: int, axis: int, f: Any) -> Any:
    """Element k is x[k + steps]; zeros at the end."""
    length = x.shape[axis]
    kept = f.narrow(x, axis, min(steps, length), max(length - steps, 0))
    gone = f.narrow(x, axis, 0, min(steps, length))
    return f.cat([kept, f.zeros_like(gone)], axis)


def _others(x: Any, axes: tuple[int, ...], f: Any) -> Any:
    """For each element the product of the others that it is multiplied with."""
    shape = tuple(x.shape)
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    order = (*kept, *axes)
    turned = f.permute(x, order)
    rows = tuple(shape[axis] for axis in kept)
    flat = f.reshape(turned, (*rows, count(tuple(shape[axis] for axis in axes))))
    axis = len(rows)
    behind = f.flip(_before(f.flip(flat, (axis,)), axis, f), (axis,))
    others = f.reshape(_before(flat, axis, f) * behind, turned.shape)
    return f.permute(others, tuple(order.index(axis) for axis in range(len(shape))))
