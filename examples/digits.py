"""Train a small convolutional network on real handwritten digits.

    python examples/digits.py

The data are the 1,797 scans of 8 x 8 pixels that come with scikit-learn, so nothing is
downloaded. The program is an ordinary PyTorch program: with ``import torch`` in place of
``import lazytorch as torch`` it runs on PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import lazytorch as torch

nn, data = torch.nn, torch.utils.data

BATCH = 64
PEAK_RATE = 0.01


class Net(nn.Module):
    """Three convolutions with batch normalization, then one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classify = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 2 * 2, 10))

    def forward(self, images: Any) -> Any:
        return self.classify(self.features(images))


class Shifted(data.Dataset):
    """Images moved by up to one pixel, another way each time they are asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.images = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.labels = labels
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        down, right = self.random.integers(0, 3, 2)
        return self.images[index, :, down : down + 8, right : right + 8], self.labels[index]


def load_data(
    seed: int, count: int | None = None
) -> tuple[Shifted, data.TensorDataset, data.TensorDataset]:
    """Training (the first ``count``), validation and test digits; the same split in every run."""
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[:, None]
    labels = digits.target.astype("int64")
    rest, test, rest_labels, test_labels = train_test_split(
        images, labels, test_size=360, random_state=0, stratify=labels
    )
    train, held, train_labels, held_labels = train_test_split(
        rest, rest_labels, test_size=180, random_state=0, stratify=rest_labels
    )
    return (
        Shifted(train[:count], train_labels[:count], seed),
        data.TensorDataset(torch.tensor(held), torch.tensor(held_labels)),
        data.TensorDataset(torch.tensor(test), torch.tensor(test_labels)),
    )


def accuracy(model: nn.Module, digits: data.TensorDataset) -> float:
    """The share of digits that are recognized."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in data.DataLoader(digits, batch_size=180):
            correct += (model(images).argmax(dim=1) == labels).sum().item()
    return correct / len(digits)


def train(
    model: nn.Module,
    training: data.Dataset,
    validation: data.TensorDataset,
    epochs: int,
    checkpoint: Path,
    steps_log: Any,
) -> float:
    """Train, keep the latest model in ``checkpoint``, and return images per second."""
    loader = data.DataLoader(training, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_RATE, total_steps=epochs * len(loader)
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    seconds, seen = 0.0, 0
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.train()
        total = correct = 0.0
        bar = tqdm(loader, desc=f"epoch {epoch:2}/{epochs}", leave=False, disable=None)
        for images, labels in bar:
            scores = model(images)
            loss = loss_of(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            # Sums stay tensors, so the loop does not wait for each batch.
            total = total + loss.detach() * len(labels)
            correct = correct + (scores.detach().argmax(dim=1) == labels).sum()
            if steps_log is not None:
                print(repr(loss.item()), file=steps_log, flush=True)
        mean_loss, train_accuracy = float(total) / len(training), float(correct) / len(training)
        if epoch > 1 or epochs == 1:
            # The first epoch compiles; its time would say nothing about the speed.
            seconds += time.perf_counter() - start
            seen += len(training)
        validated = accuracy(model, validation)
        print(
            f"epoch {epoch:2}  loss {mean_loss:.4f}  train {100 * train_accuracy:5.1f} %  "
            f"validation {100 * validated:5.1f} %"
        )
        torch.save({"model": model.state_dict(), "epoch": epoch}, checkpoint)
    return seen / seconds


def report(images_per_second: float) -> None:
    """What it ran on; only lazytorch can tell the kernels."""
    print(f"images per second: {images_per_second:,.0f}")
    device = torch.tensor(0).device
    if torch.__name__ != "lazytorch":
        print(f"device: {device}")
        return
    from lazytorch.runtime import get_device

    runtime = get_device(device.runtime)
    print(f"distinct kernels: {torch.stats()['kernels_distinct']}")
    print(f"device: {device} ({runtime.name}, {runtime.capabilities.name})")


def run(options: argparse.Namespace) -> None:
    """Train, load the checkpoint back, and test it."""
    torch.manual_seed(options.seed)
    model = Net()
    training, validation, test = load_data(options.seed, options.examples)
    with contextlib.ExitStack() as stack:
        steps_log = None
        if options.steps_log is not None:
            steps_log = stack.enter_context(open(options.steps_log, "w", encoding="ascii"))
        speed = train(model, training, validation, options.epochs, options.checkpoint, steps_log)
    trained = Net()
    trained.load_state_dict(torch.load(options.checkpoint)["model"])
    print(f"test accuracy: {100 * accuracy(trained, test):.1f} %")
    report(speed)


def main() -> int:
    """Read the command line; Ctrl-C ends the program with exit code 130."""
    parser = argparse.ArgumentParser(description="train a small network on handwritten digits")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--examples", type=int, help="train with only so many digits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("digits.pt"))
    parser.add_argument("--steps-log", type=Path, help="write the loss of every step to this file")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")

    try:
        run(options)
    except KeyboardInterrupt:
        kept = (
            f"; {options.checkpoint} holds the last whole epoch"
            if options.checkpoint.exists()
            else ""
        )
        print(f"\nstopped{kept}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
