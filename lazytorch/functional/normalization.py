"""Normalizations: layer, batch, group, instance, RMS, local response, and unit vectors.

All of the first four subtract the mean over some axes and divide by the standard deviation over
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
from typing import Any

from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    detached,
    kept_shape,
    narrowed,
    padded,
    require_floating,
    require_tensor,
    reshaped,
    rsqrt,
    sum_over,
    widened,
    windowed,
)
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

# The common part ------------------------------------------------------------------------------


def moments(x: Tensor, axes: Sequence[int]) -> tuple[Any, Any]:
    """Mean and variance (divided by the number of elements) over ``axes``, which stay."""
    size = _size(x, axes)
    mean: Any = sum_over(x, axes) / size  # type: ignore[operator]
    deviation = x - mean
    return mean, sum_over(deviation * deviation, axes) / size  # type: ignore[operator]


def _size(x: Tensor, axes: Sequence[int]) -> int:
    return count(tuple(shape_of(x)[axis] for axis in axes))


class _Form:
    """How an input is looked at: its shape, the axes of a row, the shape of weight and bias."""

    __slots__ = ("axes", "eps", "parameters", "shape")

    def __init__(self, shape: Shape, axes: Shape, parameters: Shape, eps: float) -> None:
        self.shape = shape
        self.axes = axes
        self.parameters = parameters
        self.eps = eps


def _wide(tensor: Any, shape: Shape) -> Any:
    return widened(reshaped(tensor, shape))


def _normalization_gradient(
    g: Any, x: Any, weight: Any, bias: Any, attrs: Any, extra: Any, needs: Any
) -> Any:
    (form,) = attrs
    original = shape_of(x)
    g, x = _wide(g, form.shape), _wide(x, form.shape)
    if mode.enabled:
        mean, variance = moments(x, form.axes)
        scale = rsqrt(variance + form.eps)
    else:
        mean, scale = extra
    y = (x - mean) * scale
    results: list[Any] = [None, None, None]
    if needs[0]:
        h = g if weight is None else g * _wide(weight, form.parameters)
        size = _size(h, form.axes)
        across = sum_over(h, form.axes) / size
        along = sum_over(h * y, form.axes) / size
        results[0] = reshaped((h - across - y * along) * scale, original)
    shared = [axis for axis, extent in enumerate(form.parameters) if extent == 1]
    if needs[1]:
        results[1] = reshaped(sum_over(g * y, shared), shape_of(weight))
    if needs[2]:
        results[2] = reshaped(sum_over(g, shared), shape_of(bias))
    return tuple(results)


_LAYER = Rule("NativeLayerNormBackward0", _normalization_gradient)
_BATCH = Rule("NativeBatchNormBackward0", _normalization_gradient)
_GROUP = Rule("NativeGroupNormBackward0", _normalization_gradient)


def _normalized(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, form: _Form, rule: Rule
) -> tuple[Tensor, Any, Any]:
    """The normalized input, and mean and variance of each row."""
    with no_grad():
        x: Any = _wide(detached(input), form.shape)
        mean, variance = moments(x, form.axes)
        scale = rsqrt(variance + form.eps)
        out = (x - mean) * scale
        if weight is not None:
            out = out * _wide(detached(weight), form.parameters)
        if bias is not None:
            out = out + _wide(detached(bias), form.parameters)
        out = narrowed(reshaped(out, shape_of(input)), input)
    out = attach(out, rule, (input, weight, bias), (form,), (mean, scale))
    return out, mean, variance


# Layer and RMS --------------------------------------------------------------------------------


def _normalized_axes(input: Tensor, normalized_shape: Any, function: str) -> Shape:
    wanted = (
        (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    )
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
    form = _Form(shape, axes, (*(1 for _ in shape[: axes[0]]), *wanted), eps)
    return _normalized(input, weight, bias, form, _LAYER)[0]


def _rms_gradient(g: Any, x: Any, weight: Any, attrs: Any, extra: Any, needs: Any) -> Any:
    axes, eps = attrs
    g, x = widened(g), widened(x)
    scale = _rms_scale(x, axes, eps) if mode.enabled else extra
    y = x * scale
    results: list[Any] = [None, None]
    if needs[0]:
        h = g if weight is None else g * widened(weight)
        results[0] = (h - y * (sum_over(h * y, axes) / _size(h, axes))) * scale
    if needs[1]:
        results[1] = reshaped(sum_over(g * y, range(axes[0])), shape_of(weight))
    return tuple(results)


def _rms_scale(x: Any, axes: Shape, eps: float) -> Any:
    return rsqrt(sum_over(x * x, axes) / _size(x, axes) + eps)  # type: ignore[operator]


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
    require_floating(input, "rms_norm")
    axes = _normalized_axes(input, normalized_shape, "rms_norm")
    wanted = tuple(shape_of(input)[axis] for axis in axes)
    if weight is not None and shape_of(weight) != wanted:
        raise RuntimeError(
            "Expected weight to be of same shape as normalized_shape, but got weight of shape "
            f"{list(shape_of(weight))} and normalized_shape = {list(wanted)}"
        )
    with no_grad():
        x: Any = widened(detached(input))
        small = functions.finfo(x.dtype).eps if eps is None else eps
        scale = _rms_scale(x, axes, small)
        out = x * scale
        if weight is not None:
            out = out * widened(detached(weight))
        out = narrowed(out, input)
    return attach(out, _RMS, (input, weight), (axes, small), scale)


# Batch and instance ---------------------------------------------------------------------------


def _channel_form(shape: Shape, eps: float) -> _Form:
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    return _Form(shape, axes, kept_shape(shape, axes), eps)


def _update_running(
    running: Tensor | None, batch: Any, momentum: float, correction: float
) -> None:
    """``running = (1 - momentum) * running + momentum * correction * batch``, in place."""
    if running is None:
        return
    with no_grad():
        value = narrowed(reshaped(batch, shape_of(running)), running)
        held: Any = running
        held.copy_(detached(running) * (1 - momentum) + value * (momentum * correction))


def _check_batch_norm(
    input: Tensor, running_mean: Any, running_var: Any, weight: Any, bias: Any, training: bool
) -> None:
    shape = shape_of(input)
    if len(shape) < 2:
        raise RuntimeError(
            f"batch_norm: expected an input of at least 2 dimensions (N, C, ...), got {list(shape)}"
        )
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("running_mean and running_var must be defined in evaluation mode")
    for tensor, name in (
        (running_mean, "running_mean"), (running_var, "running_var"), (weight, "weight"),
        (bias, "bias"),
    ):  # fmt: skip
        if tensor is not None and count(shape_of(tensor)) != shape[1]:
            raise RuntimeError(
                f"{name} should contain {shape[1]} elements not {count(shape_of(tensor))}"
            )


def _by_running(
    input: Tensor, mean: Tensor, variance: Tensor, weight: Any, bias: Any, eps: float
) -> Tensor:
    """Normalized with statistics that are not the batch's: a map of the input."""
    shape = tuple(extent if axis == 1 else 1 for axis, extent in enumerate(shape_of(input)))
    x: Any = widened(input)
    scale: Any = rsqrt(widened(detached(variance)) + eps)  # type: ignore[operator]
    if weight is not None:
        scale = scale * widened(weight)
    out = (x - reshaped(widened(detached(mean)), shape)) * reshaped(scale, shape)
    if bias is not None:
        out = out + reshaped(widened(bias), shape)
    return narrowed(out, input)


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance of each channel (dimension 1) over all else.

    ``training`` uses the batch's own statistics and moves the running ones towards them (the
    variance without bias); otherwise the running ones are used. One value a channel while
    training raises ValueError.
    """
    require_tensor(input, "batch_norm", "input", 1)
    require_floating(input, "batch_norm")
    if training:
        _verify_batch_size(shape_of(input))
    _check_batch_norm(input, running_mean, running_var, weight, bias, training)
    if not training:
        assert running_mean is not None and running_var is not None
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    form = _channel_form(shape_of(input), eps)
    out, mean, variance = _normalized(input, weight, bias, form, _BATCH)
    size = _size(input, form.axes)
    _update_running(running_mean, mean, momentum, 1.0)
    _update_running(running_var, variance, momentum, size / max(size - 1, 1))
    return out


def _verify_batch_size(shape: Shape) -> None:
    if len(shape) >= 2 and count(shape) == shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {Size(shape)}"
        )


@public("batch_norm", method=False)
def _torch_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, momentum: float, eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance of each channel of each sample of (N, C, ...)."""
    require_tensor(input, "instance_norm", "input", 1)
    require_floating(input, "instance_norm")
    shape = shape_of(input)
    if use_input_stats and len(shape) > 2 and count(shape[2:]) == 1:
        raise ValueError(
            "Expected more than 1 spatial element when training, got input size "
            f"torch.Size({list(shape)})"
        )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when use_input_stats is false"
            )
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    axes = tuple(range(2, len(shape)))
    form = _Form(shape, axes, (1, shape[1], *(1 for _ in axes)), eps)
    out, mean, variance = _normalized(input, weight, bias, form, _BATCH)
    size = _size(input, axes)
    if running_mean is not None or running_var is not None:
        with no_grad():
            mean = sum_over(mean, (0,)) / shape[0]  # type: ignore[operator]
            variance = sum_over(variance, (0,)) / shape[0]  # type: ignore[operator]
        _update_running(running_mean, mean, momentum, 1.0)
        _update_running(running_var, variance, momentum, size / max(size - 1, 1))
    return out


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Zero mean and unit variance over each of ``num_groups`` groups of channels of a sample."""
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
    if batch * count(shape[2:]) * (channels // num_groups) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {list(shape)}"
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
    form = _Form(looked_at, (2, 3), (1, num_groups, each, 1), eps)
    return _normalized(input, weight, bias, form, _GROUP)[0]


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


@public("instance_norm", method=False)
def _torch_instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, use_input_stats: bool, momentum: float, eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


# Others ---------------------------------------------------------------------------------------


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """The input divided by ``(k + alpha * mean of squares of size channels) ** beta``."""
    x: Any = input
    if len(shape_of(x)) < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality                          input (got "
            f"{len(shape_of(x))} dimensions)"
        )
    if count(shape_of(x)) == 0:
        return input
    shape = shape_of(x)
    widths = [(0, 0)] * len(shape)
    widths[1] = (size // 2, (size - 1) // 2)
    neighbours = windowed(padded(x * x, widths), 1, size, 1)
    mean: Any = sum_over(neighbours, (len(shape),), keep=False) / size  # type: ignore[operator]
    divisor = functions.pow(mean * alpha + k, beta)
    return x / divisor  # type: ignore[no-any-return]


def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """The input divided by its p-norm along ``dim``, or by ``eps`` where that is larger."""
    x: Any = input
    length = functions.norm(x, p, dim, keepdim=True)
    result = x / functions.clamp_min(length, eps)
    if out is None:
        return result  # type: ignore[no-any-return]
    functions.copy_out(out, result)
    return out
