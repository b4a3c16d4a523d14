"""Tensors that are asked to lie in a memory format do, with PyTorch's strides and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices

peer = pytest.importorskip("torch")


def _image(m: Any, device: str) -> Any:
    return m.arange(120.0, device=device).reshape(2, 3, 4, 5)


def _last(m: Any, device: str) -> Any:
    return _image(m, device).to(memory_format=m.channels_last)


def _written(m: Any, device: str) -> Any:
    x = _last(m, device)
    x[:, 1] = 7
    x += 1
    return x.copy_(x * 2)


CALLS: tuple[Callable[[Any, str], Any], ...] = (
    _last,
    _written,
    lambda m, d: _image(m, d).contiguous(memory_format=m.channels_last),
    lambda m, d: _image(m, d).clone(memory_format=m.channels_last),
    lambda m, d: _image(m, d).long().float(memory_format=m.channels_last),
    lambda m, d: _last(m, d).to(memory_format=m.contiguous_format),
    lambda m, d: _last(m, d).contiguous(),
    lambda m, d: m.empty(2, 3, 4, 5, device=d, memory_format=m.channels_last).zero_(),
    lambda m, d: m.zeros_like(_image(m, d), memory_format=m.channels_last),
    lambda m, d: _image(m, d)[None].to(memory_format=m.channels_last_3d),
    lambda m, d: _last(m, d).as_strided((7,), (1,)),
    lambda m, d: _last(m, d)[:, 1:, ::2],
    lambda m, d: m.ones(2, 1, 1, 1, device=d).to(memory_format=m.channels_last),
    lambda m, d: m.ones(0, 3, 2, 2, device=d).to(memory_format=m.channels_last),
)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("call", CALLS)
def test_strides_and_values(call: Callable[[Any, str], Any], device: str) -> None:
    mine, theirs = call(lazytorch, device), call(peer, "cpu")
    assert tuple(mine.stride()) == tuple(theirs.stride())
    assert mine.is_contiguous(memory_format=lazytorch.channels_last) == theirs.is_contiguous(
        memory_format=peer.channels_last
    )
    np.testing.assert_array_equal(mine.cpu().numpy(), theirs.numpy())


def test_gradients_pass() -> None:
    x = lazytorch.randn(2, 3, 4, 5, requires_grad=True)
    y = x.to(memory_format=lazytorch.channels_last)
    assert not y._is_view()
    y.mul_(3)
    (y * y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 18 * x.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.ones(2, 3, 4).to(memory_format=m.channels_last),
        lambda m: m.ones(2, 3, 4).contiguous(memory_format=m.channels_last),
        lambda m: m.ones(2, 3).clone(memory_format=m.channels_last),
        lambda m: m.ones(2, 3, 4, 5).to(memory_format=m.channels_last_3d),
        lambda m: _image(m, "cpu").to(memory_format=m.channels_last).view(-1),
        lambda m: m.ones(2, 3, 4, 5).to(memory_format=3),
    ],
)
def test_what_is_refused(call: Callable[[Any], Any]) -> None:
    with pytest.raises((RuntimeError, TypeError)) as theirs:
        call(peer)
    with pytest.raises(theirs.type):
        call(lazytorch)
