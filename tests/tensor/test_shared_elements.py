"""Writes into tensors several of whose elements are one in memory, and what may be assigned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.graphs import DEVICES as PLACES

torch = pytest.importorskip("torch")

DEVICES = [place for place in PLACES if "/" not in place]
EXPANDED = "base = torch.arange(3., device=device).reshape(3, 1); x = base.expand(3, 4)"
WINDOWS = "base = torch.arange(6., device=device); x = base.unfold(0, 3, 1)"
NUMBERS = "torch.tensor([0, 2], device=device)"
WRITES = [
    (EXPANDED, "x[x > 0] = 7"),
    (EXPANDED, "x[x == 1] = torch.arange(4., device=device)"),
    (EXPANDED, f"x[{NUMBERS}] = 5"),
    (EXPANDED, f"x[:, {NUMBERS}] = 5"),
    (EXPANDED, f"x[{NUMBERS}, {NUMBERS}] = torch.tensor([3., 4.], device=device)"),
    (EXPANDED, f"x[{NUMBERS}] = torch.arange(4., device=device)"),
    (EXPANDED, f"x.index_put_(({NUMBERS},), torch.tensor(2., device=device), accumulate=True)"),
    (EXPANDED, "x.masked_fill_(x > 0, 9)"),
    (EXPANDED, f"x.index_fill_(0, {NUMBERS}, 9)"),
    (EXPANDED, "x[...] = 1"),
    (EXPANDED, "x[:, 1] = 8"),
    (EXPANDED, "x.add_(1)"),
    (WINDOWS, f"x[{NUMBERS}] = 9"),
    (WINDOWS, "x[x > 2] = 0"),
    (WINDOWS, "x.masked_fill_(x > 2, 0)"),
    (WINDOWS, f"x.index_fill_(1, {NUMBERS}, 8)"),
]


def outcome(library: Any, device: str, setup: str, statement: str) -> Any:
    space: dict[str, Any] = {"torch": library, "device": device, "np": np}
    exec(setup, space)
    try:
        exec(statement, space)
        raised = None
    except Exception as error:
        raised = type(error)
    return raised, space["base"].tolist(), space["x"].tolist()


@pytest.mark.filterwarnings("ignore:Use of .* on expanded tensors is deprecated")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("setup", "statement"), WRITES)
def test_only_the_chosen_elements_are_written(device: str, setup: str, statement: str) -> None:
    wanted = outcome(torch, "cpu", setup, statement)
    assert outcome(lazytorch, device, setup, statement) == wanted


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_flow_around_a_write_into_an_expanded_tensor(device: str) -> None:
    # PyTorch cannot go back through this at all.
    leaf = lazytorch.arange(3.0, device=device, requires_grad=True)
    x = (leaf * 2).reshape(3, 1).expand(3, 4)
    with pytest.warns(UserWarning, match="index_put_ on expanded tensors is deprecated"):
        x[lazytorch.tensor([1], device=device)] = 2.0
    (x * lazytorch.arange(12.0, device=device).reshape(3, 4)).sum().backward()
    assert x.tolist() == [[0.0] * 4, [2.0] * 4, [4.0] * 4]
    assert leaf.grad.tolist() == [12.0, 0.0, 76.0]


ASSIGNED = [
    "np.ones(3, 'float32')", "np.ones((2, 3))", "np.array(3.0)", "np.float32(3)", "np.bool_(True)",
    "[1, 2, 3]", "(1, 2, 3)", "range(3)", "'a'", "None", "1j", "np.float64(2)", "np.int64(2)",
    "np.uint8(2)", "True", "2", "torch.ones(3)", "torch.ones(1, 1, 3)", "torch.Size([1, 2, 3])",
]  # fmt: skip


@pytest.mark.parametrize("value", ASSIGNED)
@pytest.mark.parametrize("index", ["0", ":", "torch.tensor([0])", "x == 0"])
def test_what_may_be_assigned(index: str, value: str) -> None:
    if index == "x == 0" and "torch.ones" in value:
        pytest.skip("the shape of what is assigned is another test's")
    setup = "base = x = torch.zeros(2, 3)"
    statement = f"x[{index}] = {value}"
    wanted = outcome(torch, "cpu", setup, statement)
    assert outcome(lazytorch, "cpu", setup, statement) == wanted
