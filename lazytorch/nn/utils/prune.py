"""torch.nn.utils.prune: weights of which some are held at zero by a mask.

A pruned parameter ``weight`` becomes the parameter ``weight_orig`` and the buffer ``weight_mask``;
``weight`` is their product, made before each call of the module, so that gradients reach what was
kept. Pruning again prunes what the masks before have left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import lazytorch as torch
from lazytorch.nn.module import Module
from lazytorch.nn.utils.convert_parameters import parameters_to_vector
from lazytorch.nn.utils.pruning import (
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
    hook_of,
)
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "BasePruningMethod", "CustomFromMask", "Identity", "L1Unstructured", "LnStructured",
    "PruningContainer", "RandomStructured", "RandomUnstructured", "custom_from_mask",
    "global_unstructured", "identity", "is_pruned", "l1_unstructured", "ln_structured",
    "random_structured", "random_unstructured", "remove",
]  # fmt: skip

M = TypeVar("M", bound=Module)


def identity(module: M, name: str) -> M:
    """Give a parameter the names and the hook of pruning, and prune nothing."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: M, name: str, amount: int | float) -> M:
    """Prune ``amount`` entries of a parameter (int: how many, float: which share) at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(
    module: M, name: str, amount: int | float, importance_scores: Tensor | None = None
) -> M:
    """Prune the ``amount`` entries of a parameter that are smallest.

    >>> layer = l1_unstructured(nn.Linear(2, 3), "weight", amount=0.5)
    >>> int(layer.weight_mask.sum()), sorted(layer.state_dict())
    (3, ['bias', 'weight_mask', 'weight_orig'])
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: M, name: str, amount: int | float, dim: int) -> M:
    """Prune ``amount`` channels of a parameter along ``dim`` at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: M, name: str, amount: int | float, n: Any, dim: int,
    importance_scores: Tensor | None = None,
) -> M:  # fmt: skip
    """Prune the ``amount`` channels of a parameter along ``dim`` whose norm of order ``n`` is
    smallest."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: M, name: str, mask: Tensor) -> M:
    """Prune a parameter by a mask of its shape: ones for what is kept."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune several parameters, given as (module, name), as if they were one vector.

    ``pruning_method`` is an unstructured one, made with ``kwargs``.
    """
    if not isinstance(parameters, Iterable):
        raise TypeError("global_unstructured(): parameters is not an Iterable")
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured(): importance_scores must be of type dict")
    places: Sequence[Any] = list(parameters)
    tensors = [getattr(module, name) for module, name in places]
    values = [scores.get(place, tensor) for place, tensor in zip(places, tensors)]
    masks = [
        getattr(module, name + "_mask", torch.ones_like(tensor))
        for (module, name), tensor in zip(places, tensors)
    ]
    method: Any = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(
            'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
            f"{pruning_method} of type {method.PRUNING_TYPE}"
        )
    joined = parameters_to_vector(values).detach(), parameters_to_vector(masks).detach()
    mask: Any = PruningContainer(method).compute_mask(*joined)
    parts = mask.split([tensor.numel() for tensor in tensors])
    for (module, name), tensor, part in zip(places, tensors, parts):
        custom_from_mask(module, name, part.view_as(tensor).clone())


def remove(module: M, name: str) -> M:
    """Make a pruned parameter an ordinary one again, with zeros where it was pruned."""
    found = hook_of(module, name)
    if found is None:
        raise ValueError(
            f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed"
        )
    key, hook = found
    hook.remove(module)
    del module._forward_pre_hooks[key]
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module or of one inside it is pruned."""
    return any(
        isinstance(hook, BasePruningMethod)
        for inner in module.modules()
        for hook in inner._forward_pre_hooks.values()
    )
