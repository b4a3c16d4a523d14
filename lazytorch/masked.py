"""torch.masked: reductions, scans and normalizations that leave out masked elements.

``mask`` is true where an element counts and broadcasts to the input. A masked-out element stands
for the identity of the operation (0 of a sum, 1 of a product, minus infinity of a maximum), so
what is computed is the ordinary function of the filled input, and masked-out elements get no
gradient. A row without any element has the identity, or NaN where there is none (mean, variance,
median).

>>> import lazytorch as torch
>>> torch.masked.sum(torch.tensor([1., 2., 4.]), mask=torch.tensor([True, False, True]))
tensor(5.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.functional.vector_norms import vector_norm
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp",
    "logsumexp", "mean", "median", "norm", "normalize", "prod", "softmax", "softmin", "std",
    "sum", "var",
]  # fmt: skip

Dims = int | Sequence[int] | None

# Masks and fills ----------------------------------------------------------------------------------


def _axes(dim: Dims, rank: int) -> tuple[int, ...]:
    """The axes of a reduction, in order; all of them for ``None`` and for ``()``."""
    if dim is None or dim == ():
        return tuple(range(rank))
    rank = max(rank, 1)
    axes: list[int] = []
    for axis in (dim,) if isinstance(dim, int) else dim:
        if axis in axes:
            raise RuntimeError(f"dim={axis} appears multiple times in the list of dims")
        if not -rank <= axis < rank:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but "
                f"got {axis})"
            )
        axes.append(axis % rank)
    return tuple(sorted(axes))


def _full_mask(input: Tensor, mask: Tensor) -> Tensor:
    """``mask`` as booleans of the input's shape."""
    if len(shape_of(mask)) > len(shape_of(input)):
        raise IndexError(
            "expected a mask that broadcasts to the input, but got a mask of "
            f"{len(shape_of(mask))} dimensions for an input of {len(shape_of(input))}"
        )
    wide: Any = functions.broadcast_to(mask, shape_of(input))
    return wide.to(dtypes.bool_)  # type: ignore[no-any-return]


def _filled(input: Tensor, mask: Tensor | None, value: Any) -> Any:
    if mask is None:
        return input
    fill = functions.full((), value, dtype=dtype_of(input), device=input.device)
    return functions.where(_full_mask(input, mask), input, fill)


def _smallest(input: Tensor, name: str) -> Any:
    dtype = _ordered(input, name)
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype.numpy).min)


def _largest(input: Tensor, name: str) -> Any:
    dtype = _ordered(input, name)
    return math.inf if dtype.kind == "f" else int(np.iinfo(dtype.numpy).max)


def _ordered(input: Tensor, name: str) -> DType:
    dtype = dtype_of(input)
    if dtype.kind not in "fiu":
        raise NotImplementedError(
            f"masked.{name}: {dtype!r} has no smallest or largest number to stand for what is "
            "masked out"
        )
    return dtype


def _below(input: Tensor, mask: Tensor | None, name: str) -> Any:
    """The input with the smallest number of its dtype where it is masked out."""
    return input if mask is None else _filled(input, mask, _smallest(input, name))


def _above(input: Tensor, mask: Tensor | None, name: str) -> Any:
    """The input with the largest number of its dtype where it is masked out."""
    return input if mask is None else _filled(input, mask, _largest(input, name))


def _total_dtype(input: Tensor, dtype: DType | None) -> DType:
    if dtype is not None:
        return dtype
    given = dtype_of(input)
    return given if given.kind in "fc" else dtypes.int64


# Reductions ---------------------------------------------------------------------------------------


