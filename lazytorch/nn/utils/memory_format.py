"""Weights of convolutions in another order of dimensions in memory."""

from __future__ import annotations

from typing import Any, TypeVar

import lazytorch as torch
from lazytorch.nn.convolution import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from lazytorch.nn.module import Module

M = TypeVar("M", bound=Module)


def convert_conv2d_weight_memory_format(module: M, memory_format: Any) -> M:
    """Lay the weights of all ``Conv2d`` and ``ConvTranspose2d`` in a module out anew.

    ``memory_format`` is ``torch.channels_last`` or ``torch.contiguous_format``. Values and results
    are the same; returns the module.
    """
    return _converted(module, memory_format, (Conv2d, ConvTranspose2d))


def convert_conv3d_weight_memory_format(module: M, memory_format: Any) -> M:
    """Lay the weights of all ``Conv3d`` and ``ConvTranspose3d`` in a module out anew.

    ``memory_format`` is ``torch.channels_last_3d`` or ``torch.contiguous_format``.
    """
    return _converted(module, memory_format, (Conv3d, ConvTranspose3d))


def _converted(module: M, memory_format: Any, kinds: tuple[type[Module], ...]) -> M:
    for layer in module.modules():
        if isinstance(layer, kinds):
            weight: Any = layer.weight
            weight.data = torch.clone(weight.detach(), memory_format=memory_format)
    return module
