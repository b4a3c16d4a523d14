"""Margin losses of classes, and the loss of connectionist temporal classification (CTC)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.functional.composite import (
    checked_positions,
    detached,
    gathered,
    iota,
    max_over,
    min_over,
    padded,
    part,
    reshaped,
    sum_over,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.loss import reduced, reduction_of
from lazytorch.functional.softmax import logsumexp
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


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
    shape = shape_of(input)
    batch = shape[0] if len(shape) == 2 else 1
    if len(shape_of(target)) > 1 or int(np.prod(shape_of(target))) != batch:
        raise RuntimeError(
            f"inconsistent target size, expected {[batch]} but got {list(shape_of(target))}"
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


def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """``sum of max(0, 1 - x[j] + x[i])`` over classes j among the targets and i not, over C.

    The targets of a sample end at the first -1.
    """
    reduction = reduction_of(size_average, reduce, reduction)
    if shape_of(input) != shape_of(target):
        raise RuntimeError(
            f"inconsistent target size: {list(shape_of(target))} for input of size: "
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


# CTC ------------------------------------------------------------------------------------------


def _lengths(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = functions.peek(value)
    return np.asarray(value, np.int64).reshape(-1)


def _padded_targets(targets: Tensor, lengths: np.ndarray, batch: int) -> np.ndarray:
    """Targets as (N, S), from that form or from all after each other."""
    values = functions.peek(targets)
    if values.ndim == 2:
        return np.asarray(values)
    if batch == 1 and values.ndim == 1:
        return np.asarray(values).reshape(1, -1)
    width = int(lengths.max()) if lengths.size else 0
    rows = np.zeros((batch, width), values.dtype)
    start = 0
    for number, length in enumerate(lengths):
        rows[number, :length] = values[start : start + length]
        start += int(length)
    return rows


def _log_add(*terms: Any) -> Any:
    return logsumexp(functions.stack(terms, 0), 0)


@public(method=False)
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Minus the log-probability of each target sequence over all alignments with the input.

    ``log_probs`` (T, N, C) or (T, C). The forward recursion of A. Graves et al., "Connectionist
    temporal classification", ICML 2006, section 4.1, in logarithms; one step a time step, so
    the gradient of the recursion is the recursion's own.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    had_batch = len(shape_of(log_probs)) == 3
    steps, *_, classes = shape_of(log_probs)
    x: Any = log_probs if had_batch else reshaped(log_probs, (steps, 1, classes))
    batch = shape_of(x)[1]
    lengths, wanted = _lengths(input_lengths), _lengths(target_lengths)
    if lengths.size != batch or wanted.size != batch:
        raise RuntimeError("input_lengths and target_lengths must be of size batch_size")
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    if lengths.size and int(lengths.max()) > steps:
        raise RuntimeError(
            f"Expected input_lengths to have value at most {steps}, but got value "
            f"{int(lengths.max())}"
        )
    labels = _padded_targets(targets, wanted, batch)
    rows = _ctc_rows(x, labels, lengths, wanted, blank)
    if zero_infinity:
        rows = where(rows == math.inf, 0, rows)
    if reduction == "mean":
        divisor = functions.tensor(np.maximum(wanted, 1)).to(rows)
        return reduced(rows / divisor, "mean")
    if reduction == "none" and not had_batch:
        return reshaped(rows, ())
    return reduced(rows, reduction)


def _ctc_rows(
    x: Any, labels: np.ndarray, lengths: np.ndarray, wanted: np.ndarray, blank: int
) -> Any:
    """The loss of each sequence of the batch."""
    steps, batch, _ = shape_of(x)
    width = 2 * labels.shape[1] + 1
    extended = np.full((batch, width), blank, np.int64)
    extended[:, 1::2] = labels
    # A blank between two equal labels cannot be skipped, nor can a label.
    skips = np.zeros((batch, width), bool)
    skips[:, 3::2] = extended[:, 3::2] != extended[:, 1:-2:2]
    place = np.arange(width)
    begin = np.where((place < 2) & (place <= 2 * wanted[:, None]), 0.0, -math.inf)
    positions = functions.tensor(np.broadcast_to(extended, (steps, batch, width)).copy())
    scores = gathered(x, positions.to(x.device), 2)
    may_skip = functions.tensor(skips).to(x.device)
    running = functions.tensor(lengths[:, None]).to(x.device)
    alpha: Any = reshaped(part(scores, 0, 0, 1), (batch, width)) + functions.tensor(begin).to(x)  # type: ignore[operator]
    for step in range(1, steps):
        one = padded(part(alpha, 1, 0, width - 1), [(0, 0), (1, 0)], -math.inf)
        two = padded(part(alpha, 1, 0, max(width - 2, 0)), [(0, 0), (min(2, width), 0)], -math.inf)
        total = _log_add(alpha, one, where(may_skip, two, -math.inf))
        total = total + reshaped(part(scores, 0, step, 1), (batch, width))
        alpha = where(running > step, total, alpha)
    last = functions.tensor((2 * wanted)[:, None]).to(x.device)
    at_blank = reshaped(gathered(alpha, last, 1), (batch,))
    before = functions.tensor(np.maximum(2 * wanted - 1, 0)[:, None]).to(x.device)
    at_label = reshaped(gathered(alpha, before, 1), (batch,))
    empty = functions.tensor(wanted == 0).to(x.device)
    return -_log_add(at_blank, where(empty, -math.inf, at_label))
