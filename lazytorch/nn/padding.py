"""Padding layers: constants, zeros, reflections, repetitions and circles around the last dims.

``padding`` is one number for all sides, or the sides of the last dimension first:
``(left, right, top, bottom, front, back)``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lazytorch.nn import functional as F
from lazytorch.nn.arguments import repeat
from lazytorch.nn.module import Module
from lazytorch.tensor.tensor import Tensor


class _Pad(Module):
    dimensions: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = repeat(padding, 2 * self.dimensions)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(Module):
    dimensions: ClassVar[int]

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__()
        self.padding = repeat(padding, 2 * self.dimensions)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """A constant around the last dimension."""

    dimensions = 1


class ConstantPad2d(_ConstantPadNd):
    """A constant around the last two dimensions.

    >>> nn.ConstantPad2d(1, 3.5)(torch.ones(1, 2, 2)).shape
    torch.Size([1, 4, 4])
    """

    dimensions = 2


class ConstantPad3d(_ConstantPadNd):
    """A constant around the last three dimensions."""

    dimensions = 3


class _ZeroPad(_ConstantPadNd):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """Zeros around the last dimension."""

    dimensions = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around the last two dimensions."""

    dimensions = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around the last three dimensions."""

    dimensions = 3


class _ReflectionPadNd(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPadNd):
    """The last dimension mirrored at its ends."""

    dimensions = 1


class ReflectionPad2d(_ReflectionPadNd):
    """The last two dimensions mirrored at their ends."""

    dimensions = 2


class ReflectionPad3d(_ReflectionPadNd):
    """The last three dimensions mirrored at their ends."""

    dimensions = 3


class _ReplicationPadNd(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPadNd):
    """The last dimension with its end values repeated."""

    dimensions = 1


class ReplicationPad2d(_ReplicationPadNd):
    """The last two dimensions with their end values repeated."""

    dimensions = 2


class ReplicationPad3d(_ReplicationPadNd):
    """The last three dimensions with their end values repeated."""

    dimensions = 3


class _CircularPadNd(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPadNd):
    """The last dimension as a circle."""

    dimensions = 1


class CircularPad2d(_CircularPadNd):
    """The last two dimensions as circles."""

    dimensions = 2


class CircularPad3d(_CircularPadNd):
    """The last three dimensions as circles."""

    dimensions = 3
