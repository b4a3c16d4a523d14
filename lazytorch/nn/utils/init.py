"""Modules made without their first values."""

from __future__ import annotations

import inspect
from typing import Any

from lazytorch.nn.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """A module whose parameters have a shape but no values yet: for files that bring them.

    The class has to take a ``device``; ``RuntimeError`` for what is no Module, or has none.

    >>> nn.utils.skip_init(nn.Linear, 5, 1).weight.shape
    torch.Size([1, 5])
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    # Nothing is computed before somebody looks, so first values that are written over by a file
    # are never drawn.
    return module_cls(*args, **kwargs)
