"""lazytorch: eager PyTorch's semantics over a lazy graph that is fused into OpenCL kernels.

>>> import lazytorch as torch
>>> torch.ones(2) + 1
tensor([2., 2.])
"""

from __future__ import annotations

import importlib
from typing import Any

from lazytorch import config as _config
from lazytorch.functional import namespace as _namespace
from lazytorch.tensor.overrides import make_overridable as _make_overridable

globals().update(_namespace.public_names())
_make_overridable(globals())

_LAZY = (
    "__future__", "accelerator", "amp", "backends", "compat", "compiler", "cpu", "cuda",
    "distributions", "fft", "func", "linalg", "masked", "mps", "multiprocessing", "nn", "optim",
    "random", "serialization", "signal", "special", "testing", "types", "utils", "version", "viz",
    "xpu",
)  # fmt: skip
_FROM = {
    "save": "serialization", "load": "serialization", "graph": "viz", "explain": "viz",
    "profile": "viz", "compile": "compiler", "vmap": "func", "GradScaler": "amp",
    "Event": "streams", "Stream": "streams", "OutOfMemoryError": "errors",
    "__version__": "version",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load the parts above the tensors when they are first named."""
    if name in _LAZY:
        return importlib.import_module(f"lazytorch.{name}")
    if name in _FROM:
        return getattr(importlib.import_module(f"lazytorch.{_FROM[name]}"), name)
    raise AttributeError(f"module 'lazytorch' has no attribute {name!r}")


if _config.get("PROFILE"):
    importlib.import_module("lazytorch.viz.profile").profile_until_exit()
