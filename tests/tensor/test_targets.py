"""``out=``: where results go, and what is refused before anything is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.runtime import available_devices

each_device = pytest.mark.parametrize("place", available_devices())


@each_device
def test_a_target_with_room_keeps_its_memory(place: str) -> None:
    memory = torch.zeros(6, device=place)
    target = memory[1:]
    torch.add(torch.ones(3, device=place), 1, out=target)
    assert target.shape == (3,)
    assert memory.tolist() == [0, 2, 2, 2, 0, 0]
    torch.add(torch.ones(2, 4, device=place), 1, out=target)
    assert target.tolist() == [[2] * 4] * 2


def test_memory_of_an_array_does_not_grow() -> None:
    array = np.zeros(4, np.float32)
    target = torch.from_numpy(array)
    with pytest.raises(RuntimeError, match="not resizable"):
        torch.cat([torch.ones(3), torch.ones(3)], out=target)
    torch.cat([torch.ones(1), torch.ones(2)], out=target)
    assert target.tolist() == [1, 1, 1]
    assert array.tolist() == [1, 1, 1, 0]


@each_device
def test_what_is_refused_changes_nothing(place: str) -> None:
    x = torch.tensor([3.0, 1.0, 2.0], device=place)
    where = torch.tensor([2, 0, 1], device=place)
    wrong = torch.zeros(3, device=place)
    for call, message in (
        (lambda: torch.gather(x, 0, where, out=x), "single memory location"),
        (lambda: torch.take(x, where, out=x[:]), "single memory location"),
        (lambda: torch.cat([x, x], out=x[:2]), "single memory location"),
        (lambda: torch.add(x, 1, out=wrong[:1].expand(3)), "single memory location"),
        (lambda: torch.sort(x, out=(wrong, torch.zeros(3, device=place).bool())), "cast"),
        (lambda: torch.sort(x, out=(wrong,)), "2 tensors"),
        (lambda: torch.gather(x, 0, where, out=wrong.double()), "dtype float, but got double"),
        (lambda: torch.exp(x, out=[[1.0]]), "argument 'out' must be Tensor, not list"),
    ):
        with pytest.raises((RuntimeError, TypeError), match=message):
            call()
    assert x.tolist() == [3, 1, 2]
    assert wrong.tolist() == [0, 0, 0]


_X = torch.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: torch.exp([1.0]), "exp(): argument 'input' (position 1) must be Tensor, not list"),
        (lambda: torch.maximum(_X, 3), "argument 'other' (position 2) must be Tensor, not int"),
        (lambda: _X.maximum(3), "argument 'other' (position 1) must be Tensor, not int"),
        (lambda: _X.atan2_(3), "atan2_(): argument 'other' (position 1) must be Tensor, not int"),
        (lambda: torch.eq(3, _X), "argument 'input' (position 1) must be Tensor, not int"),
        (lambda: torch.logical_and(_X, True), "'other' (position 2) must be Tensor, not bool"),
        (lambda: torch.sum("a"), "sum(): argument 'input' (position 1) must be Tensor, not str"),
        (lambda: torch.remainder(2, 3), "remainder() received an invalid combination of"),
    ],
)
def test_what_is_no_tensor_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert message in str(caught.value)
