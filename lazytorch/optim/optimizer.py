"""Optimizer: parameter groups, state, hooks, and what every update rule shares.

Knows how state is named and saved (PyTorch's layout, so that files travel both ways). It must
not know any particular rule.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from copy import deepcopy
from itertools import chain
from typing import Any, ClassVar, TypeVar

import lazytorch as torch
from lazytorch import engine
from lazytorch.autograd.grad_mode import enable_grad, set_grad_enabled
from lazytorch.optim.hooks import (
    HookTables,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from lazytorch.optim.recording import UpdateMemory
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State
from lazytorch.optim.scalars import HostEntries, StepScalars, settle
from lazytorch.tensor import autocast
from lazytorch.tensor.tensor import Tensor

__all__ = ["Optimizer", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook"]

Self = TypeVar("Self", bound="Optimizer")
required: Any = object()
# What optimizers take: tensors, pairs of a name and a tensor, or groups.
ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer(HookTables):
    """Base class of all optimizers.

    ``params`` is an iterable of tensors, of (name, tensor) pairs, or of dicts that each give a
    group of ``params`` with options of its own. A subclass either defines ``step``, as in
    PyTorch, or a rule: ``_new_state``, ``_numbers`` and ``_update``, functions from the old
    values of one parameter to the new ones. Nothing is computed until ``step`` has recorded the
    rule for all parameters, so that the update of every parameter becomes a few kernels.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> (w - 1).square().sum().backward(); optimizer.step(); w.detach()
    tensor([1., 1.])
    """

    # Numbers in the state of each parameter whose values a rule needs on the host.
    _host_entries: ClassVar[tuple[str, ...]] = ("step",)

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
        self._host = HostEntries(self._host_entries)
        self._updates = UpdateMemory()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        settle(parameter for group in self.param_groups for parameter in group["params"])

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

    # The rule ---------------------------------------------------------------------------------

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        """The state of a parameter before its first step."""
        return {}

    def _advanced(self, group: Group, entries: Entries) -> Entries:
        """The host entries of a state after one more step."""
        return {"step": entries["step"] + 1.0} if entries else entries

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        """The numbers of the update, from the options and the host entries before the step.

        Numbers are arguments of kernels, so a new value costs nothing; a repeated or captured
        step asks for them and computes nothing else. The shape of the update may depend on which
        options are zero, true or ``None``, on nothing else in the group.
        """
        raise NotImplementedError

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        """The new value of a parameter and of the tensors in its state.

        ``number`` gives the numbers by name, as 0-d tensors; other numbers may depend on shapes
        only. ``maximize`` has been applied to the gradient; complex parameters come as pairs of
        real numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _update or step")

    # Steps ------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; one graph, computed when it is complete.

        ``closure`` computes the loss again with gradients on; its result is returned.
        """
        if engine.current.capture is not None:
            self._note_captured(closure)
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        differentiable = bool(self.defaults.get("differentiable"))
        # An update that is repeated is the same in autocast regions and outside of them.
        casts = autocast.suspended() if autocast.regions.open else nullcontext()
        with set_grad_enabled(differentiable), casts:
            # Scalars are made once a step and shared, so one kernel can take them for all
            # parameters; values that change (lr, bias corrections) are never compiled in.
            repeats = engine.current.capture is None and self._has_numbers and not differentiable
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if not parameters:
                    continue
                for parameter in parameters:
                    if not self.state.get(parameter):
                        new = self._new_state(group, parameter)
                        if new:
                            self.state[parameter].update(new)
                if repeats:
                    self._updates.record(self, group, _shape_of_options(group), parameters)
                else:
                    self._update_group(group, parameters, StepScalars((self, group)))
        self._host.end_step()
        if not differentiable:
            engine.flush()
        return loss

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        """Record the update of the parameters of one group that have a gradient."""
        known: dict[tuple[int, ...], dict[str, Any]] = {}
        differentiable = group.get("differentiable", False)
        for parameter in parameters:
            state = self.state.get(parameter, {})
            identity = self._host.identity(state)
            numbers = known.get(identity)
            if numbers is None:
                numbers = known[identity] = self._numbers(group, self._host.read(state))
            self._count(group, state)
            value, gradient, old = parameter, parameter.grad, state
            if parameter.is_complex():
                value, gradient = torch.view_as_real(value), torch.view_as_real(gradient)
                old = {name: _parts(entry) for name, entry in state.items()}
            targets, target = old, value
            if differentiable:
                # What backward will need must not be what is written below.
                old = {k: v.clone() if isinstance(v, Tensor) else v for k, v in old.items()}
                value = value.clone()
            if group.get("maximize", False):
                gradient = -gradient

            def number(
                name: str, numbers: dict[str, Any] = numbers, like: Tensor = parameter
            ) -> Tensor:
                return scalars(name, numbers[name], like)

            new, entries = self._update(group, value, gradient, old, number)
            for name, entry in entries.items():
                if targets.get(name) is None:
                    made = torch.view_as_complex(entry) if parameter.is_complex() else entry
                    self.state[parameter][name] = made.clone()
                else:
                    targets[name].copy_(entry)
            target.copy_(new)

    def _count(self, group: dict[str, Any], state: dict[str, Any]) -> None:
        """Count one more step in a parameter's state."""
        self._host.write(state, self._advanced(group, self._host.read(state)))

    # Captured steps ---------------------------------------------------------------------------

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
        hooks = self._step_hooks()
        if closure is not None:
            capture.breaks("an optimizer's step is given a closure")
        elif any(not getattr(hook, "__module__", "").startswith("lazytorch.") for hook in hooks):
            capture.breaks("an optimizer has hooks of the user's")
        elif self._has_numbers:
            capture.steps.append(self)

    def _shape_of_update(self) -> tuple[Any, ...]:
        """What the recorded update depends on besides tensors: it must not change unnoticed."""
        shape: list[Any] = [len(self._step_hooks())]
        for group in self.param_groups:
            parameters = group["params"]
            states = [self.state.get(p, {}) for p in parameters if p.grad is not None]
            shape.append(len({self._host.identity(state) for state in states if state}))
            shape.append(tuple(map(id, parameters)))
            shape.append(_shape_of_options(group))
        return tuple(shape)

    def _step_repeated(self) -> None:
        """Count a step that a plan has computed."""
        for hook in self._optimizer_step_pre_hooks.values():
            hook(self, (self,), {})
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.state.get(parameter) and parameter.grad is not None:
                    self._count(group, self.state[parameter])
        self._host.end_step()
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (self,), {})

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
            numbers.get(id(key), key) if isinstance(key, Tensor) else key: self._saved(value)
            for key, value in self.state.items()
        }
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, result)
            if replaced is not None:
                result = replaced
        return result

    def _saved(self, entries: Any) -> Any:
        """State whose host entries are tensors of their own: live state shares one among
        parameters, and whoever adds to a shared one in place would count too fast."""
        if not isinstance(entries, dict):
            return entries
        return {
            name: value.clone() if name in self._host.names and isinstance(value, Tensor) else value
            for name, value in entries.items()
        }

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
        self._host = HostEntries(self._host_entries)
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

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


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


def _parts(entry: Any) -> Any:
    """A complex tensor as pairs of real numbers, in the same memory."""
    if isinstance(entry, Tensor) and entry.is_complex():
        return torch.view_as_real(entry)
    return entry


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
