"""A pending reader keeps the value it read; views and their base see each other's writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch as torch

WRITES: dict[str, Callable[[Any], Any]] = {
    "item": lambda x: x.__setitem__(0, 9.0),
    "slice": lambda x: x.__setitem__(slice(0, 1), 9.0),
    "whole": lambda x: x.__setitem__(Ellipsis, 9.0),
    "mask": lambda x: x.__setitem__(x > 2, 9.0),
    "positions": lambda x: x.__setitem__([0, 2], 9.0),
    "add_": lambda x: x.add_(1),
    "fill_": lambda x: x.fill_(9),
    "copy_": lambda x: x.copy_(torch.zeros(6)),
    "through a view": lambda x: x.view(2, 3)[1].mul_(3),
    "through a transposed view": lambda x: x.view(2, 3).t()[0].zero_(),
    "out": lambda x: torch.add(x, 1, out=x),
    "data": lambda x: x.data.zero_(),
}
READERS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: x + 10,
    "sum": lambda x: x.sum(),
    "clone": lambda x: x.clone(),
    "reader of a view": lambda x: x[1:] * 2,
    "matmul": lambda x: x.view(2, 3) @ x.view(3, 2),
    "cat": lambda x: torch.cat([x, x]),
    "index": lambda x: x[[0, 0, 1]],
}


@pytest.mark.parametrize("looked", [False, True], ids=["pending", "looked at"])
@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
def test_reader_keeps_what_it_read(read: Any, write: Any, looked: bool) -> None:
    x = torch.arange(6, dtype=torch.float32)
    expected = read(x.clone()).tolist()
    result = read(x)
    if looked:
        x.tolist()
    write(x)
    assert result.tolist() == expected


def test_the_reader_of_the_issue() -> None:
    x = torch.zeros(4)
    r = x + 10
    x[:1] = 9
    assert r.tolist() == [10, 10, 10, 10]
    assert (x + 10).tolist() == [19, 10, 10, 10]


VIEWS: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: x.reshape(3, 4),
    "view": lambda x: x.view(-1),
    "flatten": lambda x: x.flatten(),
    "transpose": lambda x: x.transpose(0, 1),
    "T": lambda x: x.T,
    "permute": lambda x: x.permute(1, 0),
    "slice": lambda x: x[1:],
    "step": lambda x: x[:, ::2],
    "int": lambda x: x[1],
    "none": lambda x: x[None],
    "ellipsis": lambda x: x[..., 0],
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(0, 1),
    "split": lambda x: x.split(1)[0],
    "chunk": lambda x: x.chunk(2, 1)[1],
    "unbind": lambda x: x.unbind(1)[0],
    "unsqueeze": lambda x: x.unsqueeze(0),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "expand": lambda x: x.unsqueeze(0).expand(2, 2, 6),
    "diagonal": lambda x: x.diagonal(),
    "unfold": lambda x: x.unfold(1, 2, 2),
    "movedim": lambda x: x.movedim(0, 1),
    "unflatten": lambda x: x.unflatten(1, (2, 3)),
    "as_strided": lambda x: x.as_strided((2, 2), (1, 2), 1),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "view of a view": lambda x: x.t()[1:].t(),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "clone": lambda x: x.clone(),
    "reshape of a transpose": lambda x: x.t().reshape(-1),
    "positions": lambda x: x[[0, 1]],
    "mask": lambda x: x[x > -1],
    "flip": lambda x: x.flip(0),
    "repeat": lambda x: x.repeat(1, 1),
    "contiguous": lambda x: x.t().contiguous(),
    "tensor": lambda x: torch.tensor(x),
    "to": lambda x: x.to(torch.float64),
    "roll": lambda x: x.roll(1),
    "gather": lambda x: x.index_select(0, torch.tensor([0, 1])),
}


@pytest.mark.parametrize("make", VIEWS.values(), ids=list(VIEWS))
def test_views_alias_both_ways(make: Any) -> None:
    x = torch.arange(12, dtype=torch.float32).reshape(2, 6).clone()
    view = make(x)
    x.mul_(2)
    fresh = make(torch.arange(12, dtype=torch.float32).reshape(2, 6) * 2)
    assert view.tolist() == fresh.tolist()
    if 0 not in view.stride():
        before = x.sum().item()
        view.add_(1)
        assert x.sum().item() == pytest.approx(before + view.numel())


@pytest.mark.parametrize("make", COPIES.values(), ids=list(COPIES))
def test_copies_do_not_alias(make: Any) -> None:
    x = torch.arange(12, dtype=torch.float32).reshape(2, 6).clone()
    copied = make(x)
    before = copied.tolist()
    x.zero_()
    assert copied.tolist() == before


def test_versions_count_writes() -> None:
    x = torch.zeros(3)
    view = x[1:]
    assert (x._version, view._version) == (0, 0)
    view.add_(1)
    x.zero_()
    assert (x._version, view._version, x.detach()._version) == (2, 2, 2)


def test_writes_to_expanded_tensors_are_refused() -> None:
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        torch.zeros(1, 3).expand(2, 3).add_(1)


# Memory shared with NumPy ---------------------------------------------------------------------


def test_numpy_sees_later_writes() -> None:
    a = torch.zeros(3)
    b = a.numpy()
    a.add_(1)
    assert b.tolist() == [1, 1, 1]
    a[1] = 5
    assert b.tolist() == [1, 5, 1]
    b[2] = 7
    assert a.tolist() == [1, 5, 7]
    assert a.numpy() is not b and np.shares_memory(a.numpy(), b)


def test_views_share_with_numpy() -> None:
    a = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    column = a[:, 1].numpy()
    a.mul_(10)
    assert column.tolist() == [10, 40]
    column[:] = -1
    assert a.tolist() == [[0, -1, 20], [30, -1, 50]]


def test_from_numpy_shares_both_ways() -> None:
    array = np.arange(4.0)
    tensor = torch.from_numpy(array)
    array[0] = 10
    assert tensor.tolist() == [10, 1, 2, 3]
    tensor.mul_(2)
    assert array.tolist() == [20, 2, 4, 6]
    assert tensor.dtype is torch.float64


def test_reader_of_numpy_memory_keeps_its_value() -> None:
    array = np.ones(3, np.float32)
    tensor = torch.from_numpy(array)
    later = tensor + 1
    array[:] = 100
    assert later.tolist() == [2, 2, 2]
    assert (tensor + 1).tolist() == [101, 101, 101]


def test_clones_do_not_share_with_numpy() -> None:
    a = torch.ones(3) * 2
    b = a.clone()
    pending = a + 1
    array = a.numpy()
    array[:] = 50
    assert b.tolist() == [2, 2, 2]
    assert pending.tolist() == [3, 3, 3]


def test_sharing_ends_with_the_array() -> None:
    a = torch.ones(3) * 2
    storage = a.untyped_storage()
    part = a.numpy()[1:]
    assert storage.host_shared
    del part
    assert not storage.host_shared
    assert (a + 1).tolist() == [3, 3, 3]


def test_strided_arrays_are_shared() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = torch.from_numpy(array.T)
    tensor[0] = -1
    assert array[:, 0].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(array[::-1])


def test_numpy_refuses_what_pytorch_refuses() -> None:
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.ones(2, requires_grad=True).numpy()
    with pytest.raises(TypeError, match="BFloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()
