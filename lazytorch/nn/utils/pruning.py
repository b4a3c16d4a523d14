"""What decides which entries of a parameter are kept, and holds the others at zero.

A method is a hook before each call of the module: it makes the parameter of its original and its
mask. S. Han et al., "Learning both weights and connections for efficient neural networks", 2015
(by size); H. Li et al., "Pruning filters for efficient ConvNets", 2017 (by the norm of a channel).
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import lazytorch as torch
from lazytorch.nn.module import Module
from lazytorch.tensor.tensor import Tensor


class BasePruningMethod(ABC):
    """What decides which entries are kept; a subclass says it in ``compute_mask``.

    ``PRUNING_TYPE`` says what a second method on a parameter looks at: the entries that are left
    (``unstructured``), the channels along ``dim`` that are (``structured``), or all (``global``).
    """

    PRUNING_TYPE: str
    _tensor_name: str | None = None

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, str(self._tensor_name), self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask of ``t``, whose entries matter as much as they are large: ones for what is kept.

        ``default_mask`` is the mask so far, of the shape of ``t``.
        """

    def apply_mask(self, module: Module) -> Tensor:
        """The parameter times its mask."""
        if self._tensor_name is None:
            raise AssertionError(f"Module {module} has to be pruned")
        mask, original = (getattr(module, self._tensor_name + end) for end in ("_mask", "_orig"))
        return mask.to(dtype=original.dtype) * original  # type: ignore[no-any-return]

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prune a parameter of a module, and hold it pruned before each call.

        ``importance_scores``, of the parameter's shape, are looked at in its place.
        """
        parameter = getattr(module, name)
        method = cls(*args, **kwargs)
        method._tensor_name = name
        before = hook_of(module, name)
        if importance_scores is not None and importance_scores.shape != parameter.shape:
            raise AssertionError(
                f"importance_scores should have the same shape as parameter {name} of {module}, "
                f"got {importance_scores.shape} vs {parameter.shape}"
            )
        default = torch.ones_like(parameter)
        hook: BasePruningMethod = method
        if before is not None:
            key, old = before
            hook = old if isinstance(old, PruningContainer) else PruningContainer(old)
            hook.add_pruning_method(method)  # type: ignore[attr-defined]
            default = getattr(module, name + "_mask").detach().clone()
        scores = parameter if importance_scores is None else importance_scores
        # A mask that cannot be made leaves the module as it was.
        mask = hook.compute_mask(scores.detach(), default_mask=default.detach())
        if before is None:
            module.register_parameter(name + "_orig", parameter)
            del module._parameters[name]
        else:
            del module._forward_pre_hooks[key]
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, hook.apply_mask(module))
        module.register_forward_pre_hook(hook)
        return hook

    def prune(
        self,
        t: Tensor,
        default_mask: Tensor | None = None,
        importance_scores: Tensor | None = None,
    ) -> Tensor:
        """``t`` with the entries at zero that the method does not keep; ``t`` stays as it is."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(
                "importance_scores should have the same shape as tensor t, got "
                f"{scores.shape} vs {t.shape}"
            )
        default = torch.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=default)  # type: ignore[operator]

    def remove(self, module: Module) -> None:
        """Make the parameter one again: its pruned entries are zero and free to change."""
        name = self._tensor_name
        if name is None:
            raise AssertionError(f"Module {module} has to be pruned before pruning can be removed")
        pruned = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original: Any = module._parameters.pop(name + "_orig")
        original.data = pruned.detach()
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


