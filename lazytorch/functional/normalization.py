"""Layer, group and RMS normalization, and what batch and instance normalization share.

All but RMS subtract the mean over some axes and divide by the standard deviation over
the same axes, so one pair of functions computes them and their gradient; what differs is the
shape in which the input is looked at. The variance is the mean of squared deviations, not a
difference of two means, which would cancel. Forward is two sums over one row and maps; what is
kept are the two numbers of each row.

With y = (x - m) r and h the gradient that reaches y, the gradient of x is
r (h - mean(h) - y mean(h y)): S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015, section 3;
J. Ba et al., "Layer normalization", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    narrowed,
    require_floating,
    require_tensor,
    reshaped,
    rsqrt,
    sum_over,
    widened,
)
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.templates import repeated, repeated_gradient
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

# The common part ------------------------------------------------------------------------------


def moments(x: Tensor, axes: Sequence[int]) -> tuple[Any, Any]:
    """Mean and variance (divided by the number of elements) over ``axes``, which stay."""
    size = row_size(x, axes)
    mean: Any = sum_over(x, axes) / size  # type: ignore[operator]
    deviation = x - mean
    return mean, sum_over(deviation * deviation, axes) / size  # type: ignore[operator]


def row_size(x: Tensor, axes: Sequence[int]) -> int:
    """The number of elements of a row."""
    return count(tuple(shape_of(x)[axis] for axis in axes))


@dataclass(frozen=True)
class Form:
    """How an input is looked at: its shape, the axes of a row, the shape of weight and bias."""

    shape: Shape
    axes: Shape
    parameters: Shape
    eps: float


def _wide(tensor: Any, shape: Shape) -> Any:
    return widened(reshaped(tensor, shape))


def _normalization_gradient(
    g: Any, x: Any, weight: Any, bias: Any, attrs: Any, extra: Any, needs: Any
) -> Any:
    (form,) = attrs
    if mode.enabled:
        mean, variance = moments(_wide(x, form.shape), form.axes)
        extra = (mean, rsqrt(variance + form.eps))
    return _gradients(g, x, weight, bias, *extra, form, needs)


@repeated_gradient
def _gradients(
    g: Any, x: Any, weight: Any, bias: Any, mean: Any, scale: Any, form: Form, needs: Any
) -> Any:
    original = shape_of(x)
    g, x = _wide(g, form.shape), _wide(x, form.shape)
    y = (x - mean) * scale
    results: list[Any] = [None, None, None]
    if needs[0]:
        h = g if weight is None else g * _wide(weight, form.parameters)
        size = row_size(h, form.axes)
        across = sum_over(h, form.axes) / size
        along = sum_over(h * y, form.axes) / size
        results[0] = reshaped((h - across - y * along) * scale, original)
    shared = [axis for axis, extent in enumerate(form.parameters) if extent == 1]
    if needs[1]:
        results[1] = reshaped(sum_over(g * y, shared), shape_of(weight))
    if needs[2]:
        results[2] = reshaped(sum_over(g, shared), shape_of(bias))
    return tuple(results)


def normalization_rule(name: str) -> Rule:
    """The gradient of :func:`normalized` under a name."""
    return Rule(name, _normalization_gradient)


_LAYER = normalization_rule("NativeLayerNormBackward0")
_GROUP = normalization_rule("NativeGroupNormBackward0")


def normalized(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, form: Form, rule: Rule
) -> tuple[Tensor, Any, Any]:
    """The normalized input, and mean and variance of each row."""
    out, mean, variance, scale = _normalized(input, weight, bias, form)
    out = attach(out, rule, (input, weight, bias), (form,), (mean, scale))
    return out, mean, variance


@repeated
def _normalized(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, form: Form
) -> tuple[Any, ...]:
    x: Any = _wide(input, form.shape)
    mean, variance = moments(x, form.axes)
    scale = rsqrt(variance + form.eps)
    out = (x - mean) * scale
    if weight is not None:
        out = out * _wide(weight, form.parameters)
    if bias is not None:
        out = out + _wide(bias, form.parameters)
    return narrowed(reshaped(out, shape_of(input)), input), mean, variance, scale


# Layer and RMS --------------------------------------------------------------------------------


def _normalized_axes(input: Tensor, normalized_shape: Any, function: str) -> Shape:
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not wanted:
        raise RuntimeError(
            f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least "
            f"one element, but got normalized_shape = {list(wanted)}"
        )
    shape = shape_of(input)
    if shape[len(shape) - len(wanted) :] != wanted or len(wanted) > len(shape):
        raise RuntimeError(
            f"Given normalized_shape={list(wanted)}, expected input with shape "
            f"[*, {', '.join(map(str, wanted))}], but got input of size{list(shape)} ({function})"
        )
    return tuple(range(len(shape) - len(wanted), len(shape)))


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance over the last dimensions, then ``* weight + bias``.

    ``normalized_shape`` names the extents of those dimensions; weight and bias have it. A
    shape that the input does not end with raises RuntimeError.
    """
    require_tensor(input, "layer_norm", "input", 1)
    require_floating(input, "LayerNormKernelImpl")
    axes = _normalized_axes(input, normalized_shape, "layer_norm")
    shape = shape_of(input)
    wanted = tuple(shape[axis] for axis in axes)
    for parameter, name in ((weight, "weight"), (bias, "bias")):
        if parameter is not None and shape_of(parameter) != wanted:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of "
                f"shape {list(shape_of(parameter))} and normalized_shape = {list(wanted)}"
            )
    form = Form(shape, axes, (*(1 for _ in shape[: axes[0]]), *wanted), eps)
    return normalized(input, weight, bias, form, _LAYER)[0]


