"""Functions of the torch namespace that also return what was computed on the way.

Normalizations give the statistics of their rows, bags where their elements came from.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.functional import embedding
from lazytorch.functional.batch_normalization import channel_norm
from lazytorch.functional.composite import detached, reshaped, rsqrt, widened
from lazytorch.functional.normalization import grouped_norm, layer_norm, moments
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# Bags ---------------------------------------------------------------------------------------------

_BAG_MODES = ("sum", "mean", "max")


@public(method=False, out=False)
def embedding_bag(
    weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False,
    mode: int = 0, sparse: bool = False, per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Each bag's sum, mean or maximum (mode 0, 1 or 2), and how it came about.

    The other three are the bag of each index, the number of rows that count in each bag, and for
    the maximum the row it was found in.
    """
    if mode not in (0, 1, 2):
        raise RuntimeError(f"embedding_bag: mode must be 0 (sum), 1 (mean) or 2 (max), got {mode}")
    out = embedding.embedding_bag(
        indices, weight, offsets, scale_grad_by_freq=scale_grad_by_freq, mode=_BAG_MODES[mode],
        sparse=sparse, per_sample_weights=per_sample_weights,
        include_last_offset=include_last_offset, padding_idx=padding_idx,
    )  # fmt: skip
    with no_grad():
        starts: Any = offsets[:-1] if include_last_offset else offsets  # type: ignore[index]
        bags = shape_of(starts)[0]
        place = functions.arange(shape_of(indices)[0], device=indices.device)
        bag_of = functions.searchsorted(starts, place, right=True) - 1
        counts: Any = indices != padding_idx if padding_idx is not None else place >= 0
        zeros = functions.zeros((bags,), dtype=dtypes.int64, device=indices.device)
        sizes = functions.index_add(zeros, 0, bag_of, cast(counts, dtypes.int64))
        found = _bag_winners(weight, indices, bag_of, counts, out) if mode == 2 else sizes
    return out, cast(bag_of, dtype_of(indices)), cast(sizes, dtype_of(indices)), found


def _bag_winners(weight: Any, indices: Any, bag_of: Any, counts: Any, out: Any) -> Tensor:
    """The row of the table that holds the maximum of each bag and column: the first of equals."""
    rows = functions.index_select(weight.detach(), 0, indices)
    matches = (rows == out.detach()[bag_of]) & counts.reshape(-1, 1)
    length = shape_of(indices)[0]
    place = functions.arange(length, device=indices.device).reshape(-1, 1)
    place = functions.where(matches, place, length)
    none = functions.full_like(out, length, dtype=dtypes.int64)
    first = functions.index_reduce(none, 0, bag_of, place, "amin")
    taken = indices[functions.clamp(first, max=max(length - 1, 0)).reshape(-1)]
    return functions.where(first < length, taken.reshape(shape_of(first)), 0)  # type: ignore[no-any-return]


# Normalization with its statistics ----------------------------------------------------------------


@public(method=False, out=False)
def native_layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``layer_norm``, each row's mean, and one over its standard deviation."""
    out = layer_norm(input, normalized_shape, weight, bias, eps)
    axes = tuple(range(len(shape_of(input)) - len(tuple(normalized_shape)), len(shape_of(input))))
    with no_grad():
        mean, variance = moments(widened(detached(input)), axes)
        scale = rsqrt(variance + eps)
    return out, mean, scale


@public(method=False, out=False)
def native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int,
    group: int, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``group_norm`` of (N, C, ...), and mean and one over deviation of each group, (N, group)."""
    shape = shape_of(input)
    if shape[:2] != (N, C) or count(shape[2:]) != HxW:
        raise RuntimeError(
            f"native_group_norm: input of shape {list(shape)} does not have N={N}, C={C} and "
            f"HxW={HxW}"
        )
    out = grouped_norm(input, group, weight, bias, eps)
    rows = reshaped(widened(input), (N, group, C // group * HxW))
    mean, variance = moments(rows, (2,))
    mean, scale = (reshaped(value, (N, group)) for value in (mean, rsqrt(variance + eps)))
    return out, cast(mean, dtype_of(input)), cast(scale, dtype_of(input))


@public(method=False, out=False)
def native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``batch_norm``, and the batch's mean and one over deviation of each channel.

    The statistics are empty when not training.
    """
    shape = shape_of(input)
    if not training:
        out = channel_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        none = functions.empty((0,), dtype=widened(input).dtype, device=input.device)
        return out, none, functions.empty_like(none)
    with no_grad():
        axes = tuple(axis for axis in range(len(shape)) if axis != 1)
        mean, variance = moments(widened(detached(input)), axes)
        mean, scale = (reshaped(value, (shape[1],)) for value in (mean, rsqrt(variance + eps)))
    out = channel_norm(input, running_mean, running_var, weight, bias, True, momentum, eps)
    return out, mean, scale
