"""The loss of connectionist temporal classification (CTC), on the host.

A. Graves, S. Fernández, F. Gomez and J. Schmidhuber, "Connectionist temporal classification",
ICML 2006: the forward and backward recursions (equations 6-11) over all alignments of a target
with the input, in logarithms, and the gradient (equation 16). Each step of a recursion needs the
one before it and is a handful of numbers a sequence, so that NumPy, which takes the whole batch
at once, has nothing to compile and no launch a step to pay for.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import detached, reshaped
from lazytorch.functional.elementwise import where
from lazytorch.functional.host import call_host
from lazytorch.functional.loss import reduced
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# The recursions ---------------------------------------------------------------------------------


class _Batch(NamedTuple):
    """Scores (time, batch, place) of the labels with blanks between them."""

    scores: np.ndarray
    extended: np.ndarray
    skips: np.ndarray
    lengths: np.ndarray
    wanted: np.ndarray


def _batch(
    x: np.ndarray, labels: np.ndarray, lengths: np.ndarray, wanted: np.ndarray, blank: int
) -> _Batch:
    count, width = labels.shape
    extended = np.full((count, 2 * width + 1), blank, np.int64)
    extended[:, 1::2] = labels
    # A blank between two equal labels cannot be skipped, nor can a label.
    skips = np.zeros(extended.shape, bool)
    skips[:, 3::2] = extended[:, 3::2] != extended[:, 1:-2:2]
    places = np.broadcast_to(extended, (len(x), *extended.shape))
    scores = np.take_along_axis(x.astype(np.float64), places, 2)
    return _Batch(scores, extended, skips, lengths, wanted)


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """Each row moved by some places, with -inf (no alignment) moved in."""
    moved = np.full_like(values, -math.inf)
    if by > 0:
        moved[:, by:] = values[:, :-by]
    else:
        moved[:, :by] = values[:, -by:]
    return moved


def _forward(batch: _Batch) -> np.ndarray:
    """Logarithms of the probabilities of all beginnings that end at a place, (time, batch, place).

    They stay as they are after a sequence's last step.
    """
    place = np.arange(batch.extended.shape[1])
    alpha = np.empty_like(batch.scores)
    begin = (place < 2) & (place <= 2 * batch.wanted[:, None])
    alpha[:1] = np.where(begin, batch.scores[:1], -math.inf)
    for step in range(1, len(alpha)):
        before = alpha[step - 1]
        skipped = np.where(batch.skips, _shifted(before, 2), -math.inf)
        total = np.logaddexp(np.logaddexp(before, _shifted(before, 1)), skipped)
        running = (step < batch.lengths)[:, None]
        alpha[step] = np.where(running, total + batch.scores[step], before)
    return alpha


def _backward(batch: _Batch) -> np.ndarray:
    """The same of all ends that begin at a place; -inf after a sequence's last step."""
    place = np.arange(batch.extended.shape[1])
    beta = np.full_like(batch.scores, -math.inf)
    last = (2 * batch.wanted)[:, None]
    ends = (place == last) | (place == last - 1)
    may_skip = np.zeros_like(batch.skips)
    may_skip[:, :-2] = batch.skips[:, 2:]
    after = np.full(batch.extended.shape, -math.inf)
    for step in range(len(beta) - 1, -1, -1):
        skipped = np.where(may_skip, _shifted(after, -2), -math.inf)
        total = np.logaddexp(np.logaddexp(after, _shifted(after, -1)), skipped)
        left = batch.lengths[:, None] - 1 - step
        total = np.where(left == 0, np.where(ends, 0.0, -math.inf), total)
        beta[step] = np.where(left >= 0, total + batch.scores[step], -math.inf)
        after = beta[step]
    return beta


def _losses(batch: _Batch, alpha: np.ndarray) -> np.ndarray:
    """Minus the logarithm of each target's probability."""
    count = len(batch.lengths)
    if not len(alpha):
        return np.where(batch.wanted == 0, 0.0, math.inf)
    rows, last = np.arange(count), 2 * batch.wanted
    blank = alpha[-1, rows, last]
    label = np.where(last > 0, alpha[-1, rows, np.maximum(last - 1, 0)], -math.inf)
    losses = -np.logaddexp(blank, label)
    return np.where(batch.lengths == 0, np.where(batch.wanted == 0, 0.0, math.inf), losses)


