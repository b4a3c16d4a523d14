"""Hooks of all modules there are: for looking into a whole program.

Knows the tables and what is registered in them; it must not know when a module is called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lazytorch.utils.hooks import RemovableHandle

Hook = Callable[..., Any]


class CallHook(NamedTuple):
    """A hook around the calls of every module; ``kind`` says where."""

    kind: str
    hook: Hook
    with_kwargs: bool = False
    always_call: bool = False


# One table for all kinds: a call has to look at one length to know that there are none.
call_hooks: OrderedDict[int, CallHook] = OrderedDict()
registration_hooks: OrderedDict[int, tuple[str, Hook]] = OrderedDict()


def hooks_of(kind: str) -> Iterator[CallHook]:
    """The hooks of one kind, in the order of their registration."""
    return (entry for entry in list(call_hooks.values()) if entry.kind == kind)


def registered(kind: str, module: Any, name: str, value: Any) -> Any:
    """What is to be registered in the place of ``value``, after all hooks of its kind."""
    for wanted, hook in list(registration_hooks.values()):
        if wanted == kind:
            replaced = hook(module, name, value)
            value = value if replaced is None else replaced
    return value


def _added(table: OrderedDict[int, Any], entry: Any) -> RemovableHandle:
    handle = RemovableHandle(table)
    table[handle.id] = entry
    return handle


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module there is."""
    return _added(call_hooks, CallHook("forward_pre", hook))


def register_module_forward_hook(
    hook: Hook, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after the forward of every module there is.

    With ``with_kwargs`` it gets ``(module, args, kwargs, output)``; with ``always_call`` it also
    runs when an exception leaves ``forward``.
    """
    return _added(call_hooks, CallHook("forward", hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before the backward of every module there is."""
    return _added(call_hooks, CallHook("backward_pre", hook))


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after the backward of every module."""
    return _added(call_hooks, CallHook("backward", hook))


def register_module_backward_hook(hook: Hook) -> RemovableHandle:
    """Refused: this old kind of hook reports the gradients of the last operation only."""
    raise NotImplementedError(
        "register_module_backward_hook saw the gradients of a module's last operation only; "
        "use register_module_full_backward_hook"
    )


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, parameter)`` when a module gets one; a result replaces it."""
    return _added(registration_hooks, ("parameter", hook))


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` when a module gets one; a result replaces it."""
    return _added(registration_hooks, ("buffer", hook))


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` when a module gets one; a result replaces it."""
    return _added(registration_hooks, ("module", hook))
