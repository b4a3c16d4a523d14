"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import builtins
import doctest
import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn

ROOT = Path(torch.__file__).parent
# Programs of other processes.
APART = {"__main__", "canary", "build_worker"}
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.stem not in APART and ">>> " in path.read_text(encoding="utf-8")
)


def names_for(module: ModuleType) -> dict[str, Any]:
    """What a reader has imported: the package's names, then the module's own."""
    names: dict[str, Any] = {}
    for place in (nn.functional, torch.optim.lr_scheduler, torch.utils.data, torch):
        names |= {name: getattr(place, name) for name in dir(place) if not name.startswith("_")}
    names = {name: value for name, value in names.items() if not hasattr(builtins, name)}
    names |= vars(module)
    names |= {"torch": torch, "lazytorch": torch, "nn": nn, "F": nn.functional, "np": np}
    names["optimizer"] = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    return names


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names_for(module)):
            runner.run(test, out=failed.append)
    assert not failed, "\n".join(failed)
