"""Finding a forward pre-hook that was registered for one parameter of a module."""

from __future__ import annotations

from lazytorch.nn.module import Module


def named_pre_hook(module: Module, kind: type, name: str) -> int | None:
    """The key of the module's pre-hook of class ``kind`` for the parameter ``name``, or None."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, kind) and hook.name == name:  # type: ignore[attr-defined]
            return key
    return None
