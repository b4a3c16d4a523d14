"""Normalization with statistics over the batch: BatchNorm and InstanceNorm.

The running statistics are buffers written in place at each training step, so they are part of
what ``optimizer.step()`` computes and never pile up as pending work.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.nn import functional as F
from lazytorch.nn import init
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor


class _NormBase(Module):
    """Weights and running statistics that batch and instance normalization share."""

    _version = 2
    input_dims: ClassVar[tuple[int, ...]] = ()

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        options = {"device": device, "dtype": dtype}
        if affine:
            self.weight = Parameter(torch.empty(num_features, **options))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias = Parameter(torch.empty(num_features, **options))
        else:
            self.register_parameter("bias", None)
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, **options))
            self.register_buffer("running_var", torch.ones(num_features, **options))
            steps = torch.zeros((), dtype=dtypes.int64, device=device)
            self.register_buffer("num_batches_tracked", steps)
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Back to zero mean, unit variance and no batch seen."""
        if self.track_running_stats:
            for buffer, value in (
                (self.running_mean, 0),
                (self.running_var, 1),
                (self.num_batches_tracked, 0),
            ):
                # Values in memory, not numbers in the graph: the first training step is then
                # the same computation as the next, and nothing is compiled for it alone.
                values = np.full(tuple(buffer.shape), value, buffer.dtype.numpy)
                buffer.copy_(functions.tensor(values, device=buffer.device))

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if self.input_dims and input.dim() not in self.input_dims:
            wanted = " or ".join(f"{dims}D" for dims in self.input_dims)
            raise ValueError(f"expected {wanted} input (got {input.dim()}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        version = local_metadata.get("version")
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats:
            # Files of version 1 know no batch counter.
            if key not in state_dict and self.num_batches_tracked is not None:
                state_dict[key] = torch.zeros((), dtype=dtypes.int64)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _BatchNorm(_NormBase):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                # A cumulative average: every batch so far has the same weight.
                factor = 1.0 / float(self.num_batches_tracked)
        use_batch = self.training or (self.running_mean is None and self.running_var is None)
        keep = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if keep else None,
            self.running_var if keep else None,
            self.weight,
            self.bias,
            use_batch,
            factor,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Zero mean and unit variance of each channel over the batch, for (N, C) or (N, C, L)."""

    input_dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Zero mean and unit variance of each channel over the batch, for (N, C, H, W).

    While training, ``running = (1 - momentum) * running + momentum * batch``; ``eval()`` uses the
    running values. ``momentum=None`` averages over all batches instead.

    >>> nn.BatchNorm2d(3)(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    input_dims = (4,)


class BatchNorm3d(_BatchNorm):
    """Zero mean and unit variance of each channel over the batch, for (N, C, D, H, W)."""

    input_dims = (5,)


class _InstanceNorm(_NormBase):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        channel_dim = input.dim() - (self.input_dims[1] - 1)
        if input.size(channel_dim) != self.num_features and self.affine:
            raise ValueError(
                f"expected input's size at dim={channel_dim} to match num_features "
                f"({self.num_features}), but got: {input.size(channel_dim)}."
            )
        if input.dim() == self.input_dims[0]:
            return self._normalize(input.unsqueeze(0)).squeeze(0)
        return self._normalize(input)

    def _normalize(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Zero mean and unit variance of each channel of each sample, for (N, C, L) or (C, L)."""

    input_dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Zero mean and unit variance of each channel of each sample, for (N, C, H, W)."""

    input_dims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Zero mean and unit variance of each channel of each sample, for (N, C, D, H, W)."""

    input_dims = (4, 5)
