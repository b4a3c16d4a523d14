"""Margin losses of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.functional.composite import (
    checked_positions,
    detached,
    gathered,
    iota,
    max_over,
    min_over,
    reshaped,
    sum_over,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.loss import reduced, reduction_of
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


def _at_least_a_row(tensor: Tensor) -> Tensor:
    """A number as a vector of one class."""
    return tensor if shape_of(tensor) else reshaped(tensor, (1,))


def _rows(input: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor, bool]:
    """Input and target with a batch axis, and whether they had one."""
    shape = shape_of(input)
    if len(shape) not in (1, 2):
        raise RuntimeError(
            f"{name}: Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
            f"{list(shape)}"
        )
    if len(shape) == 2:
        return input, target, True
    return reshaped(input, (1, *shape)), reshaped(target, (1, *shape_of(target))), False


def _no_class(value: int) -> Exception:
    return IndexError(f"target out of range: {value} is no class")


@shown_as("MultiMarginLossBackward0")
def multi_margin_loss(
    input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
    size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``sum of max(0, margin - x[y] + x[i]) ** p`` over classes i other than y, divided by C."""
    reduction = reduction_of(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and len(shape_of(weight)) != 1:
        raise ValueError("weight must be one-dimensional")
    input = _at_least_a_row(input)
    shape = shape_of(input)
    if shape[-1] == 0:
        raise RuntimeError(
            "Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
            f"{list(shape)}"
        )
    batch = shape[0] if len(shape) == 2 else 1
    if len(shape_of(target)) > 1 or int(np.prod(shape_of(target))) != batch:
        raise RuntimeError(
            "multi_margin_loss: target should be 1-D with the number of samples as its size: "
            f"expected {[batch]}, but got {list(shape_of(target))} for input {list(shape)}"
        )
    if weight is not None and shape_of(weight) != shape[-1:]:
        raise RuntimeError(
            f"inconsistent weight size, expected {shape[-1]} but got {list(shape_of(weight))}"
        )
    if dtype_of(target) is not dtypes.int64:
        raise RuntimeError(
            f"expected scalar type Long but found {scalar_name(dtype_of(target))}"
        )
    x, _, had_batch = _rows(input, reshaped(target, (batch,)), "multi_margin_loss")
    batch, classes = shape_of(x)
    positions = checked_positions(reshaped(detached(target), (batch, 1)), classes, _no_class)
    chosen: Any = gathered(x, positions, 1)
    values = functions.clamp_min(margin - chosen + x, 0)
    if p == 2:
        values = values * values
    if weight is not None:
        values = values * reshaped(gathered(weight, reshaped(positions, (batch,)), 0), (batch, 1))
    others = iota(classes, x, dtype_of(positions)) != positions
    rows: Any = sum_over(where(others, values, 0), (1,), keep=False) / classes  # type: ignore[arg-type, operator]
    if not had_batch:
        rows = reshaped(rows, ())
    return reduced(rows, reduction)


@shown_as("MultilabelMarginLossBackward0")
def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``sum of max(0, 1 - x[j] + x[i])`` over classes j among the targets and i not, over C.

    The targets of a sample end at the first -1.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    input, target = _at_least_a_row(input), _at_least_a_row(target)
    if shape_of(input) != shape_of(target):
        raise RuntimeError(
            f"inconsistent target size: {list(shape_of(target))} for input of size: "
            f"{list(shape_of(input))}"
        )
    if shape_of(input)[-1] == 0:
        raise RuntimeError(
            "Expected non-empty vector or matrix with optional 0-dim batch size, but got: "
            f"{list(shape_of(input))}"
        )
    x, t, had_batch = _rows(input, target, "multilabel_margin_loss")
    batch, classes = shape_of(x)
    with no_grad():
        place: Any = iota(classes, x, dtype_of(t))
        end = min_over(where(t < 0, place, classes), (1,))  # type: ignore[operator]
        listed: Any = place < end
        positions = checked_positions(t, classes, _no_class, -1)
        same = (reshaped(t, (batch, classes, 1)) == place) & reshaped(listed, (batch, classes, 1))  # type: ignore[operator]
        member: Any = max_over(cast(same, dtypes.int32), (1,), keep=False) > 0  # type: ignore[operator]
        pairs = reshaped(listed, (batch, classes, 1)) & ~reshaped(member, (batch, 1, classes))  # type: ignore[operator]
    chosen: Any = gathered(x, positions, 1)
    gap = 1 - reshaped(chosen, (batch, classes, 1)) + reshaped(x, (batch, 1, classes))  # type: ignore[operator]
    values = where(pairs, functions.clamp_min(gap, 0), 0)
    rows: Any = sum_over(values, (1, 2), keep=False) / classes  # type: ignore[operator]
    return reduced(rows if had_batch else reshaped(rows, ()), reduction)
