"""Hooks of a module: their registration, and the pass that watches its backward.

Knows when each kind of hook runs and what it may change. It must not know parameters or files.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from lazytorch.autograd.function import Function
from lazytorch.nn.global_hooks import CallHook, call_hooks, hooks_of
from lazytorch.tensor.tensor import Tensor
from lazytorch.utils.hooks import RemovableHandle

Hook = Callable[..., Any]

# Each table maps a handle's id to a hook; those that end in "options" hold the ids with a flag.
_ORDERED_TABLES = (
    "_backward_pre_hooks",
    "_backward_hooks",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class HookMethods:
    """The part of Module that deals with hooks."""

    _backward_pre_hooks: OrderedDict[int, Hook]
    _backward_hooks: OrderedDict[int, Hook]
    _forward_hooks: OrderedDict[int, Hook]
    _forward_hooks_with_kwargs: OrderedDict[int, bool]
    _forward_hooks_always_called: OrderedDict[int, bool]
    _forward_pre_hooks: OrderedDict[int, Hook]
    _forward_pre_hooks_with_kwargs: OrderedDict[int, bool]
    _state_dict_hooks: OrderedDict[int, Hook]
    _state_dict_pre_hooks: OrderedDict[int, Hook]
    _load_state_dict_pre_hooks: OrderedDict[int, Hook]
    _load_state_dict_post_hooks: OrderedDict[int, Hook]

    @staticmethod
    def _hook_table_defaults() -> dict[str, Any]:
        return {name: OrderedDict() for name in _ORDERED_TABLES}

    def _create_hook_tables(self) -> None:
        self.__dict__.update(self._hook_table_defaults())

    def _has_no_hooks(self) -> bool:
        return not (
            self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or call_hooks
        )

    # Registration -----------------------------------------------------------------------------

    def _add_hook(
        self, table: str, hook: Hook, prepend: bool = False, options: Iterable[str] = ()
    ) -> RemovableHandle:
        hooks = getattr(self, table)
        flags = [getattr(self, option) for option in options]
        handle = RemovableHandle(hooks, extra_dict=flags)
        hooks[handle.id] = hook
        for flag in flags:
            flag[handle.id] = True
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns replaces ``args``.

        With ``with_kwargs`` the hook gets ``(module, args, kwargs)`` and may return both.
        """
        options = ["_forward_pre_hooks_with_kwargs"] if with_kwargs else []
        return self._add_hook("_forward_pre_hooks", hook, prepend, options)

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after ``forward``; a result replaces ``output``.

        ``always_call`` runs the hook also when an exception leaves ``forward``.
        """
        options = ["_forward_hooks_with_kwargs"] if with_kwargs else []
        options += ["_forward_hooks_always_called"] if always_call else []
        return self._add_hook("_forward_hooks", hook, prepend, options)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients are known.

        A tuple it returns replaces ``grad_input``.
        """
        return self._add_hook("_backward_hooks", hook, prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the module's backward.

        What it returns replaces ``grad_output``.
        """
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """Refused: this old kind of hook reports the gradients of the last operation only."""
        raise NotImplementedError(
            "register_backward_hook saw the gradients of a module's last operation only; "
            "use register_full_backward_hook"
        )

    def register_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before ``state_dict`` collects."""
        return self._add_hook("_state_dict_pre_hooks", hook)

    def register_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)``; it must change in place."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return self._add_hook("_state_dict_hooks", hook)

    def _register_state_dict_hook(self, hook: Hook) -> RemovableHandle:
        return self._add_hook("_state_dict_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` before a module loads its part."""
        return self._add_hook("_load_state_dict_pre_hooks", _WithModule(hook, self))

    def _register_load_state_dict_pre_hook(
        self, hook: Hook, with_module: bool = False
    ) -> RemovableHandle:
        wrapped = _WithModule(hook, self if with_module else None)
        return self._add_hook("_load_state_dict_pre_hooks", wrapped)

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists."""
        return self._add_hook("_load_state_dict_post_hooks", hook)

    # Running ----------------------------------------------------------------------------------

    def _run_forward_pre_hooks(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        own = [
            (hook, key in self._forward_pre_hooks_with_kwargs)
            for key, hook in self._forward_pre_hooks.items()
        ]
        everywhere = [(entry.hook, entry.with_kwargs) for entry in hooks_of("forward_pre")]
        for hook, with_kwargs in everywhere + own:
            if with_kwargs:
                result = hook(self, args, kwargs)
                if result is None:
                    continue
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {result}."
                    )
                args, kwargs = result
            else:
                result = hook(self, args)
                if result is not None:
                    args = result if isinstance(result, tuple) else (result,)
        return args, kwargs

    def _hooks_after_forward(self) -> list[tuple[int, CallHook]]:
        """Those of all modules, then the module's own, with the ids of their handles."""
        found = [(key, entry) for key, entry in call_hooks.items() if entry.kind == "forward"]
        for key, hook in self._forward_hooks.items():
            with_kwargs = key in self._forward_hooks_with_kwargs
            always_call = key in self._forward_hooks_always_called
            found.append((key, CallHook("forward", hook, with_kwargs, always_call)))
        return found

    def _run_forward_hooks(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, begun: set[int]
    ) -> Any:
        for key, entry in self._hooks_after_forward():
            begun.add(key)
            given = (args, kwargs, result) if entry.with_kwargs else (args, result)
            replaced = entry.hook(self, *given)
            if replaced is not None:
                result = replaced
        return result

    def _run_always_called_hooks(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, begun: set[int]
    ) -> None:
        """After an exception: those that have not been called yet. What they raise themselves is
        a warning, for the first exception is what matters."""
        for key, entry in self._hooks_after_forward():
            if not entry.always_call or key in begun:
                continue
            given = (args, kwargs, result) if entry.with_kwargs else (args, result)
            try:
                entry.hook(self, *given)
            except Exception as error:
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception that was "
                    f"silenced as another error was raised in forward: {error}",
                    stacklevel=3,
                )


