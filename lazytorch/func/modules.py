"""Modules prepared for transforms."""

from __future__ import annotations

from lazytorch.nn.batchnorm import _BatchNorm
from lazytorch.nn.module import Module


def replace_all_batch_norm_modules_(root: Module) -> Module:
    """Let every batch norm in ``root`` keep no running statistics; returns ``root``.

    Inside of ``vmap`` statistics that all examples share cannot be written.
    """
    for module in root.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root
