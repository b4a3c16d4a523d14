"""Gradients of convolutions as functions of their own.

They are those that backward records; the convolution itself is never computed, for nobody looks
at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lazytorch as torch
from lazytorch.nn import functional as F
from lazytorch.tensor.tensor import Tensor


def _gradient(
    convolution: Any, wanted: Sequence[int], other: Tensor, first: bool, grad_output: Tensor,
    options: tuple[Any, ...],
) -> Tensor:  # fmt: skip
    with torch.enable_grad():
        asked = torch.zeros(tuple(wanted), dtype=other.dtype, device=other.device)
        asked.requires_grad_()
        input, weight = (asked, other.detach()) if first else (other.detach(), asked)
        output = convolution(input, weight, None, *options)
        (gradient,) = torch.autograd.grad(output, asked, grad_output)
    return gradient  # type: ignore[no-any-return]


def conv1d_input(
    input_size: Sequence[int], weight: Tensor, grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv1d`` for an input of ``input_size``.

    >>> nn.grad.conv1d_input((1, 1, 3), torch.ones(1, 1, 2), torch.ones(1, 1, 2))
    tensor([[[1., 2., 1.]]])
    """
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv1d, input_size, weight, True, grad_output, options)


def conv1d_weight(
    input: Tensor, weight_size: Sequence[int], grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv1d`` for a weight of ``weight_size``."""
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv1d, weight_size, input, False, grad_output, options)


def conv2d_input(
    input_size: Sequence[int], weight: Tensor, grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv2d`` for an input of ``input_size``."""
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv2d, input_size, weight, True, grad_output, options)


def conv2d_weight(
    input: Tensor, weight_size: Sequence[int], grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv2d`` for a weight of ``weight_size``."""
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv2d, weight_size, input, False, grad_output, options)


def conv3d_input(
    input_size: Sequence[int], weight: Tensor, grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv3d`` for an input of ``input_size``."""
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv3d, input_size, weight, True, grad_output, options)


def conv3d_weight(
    input: Tensor, weight_size: Sequence[int], grad_output: Tensor, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The gradient of ``conv3d`` for a weight of ``weight_size``."""
    options = (stride, padding, dilation, groups)
    return _gradient(F.conv3d, weight_size, input, False, grad_output, options)