def _rms_gradient(g: Any, x: Any, weight: Any, attrs: Any, extra: Any, needs: Any) -> Any:
    axes, eps = attrs
    scale = _rms_scale(widened(x), axes, eps) if mode.enabled else extra
    return _rms_gradients(g, x, weight, scale, axes, needs)


@repeated_gradient
def _rms_gradients(g: Any, x: Any, weight: Any, scale: Any, axes: Shape, needs: Any) -> Any:
    g, x = widened(g), widened(x)
    y = x * scale
    results: list[Any] = [None, None]
    if needs[0]:
        h = g if weight is None else g * widened(weight)
        results[0] = (h - y * (sum_over(h * y, axes) / row_size(h, axes))) * scale
    if needs[1]:
        results[1] = reshaped(sum_over(g * y, range(axes[0])), shape_of(weight))
    return tuple(results)


def _rms_scale(x: Any, axes: Shape, eps: float) -> Any:
    return rsqrt(sum_over(x * x, axes) / row_size(x, axes) + eps)  # type: ignore[operator]


_RMS = Rule("FusedRmsNormBackward0", _rms_gradient)


@public(method=False)
def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """The input divided by the root of its mean square over the last dimensions, times weight.

    ``eps=None`` means the smallest step of the dtype at 1. Source: B. Zhang, R. Sennrich, "Root
    mean square layer normalization", NeurIPS 2019.
    """
    require_tensor(input, "rms_norm", "input", 1)
    if dtype_of(input).kind != "c":
        require_floating(input, "rms_norm")
    axes = _normalized_axes(input, normalized_shape, "rms_norm")
    wanted = tuple(shape_of(input)[axis] for axis in axes)
    if weight is not None and shape_of(weight) != wanted:
        raise RuntimeError(
            "Expected weight to be of same shape as normalized_shape, but got weight of shape "
            f"{list(shape_of(weight))} and normalized_shape = {list(wanted)}"
        )
    if dtype_of(input).kind == "c":
        return _complex_rms_norm(input, axes, weight, eps)
    small = functions.finfo(dtype_of(widened(input))).eps if eps is None else eps
    out, scale = _by_root_mean_square(input, weight, axes, small)
    return attach(out, _RMS, (input, weight), (axes, small), scale)


@repeated
def _by_root_mean_square(
    input: Tensor, weight: Tensor | None, axes: Shape, eps: float
) -> tuple[Any, Any]:
    x: Any = widened(input)
    scale = _rms_scale(x, axes, eps)
    out = x * scale
    if weight is not None:
        out = out * widened(weight)
    return narrowed(out, input), scale


def _complex_rms_norm(x: Any, axes: Shape, weight: Tensor | None, eps: float | None) -> Tensor:
    """The mean is that of squares, as in PyTorch, not of squared magnitudes."""
    small = functions.finfo(dtype_of(x).real).eps if eps is None else eps
    out = x * functions.rsqrt(functions.mean(x * x, axes, keepdim=True) + small)
    return out if weight is None else out * weight  # type: ignore[no-any-return]


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance over each of ``num_groups`` groups of channels of a sample."""
    require_tensor(input, "group_norm", "input", 1)
    shape = shape_of(input)
    if len(shape) > 1 and num_groups > 0 and shape[0] * count(shape[1:]) == num_groups:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {list(shape)}"
        )
    return grouped_norm(input, num_groups, weight, bias, eps)


def grouped_norm(
    input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """``group_norm`` that lets a group have a single value."""
    require_tensor(input, "group_norm", "input", 1)
    require_floating(input, "group_norm")
    shape = shape_of(input)
    if len(shape) < 2:
        raise RuntimeError(
            f"Expected at least 2 dimensions for input tensor but received {len(shape)}"
        )
    batch, channels = shape[:2]
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {list(shape)} and num_groups={num_groups}"
        )
    for parameter, name in ((weight, "weight"), (bias, "bias")):
        if parameter is not None and shape_of(parameter) != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in "
                f"input, but got {name} of shape {list(shape_of(parameter))} and input of shape "
                f"{list(shape)}"
            )
    each = channels // num_groups
    looked_at = (batch, num_groups, each, count(shape[2:]))
    form = Form(looked_at, (2, 3), (1, num_groups, each, 1), eps)
    return normalized(input, weight, bias, form, _GROUP)[0]


# The forms of the torch namespace, which still have an argument for cuDNN -----------------------


@public("layer_norm", method=False)
def _torch_layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enable: bool = True,
) -> Tensor:  # fmt: skip
    return layer_norm(input, normalized_shape, weight, bias, eps)


@public("group_norm", method=False)
def _torch_group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    return group_norm(input, num_groups, weight, bias, eps)