def hook_of(module: Module, name: str) -> tuple[int, BasePruningMethod] | None:
    """Key and hook of what prunes a parameter."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return key, hook
    return None


class PruningContainer(BasePruningMethod):
    """Methods applied to one parameter one after another; the last one makes the next mask."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if len(args) == 1:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Apply ``method``, which is for the same parameter, after those before it."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if self._tensor_name != method._tensor_name:
            raise ValueError(
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask so far, with what the last method does to the part it looks at."""
        method = self._pruning_methods[-1]
        part = _part_left(method, t, default_mask)
        mask: Any = default_mask.to(dtype=t.dtype).clone()
        made = method.compute_mask(t[part], default_mask=default_mask[part])
        mask[part] = made.to(dtype=mask.dtype)
        return mask  # type: ignore[no-any-return]


def _part_left(method: Any, t: Any, mask: Any) -> Any:
    """The index of what a method looks at, given what the masks before it have left."""
    kind = method.PRUNING_TYPE
    if kind == "unstructured":
        return mask == 1
    whole = [slice(None)] * t.dim()
    if kind == "global":
        return tuple(whole)
    if kind != "structured":
        raise ValueError(f"Unrecognized PRUNING_TYPE {kind}")
    if not hasattr(method, "dim"):
        raise AttributeError(
            'Pruning methods of PRUNING_TYPE "structured" need to have the attribute `dim` defined.'
        )
    dim = method.dim + t.dim() if method.dim < 0 else method.dim
    if dim < 0:
        raise IndexError(f"Index is out of bounds for tensor with dimensions {t.dim()}")
    whole[dim] = mask.sum(dim=[other for other in range(t.dim()) if other != dim]) != 0
    return tuple(whole)


# Methods ----------------------------------------------------------------------------------------


class Identity(BasePruningMethod):
    """Keep everything: the names and the hook of pruning, with a mask of ones."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask so far."""
        return default_mask


class _Amount(BasePruningMethod):
    """Methods that prune a number of entries (int) or a share of them (float)."""

    amount: Any

    def __init__(self, amount: int | float) -> None:
        if not isinstance(amount, numbers.Real):
            raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
        if amount < 0 or (not isinstance(amount, numbers.Integral) and amount > 1):
            raise ValueError(
                f"amount={amount} should either be a float in the range [0, 1] or a non-negative "
                "integer"
            )
        self.amount = amount

    def _number(self, size: int) -> int:
        """How many of ``size`` are pruned."""
        whole = isinstance(self.amount, numbers.Integral)
        number = int(self.amount) if whole else round(self.amount * size)
        if number > size:
            raise ValueError(
                f"amount={number} should be smaller than the number of parameters to prune={size}"
            )
        return number

    def _channels(self, t: Any, dim: int) -> int:
        """How many channels along ``dim`` are pruned."""
        if t.dim() <= 1:
            raise ValueError(
                "Structured pruning can only be applied to multidimensional tensors. Found tensor "
                f"of shape {t.shape} with {t.dim()} dims"
            )
        if dim >= t.dim():
            raise IndexError(f"Invalid index {dim} for tensor of size {t.shape}")
        return self._number(t.shape[dim])


def _without(mask: Any, positions: Any, dim: int | None = None) -> Tensor:
    """The mask with zeros at positions: of its elements, or of channels along ``dim``."""
    mask = mask.clone(memory_format=torch.contiguous_format)
    if dim is None:
        mask.view(-1)[positions] = 0
    else:
        mask.index_fill_(dim, positions, 0)
    return mask  # type: ignore[no-any-return]


class RandomUnstructured(_Amount):
    """Prune entries drawn at random."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Tensor) -> Tensor:
        """The mask so far without ``amount`` entries."""
        number = self._number(t.numel())
        return _without(default_mask, torch.rand_like(t).view(-1).topk(number).indices)


class L1Unstructured(_Amount):
    """Prune the entries of the smallest absolute value."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Tensor) -> Tensor:
        """The mask so far without ``amount`` entries."""
        number = self._number(t.numel())
        return _without(default_mask, t.abs().reshape(-1).topk(number, largest=False).indices)


class RandomStructured(_Amount):
    """Prune channels along ``dim`` drawn at random."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: int | float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Any, default_mask: Tensor) -> Tensor:
        """The mask so far without ``amount`` channels."""
        number = self._channels(t, self.dim)
        drawn = torch.rand(t.shape[self.dim], device=t.device)
        return _without(default_mask, drawn.topk(number).indices, self.dim)


class LnStructured(_Amount):
    """Prune the channels along ``dim`` of the smallest norm of order ``n``."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: int | float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = n, dim

    def compute_mask(self, t: Any, default_mask: Tensor) -> Tensor:
        """The mask so far without ``amount`` channels."""
        number = self._channels(t, self.dim)
        others = [dim for dim in range(t.dim()) if dim != self.dim % t.dim()]
        norms = torch.norm(t, p=self.n, dim=others)
        return _without(default_mask, norms.topk(number, largest=False).indices, self.dim)


class CustomFromMask(BasePruningMethod):
    """Prune by a mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask so far times the given one."""
        if default_mask.shape != self.mask.shape:
            raise AssertionError(
                f"default_mask shape {default_mask.shape} must match self.mask shape "
                f"{self.mask.shape}"
            )
        return default_mask * self.mask.to(dtype=default_mask.dtype)  # type: ignore[operator]
