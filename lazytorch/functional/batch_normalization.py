"""Batch and instance normalization, and the running statistics they keep."""

from __future__ import annotations

from typing import Any

from lazytorch import engine
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.functional.composite import (
    detached,
    kept_shape,
    narrowed,
    require_floating,
    require_tensor,
    reshaped,
    rsqrt,
    sum_over,
    widened,
)
from lazytorch.functional.normalization import Form, normalization_rule, normalized, row_size
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import are_examples
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import shape_of, storage_of
from lazytorch.tensor.templates import repeated
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]
_RULE = normalization_rule("NativeBatchNormBackward0")


def _channel_form(shape: Shape, eps: float) -> Form:
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    return Form(shape, axes, kept_shape(shape, axes), eps)


def _update_running(running: Tensor | None, batch: Any, momentum: float, correction: float) -> None:
    """``running = (1 - momentum) * running + momentum * correction * batch``, in place."""
    if running is None:
        return
    held: Any = running
    with no_grad():
        if are_examples(batch) and not are_examples(running):
            raise RuntimeError(
                "Batch norm got a batched tensor as input while the running_mean or running_var, "
                "which will be updated in place, were not batched. Inside of vmap make them an "
                "argument with a batch (torch.func.functional_call), or set track_running_stats "
                "to False."
            )
        held.copy_(_moved_towards(running, batch, momentum, correction))
    engine.accompany(storage_of(running))


@repeated
def _moved_towards(running: Any, batch: Any, momentum: float, correction: float) -> Any:
    value: Any = narrowed(reshaped(batch, shape_of(running)), running)
    return running * (1 - momentum) + value * (momentum * correction)


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
    if training:
        _verify_batch_size(shape_of(input))
    if shape_of(input) == (0,):
        # PyTorch takes a vector without elements for a batch without channels.
        return functions.clone(input)  # type: ignore[no-any-return]
    return channel_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def channel_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float,
) -> Tensor:  # fmt: skip
    """``batch_norm`` that lets a channel have a single value."""
    require_floating(input, "batch_norm")
    _check_batch_norm(input, running_mean, running_var, weight, bias, training)
    if not training:
        assert running_mean is not None and running_var is not None
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    form = _channel_form(shape_of(input), eps)
    out, mean, variance = normalized(input, weight, bias, form, _RULE)
    size = row_size(input, form.axes)
    # A batch of no samples says nothing about the data.
    if count(shape_of(input)):
        _update_running(running_mean, mean, momentum, 1.0)
        _update_running(running_var, variance, momentum, size / max(size - 1, 1))
    return out


def _verify_batch_size(shape: Shape) -> None:
    if len(shape) >= 2 and count(shape) == shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {Size(shape)}"
        )


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
    form = Form(shape, axes, (1, shape[1], *(1 for _ in axes)), eps)
    out, mean, variance = normalized(input, weight, bias, form, _RULE)
    size = row_size(input, axes)
    if running_mean is not None or running_var is not None:
        with no_grad():
            mean = sum_over(mean, (0,)) / shape[0]  # type: ignore[operator]
            variance = sum_over(variance, (0,)) / shape[0]  # type: ignore[operator]
        _update_running(running_mean, mean, momentum, 1.0)
        _update_running(running_var, variance, momentum, size / max(size - 1, 1))
    return out


# The forms of the torch namespace, which still have an argument for cuDNN -----------------------


@public("batch_norm", method=False)
def _torch_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, momentum: float, eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@public("instance_norm", method=False)
def _torch_instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, use_input_stats: bool, momentum: float, eps: float,
    cudnn_enabled: bool = True,
) -> Tensor:  # fmt: skip
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )
