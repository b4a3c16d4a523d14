"""Losses of classes: cross entropy and negative log likelihood.

Cross entropy of class indices is one row group forward (maximum, sum, the target's logit read
with a gather) and one map backward: softmax minus one-hot, where one-hot is the comparison of
the class's number with the target, so nothing is scattered. What is kept for the way back is
the logarithm of each row's sum.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    checked_positions,
    constant,
    detached,
    exp,
    gathered,
    iota,
    narrowed,
    require_floating,
    require_tensor,
    reshaped,
    sum_over,
    widened,
)
from lazytorch.functional.elementwise import where
from lazytorch.functional.loss import reduced, reduction_of
from lazytorch.functional.softmax import log_softmax, log_sum_exp
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]


def _class_axis(shape: Shape) -> int:
    return 1 if len(shape) > 1 else 0


def _row_shape(shape: Shape) -> Shape:
    """The input's shape with one class."""
    axis = _class_axis(shape)
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _out_of_bounds(value: int) -> IndexError:
    return IndexError(
        f"Target {value} is out of bounds. Targets must be class indices in [0, number of "
        "classes), or ignore_index"
    )


class _Targets:
    """Class indices laid out beside the logits: positions, which count, and their weights."""

    __slots__ = ("axis", "classes", "positions", "valid", "weights")

    def __init__(self, input: Tensor, target: Tensor, weight: Tensor | None, ignored: int) -> None:
        shape = shape_of(input)
        self.axis = _class_axis(shape)
        self.classes = shape[self.axis]
        row = _row_shape(shape)
        target = reshaped(target, row)
        self.valid: Any = target != ignored
        self.positions = checked_positions(target, self.classes, _out_of_bounds, ignored)
        self.weights: Any = None
        if weight is not None:
            flat = gathered(detached(weight), reshaped(self.positions, (count(row),)), 0)
            self.weights = reshaped(flat, row)

    def one_hot(self, like: Tensor) -> Any:
        """Where a class is the target, as bool in the input's shape."""
        shape = tuple(
            self.classes if axis == self.axis else 1 for axis in range(len(shape_of(like)))
        )
        return reshaped(iota(self.classes, like, dtype_of(self.positions)), shape) == self.positions

    def counted(self, values: Any) -> Any:
        """``values`` where the target counts, else 0."""
        return where(self.valid, values, 0)

    def total(self, like: Tensor) -> Any:
        """What the mean divides by: the number, or the weight, of the targets that count."""
        weights = self.weights if self.weights is not None else constant(1, like)
        weights = self.counted(widened(weights))
        return sum_over(weights, tuple(range(len(shape_of(like)))), keep=False)


def _finish(rows: Any, targets: _Targets, input: Tensor, target: Tensor, reduction: str) -> Any:
    """Rows of losses reduced; the total is kept for the gradient."""
    if reduction == "none":
        return reshaped(narrowed(rows, input), shape_of(target)), None
    summed = sum_over(rows, tuple(range(len(shape_of(rows)))), keep=False)
    if reduction == "sum":
        return narrowed(summed, input), None
    total = targets.total(input)
    return narrowed(summed / total, input), total


def _row_gradient(g: Any, targets: _Targets, input: Tensor, total: Any) -> Any:
    """The gradient that reaches each row before its class weight."""
    g = widened(g)
    if shape_of(g):
        g = reshaped(g, _row_shape(shape_of(input)))
    if total is not None:
        g = g / total
    return targets.counted(g)


# Negative log likelihood ------------------------------------------------------------------------


def _nll_gradient(g: Any, shapes: Any, attrs: Any, extra: Any) -> Any:
    targets, total, like = extra
    rows = _row_gradient(g, targets, like, total)
    if targets.weights is not None:
        rows = rows * targets.weights
    return where(targets.one_hot(like), -rows, 0)


_NLL = Rule("NllLossBackward0", (_nll_gradient,))
_NLL_2D = Rule("NllLoss2DBackward0", (_nll_gradient,))


def _check_targets(input: Tensor, target: Tensor, weight: Tensor | None, name: str) -> None:
    shape, wanted = shape_of(input), shape_of(target)
    if not shape:
        raise ValueError(f"Expected 1 or more dimensions (got {len(shape)})")
    if len(shape) > 1 and wanted[:1] != shape[:1]:
        given = wanted[0] if wanted else "no batch"
        raise ValueError(
            f"Expected input batch_size ({shape[0]}) to match target batch_size ({given})."
        )
    expected = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    if wanted != expected and not (len(shape) == 1 and count(wanted) == 1):
        raise RuntimeError(
            f"{name}: for an input of shape {list(shape)} the target must hold one class index "
            f"for each position, shape {list(expected)}, but got {list(wanted)}"
        )
    if dtype_of(target) not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(
            f"expected scalar type Long but found {scalar_name(dtype_of(target))}: convert the "
            "target with .long()"
        )
    _check_weight(input, weight)


