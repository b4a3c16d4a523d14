"""embedding, embedding_bag and one_hot: rows of a table chosen by integers.

Reading is a gather over rows; the gradient adds each row's gradient into a table of zeros.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    checked_positions,
    detached,
    gathered,
    iota,
    max_over,
    narrowed,
    padded,
    require_tensor,
    reshaped,
    scattered_sum,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _out_of_range(value: int) -> IndexError:
    return IndexError(f"index out of range in self: {value} is no row of the table")


def _check(input: Any, weight: Any, function: str) -> None:
    require_tensor(weight, function, "weight", 1)
    require_tensor(input, function, "indices", 2)
    if dtype_of(input) not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got torch.{scalar_name(dtype_of(input))}Tensor instead (while "
            f"checking arguments for {function})"
        )
    if len(shape_of(weight)) != 2:
        raise RuntimeError("'weight' must be 2-D, but got " + str(list(shape_of(weight))))


def _table_gradient(g: Any, shapes: Any, extra: Any, attrs: Any, f: Any) -> Any:
    positions, counts = extra
    padding, _ = attrs
    rows, width = shapes[0]
    g = reshaped(g, (count(shape_of(positions)), width))
    if counts is not None:
        g = narrowed(g / counts, g)
    if padding is not None:
        g = where(positions == padding, 0, g)
    table = f.zeros((rows, width), dtype=g.dtype, device=g.device)
    return scattered_sum(table, positions, g, 0)


_EMBEDDING = Rule("EmbeddingBackward0", (_table_gradient,))


def _how_often(positions: Tensor, rows: int) -> Tensor:
    """For each position, how often its row is asked for."""
    like = functions.ones(shape_of(positions), dtype=dtypes.float32, device=positions._device)
    zeros = functions.zeros((rows, 1), dtype=dtypes.float32, device=positions._device)
    return gathered(scattered_sum(zeros, positions, like, 0), positions, 0)


def _limit_norms(weight: Tensor, positions: Tensor, max_norm: float, norm_type: float) -> None:
    """Shorten, in place, the rows that are asked for and longer than ``max_norm``."""
    with no_grad():
        table: Any = detached(weight)
        length = functions.norm(table, norm_type, 1, keepdim=True)
        rows = shape_of(weight)[0]
        asked = functions.zeros((rows, 1), dtype=dtypes.float32, device=weight._device)
        ones = functions.ones(shape_of(positions), dtype=dtypes.float32, device=weight._device)
        asked = scattered_sum(asked, positions, ones, 0)
        long = (length > max_norm) & (asked > 0)  # type: ignore[operator]
        held: Any = weight
        held.copy_(where(long, table * (max_norm / (length + 1e-7)), table))


def padding_row(padding_idx: int | None, rows: int) -> int | None:
    """The row without gradient, counted from the front."""
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise AssertionError(f"Padding_idx must be within num_embeddings: got {padding_idx}")
    return padding_idx % rows


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of ``weight`` (V, D) at the indices ``input`` (*): (*, D).

    The row ``padding_idx`` gets no gradient. ``max_norm`` shortens longer rows in place first.
    An index outside [0, V) raises IndexError when its value is known. Sparse gradients do not
    exist here; ``sparse=True`` raises NotImplementedError.
    """
    _check(input, weight, "embedding")
    if sparse:
        raise NotImplementedError(
            "sparse=True: there are no sparse gradients; the dense one has the same values"
        )
    rows, width = shape_of(weight)
    padding = padding_row(padding_idx, rows)
    flat = reshaped(detached(input), (count(shape_of(input)), 1))
    positions = checked_positions(flat, rows, _out_of_range)
    if max_norm is not None:
        _limit_norms(weight, positions, max_norm, norm_type)
    with no_grad():
        out = reshaped(gathered(weight, positions, 0), (*shape_of(input), width))
        counts = _how_often(positions, rows) if scale_grad_by_freq else None
    return attach(out, _EMBEDDING, (weight,), (padding, rows), (positions, counts))


@public("embedding", method=False, out=False)
def _torch_embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of ``weight`` at ``indices``."""
    padding = padding_idx if padding_idx >= 0 else None
    return embedding(indices, weight, padding, None, 2.0, scale_grad_by_freq, sparse)


@shown_as("EmbeddingBagBackward0")
def embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
    norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean",
    sparse: bool = False, per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """The sum, mean or maximum of each bag of rows.

    ``input`` (B, N) holds bags of one size, or (L) all bags after each other, which begin at
    ``offsets``.
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        )
    rank = len(shape_of(input))
    if rank == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch "
                "of fixed length sequences. However, found offsets of type " + str(type(offsets))
            )
        bags, size = shape_of(input)
        offsets = functions.arange(0, bags * size, max(size, 1), device=input._device)
        flat = reshaped(input, (bags * size,))
        if per_sample_weights is not None:
            per_sample_weights = reshaped(per_sample_weights, (bags * size,))
    elif rank == 1:
        if not isinstance(offsets, Tensor):
            raise ValueError("offsets has to be a 1D Tensor but got None")
        flat = input
        if include_last_offset:
            offsets = functions.narrow(offsets, 0, 0, shape_of(offsets)[0] - 1)
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {rank}")
    rows = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    counted: Any = functions.ones_like(flat, dtype=dtypes.bool_)
    if padding_idx is not None:
        counted = flat != padding_row(padding_idx, shape_of(weight)[0])
    return _bagged(rows, offsets, counted, mode, per_sample_weights)


def _bagged(rows: Any, offsets: Any, counted: Any, mode: str, weights: Any) -> Tensor:
    """Rows (L, D) combined by bag: (B, D), with a mask of which row is in which bag (B, L)."""
    length = shape_of(rows)[0]
    bags = shape_of(offsets)[0]
    place = iota(length, rows, dtypes.int64)
    start = reshaped(cast(offsets, dtypes.int64), (bags, 1))
    following = padded(functions.narrow(start, 0, 1, max(bags - 1, 0)), [(0, 1), (0, 0)], length)
    member = (place >= start) & (place < following) & counted  # type: ignore[operator]
    mask = reshaped(member, (bags, length, 1))
    if weights is not None:
        rows = rows * reshaped(weights, (length, 1))
    number: Any = sum_over(cast(mask, dtypes.float32), (1,), keep=False)
    if mode == "max":
        largest = max_over(where(mask, rows, -float("inf")), (1,), keep=False)
        return where(number > 0, largest, 0)
    total: Any = sum_over(where(mask, widened(rows), 0), (1,), keep=False)
    if mode == "mean":
        total = total / functions.clamp_min(number, 1)
    return narrowed(total, rows)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 of shape (*, num_classes): 1 at each class index, 0 elsewhere.

    ``num_classes=-1`` looks for the largest class, which computes the tensor.
    """
    require_tensor(tensor, "one_hot", "tensor", 1)
    if dtype_of(tensor) is not dtypes.int64:
        raise RuntimeError(
            "one_hot is only applicable to index tensor of type LongTensor, but got "
            f"{scalar_name(dtype_of(tensor))}"
        )
    size = count(shape_of(tensor))
    if size == 0 and num_classes <= 0:
        raise RuntimeError(
            "Can not infer total number of classes from empty tensor: give num_classes"
        )
    values = every_value(tensor) if size else None
    if values is not None and int(values.min()) < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        assert values is not None
        num_classes = int(values.max()) + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif values is not None and int(values.max()) >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    with no_grad():
        column: Any = reshaped(detached(tensor), (*shape_of(tensor), 1))
        return cast(column == iota(num_classes, tensor, dtypes.int64), dtypes.int64)
