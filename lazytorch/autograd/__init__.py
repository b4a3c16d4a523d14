"""The tape: which operation made which tensor, and how gradients flow back through it.

``torch.autograd.grad``, ``backward``, ``Function`` and the grad modes are found here by name;
they load on first use because the tensor layer itself imports parts of this package.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "grad": "flow",
    "backward": "flow",
    "Function": "function",
    "GradcheckError": "checking",
    "gradcheck": "checking",
    "gradgradcheck": "checking",
    "no_grad": "grad_mode",
    "enable_grad": "grad_mode",
    "set_grad_enabled": "grad_mode",
    "inference_mode": "grad_mode",
    "set_detect_anomaly": "anomaly",
    "detect_anomaly": "anomaly",
    "Variable": "variable",
}


_MODULES = ("forward_ad", "functional", "graph")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"lazytorch.autograd.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lazytorch.autograd' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lazytorch.autograd.{_PUBLIC[name]}"), name)