def _check_weight(input: Tensor, weight: Tensor | None) -> None:
    classes = shape_of(input)[_class_axis(shape_of(input))]
    if weight is not None and shape_of(weight) != (classes,):
        raise RuntimeError(
            "weight tensor should be defined either for all or no classes: expected shape "
            f"[{classes}] but got {list(shape_of(weight))}"
        )
    if weight is not None and dtype_of(weight) is not dtype_of(input):
        raise RuntimeError(
            f"expected scalar type {scalar_name(dtype_of(input))} but found "
            f"{scalar_name(dtype_of(weight))} for the weight of classes"
        )


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Minus the log-probability of the target class, times the class's weight.

    ``input`` is (N, C), (N, C, d1, ...) or (C); ``target`` holds class indices without C.
    The mean divides by the sum of the weights of targets other than ``ignore_index``.
    """
    require_tensor(input, "nll_loss_nd", "input", 1)
    require_tensor(target, "nll_loss_nd", "target", 2)
    reduction = reduction_of(size_average, reduce, reduction)
    require_floating(input, "nll_loss_out_frame")
    _check_targets(input, target, weight, "nll_loss")
    with no_grad():
        targets = _Targets(input, cast(target, dtypes.int64), weight, ignore_index)
        rows = -widened(gathered(input, targets.positions, targets.axis))  # type: ignore[operator]
        if targets.weights is not None:
            rows = rows * targets.weights
        out, total = _finish(targets.counted(rows), targets, input, target, reduction)
    rule = _NLL_2D if len(shape_of(input)) > 2 else _NLL
    return attach(out, rule, (input,), (), (targets, total, detached(input)))


# Cross entropy ------------------------------------------------------------------------------------


def _index_gradient(g: Any, x: Any, attrs: Any, extra: Any) -> Any:
    # loss = W log_sum_exp(x) - sum_c q_c x_c with W = sum_c q_c; so d/dx_c = W softmax_c - q_c.
    smoothing, smooth_weights, smooth_total = attrs
    targets, total, logs = extra
    x = widened(x)
    if mode.enabled:
        logs = log_sum_exp(x, (targets.axis,))
    powers = exp(x - logs)
    rows = _row_gradient(g, targets, x, total)
    kept = 1 - smoothing
    row_weight = 1 if targets.weights is None else targets.weights
    if not smoothing:
        rows = rows * row_weight
        return rows * powers - where(targets.one_hot(x), rows, 0)
    spread = smoothing / targets.classes * smooth_weights
    chosen = where(targets.one_hot(x), widened(rows * row_weight * kept), 0)
    height = row_weight * kept + smoothing / targets.classes * smooth_total
    return rows * (height * powers - spread) - chosen


_CROSS_ENTROPY = Rule("CrossEntropyLossBackward0", (_index_gradient,))


def _of_indices(
    input: Tensor, target: Tensor, weight: Tensor | None, ignored: int, reduction: str,
    smoothing: float,
) -> Tensor:  # fmt: skip
    with no_grad():
        x = widened(input)
        targets = _Targets(input, cast(target, dtypes.int64), weight, ignored)
        axis = targets.axis
        logs = log_sum_exp(x, (axis,))
        rows: Any = logs - widened(gathered(input, targets.positions, axis))  # type: ignore[operator]
        if targets.weights is not None:
            rows = rows * targets.weights
        smooth_weights: Any = 1
        smooth_total: Any = targets.classes
        if smoothing:
            if weight is None:
                smooth: Any = logs * targets.classes - sum_over(x, (axis,))  # type: ignore[operator]
            else:
                wide = widened(detached(weight))
                smooth_total = sum_over(wide, (0,), keep=False)
                smooth_weights = reshaped(wide, _along(axis, targets.classes, len(shape_of(x))))
                smooth = sum_over((logs - x) * smooth_weights, (axis,))  # type: ignore[operator]
            rows = rows * (1 - smoothing) + smooth * (smoothing / targets.classes)
        out, total = _finish(targets.counted(rows), targets, input, target, reduction)
    attrs = (smoothing, smooth_weights, smooth_total)
    return attach(out, _CROSS_ENTROPY, (input,), attrs, (targets, total, logs))


def _along(axis: int, extent: int, rank: int) -> Shape:
    return tuple(extent if number == axis else 1 for number in range(rank))


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    shape = shape_of(input)
    axis = _class_axis(shape)
    classes = shape[axis]
    share: Any = target
    if smoothing:
        share = share * (1 - smoothing) + smoothing / classes
    if weight is not None:
        share = share * reshaped(weight, _along(axis, classes, len(shape)))
    rows = -sum_over(share * log_softmax(input, axis), (axis,), keep=False)  # type: ignore[operator]
    if reduction != "mean":
        return reduced(rows, reduction)
    return reduced(rows, "sum") / max(count(shape) // max(classes, 1), 1)  # type: ignore[operator]


def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """The cross entropy between logits and classes or class probabilities.

    ``input`` is (N, C), (N, C, d1, ...) or (C). ``target`` holds class indices (int64) in the
    same shape without C, or floating-point probabilities in the input's shape. A target outside
    [0, C) that is not ``ignore_index`` raises IndexError when its value is known.

    >>> cross_entropy(tensor([[0., 0.]]), tensor([1]))
    tensor(0.6931)
    """
    require_tensor(input, "cross_entropy_loss", "input", 1)
    require_tensor(target, "cross_entropy_loss", "target", 2)
    reduction = reduction_of(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    require_floating(input, "log_softmax_lastdim_kernel_impl")
    if shape_of(input) == shape_of(target) and shape_of(input):
        if dtype_of(target).kind != "f":
            raise RuntimeError(
                "Expected floating point type for target with class probabilities, got "
                f"{scalar_name(dtype_of(target))}"
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        _check_weight(input, weight)
        return _of_probabilities(input, target, weight, reduction, label_smoothing)
    _check_targets(input, target, weight, "cross_entropy")
    return _of_indices(input, target, weight, ignore_index, reduction, label_smoothing)
