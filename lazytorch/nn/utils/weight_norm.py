"""The older weight normalization: a hook that computes the weight before each call."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.nn.utils.parametrizations import norm_except_dim
from lazytorch.nn.utils.pre_hooks import named_pre_hook
from lazytorch.tensor.tensor import Tensor

M = TypeVar("M", bound=Module)


class WeightNorm:
    """The hook: ``weight = g * v / ‖v‖`` of the parameters ``<name>_g`` and ``<name>_v``."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except_dim(v, 2, self.dim))  # type: ignore[no-any-return]

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Train a weight's length along ``dim`` and its direction as two parameters, ``<name>_g`` and
    ``<name>_v`` (Salimans and Kingma, Weight Normalization, 2016).

    Kept for programs and files that have these names; ``parametrizations.weight_norm`` is newer.
    """
    warnings.warn(
        "`torch.nn.utils.weight_norm` is deprecated in favor of "
        "`torch.nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    if named_pre_hook(module, WeightNorm, name) is not None:
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    hook = WeightNorm(name, dim)
    weight = getattr(module, name)
    del module._parameters[name]
    module.register_parameter(f"{name}_g", Parameter(norm_except_dim(weight.detach(), 2, hook.dim)))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    hook(module, None)
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make the computed weight a parameter again; ``ValueError`` where there is no norm."""
    key = named_pre_hook(module, WeightNorm, name)
    if key is None:
        raise ValueError(f"weight_norm of '{name}' not found in {module}")
    hook: Any = module._forward_pre_hooks.pop(key)
    weight = hook.compute_weight(module).detach()
    delattr(module, name)
    del module._parameters[f"{name}_g"], module._parameters[f"{name}_v"]
    setattr(module, name, Parameter(weight))
    return module
