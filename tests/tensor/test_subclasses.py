"""Subclasses of Tensor keep their class in operations, or say what these give."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.nn import functional as F
from lazytorch.tensor import overrides
from tests.graphs import DEVICES as PLACES

DEVICES = ["cpu", *(place for place in PLACES if "/" not in place and place != "opencl:0")]


Plainest: Any
Labelled: Any
Slotted: Any
Logged: Any
Refusing: Any


@pytest.fixture(scope="module", autouse=True)
def kinds() -> Iterator[None]:
    """The first subclass changes functions and methods for the whole process: undone afterwards."""
    members = dict(vars(torch.Tensor))
    spaces = [(space, dict(space)) for space in overrides._namespaces]
    define()
    yield
    for name, member in members.items():
        if vars(torch.Tensor)[name] is not member:
            setattr(torch.Tensor, name, member)
    for space, before in spaces:
        space.update(before)
    overrides.state.active = False


def define() -> None:
    global Plainest, Labelled, Slotted, Logged, Refusing

    class Plainest(torch.Tensor):
        """Nothing of its own."""

    class Labelled(Plainest):
        def doubled(self) -> Any:
            return super().mul(2)

    class Slotted(torch.Tensor):
        __slots__ = ("label",)

    class Logged(torch.Tensor):
        calls: ClassVar[list[Any]] = []

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            cls.calls.append((func, types))
            return super().__torch_function__(func, types, args, kwargs)

    class Refusing(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return NotImplemented


def made(kind: type, device: str = "cpu") -> Any:
    return torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], device=device).as_subclass(kind)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["Plainest", "Labelled", "Slotted"])
def test_results_are_of_the_subclass(name: str, device: str) -> None:
    kind = globals()[name]
    x = made(kind, device)
    plain = torch.ones(2, 3, device=device)
    for result, wanted in (
        (x + 1, [[2, -1, 4], [5, 6, -5]]), (plain - x, [[0, 3, -2], [-3, -4, 7]]),
        (F.relu(x), [[1, 0, 3], [4, 5, 0]]), (torch.abs(x), [[1, 2, 3], [4, 5, 6]]),
        (x.T, [[1, 4], [-2, 5], [3, -6]]), (x[0], [1, -2, 3]), (x.max(1).values, [3, 5]),
        (torch.cat([plain[:1], x[1:]]), [[1, 1, 1], [4, 5, -6]]), (x.detach(), x.tolist()),
        (x.split(1)[1], [[4, 5, -6]]), (next(iter(x)), [1, -2, 3]), (copy.copy(x), x.tolist()),
        (torch.zeros_like(x), [[0, 0, 0], [0, 0, 0]]), (torch.reshape(x, (6,))[5], -6),
        (torch.linalg.vector_norm(x[:, 0]) ** 2, pytest.approx(17)), (x.new_ones(1), [1]),
    ):  # fmt: skip
        assert type(result) is kind and result.tolist() == wanted
    assert type(torch.tensor(x.tolist())) is torch.Tensor and type(x.shape) is torch.Size
    assert type(plain) is torch.Tensor and type(plain.contiguous()) is torch.Tensor


@pytest.mark.parametrize("device", DEVICES)
def test_views_and_gradients_of_subclasses(device: str) -> None:
    x = made(Labelled, device)
    row = x[1]
    row.add_(10)
    assert x.tolist()[1] == [14, 15, 4] and row._base is x
    assert type(x.doubled()) is Labelled
    x.requires_grad_()
    (x * x).sum().backward()
    assert type(x.grad) is torch.Tensor and x.grad.tolist() == (2 * x).tolist()
    layer = nn.Linear(3, 2).to(device)
    assert type(layer(x)) is Labelled
    layer(x).sum().backward()
    assert type(layer.weight.grad) is torch.Tensor


def test_operations_with_parameters_are_plain() -> None:
    class Weight(nn.Parameter):
        pass

    assert type(Weight(torch.ones(2)) + 1) is torch.Tensor
    weight = nn.Parameter(torch.ones(2, 3))
    assert type(weight + made(Plainest)) is type(weight.data.add(made(Plainest))) is Plainest


def test_what_a_subclass_is_asked() -> None:
    x = made(Logged)
    Logged.calls.clear()
    for call, function in (
        (lambda: x + 1, torch.Tensor.add), (lambda: 1 + x, torch.Tensor.add),
        (lambda: torch.add(x, 1), torch.add), (lambda: F.relu(x), F.relu),
        (lambda: x[0], torch.Tensor.__getitem__), (lambda: repr(x), torch.Tensor.__repr__),
        (lambda: torch.stack([torch.ones(2, 3), x]), torch.stack),
        (lambda: torch.add(torch.ones(2, 3), other=x), torch.add),
        (lambda: x.shape, torch.Tensor.shape.__get__), (lambda: x.relu_(), torch.Tensor.relu_),
    ):  # fmt: skip
        Logged.calls.clear()
        call()
        assert Logged.calls == [(function, (Logged,))]


def test_a_subclass_that_refuses() -> None:
    x = made(Refusing)
    with pytest.raises(TypeError, match=r"Multiple dispatch failed for 'torch.add'"):
        torch.add(x, 1)
    with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for \+"):
        x + 1
    with pytest.raises(TypeError):
        torch.ones(2, 3) + x
    with pytest.raises(TypeError):
        made(Plainest) + made(Logged)  # Neither is the other's base.
    assert type(made(Plainest) + made(Labelled)) is Labelled


def test_it_prints_its_class() -> None:
    assert repr(made(Plainest)[0]) == "Plainest([ 1., -2.,  3.])"


def test_programs_without_subclasses_keep_their_functions() -> None:
    program = (
        "import lazytorch as torch\n"
        "from lazytorch import nn\n"
        "before = torch.add\n"
        "class Weight(nn.Parameter): pass\n"
        "assert torch.add is before\n"
        "class Other(torch.Tensor): pass\n"
        "assert torch.add is not before and Other([1.0]).add(1).__class__ is Other\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