class _WithModule:
    """A hook that is handed the module it was registered on (picklable, unlike a closure)."""

    def __init__(self, hook: Hook, module: Any) -> None:
        self.hook = hook
        self.module = module

    def __call__(self, *args: Any) -> Any:
        return self.hook(*args) if self.module is None else self.hook(self.module, *args)


class BackwardHookPass:
    """Watches one call of a module so that its backward hooks see that call's gradients.

    The tensors that enter and those that leave pass through an identity whose backward reports
    here. When no input needs a gradient, the hooks run as soon as the output gradients are known.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        before, after = hooks_of("backward_pre"), hooks_of("backward")
        self.pre_hooks = [*(e.hook for e in before), *module._backward_pre_hooks.values()]
        self.hooks = [*(e.hook for e in after), *module._backward_hooks.values()]
        self.output_gradients: tuple[Any, ...] | None = None
        self.input_places: list[int] = []
        self.input_count = 0
        self.watches_inputs = False

    def watch_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not (self.hooks or self.pre_hooks):
            return args
        self.input_count = len(args)
        self.input_places = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]
        tensors = [args[place] for place in self.input_places]
        if not any(tensor.requires_grad for tensor in tensors):
            return args
        self.watches_inputs = True
        passed = list(args)
        for place, tensor in zip(self.input_places, _pass_through(self.on_inputs, tensors)):
            passed[place] = tensor
        return tuple(passed)

    def watch_outputs(self, result: Any) -> Any:
        if not (self.hooks or self.pre_hooks):
            return result
        outputs = result if isinstance(result, tuple) else (result,)
        places = [place for place, value in enumerate(outputs) if isinstance(value, Tensor)]
        tensors = [outputs[place] for place in places]
        if not any(tensor.requires_grad for tensor in tensors):
            return result
        passed = list(outputs)

        def report(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
            return self.on_outputs(gradients, places, len(outputs))

        for place, tensor in zip(places, _pass_through(report, tensors)):
            passed[place] = tensor
        return tuple(passed) if isinstance(result, tuple) else passed[0]

    def on_outputs(
        self, gradients: tuple[Any, ...], places: list[int], count: int
    ) -> tuple[Any, ...]:
        seen = _spread(gradients, places, count)
        for hook in self.pre_hooks:
            replaced = hook(self.module, seen)
            if replaced is not None:
                replaced = replaced if isinstance(replaced, tuple) else (replaced,)
                _check_length("Backward pre hook", "grad_output", replaced, seen)
                seen = replaced
        self.output_gradients = seen
        if not self.watches_inputs:
            self._run_hooks((None,) * self.input_count, may_replace=False)
        return tuple(seen[place] for place in places)

    def on_inputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        seen = _spread(gradients, self.input_places, self.input_count)
        seen = self._run_hooks(seen, may_replace=True)
        return tuple(seen[place] for place in self.input_places)

    def _run_hooks(self, seen: tuple[Any, ...], may_replace: bool) -> tuple[Any, ...]:
        for hook in self.hooks:
            replaced = hook(self.module, seen, self.output_gradients)
            if replaced is None:
                continue
            if not may_replace:
                if any(gradient is not None for gradient in replaced):
                    raise RuntimeError(
                        "Backward hook for Modules where no input requires gradient should "
                        "always return None or None for all gradients."
                    )
                continue
            replaced = replaced if isinstance(replaced, tuple) else (replaced,)
            _check_length("Backward hook", "grad_input", replaced, seen)
            seen = replaced
        return seen


class BackwardHookFunction(Function):
    """Identity whose backward hands the gradients to a callback and passes on what it returns."""

    @staticmethod
    def forward(ctx: Any, callback: Callable[..., Any], *tensors: Tensor) -> Any:
        ctx.callback = callback
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, *ctx.callback(gradients))


def _pass_through(callback: Callable[..., Any], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return BackwardHookFunction.apply(callback, *tensors)  # type: ignore[no-any-return]


def _spread(gradients: tuple[Any, ...], places: list[int], count: int) -> tuple[Any, ...]:
    spread: list[Any] = [None] * count
    for place, gradient in zip(places, gradients):
        spread[place] = gradient
    return tuple(spread)


def _check_length(kind: str, what: str, got: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    if len(got) != len(expected):
        raise RuntimeError(
            f"{kind} returned an invalid number of {what}, got {len(got)}, "
            f"but expected {len(expected)}"
        )
