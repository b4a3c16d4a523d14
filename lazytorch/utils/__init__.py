"""Helpers around training: data loading, checkpoints of activations, hooks."""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = ("checkpoint", "data")


def __getattr__(name: str) -> Any:
    """Load a part when it is first named: ``torch.utils.data`` needs no import of its own."""
    if name in _LAZY:
        return importlib.import_module(f"lazytorch.utils.{name}")
    raise AttributeError(f"module 'lazytorch.utils' has no attribute {name!r}")
