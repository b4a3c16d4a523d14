"""Updates computed in place, behind products and sums too: the same bits as out of place."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.engine import execution, pipeline
from lazytorch.runtime import get_device
from lazytorch.tensor.tensor import Tensor
from tests.graphs import DEVICES as PLACES

DEVICES = [name for name in PLACES if "/" not in name]

# Sizes that no register tile, vector or panel divides, and one case for each family of schedules.
LAYERS = {
    "ragged": (lambda: nn.Linear(67, 45), (33, 67)),
    "wide": (lambda: nn.Linear(37, 301), (29, 37)),
    "split sum": (lambda: nn.Linear(19, 11), (1500, 19)),
    "dots": (lambda: nn.Linear(301, 1), (130, 301)),
    "turned": (lambda: nn.Conv2d(19, 21, 3, padding=1), (3, 19, 13, 11)),
    "pixels": (lambda: nn.Conv2d(33, 35, (3, 2), 2), (2, 33, 9, 10)),
    "groups": (lambda: nn.Conv1d(6, 9, 4, dilation=2, groups=3), (3, 6, 41)),
    "transposed": (lambda: nn.ConvTranspose2d(7, 18, 3, 2), (2, 7, 6, 5)),
}
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
}


def trained(layer: str, optimizer: str, device: str) -> list[np.ndarray]:
    torch.manual_seed(3)
    make, shape = LAYERS[layer]
    model = make().to(device)
    x = torch.randn(*shape).to(device)
    steps = OPTIMIZERS[optimizer](list(model.parameters()))
    for _ in range(3):
        steps.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        steps.step()
        loss.item()
    kept: list[Tensor] = []
    for parameter in model.parameters():
        states = steps.state[parameter].values()
        kept += [parameter.detach(), parameter.grad]
        kept += [state for state in states if isinstance(state, Tensor)]
    return [value.cpu().numpy().copy() for value in kept]


# Every family on the first device and on NumPy; two of them elsewhere.
CASES = [
    (layer, optimizer, device)
    for device in DEVICES
    for layer in LAYERS
    for optimizer in OPTIMIZERS
    if (optimizer == "adam" and device in ("numpy", "opencl:0", "cpu")) or layer == "ragged"
]


@pytest.mark.parametrize(("layer", "optimizer", "device"), CASES)
def test_in_place_and_out_of_place_agree(
    layer: str, optimizer: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution.clear_plans()
    in_place = trained(layer, optimizer, device)
    monkeypatch.setattr(pipeline, "replaceable_inputs", lambda kernel: {})
    execution.clear_plans()
    apart = trained(layer, optimizer, device)
    execution.clear_plans()
    for found, wanted in zip(in_place, apart):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_step_needs_no_second_set_of_weights(device: str) -> None:
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 300)).to(device)
    x = torch.randn(16, 300).to(device)
    steps = torch.optim.Adam(model.parameters())

    def step() -> None:
        steps.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        steps.step()
        loss.item()

    for _ in range(3):
        step()
    gc.collect()
    place = get_device(torch.device(device).type if device == "numpy" else device)
    before = place.memory_allocated()
    place.reset_peak()
    step()
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert place.max_memory_allocated() - before < weights / 10


@pytest.mark.parametrize("device", DEVICES)
def test_wider_elements_do_not_lie_where_others_are_still_read(device: str) -> None:
    """Equal bytes and equal positions, but the elements are twice as wide."""
    place = get_device(device)
    if not place.capabilities.fp64:
        pytest.skip("no float64")
    x = torch.arange(4096, dtype=torch.float32).to(device) + 0
    x.cpu()
    y = x[:2048].double() * 3
    del x
    np.testing.assert_array_equal(y.cpu().numpy(), np.arange(2048) * 3.0)


@pytest.mark.parametrize("device", DEVICES)
def test_values_that_change_places(device: str) -> None:
    """Two outputs of one nest, each of which could lie where the other's operand does."""
    x, y = (torch.full((1000,), value).to(device) + 0 for value in (2.0, 3.0))
    (x.cpu(), y.cpu())
    x, y = y * 1 + x * 0, x * 1 + y * 0
    assert (x.cpu().numpy() == 3).all() and (y.cpu().numpy() == 2).all()
