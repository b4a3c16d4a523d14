"""What a training step computes: contractions and reductions once, in few kernels.

Counted are the bodies of the kernels of every plan that runs in a step: contractions (products,
convolutions, attention) and reductions. A step in which somebody looks at the loss before
``backward`` may compute cheap maps again, but nothing that sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import lazytorch as torch
import lazytorch.nn.functional as F
from lazytorch import nn
from lazytorch.engine import execution
from lazytorch.ir.kernel import AttentionBody, ContractBody, Reduce, RowBody
from lazytorch.runtime import available_devices
from lazytorch.schedule.plan import LaunchStep

Step = Callable[[bool], Any]


@dataclass
class Work:
    """What ran."""

    kernels: int = 0
    contractions: int = 0
    reductions: int = 0

    def add(self, plan: Any) -> None:
        """Count a plan's kernels."""
        for step in plan.steps:
            self.kernels += 1
            for body in step.kernel.bodies if isinstance(step, LaunchStep) else ():
                self.contractions += isinstance(body, (ContractBody, AttentionBody))
                if isinstance(body, RowBody):
                    self.reductions += sum(isinstance(stage, Reduce) for stage in body.stages)


class Block(nn.Module):
    """A transformer's block."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        parts = self.attention(self.first(x)).split(width, 2)
        q, k, v = (p.view(batch, length, self.heads, -1).transpose(1, 2) for p in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.second(x))))


def mlp() -> tuple[Any, Any]:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)), torch.randn(32, 64)


def cnn() -> tuple[Any, Any]:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip
    return model, torch.randn(16, 1, 8, 8)


def gpt() -> tuple[Any, Any]:
    return nn.Sequential(Block(), nn.Linear(32, 10)), torch.randn(4, 16, 32)


def step_of(make: Callable[[], tuple[Any, Any]]) -> Step:
    torch.manual_seed(0)
    model, x = make()
    target = torch.arange(x.shape[0] * (x.shape[1] if x.ndim == 3 else 1)) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(looks: bool) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).reshape(-1, 10), target)
        if looks:
            loss.item()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Step, bool], Work]:
    """Counts the work of a step that was made twice before."""
    counted = [Work()]
    execute = execution._execute

    def counting(numbering: Any, device: Any, replay: Any) -> None:
        counted[0].add(replay.plan)
        execute(numbering, device, replay)

    monkeypatch.setattr(execution, "_execute", counting)

    def measure(step: Step, looks: bool) -> Work:
        for _ in range(3):
            counted[0] = Work()
            step(looks)
        return counted[0]

    return measure


# Contractions: forward, and backward by weight and by input except where no gradient goes on.
# An attention is 1 forward and 2 backward.
MODELS = {"mlp": (mlp, 5, 6, 12), "cnn": (cnn, 8, 17, 19), "gpt": (gpt, 17, 20, 33)}


@pytest.mark.parametrize("device", [d for d in ("numpy", "opencl:0") if d in available_devices()])
@pytest.mark.parametrize("name", MODELS)
def test_a_step(name: str, device: str, work: Callable[[Step, bool], Work]) -> None:
    make, contractions, reductions, kernels = MODELS[name]
    before = torch.get_default_device()
    torch.set_default_device(device)
    try:
        step = step_of(make)
        alone, looked = work(step, False), work(step, True)
    finally:
        torch.set_default_device(before)
    assert alone.kernels <= kernels
    assert alone.contractions == looked.contractions == contractions
    assert alone.reductions == looked.reductions <= reductions