def _gradients(x: np.ndarray, batch: _Batch, g: np.ndarray) -> np.ndarray:
    """Of the losses for ``x``, taken for the output of a log-softmax as PyTorch does."""
    alpha = _forward(batch)
    losses = _losses(batch, alpha)
    both = alpha + _backward(batch)
    shares = np.where(both == -math.inf, 0.0, np.exp(both - batch.scores + losses[:, None]))
    found = np.zeros(x.shape)
    steps, count, _ = shares.shape
    place = (np.arange(steps)[:, None, None], np.arange(count)[:, None], batch.extended)
    np.add.at(found, place, shares)
    inside = (np.arange(len(x))[:, None] < batch.lengths)[..., None]
    g = g.astype(np.float64)[:, None]
    # A loss of inf that nobody asks about (zero_infinity) must not leave a NaN.
    return np.where(inside & (g != 0), (np.exp(x.astype(np.float64)) - found) * g, 0.0)


# The function -------------------------------------------------------------------------------------


def _no_second_gradient(g: Any) -> Any:
    raise RuntimeError("derivative for aten::_ctc_loss_backward is not implemented")


_SECOND = Rule("NotImplemented", (_no_second_gradient,) * 2)


def _gradient(g: Any, x: Any, attrs: Any, extra: Any) -> Any:
    (blank,) = attrs

    def compute(x: Any, labels: Any, lengths: Any, wanted: Any, g: Any) -> Any:
        return _gradients(x, _batch(x, labels, lengths, wanted, blank), g)

    sources = (detached(x), *extra, detached(g))
    out = call_host(f"ctc_gradient {blank}", compute, shape_of(x), dtype_of(x), *sources)
    return attach(out, _SECOND, (x, g))


_CTC = Rule("CtcLossBackward0", (_gradient,))


def _rows(
    x: Tensor, labels: np.ndarray, lengths: np.ndarray, wanted: np.ndarray, blank: int
) -> Tensor:
    """The loss of each sequence of the batch."""
    arrays = (labels, lengths, wanted)
    settings = tuple(functions.tensor(array, device=x.device) for array in arrays)

    def compute(x: Any, labels: Any, lengths: Any, wanted: Any) -> Any:
        batch = _batch(x, labels, lengths, wanted, blank)
        return _losses(batch, _forward(batch))

    shape = (shape_of(x)[1],)
    out = call_host(f"ctc {blank}", compute, shape, dtype_of(x), detached(x), *settings)
    return attach(out, _CTC, (x,), (blank,), settings)


def _lengths(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = functions.peek(value)
    return np.asarray(value, np.int64).reshape(-1)


def _padded_targets(targets: Tensor, lengths: np.ndarray, batch: int) -> np.ndarray:
    """Targets as (N, S), from that form or from all after each other."""
    values = functions.peek(targets)
    if values.ndim == 2:
        return np.asarray(values, np.int64)
    if batch == 1 and values.ndim == 1:
        return np.asarray(values, np.int64).reshape(1, -1)
    width = int(lengths.max()) if lengths.size else 0
    rows = np.zeros((batch, width), np.int64)
    start = 0
    for number, length in enumerate(lengths):
        rows[number, :length] = values[start : start + length]
        start += int(length)
    return rows


def _checked_labels(labels: np.ndarray, wanted: np.ndarray, classes: int) -> np.ndarray:
    """Labels with zeros behind each target; ``RuntimeError`` for one that is no class."""
    inside = np.arange(labels.shape[1]) < wanted[:, None]
    if wanted.size and int(wanted.max()) > labels.shape[1]:
        raise RuntimeError(
            f"Expected tensor to have size at least {int(wanted.max())} at dimension 1, but got "
            f"targets of size {list(labels.shape)}"
        )
    labels = np.where(inside, labels, 0)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise RuntimeError(
            f"ctc_loss: targets must be classes in [0, {classes}), but go from "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return labels


@public(method=False)
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Minus the log-probability of each target sequence over all alignments with the input.

    ``log_probs`` (T, N, C) or (T, C) is the output of a log-softmax; ``targets`` (N, S), or all
    after each other, are looked at when the function is called, as are the lengths. The mean is
    that of each loss divided by its target's length.
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if dtype_of(log_probs) not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError(
            f"\"ctc_loss_cpu\" not implemented for '{scalar_name(dtype_of(log_probs))}': convert "
            "log_probs with .float()"
        )
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
    labels = _checked_labels(_padded_targets(targets, wanted, batch), wanted, classes)
    rows = _rows(x, labels, lengths, wanted, blank)
    if zero_infinity:
        rows = where(rows == math.inf, 0, rows)  # type: ignore[arg-type]
    if reduction == "mean":
        divisor = functions.tensor(np.maximum(wanted, 1)).to(rows)
        return reduced(rows / divisor, "mean")  # type: ignore[operator]
    if reduction == "none" and not had_batch:
        return reshaped(rows, ())
    return reduced(rows, reduction)
