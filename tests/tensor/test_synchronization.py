"""docs/synchronization.md says what computes: each of its lines is run."""

from __future__ import annotations

import contextlib
import copy
import io
import pathlib
import pickle
import re
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
import lazytorch.nn.functional as F
from lazytorch import engine

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "synchronization.md"
# Tensors of other devices have no numpy(), as in PyTorch.
DEVICES = ("numpy", "cpu")


def lines_of(title: str) -> list[str]:
    """The code in the items below a heading; what is in parentheses or behind a colon is prose."""
    (section,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    items = re.findall(r"^- (.*(?:\n  .*)*)", section, re.M)
    return [code for item in items for code in re.findall(r"`([^`]+)`(?!\))", item)]


WAITING = lines_of("These compute and wait")
PENDING = lines_of("These do not")


def computes(statement: str, device: str) -> bool:
    def asked() -> int:
        counts = engine.stats()
        return sum(counts[name] for name in ("plans_hit", "plans_missed", "plans_loaded"))

    with torch.device(device):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.ones(2, 3))
        p.grad = torch.ones(2, 3) + 0
        scaler = torch.amp.GradScaler(device)
        scaler.scale(p)
        space: dict[str, Any] = {
            "torch": torch, "F": F, "np": np, "io": io, "copy": copy, "pickle": pickle, "p": p,
            "scaler": scaler, "optimizer": torch.optim.SGD([p], lr=0.1),
            "x": torch.arange(6.0).reshape(2, 3) + 1,
            "i": torch.tensor([1, 0, 1]) + 0,
            "m": torch.tensor([[2.0, 1.0], [1.0, 3.0]]) + 0,
        }  # fmt: skip
        before = asked()
        with contextlib.redirect_stdout(io.StringIO()):
            exec(statement, space)
        return asked() > before


def test_the_page_has_both_lists() -> None:
    assert len(WAITING) > 40 and "x.tolist()" in WAITING
    assert len(PENDING) > 25 and "x.add_(1)" in PENDING


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("statement", WAITING)
def test_what_computes(statement: str, device: str) -> None:
    assert computes(statement, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("statement", PENDING)
def test_what_stays_pending(statement: str, device: str) -> None:
    assert not computes(statement, device)
