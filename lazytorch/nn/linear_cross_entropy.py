"""A linear layer and the cross-entropy of its output in one module."""

from __future__ import annotations

import math
from typing import Any

from lazytorch.functional.linear_cross_entropy import LinearCrossEntropyOptions
from lazytorch.nn import functional as F
from lazytorch.nn.linear import Linear
from lazytorch.nn.loss import _WeightedLoss
from lazytorch.tensor.tensor import Tensor


class LinearCrossEntropyLoss(_WeightedLoss):
    """Cross-entropy of ``num_classes`` logits that a linear layer makes of the input.

    Input (N, in_features) or (in_features), target as for :class:`CrossEntropyLoss`, with
    ``out_features`` as further dimensions of logits and target. ``options`` has the batch taken in
    chunks, so that not all logits are in memory at once.

    >>> loss = nn.LinearCrossEntropyLoss(5, 10)
    >>> loss(torch.ones(2, 5), torch.tensor([0, 3])).shape
    torch.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
    ) -> None:
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(
                f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}"
            )
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(
                f"expected label_smoothing to be in range [0, 1], got {label_smoothing}"
            )
        super().__init__(weight, reduction=reduction)
        self.num_classes = num_classes
        self.out_features = out_features
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        rows = math.prod(out_features, start=num_classes)
        self.linear = Linear(in_features, rows, bias=bias, device=device, dtype=dtype)
        self.options = options

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        classes = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input, self.linear.weight.reshape(*classes, self.linear.in_features), target,
            linear_bias=None if bias is None else bias.reshape(classes), weight=self.weight,
            reduction=self.reduction, ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing, options=self.options,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, "
            f"reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
