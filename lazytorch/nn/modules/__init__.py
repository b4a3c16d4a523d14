"""Layers by PyTorch's file names: ``from lazytorch.nn.modules.batchnorm import _BatchNorm``.

Layers stand in the files of ``lazytorch.nn``, cut along other concepts. Programs name PyTorch's
files for base classes that ``nn`` itself does not show, so each of those files is a module here,
made of ours. Only ``utils`` is a file of its own.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from lazytorch.nn.module import Module
from lazytorch.nn.modules import utils

# Relative to ``lazytorch.nn``; the last of a file is the one it is mostly about.
_FILES = {
    "activation": ("activation", "multihead_attention"),
    "adaptive": ("adaptive",),
    "batchnorm": ("lazy", "batchnorm", "parallel"),
    "channelshuffle": ("vision",),
    "container": ("container", "parameter_container"),
    "conv": ("lazy", "convolution"),
    "distance": ("distance",),
    "dropout": ("dropout",),
    "flatten": ("flatten",),
    "fold": ("vision",),
    "instancenorm": ("lazy", "batchnorm"),
    "lazy": ("lazy",),
    "linear": ("lazy", "linear"),
    "linear_cross_entropy": ("linear_cross_entropy",),
    "linear_cross_entropy_options": ("..functional.linear_cross_entropy",),
    "loss": ("loss", "linear_cross_entropy"),
    "module": ("module_state", "module_hooks", "global_hooks", "module"),
    "normalization": ("normalization",),
    "padding": ("padding",),
    "pixelshuffle": ("vision",),
    "pooling": ("pooling", "unpooling"),
    "rnn": ("recurrent", "recurrent_cells"),
    "sparse": ("embedding",),
    "transformer": ("transformer",),
    "upsampling": ("vision",),
}

__all__ = ["utils"]


def _joined(name: str, parts: tuple[str, ...]) -> ModuleType:
    """A module with the names of all ``parts``; later ones win."""
    found = [import_module("." * (part[0] != ".") + part, "lazytorch.nn") for part in parts]
    joined = ModuleType(name, found[-1].__doc__)
    for part in found:
        joined.__dict__.update(
            (key, value) for key, value in vars(part).items() if not key.startswith("__")
        )
    return joined


for _name, _parts in _FILES.items():
    _made = _joined(f"{__name__}.{_name}", _parts)
    globals()[_name] = sys.modules[_made.__name__] = _made
    for _key, _value in vars(_made).items():
        # The layers themselves, which PyTorch shows here too.
        if isinstance(_value, type) and issubclass(_value, Module) and _key[0] != "_":
            globals()[_key] = _value
            __all__.append(_key)
__all__ += _FILES
__all__ = sorted(set(__all__))
