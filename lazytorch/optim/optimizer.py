"""Optimizer: parameter groups, state, hooks, and what every update rule shares.

Knows how state is named and saved (PyTorch's layout, so that files travel both ways). It must
not know any particular rule.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any, TypeVar

from lazytorch import engine
from lazytorch.autograd.grad_mode import enable_grad, no_grad
from lazytorch.optim.recording import UpdateMemory
from lazytorch.optim.scalars import StepCounts, StepScalars, settle
from lazytorch.tensor.tensor import Tensor
from lazytorch.utils.hooks import RemovableHandle

Self = TypeVar("Self", bound="Optimizer")
Hook = Callable[..., Any]
required: Any = object()

_HOOK_TABLES = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


class Optimizer:
    """Base class of all optimizers.

    ``params`` is an iterable of tensors, of (name, tensor) pairs, or of dicts that each give a
    group of ``params`` with options of its own. A subclass defines ``_update_group``, which
    records the update of one group; nothing is computed until ``step`` has recorded all of them,
    so that the update of every parameter becomes a few kernels.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> (w - 1).square().sum().backward(); optimizer.step(); w.detach()
    tensor([1., 1.])
    """

    _optimizer_step_pre_hooks: OrderedDict[int, Hook]
    _optimizer_step_post_hooks: OrderedDict[int, Hook]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Hook]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Hook]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Hook]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Hook]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._create_hook_tables()
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                f"dicts, but got {params.type()}"
            )
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._counts = StepCounts()
        self._updates = UpdateMemory()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        settle(parameter for group in self.param_groups for parameter in group["params"])

    def _create_hook_tables(self) -> None:
        for name in _HOOK_TABLES:
            self.__dict__.setdefault(name, OrderedDict())

    # Groups -----------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize more tensors: a dict with ``params`` and options that differ from the defaults.

        Raises ``TypeError`` for what is no tensor, ``ValueError`` for tensors computed from
        others, missing options, and tensors that are in a group already.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = param_group["params"]
        if isinstance(given, Tensor):
            given = [given]
        elif isinstance(given, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the "
                "ordering of tensors in sets will change between runs. Please use a list instead."
            )
        parameters, names = _split_names(list(given))
        param_group["params"] = parameters
        if names:
            param_group["param_names"] = names
        self._check_parameters(parameters)
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(
                    "parameter group didn't specify a value of required optimization parameter "
                    f"{name}"
                )
            param_group.setdefault(name, default)
        if len({id(parameter) for parameter in parameters}) != len(parameters):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this "
                "will cause an error; see github.com/pytorch/pytorch/issues/40967 for more "
                "information",
                stacklevel=3,
            )
        known = {id(parameter) for group in self.param_groups for parameter in group["params"]}
        if any(id(parameter) in known for parameter in parameters):
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in param_group) != (
            "param_names" in self.param_groups[0]
        ):
            raise ValueError(
                "all optimizer param groups should be with/without names. Some groups have names "
                "and others do not"
            )
        self.param_groups.append(param_group)

    def _check_parameters(self, parameters: list[Any]) -> None:
        for parameter in parameters:
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(parameter).__name__}"
                )
            if not self.defaults.get("differentiable") and not (
                parameter.is_leaf or parameter.retains_grad
            ):
                raise ValueError("can't optimize a non-leaf Tensor")

    # Steps ------------------------------------------------------------------------------------

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        """Record the update of the parameters of one group that have a gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define _update_group or step")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; one graph, computed when it is complete.

        ``closure`` computes the loss again with gradients on; its result is returned.
        """
        if engine.current.capture is not None:
            self._note_captured(closure)
        self._run_hooks("_optimizer_step_pre_hooks", (closure,), {})
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            # Scalars are made once a step and shared, so one kernel can take them for all
            # parameters; values that change (lr, bias corrections) are never compiled in.
            repeats = engine.current.capture is None and self._has_numbers
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if not parameters:
                    continue
                if repeats:
                    self._updates.record(self, group, _shape_of_options(group), parameters)
                else:
                    self._update_group(group, parameters, StepScalars((self, group)))
        self._counts.end_step()
        engine.flush()
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (closure,), {})
        return loss

    # Captured steps ---------------------------------------------------------------------------

    def _numbers(self, group: dict[str, Any], count: float) -> dict[str, Any]:
        """The numbers of the update in step ``count``, by the names ``_update_group`` uses.

        An optimizer that defines it can be captured by ``torch.compile``, and records the same
        update of a loop's steps once: a repetition asks for the numbers and computes nothing
        else. The shape of the update may depend on which
        options are zero, true or ``None``, on nothing else in the group.
        """
        raise NotImplementedError

    @property
    def _has_numbers(self) -> bool:
        return type(self)._numbers is not Optimizer._numbers and not any(
            isinstance(value, Tensor)
            for group in self.param_groups
            for key, value in group.items()
            if key != "params"
        )

    def _note_captured(self, closure: Any) -> None:
        capture = engine.current.capture
        assert capture is not None
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        hooks = [*before.values(), *after.values()]
        if closure is not None:
            capture.breaks("an optimizer's step is given a closure")
        elif any(not getattr(hook, "__module__", "").startswith("lazytorch.") for hook in hooks):
            capture.breaks("an optimizer has hooks of the user's")
        elif self._has_numbers:
            capture.steps.append(self)

    def _shape_of_update(self) -> tuple[Any, ...]:
        """What the recorded update depends on besides tensors: it must not change unnoticed."""
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        shape: list[Any] = [len(before), len(after)]
        for group in self.param_groups:
            parameters = group["params"]
            states = [self.state.get(p, {}) for p in parameters if p.grad is not None]
            shape.append(len({id(state.get("step")) for state in states if state}))
            shape.append(tuple(map(id, parameters)))
            shape.append(_shape_of_options(group))
        return tuple(shape)

    def _step_repeated(self) -> None:
        """Count a step that a plan has computed."""
        for hook in self._optimizer_step_pre_hooks.values():
            hook(self, (None,), {})
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter)
                if state and "step" in state and parameter.grad is not None:
                    self._counts.advance(state)
        self._counts.end_step()
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (None,), {})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.grad = None if set_to_none else parameter.grad.detach().zero_()

    # Saving and loading -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: {...}}, "param_groups": [...]}`` with parameters numbered."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {
            numbers.get(id(key), key) if isinstance(key, Tensor) else key: _own_step(value)
            for key, value in self.state.items()
        }
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, result)
            if replaced is not None:
                result = replaced
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and state; parameters are matched by their order.

        Raises ``ValueError`` when the groups do not have the same sizes.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = hook(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        saved_groups = deepcopy(state_dict["param_groups"])
        if len(self.param_groups) != len(saved_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(
            len(mine["params"]) != len(saved["params"])
            for mine, saved in zip(self.param_groups, saved_groups)
        ):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group"
            )
        numbered = dict(
            zip(
                chain.from_iterable(group["params"] for group in saved_groups),
                chain.from_iterable(group["params"] for group in self.param_groups),
            )
        )
        state: defaultdict[Tensor, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in numbered:
                state[numbered[key]] = _fitted(numbered[key], value)
            else:
                state[key] = value
        for mine, saved in zip(self.param_groups, saved_groups):
            saved["params"] = mine["params"]
            if "param_names" in mine and "param_names" not in saved:
                saved["param_names"] = mine["param_names"]
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "defaults": self.defaults, "state": self.state, "param_groups": self.param_groups,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._counts = StepCounts()
        self._updates = UpdateMemory()
        self._create_hook_tables()
        self.defaults.setdefault("differentiable", False)
        # Groups saved by an older version, or by another option set, get what they lack.
        for group in self.param_groups:
            for name, default in self.defaults.items():
                if default is not required:
                    group.setdefault(name, default)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied

    # Hooks ------------------------------------------------------------------------------------

    def _add_hook(self, table: str, hook: Hook, prepend: bool = False) -> RemovableHandle:
        hooks = getattr(self, table)
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def _run_hooks(self, table: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for hook in getattr(self, table).values():
            hook(self, args, kwargs)

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step."""
        return self._add_hook("_optimizer_step_pre_hooks", hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._add_hook("_optimizer_step_post_hooks", hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before ``state_dict``."""
        return self._add_hook("_optimizer_state_dict_pre_hooks", hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)``; what it returns replaces the state dict."""
        return self._add_hook("_optimizer_state_dict_post_hooks", hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)``; what it returns is loaded instead."""
        return self._add_hook("_optimizer_load_state_dict_pre_hooks", hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Hook, prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(optimizer)`` after loading."""
        return self._add_hook("_optimizer_load_state_dict_post_hooks", hook, prepend)

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def check_flags(name: str, foreach: bool | None, fused: bool | None, differentiable: bool) -> None:
    """Refuse what cannot be meant; the flags that only choose PyTorch's kernels change nothing."""
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if differentiable:
        raise NotImplementedError(
            f"{name}(differentiable=True) is not supported: write the update with tensor "
            "operations to differentiate through it"
        )


def check_at_least_zero(value: Any, what: str) -> None:
    """``ValueError`` for a negative (or NaN) option."""
    if not value >= 0.0:
        raise ValueError(f"Invalid {what}: {value}")


def check_learning_rate(lr: Any) -> None:
    """``ValueError`` for a negative rate or a tensor with more than one element."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_at_least_zero(lr, "learning rate")


def check_betas(betas: Any) -> None:
    """``ValueError`` for decay rates outside [0, 1)."""
    for place, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {place}: {beta}")


def effective_gradient(parameter: Tensor, group: dict[str, Any], scalars: StepScalars) -> Any:
    """The gradient with ``maximize`` and ``weight_decay`` of the group applied."""
    gradient: Any = parameter.grad  # type: ignore[attr-defined]
    if group["maximize"]:
        gradient = -gradient
    decay = group["weight_decay"]
    if decay != 0:
        gradient = gradient + parameter * scalars("weight_decay", decay, parameter)
    return gradient


def _shape_of_options(group: dict[str, Any]) -> tuple[Any, ...]:
    """What of a group's options the shape of its update may depend on."""
    shape: list[Any] = []
    for key, value in group.items():
        if isinstance(value, float):
            shape.append((key, value != 0))
        elif value is None or isinstance(value, (bool, int, str)):
            shape.append((key, value))
    return tuple(shape)


def _split_names(given: list[Any]) -> tuple[list[Any], list[str]]:
    if not any(isinstance(entry, tuple) for entry in given):
        return given, []
    if not all(isinstance(entry, tuple) and len(entry) == 2 for entry in given):
        raise TypeError(
            "all optimizer params should be with/without names. Some param names are missing"
        )
    return [tensor for _, tensor in given], [name for name, _ in given]


def _own_step(value: Any) -> Any:
    """State whose step counter is a tensor of its own: live state shares one among parameters,
    and whoever loads a shared one and adds to it in place would count too fast."""
    if isinstance(value, dict) and isinstance(value.get("step"), Tensor):
        return {**value, "step": value["step"].clone()}
    return value


def _fitted(parameter: Tensor, value: Any, key: str | None = None) -> Any:
    """Loaded state on the parameter's device, floating-point tensors in its dtype."""
    if isinstance(value, Tensor):
        if key == "step":
            return value.clone()
        if parameter.is_floating_point():
            return value.to(dtype=parameter.dtype, device=parameter.device, copy=True)
        return value.to(device=parameter.device, copy=True)
    if isinstance(value, dict):
        return {name: _fitted(parameter, entry, name) for name, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return type(value)(_fitted(parameter, entry) for entry in value)  # type: ignore[call-arg]
    return value
