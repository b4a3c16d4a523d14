"""A residual network on handwritten digits, with the blocks of ResNet.

    python examples/resnet.py --checkpoint resnet.pt --plot resnet.png

Three stages of two basic blocks (He et al., 2015, "Deep Residual Learning for Image Recognition",
arxiv.org/abs/1512.03385) on the 8 x 8 scans of scikit-learn; SGD with Nesterov's momentum.
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Options, Training
from sklearn.datasets import load_digits

import lazytorch as torch

nn, data = torch.nn, torch.utils.data
functional = torch.nn.functional


class Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A convolution, three stages that halve the image and double the channels, a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages = [
            Block(width, width, 1), Block(width, width, 1),
            Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1),
            Block(2 * width, 4 * width, 2), Block(4 * width, 4 * width, 1),
        ]  # fmt: skip
        self.stages = nn.Sequential(*stages)
        self.classify = nn.Linear(4 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.stages(self.stem(images)).mean((2, 3)))


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of digits that are recognized."""
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on the test digits."""
    options = Options("a residual network on digits", epochs=8, rate=0.1).read(arguments)
    torch.manual_seed(options.seed)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    training = data.TensorDataset(
        images[:-360][: options.examples], labels[:-360][: options.examples]
    )
    loader = data.DataLoader(training, batch_size=options.batch, shuffle=True, drop_last=True)
    model = ResNet(options.width or 32, 10)
    optimizer = torch.optim.SGD(
        model.parameters(), options.rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.rate, total_steps=options.epochs * len(loader)
    )

    run = Training(options, model, optimizer, scheduler)
    for _ in run.epochs():
        for batch, answers in run.progress(loader):
            run.step(functional.cross_entropy(model(batch), answers), len(answers))
        run.note(accuracy=accuracy(model, images[-360:], labels[-360:]))
    run.finish("accuracy")
    return run.curves["accuracy"][-1]


if __name__ == "__main__":
    main()
