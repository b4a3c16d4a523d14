"""``import torch`` gives lazytorch: for programs that are to run as they are.

Call ``stand_in_for_torch()`` before anything imports ``torch``; ``import torch.nn.functional as F``
then gives ``lazytorch.nn.functional`` itself, not a copy of it.

``python -m lazytorch run script.py`` does it before it runs a script.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_OURS, _THEIRS = "lazytorch", "torch"


class _SameModule(Loader):
    """Gives a module of lazytorch as the module of the same name in torch."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_OURS + spec.name[len(_THEIRS) :])
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It ran when it was imported under its own name, and keeps that.
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        if fullname != _THEIRS and not fullname.startswith(_THEIRS + "."):
            return None
        return ModuleSpec(fullname, _SameModule())


_finder = _Finder()


def stand_in_for_torch() -> None:
    """From now on, ``import torch`` and ``import torch.nn`` give lazytorch's modules.

    ``RuntimeError`` when PyTorch was imported before: tensors of two libraries would meet.
    """
    known = sys.modules.get(_THEIRS)
    if known is not None and known is not sys.modules[_OURS]:
        raise RuntimeError(
            "torch was imported before: call stand_in_for_torch() first, or run the program with "
            "python -m lazytorch run"
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def undo() -> None:
    """Let ``import torch`` mean PyTorch again; what was imported stays what it is."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in [name for name in sys.modules if name.split(".")[0] == _THEIRS]:
        if sys.modules[name].__name__.split(".")[0] == _OURS:
            del sys.modules[name]
