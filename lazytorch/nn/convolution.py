"""Convolution layers in one, two and three dimensions, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import lazytorch as torch
from lazytorch.nn import functional as F
from lazytorch.nn import init
from lazytorch.nn.arguments import repeat
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.tensor import Tensor

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share: arguments, weight layout, initial values and text."""

    dimensions: ClassVar[int]
    transposed: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        dims = self.dimensions
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = repeat(kernel_size, dims)
        self.stride = repeat(stride, dims)
        self.padding = padding if isinstance(padding, str) else repeat(padding, dims)
        self.dilation = repeat(dilation, dims)
        self.output_padding = repeat(output_padding, dims)
        self.groups = groups
        self.padding_mode = padding_mode
        self._check_arguments()
        self._reversed_padding_repeated_twice = self._padding_of_every_side()
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        options = {"device": device, "dtype": dtype}
        shape = (ends[0], ends[1] // groups, *self.kernel_size)
        self.weight = Parameter(torch.empty(shape, **options))
        if bias:
            self.bias = Parameter(torch.empty(out_channels, **options))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check_arguments(self) -> None:
        if self.groups <= 0:
            raise ValueError("groups must be a positive integer")
        if self.in_channels % self.groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if self.out_channels % self.groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(
                    f"Invalid padding string {self.padding!r}, should be one of {{'valid', 'same'}}"
                )
            if self.padding == "same" and any(step != 1 for step in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if self.padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {set(_PADDING_MODES)}, "
                f"but got padding_mode='{self.padding_mode}'"
            )

    def _padding_of_every_side(self) -> list[int]:
        """Both sides of every dimension, the last dimension first, as F.pad wants them."""
        sides: list[int] = []
        for place in reversed(range(self.dimensions)):
            if self.padding == "valid":
                sides += [0, 0]
            elif self.padding == "same":
                total = self.dilation[place] * (self.kernel_size[place] - 1)
                sides += [total // 2, total - total // 2]
            else:
                amount: Any = self.padding[place]
                sides += [amount, amount]
        return sides

    def reset_parameters(self) -> None:
        # √5 makes the bound of kaiming_uniform_ equal to 1/√fan_in.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        zeros = (0,) * len(self.kernel_size)
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        if self.padding != zeros:
            # Strings are printed bare in PyTorch.
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != zeros:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


class _Convolution(_ConvNd):
    """A forward convolution of ``dimensions`` dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dimensions - 1]
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            sides = self._reversed_padding_repeated_twice
            input = F.pad(input, sides, mode=self.padding_mode)
            padding = (0,) * self.dimensions
        return convolve(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Convolution):
    """Convolution over (N, C, L) or (C, L).

    >>> nn.Conv1d(16, 33, 3, stride=2)(torch.ones(20, 16, 50)).shape
    torch.Size([20, 33, 24])
    """

    dimensions = 1


class Conv2d(_Convolution):
    """Convolution over (N, C, H, W) or (C, H, W).

    ``padding`` is a number, a pair, ``'valid'`` or ``'same'``; ``padding_mode`` is ``zeros``,
    ``reflect``, ``replicate`` or ``circular``.

    >>> nn.Conv2d(3, 8, 3, padding=1)(torch.ones(2, 3, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    dimensions = 2


class Conv3d(_Convolution):
    """Convolution over (N, C, D, H, W) or (C, D, H, W)."""

    dimensions = 3


class _ConvTransposeNd(_ConvNd):
    """The gradient of a convolution with respect to its input, as a layer."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
            groups, bias, padding_mode, device, dtype,
        )  # fmt: skip

    def _output_padding(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """What to add at the far end so that the output has the size asked for."""
        if output_size is None:
            return self.output_padding
        dims = self.dimensions
        leading = input.dim() - dims
        if len(output_size) == leading + dims:
            output_size = output_size[leading:]
        if len(output_size) != dims:
            raise ValueError(
                f"ConvTranspose{dims}D: for {input.dim()}D input, output_size must have {dims} "
                f"or {leading + dims} elements (got {len(output_size)})"
            )
        smallest = [
            (input.size(leading + place) - 1) * self.stride[place]
            - 2 * self.padding[place]
            + self.dilation[place] * (self.kernel_size[place] - 1)
            + 1
            for place in range(dims)
        ]
        largest = [size + step - 1 for size, step in zip(smallest, self.stride)]
        for wanted, low, high in zip(output_size, smallest, largest):
            if not low <= wanted <= high:
                raise ValueError(
                    f"requested an output size of {output_size}, but valid sizes range from "
                    f"{smallest} to {largest} (for an input of {tuple(input.shape[2:])})"
                )
        return tuple(wanted - low for wanted, low in zip(output_size, smallest))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        dims = self.dimensions
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        return convolve(
            input, self.weight, self.bias, self.stride, self.padding,
            self._output_padding(input, output_size), self.groups, self.dilation,
        )  # fmt: skip


class ConvTranspose1d(_ConvTransposeNd):
    """Transposed convolution over (N, C, L) or (C, L)."""

    dimensions = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution over (N, C, H, W) or (C, H, W).

    >>> nn.ConvTranspose2d(8, 3, 2, stride=2)(torch.ones(1, 8, 4, 4)).shape
    torch.Size([1, 3, 8, 8])
    """

    dimensions = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Transposed convolution over (N, C, D, H, W) or (C, D, H, W)."""

    dimensions = 3
