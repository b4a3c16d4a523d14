"""The older spectral normalization: a hook that computes the weight before each call."""

from __future__ import annotations

from typing import Any, TypeVar

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.nn import functional as F
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.nn.utils.pre_hooks import named_pre_hook
from lazytorch.tensor.tensor import Tensor

M = TypeVar("M", bound=Module)


class SpectralNorm:
    """The hook: the weight over its largest singular value, from ``<name>_orig``.

    The buffers ``<name>_u`` and ``<name>_v`` hold where the power iterations are.
    """

    _version = 1

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got "
                f"n_power_iterations={n_power_iterations}"
            )
        self.name = name
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as (outputs, the rest)."""
        return weight.movedim(self.dim, 0).flatten(1)

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        weight: Tensor = getattr(module, f"{self.name}_orig")
        u: Tensor = getattr(module, f"{self.name}_u")
        v: Tensor = getattr(module, f"{self.name}_v")
        matrix = self.matrix(weight)
        if do_power_iteration:
            with no_grad():
                new_u, new_v = u, v
                for _ in range(self.n_power_iterations):
                    new_v = F.normalize(torch.mv(matrix.t(), new_u), dim=0, eps=self.eps)
                    new_u = F.normalize(torch.mv(matrix, new_v), dim=0, eps=self.eps)
                u.copy_(new_u)
                v.copy_(new_v)
                # What the gradient needs keeps its value when the next call iterates.
                u, v = u.clone(), v.clone()
        return weight / torch.dot(u, torch.mv(matrix, v))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, module.training))


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> M:
    """Divide a weight by its largest singular value (Miyato et al., Spectral Normalization for
    Generative Adversarial Networks, 2018), estimated by power iterations, some a training step.

    Kept for programs and files with its names; ``parametrizations.spectral_norm`` is newer.
    """
    if named_pre_hook(module, SpectralNorm, name) is not None:
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    if dim is None:
        dim = 1 if getattr(module, "transposed", False) else 0
    hook = SpectralNorm(name, n_power_iterations, dim, eps)
    weight = module._parameters.pop(name)
    if weight is None:
        raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    height, width = hook.matrix(weight.detach()).shape
    module.register_parameter(f"{name}_orig", weight)
    # Not a parameter: assigned before each call.
    setattr(module, name, weight.detach())
    for letter, length in (("u", height), ("v", width)):
        start = F.normalize(weight.detach().new_empty(length).normal_(0, 1), dim=0, eps=eps)
        module.register_buffer(f"{name}_{letter}", start)
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Make the computed weight a parameter again; ``ValueError`` where there is no norm."""
    key = named_pre_hook(module, SpectralNorm, name)
    if key is None:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    hook: Any = module._forward_pre_hooks.pop(key)
    with no_grad():
        weight = hook.compute_weight(module, do_power_iteration=False)
    delattr(module, name)
    del module._parameters[f"{name}_orig"]
    del module._buffers[f"{name}_u"], module._buffers[f"{name}_v"]
    module.register_parameter(name, Parameter(weight.detach()))
    return module
