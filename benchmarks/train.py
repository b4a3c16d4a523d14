"""Training steps beside PyTorch: the same program, the same weights, the same data.

    python benchmarks/train.py [--only MLP] [--rounds 7]

Losses of the first steps are compared before time counts. A step here looks at nothing but its
loss, at the end of a measurement, as a training loop with a progress bar does now and then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import lazytorch as torch
from benchmarks._measure import Row, Table, alternate, chosen, parser, peer

COMPARED_STEPS = 10
TOLERANCE = 2e-3


def mlp(library: Any) -> Any:
    nn = library.nn
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def cnn(library: Any) -> Any:
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def normalized(library: Any) -> Any:
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip


WORKLOADS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], str]] = {
    "MLP 784-512-512-10, batch 128, Adam": (mlp, (128, 784), "Adam"),
    "MLP 784-512-512-10, batch 128, SGD": (mlp, (128, 784), "SGD"),
    "CNN 28x28, batch 64, Adam": (cnn, (64, 1, 28, 28), "Adam"),
    "CNN with BatchNorm, batch 64, AdamW": (normalized, (64, 1, 28, 28), "AdamW"),
}


class Trainer:
    """One library's half of a contest."""

    def __init__(
        self,
        library: Any,
        make: Callable[[Any], Any],
        weights: dict[str, np.ndarray],
        batch: tuple[np.ndarray, np.ndarray],
        optimizer: str,
        device: str,
    ) -> None:
        self.library = library
        self.model = make(library).to(device)
        state = {name: library.tensor(value) for name, value in weights.items()}
        self.model.load_state_dict(state)
        self.x, self.y = (library.tensor(array).to(device) for array in batch)
        settings = {"lr": 1e-3} if optimizer != "SGD" else {"lr": 0.01, "momentum": 0.9}
        self.optimizer = getattr(library.optim, optimizer)(self.model.parameters(), **settings)

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = self.library.nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self, count: int) -> list[float]:
        return [self.step().item() for _ in range(count)]

    def steps(self) -> None:
        """What is timed: four steps, the last loss looked at."""
        for _ in range(3):
            self.step()
        self.step().item()


def compare(first: list[float], second: list[float]) -> str:
    for position, (a, b) in enumerate(zip(first, second)):
        if abs(a - b) > TOLERANCE * max(abs(b), 1e-3):
            return f"loss of step {position} is {a:.6f}, PyTorch's is {b:.6f}"
    return ""


def initial_weights(make: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """Small random weights by name and shape, the same for both libraries."""
    rng = np.random.default_rng(1)
    result = {}
    for name, value in make(torch).state_dict().items():
        array = np.array(value.cpu().numpy())
        if name.endswith("weight") and array.ndim > 1:
            scale = (2 / np.prod(array.shape[1:])) ** 0.5
            array = (rng.standard_normal(array.shape) * scale).astype(np.float32)
        result[name] = array
    return result


def main() -> int:
    """Measure and print."""
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    table = Table("training steps", arguments.json)
    for name in chosen(list(WORKLOADS), arguments.only):
        make, shape, optimizer = WORKLOADS[name]
        rng = np.random.default_rng(0)
        batch = (rng.standard_normal(shape, np.float32), rng.integers(0, 10, shape[0]))
        weights = initial_weights(make)
        mine = Trainer(torch, make, weights, batch, optimizer, arguments.device)
        runs = {"lazytorch": mine.steps}
        wrong = ""
        losses = mine.losses(COMPARED_STEPS)
        if peer is not None:
            other = Trainer(peer, make, weights, batch, optimizer, "cpu")
            wrong = compare(losses, other.losses(COMPARED_STEPS))
            runs["PyTorch"] = other.steps
        before = torch.stats()
        mine.steps()
        after = torch.stats()
        launches = (after["kernels_launched"] - before["kernels_launched"]) // 4
        times = alternate(runs, arguments.rounds)
        best = times["lazytorch"].best / 4
        built = torch.stats()["programs_built"] - after["programs_built"]
        detail = f"{launches} launches a step, {built} programs built while measuring"
        if "PyTorch" in times:
            theirs = times["PyTorch"].best / 4
            detail = f"{theirs * 1e3:.2f} ms; {detail}"
            table.add(Row(name, best, "PyTorch", theirs / best, 0, detail, wrong))
        else:
            table.add(Row(name, best, "", 0, 0, detail))
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
