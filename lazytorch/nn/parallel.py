"""What spreads work over several devices in PyTorch; here there is one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _BatchNorm
from lazytorch.nn.module import Module
from lazytorch.tensor.tensor import Tensor


class SyncBatchNorm(_BatchNorm):
    """Batch normalization over the processes of a group; with one process, over its batch.

    ``process_group`` must be None: there are no groups of processes.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if process_group is not None:
            raise NotImplementedError(
                f"SyncBatchNorm got process_group={process_group!r}, but computes in one process: "
                "leave process_group out"
            )
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with a SyncBatchNorm in the place of every BatchNorm, its tensors kept."""
        converted = module
        if isinstance(module, (BatchNorm1d, BatchNorm2d, BatchNorm3d)):
            converted = cls(
                module.num_features, module.eps, module.momentum, module.affine,
                module.track_running_stats, process_group, bias=module.bias is not None,
            )  # fmt: skip
            converted._parameters.update(module._parameters)
            converted._buffers.update(module._buffers)
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted


class DataParallel(Module):
    """The module itself, under the name ``module``: with one device, PyTorch's does the same.

    More than one of ``device_ids`` raises ``NotImplementedError``.

    >>> nn.DataParallel(nn.Linear(2, 3))(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise NotImplementedError(
                f"DataParallel got device_ids={list(device_ids)}, but a program computes on one "
                "device at a time: name one, or none"
            )
        self.module = module
        self.device_ids = list(device_ids or [])
        self.output_device = output_device
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """Not built: one process computes. Making one says what to do instead."""

    def __init__(self, module: Module, *_: Any, **__: Any) -> None:
        raise NotImplementedError(
            "torch.nn.parallel.DistributedDataParallel: one process computes here. Use the module "
            "as it is, with larger batches or gradients accumulated over several backward passes"
        )
