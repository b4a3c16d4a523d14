"""Unpooling and pooling over windows at random places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lazytorch.nn import functional as F
from lazytorch.nn.arguments import repeat
from lazytorch.nn.module import Module
from lazytorch.tensor.tensor import Tensor


class _MaxUnpoolNd(Module):
    dimensions: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = repeat(kernel_size, self.dimensions)
        self.stride = self.kernel_size if stride is None else repeat(stride, self.dimensions)
        self.padding = repeat(padding, self.dimensions)

    def forward(
        self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        return type(self).function(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    """Puts values back where MaxPool1d with ``return_indices`` found them, zeros elsewhere."""

    dimensions = 1
    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpoolNd):
    """Puts values back where MaxPool2d with ``return_indices`` found them, zeros elsewhere.

    Several input sizes are pooled to one: ``output_size`` says which is meant.

    >>> values, places = nn.MaxPool2d(2, return_indices=True)(torch.ones(1, 1, 4, 4))
    >>> nn.MaxUnpool2d(2)(values, places).shape
    torch.Size([1, 1, 4, 4])
    """

    dimensions = 2
    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpoolNd):
    """Puts values back where MaxPool3d with ``return_indices`` found them, zeros elsewhere."""

    dimensions = 3
    function = staticmethod(F.max_unpool3d)


class _FractionalMaxPool(Module):
    dimensions: ClassVar[int]
    function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name, dims = type(self).__name__, self.dimensions
        self.kernel_size = repeat(kernel_size, dims)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else repeat(output_size, dims)
        self.output_ratio = None if output_ratio is None else repeat(output_ratio, dims)
        if output_size is None and output_ratio is None:
            raise ValueError(
                f"{name} requires specifying either an output size, or a pooling ratio"
            )
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        if self.output_ratio is not None and not all(0 < part < 1 for part in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
            _random_samples=self._random_samples,
        )  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool):
    """Largest values of windows of random places that cover the input (Graham, Fractional
    Max-Pooling, 2014).

    The output has ``output_size``, or the input's size times ``output_ratio``.

    >>> nn.FractionalMaxPool2d(3, output_size=(4, 5))(torch.ones(2, 3, 9, 9)).shape
    torch.Size([2, 3, 4, 5])
    """

    dimensions = 2
    function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """FractionalMaxPool2d for inputs (N, C, D, H, W) or (C, D, H, W)."""

    dimensions = 3
    function = staticmethod(F.fractional_max_pool3d)
