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


class _ConstantPad(Module):
    dimensions: ClassVar[int]

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__()
        self.padding = repeat(padding, 2 * self.dimensions)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A constant around the last dimension."""

    dimensions = 1


class ConstantPad2d(_ConstantPad):
    """A constant around the last two dimensions.

    >>> nn.ConstantPad2d(1, 3.5)(torch.ones(1, 2, 2)).shape
    torch.Size([1, 4, 4])
    """

    dimensions = 2


class ConstantPad3d(_ConstantPad):
    """A constant around the last three dimensions."""

    dimensions = 3


class _ZeroPad(_ConstantPad):
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


class ReflectionPad1d(_Pad):
    """The last dimension mirrored at its ends."""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two dimensions mirrored at their ends."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three dimensions mirrored at their ends."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The last dimension with its end values repeated."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The last two dimensions with their end values repeated."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The last three dimensions with their end values repeated."""

    dimensions, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The last dimension as a circle."""

    dimensions, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The last two dimensions as circles."""

    dimensions, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The last three dimensions as circles."""

    dimensions, mode = 3, "circular"
