"""Whole training steps against PyTorch: the losses of enough steps for what is remembered between
steps (recorded updates, kept weights, replayed plans) to have its turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices
from lazytorch.tensor.storage import node_of

STEPS = 6


def perceptron(nn: Any) -> Any:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 5))


def convolutional(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 1), nn.GELU(), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip


def recurrent(nn: Any) -> Any:
    class Recurrent(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.LSTM(12, 7, batch_first=True)
            self.head = nn.Linear(7, 5)

        def forward(self, x: Any) -> Any:
            return self.head(self.steps(x.flatten(2).transpose(1, 2).reshape(-1, 4, 12))[0][:, -1])

    return Recurrent()


def attentive(nn: Any) -> Any:
    class Attentive(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(16)
            # No bias: that of the keys has no gradient but rounding, which Adam would magnify.
            self.mixed = nn.Linear(16, 48, bias=False)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            x = self.norm(x.flatten(2))
            heads = [
                part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.mixed(x).chunk(3, -1)
            ]
            attended = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
            return self.head((x + attended.transpose(1, 2).flatten(2)).mean(1))

    return Attentive()


PROGRAMS: list[tuple[Any, str, dict[str, Any]]] = [
    (perceptron, "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (convolutional, "Adam", {"lr": 0.02}),
    (recurrent, "Adam", {"lr": 0.05, "amsgrad": True}),
    (attentive, "AdamW", {"lr": 0.02, "weight_decay": 0.1}),
]


def losses(torch: Any, model: Any, name: str, options: dict[str, Any], device: str) -> list[float]:
    random = np.random.default_rng(0)
    optimizer = getattr(torch.optim, name)(model.parameters(), **options)
    found = []
    for _ in range(STEPS):
        x = torch.from_numpy(random.standard_normal((8, 3, 4, 4)).astype(np.float32)).to(device)
        y = torch.from_numpy(random.integers(0, 5, 8)).to(device)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


# The second driver compiles slowly, and what is tested here is not its kernels.
@pytest.mark.parametrize("device", [name for name in available_devices() if name != "opencl:1"])
@pytest.mark.parametrize("make, name, options", PROGRAMS)
def test_losses(make: Any, name: str, options: dict[str, Any], device: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, ours = make(torch.nn), make(lazytorch.nn)
    state = {k: lazytorch.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    found = losses(lazytorch, ours.to(device), name, options, device)
    np.testing.assert_allclose(found, losses(torch, theirs, name, options, "cpu"), rtol=2e-4)
    # Losses come before the last update: the parameters after it, too.
    for key, expected in theirs.state_dict().items():
        np.testing.assert_allclose(
            ours.state_dict()[key].cpu().numpy(), expected.numpy(), rtol=5e-3, atol=5e-4
        )


def test_running_statistics_are_computed_with_their_pass() -> None:
    """Passes whose results are looked at leave nothing pending, and nothing is kept for them."""
    lazytorch.manual_seed(0)
    layer = lazytorch.nn.BatchNorm1d(3, device="numpy")
    x = lazytorch.randn(8, 3, device="numpy")
    launches = []
    for _ in range(4):
        before = lazytorch.stats()["kernels_launched"]
        y = layer(x).relu().exp()
        float(x.sum())  # Less deep: the pass is not computed for it.
        assert node_of(layer.running_mean).buffer is None
        y.sum().item()
        assert node_of(layer.running_mean).buffer is not None
        assert node_of(layer.running_var).buffer is not None
        launches.append(lazytorch.stats()["kernels_launched"] - before)
    assert len(set(launches[1:])) == 1
    expected = x.mean(0) * (1 - 0.9**4)
    np.testing.assert_allclose(layer.running_mean.cpu(), expected.cpu(), rtol=1e-5, atol=1e-6)