def sum(
    input: Tensor, dim: Dims = None, *, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The sum of the elements that ``mask`` keeps; 0 of none."""
    axes = _axes(dim, len(shape_of(input)))
    values = _filled(input, mask, 0)
    total: Any = functions.sum(values, axes, bool(keepdim), dtype=_total_dtype(input, dtype))
    return total  # type: ignore[no-any-return]


def prod(
    input: Tensor, dim: Dims = None, *, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The product of the elements that ``mask`` keeps; 1 of none."""
    result = _filled(input, mask, 1).to(_total_dtype(input, dtype))
    for axis in reversed(_axes(dim, len(shape_of(input)))):
        result = functions.prod(result, axis, bool(keepdim))
    return result  # type: ignore[no-any-return]


def amax(
    input: Tensor, dim: Dims = None, *, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The largest element that ``mask`` keeps; the dtype's smallest number of none."""
    values = _below(input, mask, "amax")
    out = functions.amax(values, _axes(dim, len(shape_of(input))), bool(keepdim))
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def amin(
    input: Tensor, dim: Dims = None, *, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The smallest element that ``mask`` keeps; the dtype's largest number of none."""
    values = _above(input, mask, "amin")
    out = functions.amin(values, _axes(dim, len(shape_of(input))), bool(keepdim))
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def argmax(
    input: Tensor, dim: int | None = None, *, keepdim: bool | None = False,
    dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The position of the largest element that ``mask`` keeps, in the input's dtype."""
    out = functions.argmax(_below(input, mask, "argmax"), dim, bool(keepdim))
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def argmin(
    input: Tensor, dim: int | None = None, *, keepdim: bool | None = False,
    dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The position of the smallest element that ``mask`` keeps, in the input's dtype."""
    out = functions.argmin(_above(input, mask, "argmin"), dim, bool(keepdim))
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def _counted(input: Tensor, dim: Dims, keepdim: bool, mask: Tensor | None) -> Any:
    """How many elements of each row count."""
    kept = _full_mask(
        input, functions.ones((), dtype=dtypes.bool_, device=input.device) if mask is None else mask
    )
    return functions.sum(kept, _axes(dim, len(shape_of(input))), keepdim)


def mean(
    input: Tensor, dim: Dims = None, *, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The mean of the elements that ``mask`` keeps; NaN of none."""
    chosen = dtype or dtype_of(input)
    if chosen.kind not in "fc":
        source = "Input" if dtype is None else "Optional"
        raise ValueError(
            f"mean(): Could not infer output dtype. {source} dtype must be either a floating point "
            f"or complex dtype. Got: {chosen!r}"
        )
    total: Any = sum(input, dim, keepdim=keepdim, dtype=chosen, mask=mask)
    return total / _counted(input, dim, bool(keepdim), mask)  # type: ignore[no-any-return]


def median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The lower median of the numbers that ``mask`` keeps; NaN of none.

    Without any number an integer row has no median, and ValueError is raised.
    """
    (axis,) = _axes(dim, len(shape_of(input)))
    floating = dtype_of(input).kind == "f"
    values = _filled(input if floating else input.to(dtypes.float32), mask, math.nan)  # type: ignore[attr-defined]
    if not shape_of(values):
        out = values
    else:
        # NaN sorts last: the numbers of a row are its first ones.
        ordered = functions.sort(values, axis).values
        numbers = functions.sum(functions.logical_not(functions.isnan(values)), (axis,), True)
        middle = functions.clamp(functions.floor_divide(numbers - 1, 2), min=0)
        out = functions.gather(ordered, axis, middle)
        if not keepdim:
            out = functions.squeeze(out, axis)
    if floating:
        return out  # type: ignore[no-any-return]
    if functions.isnan(out).any():
        raise ValueError(
            "masked median expects no fully masked out rows if dtype is not floating point"
        )
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def logsumexp(
    input: Tensor, dim: Dims = None, *, keepdim: bool = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``log(sum(exp(input)))`` of the elements that ``mask`` keeps; minus infinity of none."""
    complex_ = dtype_of(input).kind == "c"
    # The exponential of a complex number vanishes where its real part is minus infinity.
    values = _filled(input, mask, -math.inf) if complex_ else _below(input, mask, "logsumexp")
    out = functions.logsumexp(values, _axes(dim, len(shape_of(input))), keepdim)
    return out.to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def logaddexp(
    input: Tensor, other: Tensor, *, dtype: DType | None = None, input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``log(exp(input) + exp(other))``, without the elements that the masks leave out."""
    first = _below(input, input_mask, "logaddexp")
    second = _below(other, other_mask, "logaddexp")
    return functions.logaddexp(first, second).to(dtype or dtype_of(input))  # type: ignore[no-any-return]


def norm(
    input: Tensor, ord: float | None = 2.0, dim: Dims = None, *, keepdim: bool | None = False,
    dtype: DType | None = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The ``ord``-norm of the elements that ``mask`` keeps; 0 of none, infinity for ord -inf."""
    order = 2.0 if ord is None else ord
    if order == -math.inf and dtype_of(input).kind != "f":
        raise AssertionError(f"input must be floating point, got {dtype_of(input)!r}")
    values = _filled(input, mask, math.inf if order == -math.inf else 0)
    axes = _axes(dim, len(shape_of(input)))
    return vector_norm(values, order, axes, bool(keepdim), dtype=dtype)


def _spread(
    input: Tensor, dim: Dims, unbiased: bool | None, correction: float | None, keepdim: bool,
    dtype: DType | None, mask: Tensor | None,
) -> Any:  # fmt: skip
    """The variance: the sum of squared deviations over the count less the correction."""
    if unbiased is not None and correction is not None:
        raise AssertionError("Only one of unbiased and correction may be given")
    if correction is None:
        correction = 0.0 if unbiased is False else 1.0
    chosen = dtype or (dtype_of(input) if dtype_of(input).kind in "fc" else dtypes.float32)
    computed = chosen if chosen.kind in "fc" else dtypes.float32
    count = _counted(input, dim, True, mask)
    average: Any = sum(input, dim, keepdim=True, dtype=chosen, mask=mask) / count
    gap: Any = input - average
    total: Any = sum(gap * functions.conj(gap), dim, keepdim=keepdim, dtype=computed, mask=mask)
    if not keepdim:
        count = count.reshape(shape_of(total))
    if correction:
        count = functions.clamp(count.to(computed.real) - float(correction), min=0)
    return (total / count).to(chosen)


def var(
    input: Tensor, dim: Dims = None, unbiased: bool | None = None, *,
    correction: float | None = None, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The variance of the elements that ``mask`` keeps; their count less ``correction`` divides."""
    out: Tensor = _spread(input, dim, unbiased, correction, bool(keepdim), dtype, mask)
    return out


def std(
    input: Tensor, dim: Dims = None, unbiased: bool | None = None, *,
    correction: float | None = None, keepdim: bool | None = False, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The standard deviation of the elements that ``mask`` keeps."""
    spread = _spread(input, dim, unbiased, correction, bool(keepdim), dtype, mask)
    return functions.sqrt(spread)  # type: ignore[no-any-return]


# Scans and normalizations -------------------------------------------------------------------------


def cumsum(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Running sums along ``dim`` of the elements that ``mask`` keeps."""
    (axis,) = _axes(dim, len(shape_of(input)))
    out: Tensor = functions.cumsum(_filled(input, mask, 0), axis, dtype=dtype or dtype_of(input))
    return out


def cumprod(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """Running products along ``dim`` of the elements that ``mask`` keeps."""
    (axis,) = _axes(dim, len(shape_of(input)))
    out: Tensor = functions.cumprod(_filled(input, mask, 1), axis, dtype=dtype or dtype_of(input))
    return out


def softmax(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """``softmax`` among the elements that ``mask`` keeps; 0 for the others."""
    (axis,) = _axes(dim, len(shape_of(input)))
    values = _below(input, mask, "softmax")
    return functions.softmax(values, axis, dtype or dtype_of(input))  # type: ignore[no-any-return]


def log_softmax(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """``log_softmax`` among the elements that ``mask`` keeps; minus infinity for the others."""
    (axis,) = _axes(dim, len(shape_of(input)))
    values = _below(input, mask, "log_softmax")
    return functions.log_softmax(values, axis, dtype or dtype_of(input))  # type: ignore[no-any-return]


def softmin(
    input: Tensor, dim: int, *, dtype: DType | None = None, mask: Tensor | None = None
) -> Tensor:
    """``softmax(-input)`` among the elements that ``mask`` keeps; 0 for the others."""
    (axis,) = _axes(dim, len(shape_of(input)))
    values = -_above(input, mask, "softmin")
    return functions.softmax(values, axis, dtype or dtype_of(input))  # type: ignore[no-any-return]


def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: DType | None = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The elements that ``mask`` keeps divided by their ``ord``-norm, or by ``eps`` if larger."""
    length: Any = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    floor = functions.full((), eps, dtype=dtype_of(length), device=length.device)
    return _filled(input, mask, 0) / functions.maximum(length, floor)  # type: ignore[no-any-return]
