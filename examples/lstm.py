"""An LSTM that tells waveforms apart: sines, squares, saws and triangles in noise.

    python examples/lstm.py --checkpoint lstm.pt --plot lstm.png

The signals are made here: 64 samples each, of any frequency and phase. The last state of the
network says what it heard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from common import Options, Training

import lazytorch as torch

nn, data = torch.nn, torch.utils.data
STEPS = 64
NOISE = 0.2


def signals(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, STEPS, 1) samples and which of the four waveforms each is; the same for a seed."""
    random = torch.Generator().manual_seed(seed)
    kinds = torch.randint(4, (count,), generator=random)
    periods = 1 + 3 * torch.rand(count, 1, generator=random)
    phases = torch.rand(count, 1, generator=random)
    turns = (phases + periods * torch.linspace(0, 1, STEPS)) % 1
    sine = torch.sin(2 * math.pi * turns)
    waves = torch.stack([sine, sine.sign(), 2 * turns - 1, 4 * (turns - 0.5).abs() - 1])
    chosen = waves[kinds, torch.arange(count)]
    noisy = chosen + NOISE * torch.randn(count, STEPS, generator=random)
    return noisy.unsqueeze(2), kinds


class Listener(nn.Module):
    """An LSTM over the samples, and a linear layer on its last state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, width, batch_first=True)
        self.classify = nn.Linear(width, 4)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(samples)
        return self.classify(hidden[-1])


def accuracy(model: nn.Module, samples: torch.Tensor, kinds: torch.Tensor) -> float:
    """The share of signals that are recognized."""
    model.eval()
    with torch.no_grad():
        return (model(samples).argmax(1) == kinds).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on signals that were not heard before."""
    options = Options("an LSTM on waveforms", epochs=20, rate=0.01).read(arguments)
    torch.manual_seed(options.seed)
    training = data.TensorDataset(*signals(options.examples or 2048, seed=100))
    test = signals(512, seed=200)
    loader = data.DataLoader(training, batch_size=options.batch, shuffle=True, drop_last=True)
    model = Listener(options.width or 64)
    optimizer = torch.optim.Adam(model.parameters(), options.rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=options.epochs * len(loader)
    )
    loss_of = nn.CrossEntropyLoss()

    run = Training(options, model, optimizer, scheduler)
    for _ in run.epochs():
        for samples, kinds in run.progress(loader):
            run.step(loss_of(model(samples), kinds), len(kinds))
        run.note(accuracy=accuracy(model, *test))
    run.finish("accuracy")
    return run.curves["accuracy"][-1]


if __name__ == "__main__":
    main()
