"""What the tape keeps alive: micro-batches do not pile up, a backward pass lets go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch
import lazytorch.nn.functional as F
from lazytorch import engine, nn
from lazytorch.runtime import get_device

SIZE = 256
BATCH = np.random.default_rng(0).standard_normal((SIZE, 64)).astype(np.float32)
TARGET = np.arange(SIZE) % 10


def device_of(name: str) -> Any:
    device = get_device(engine.resolve_device(name))
    engine.flush()
    device.synchronize()
    device.reset_peak()
    return device


@pytest.mark.parametrize("looks", [False, True])
def test_micro_batches_do_not_pile_up(looks: bool, each_device: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def peak(count: int) -> int:
        model.zero_grad()
        device = device_of(each_device)
        before = device.memory_allocated()
        total: Any = 0
        for _ in range(count):
            loss = F.cross_entropy(model(torch.tensor(BATCH)), torch.tensor(TARGET)) / count
            if looks:
                loss.item()
            loss.backward()
            total = total + loss.detach()
        total.item()
        model[0].weight.grad.sum().item()
        return int(device.max_memory_allocated() - before)

    peak(3)
    assert peak(12) < 1.3 * peak(3)


def test_accumulated_gradients_are_the_sum(each_device: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    x, y = torch.tensor(BATCH), torch.tensor(TARGET)
    F.cross_entropy(model(x), y).backward()
    expected = model.weight.grad.tolist()
    model.zero_grad()
    for part, target in zip(x.chunk(4), y.chunk(4)):
        (F.cross_entropy(model(part), target) / 4).backward()
    np.testing.assert_allclose(model.weight.grad.tolist(), expected, rtol=1e-4, atol=1e-6)


def test_a_zeroed_gradient_is_no_reason_to_compute() -> None:
    weight = torch.ones(3, requires_grad=True)
    (weight * 2).sum().backward()
    weight.grad.tolist()
    weight.grad.zero_()
    before = torch.stats()["kernels_launched"]
    (weight * 3).sum().backward()
    assert torch.stats()["kernels_launched"] == before
    assert weight.grad.tolist() == [3, 3, 3]


def test_a_pass_lets_go_of_what_was_saved(each_device: str) -> None:
    x = torch.tensor(BATCH, requires_grad=True)
    layers = [nn.Linear(64, 64) for _ in range(6)]
    x.sum().item()
    device = device_of(each_device)

    def run() -> tuple[int, int]:
        h = x
        for layer in layers:
            h = layer(h).tanh()
        loss = h.square().mean()
        loss.item()
        kept = device.memory_allocated()
        loss.backward()
        for tensor in (x, *[p for layer in layers for p in layer.parameters()]):
            tensor.grad.sum().item()
            tensor.grad = None
        device.synchronize()
        return kept, device.memory_allocated()

    run()
    kept, left = run()
    # Each of the 6 layers keeps 256 x 64 numbers.
    assert kept - left >= 5 * SIZE * 64 * 4
