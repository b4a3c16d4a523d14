"""Batch normalization folded into the layer before it, for inference."""

from __future__ import annotations

import copy
from typing import TypeVar

import lazytorch as torch
from lazytorch.nn.batchnorm import _BatchNorm
from lazytorch.nn.convolution import _ConvNd
from lazytorch.nn.linear import Linear
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.tensor import Tensor

Conv = TypeVar("Conv", bound=_ConvNd)


def fuse_conv_bn_eval(conv: Conv, bn: _BatchNorm, transpose: bool = False) -> Conv:
    """A copy of ``conv`` that computes both; both are to be in eval mode.

    >>> conv, norm = nn.Conv2d(3, 4, 3).eval(), nn.BatchNorm2d(4).eval()
    >>> nn.utils.fuse_conv_bn_eval(conv, norm)
    Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
    """
    _check_modes(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, _known(bn.running_mean), _known(bn.running_var), bn.eps,
        bn.weight, bn.bias, transpose,
    )  # fmt: skip
    return fused


def fuse_conv_bn_weights(
    conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float,
    bn_w: Tensor | None, bn_b: Tensor | None, transpose: bool = False,
) -> tuple[Parameter, Parameter]:  # fmt: skip
    """Weight and bias of a convolution with a batch normalization behind it."""
    shape = [1] * conv_w.dim()
    shape[1 if transpose else 0] = -1
    return _folded(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, shape)


def fuse_linear_bn_eval(linear: Linear, bn: _BatchNorm) -> Linear:
    """A copy of ``linear`` that computes both; both are to be in eval mode."""
    _check_modes(linear, bn)
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, "
            f"but got {linear.out_features} and {bn.num_features}"
        )
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight, fused.bias, _known(bn.running_mean), _known(bn.running_var), bn.eps,
        bn.weight, bn.bias,
    )  # fmt: skip
    return fused


def fuse_linear_bn_weights(
    linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float,
    bn_w: Tensor | None, bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:  # fmt: skip
    """Weight and bias of a Linear with a batch normalization behind it."""
    return _folded(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, [-1, 1])


def _folded(
    weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float,
    scale: Tensor | None, shift: Tensor | None, shape: list[int],
) -> tuple[Parameter, Parameter]:  # fmt: skip
    factor = torch.rsqrt(variance + eps)
    if scale is not None:
        factor = factor * scale
    before = -mean if bias is None else bias - mean
    moved = before * factor if shift is None else before * factor + shift
    folded = weight * factor.reshape(shape)
    trained = weight.requires_grad
    return (
        Parameter(folded.detach().to(weight.dtype), trained),
        Parameter(moved.detach().to(weight.dtype), trained if bias is None else bias.requires_grad),
    )


def _check_modes(layer: _ConvNd | Linear, bn: _BatchNorm) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval!")


def _known(buffer: Tensor | None) -> Tensor:
    if buffer is None:
        raise AssertionError("bn has no running statistics (track_running_stats=False)")
    return buffer
