"""Where values lie in an ordered sequence: a binary search whose steps are one kernel."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.functional.bounds import check_positions, remember_range
from lazytorch.functional.composite import detached, reshaped
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.creation import tensor as make_tensor
from lazytorch.tensor.promotion import promote_types, scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_LARGEST_INT32 = 2**31 - 1


def _refuse(reason: str) -> RuntimeError:
    return RuntimeError(f"torch.searchsorted(): {reason}")


def _check_shapes(sequence: Tensor, values: Tensor) -> None:
    rows, wanted = shape_of(sequence), shape_of(values)
    if not wanted and len(rows) != 1:
        raise _refuse(
            "input value can be a scalar only when boundaries tensor dimension is 1, but we got "
            f"boundaries tensor dim({len(rows)}) and input value's dim(0) numel(1)"
        )
    if not rows or (len(rows) > 1 and rows[:-1] != wanted[:-1]):
        raise _refuse(
            "boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries "
            "tensor and input value tensor must match, but we got boundaries tensor "
            f"{list(rows)} and input value tensor {list(wanted)}"
        )
    for tensor in (sequence, values):
        if dtype_of(tensor).kind in "cb":
            raise NotImplementedError(
                f"\"searchsorted_out_cpu\" not implemented for '{scalar_name(dtype_of(tensor))}'"
            )


def _sorted_by(sequence: Tensor, sorter: Tensor) -> Tensor:
    """The sequence in the order that ``sorter`` gives."""
    if shape_of(sorter) != shape_of(sequence):
        raise _refuse(
            "boundary and sorter must have the same size, but got boundary tensor "
            f"{list(shape_of(sequence))} and got sorter tensor {list(shape_of(sorter))}"
        )
    if dtype_of(sorter) is not dtypes.int64:
        raise _refuse(
            f"sorter must be a tensor of long dtype but got dtype {scalar_name(dtype_of(sorter))}"
        )
    places = every_value(sorter)
    if places.size and not 0 <= places.min() <= places.max() < shape_of(sequence)[-1]:
        raise _refuse("sorter index out of range")
    axis = len(shape_of(sequence)) - 1
    check_positions(sorter, shape_of(sequence)[-1], "searchsorted", axis)
    return functions.gather(sequence, axis, sorter)  # type: ignore[no-any-return]


@public()
def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Where each value would be inserted to keep an ordered sequence ordered.

    ``sorted_sequence`` is a vector, or rows (..., n) for values (..., m); ``sorter`` (int64, of
    its shape) puts it in order first. Before equal elements, or behind them with ``right`` (or
    ``side='right'``); NaN comes last. int64, or int32 with ``out_int32``.

    Raises ``RuntimeError`` for shapes and settings that do not fit each other.

    >>> searchsorted(tensor([1, 3, 5]), tensor([0, 3, 9]))
    tensor([0, 1, 3])
    """
    if side not in (None, "left", "right"):
        raise _refuse(f"side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise _refuse(
            "side and right can't be set to opposites, got side of left while right was True"
        )
    values: Any = input if isinstance(input, Tensor) else make_tensor(
        input, dtype=dtype_of(sorted_sequence) if isinstance(input, int) else None,
        device=sorted_sequence._device,
    )  # fmt: skip
    _check_shapes(sorted_sequence, values)
    sequence = detached(sorted_sequence)
    if sorter is not None:
        sequence = _sorted_by(sequence, sorter)
    dtype = promote_types(dtype_of(sequence), dtype_of(values))
    found = _search(cast(sequence, dtype), cast(detached(values), dtype), right or side == "right")
    return cast(found, dtypes.int32 if out_int32 else dtypes.int64)


def _search(sequence: Any, values: Any, after: bool) -> Tensor:
    """How many elements come before each value: one bit of the number a step, highest first."""
    length, shape = shape_of(sequence)[-1], shape_of(values)
    dtype = dtypes.int32 if length <= _LARGEST_INT32 else dtypes.int64
    found: Any = functions.zeros(shape, dtype=dtype, device=values._device)
    if not length:
        return found  # type: ignore[no-any-return]
    rows = len(shape_of(sequence)) > 1
    flat = sequence if rows else reshaped(sequence, (length,))
    for bit in range(length.bit_length() - 1, -1, -1):
        tried = found + (1 << bit)
        place = functions.clamp(tried, max=length) - 1
        if not rows:
            place = reshaped(place, (count(shape),))
        # Without this every step would wait for the one before to look at its positions.
        remember_range(place, 0, length - 1)
        element = functions.gather(flat, len(shape) - 1 if rows else 0, place)
        if not rows:
            element = reshaped(element, shape)
        # Written so that NaN, which is not below anything, comes behind all numbers.
        comes_first = ~(element > values) if after else ~(element >= values)
        found = functions.where(comes_first & (tried <= length), tried, found)
    return found  # type: ignore[no-any-return]


@public()
def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the interval between boundaries (a vector) in which each value lies."""
    rank = len(shape_of(boundaries))
    if rank != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({rank})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
