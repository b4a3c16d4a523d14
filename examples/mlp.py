"""A multilayer perceptron that tells handwritten digits apart.

    python examples/mlp.py --checkpoint mlp.pt --plot mlp.png

1,797 scans of 8 x 8 pixels from scikit-learn, three linear layers with dropout, AdamW with a
learning rate that rises and falls once.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Options, Training
from sklearn.datasets import load_digits

import lazytorch as torch

nn, data = torch.nn, torch.utils.data


def load_data(examples: int | None) -> tuple[data.TensorDataset, data.TensorDataset]:
    """Digits to train with, and the last 360 to test with: other people wrote those."""
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    training = data.TensorDataset(images[:-360][:examples], labels[:-360][:examples])
    return training, data.TensorDataset(images[-360:], labels[-360:])


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of digits that are recognized."""
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on the test digits."""
    options = Options("a multilayer perceptron on digits", epochs=20, rate=0.004).read(arguments)
    torch.manual_seed(options.seed)
    training, test = load_data(options.examples)
    loader = data.DataLoader(training, batch_size=options.batch, shuffle=True, drop_last=True)
    width = options.width or 256
    model = nn.Sequential(
        nn.Linear(64, width), nn.GELU(), nn.Dropout(0.2),
        nn.Linear(width, width), nn.GELU(), nn.Dropout(0.2),
        nn.Linear(width, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.epochs * len(loader)
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)

    run = Training(options, model, optimizer, scheduler)
    for _ in run.epochs():
        for images, labels in run.progress(loader):
            run.step(loss_of(model(images), labels), len(labels))
        run.note(accuracy=accuracy(model, *test.tensors))
    run.finish("accuracy")
    return run.curves["accuracy"][-1]


if __name__ == "__main__":
    main()
