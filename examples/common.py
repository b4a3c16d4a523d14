"""What the training examples share: their options, checkpoints, progress and pictures.

A training program is then only its data, its model and its loop:

    options = Options("what it does", epochs=10, rate=0.01).read(None)
    torch.manual_seed(options.seed)
    run = Training(options, model, optimizer, scheduler)
    for epoch in run.epochs():
        for images, labels in run.progress(loader):
            loss = ...
            run.step(loss, len(labels))
        run.note(accuracy=...)
    run.finish("accuracy")

This file, like each example, is an ordinary PyTorch program: it runs with ``import torch`` in place
of ``import lazytorch as torch``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

import lazytorch as torch


class Options(argparse.ArgumentParser):
    """The options that every example has, with this example's defaults."""

    def __init__(self, description: str, epochs: int, rate: float) -> None:
        super().__init__(description=description)
        add = self.add_argument
        add("--epochs", type=int, default=epochs, help="passes over the data")
        add("--rate", type=float, default=rate, help="highest learning rate")
        add("--batch", type=int, default=64, help="examples in a batch")
        add("--width", type=int, help="how wide the model is")
        add("--examples", type=int, help="train with only so many examples")
        add("--seed", type=int, default=1)
        add("--checkpoint", type=Path, help="file that keeps the last whole epoch")
        add("--resume", action="store_true", help="continue from --checkpoint")
        add("--plot", type=Path, help="write the curves to this PNG file")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options given, or an error that says what is wrong with them."""
        given = self.parse_args(arguments)
        if given.epochs < 1:
            self.error(f"--epochs must be at least 1, got {given.epochs}")
        if given.resume and given.checkpoint is None:
            self.error("--resume needs --checkpoint FILE")
        if given.resume and not given.checkpoint.exists():
            self.error(f"--resume: there is no checkpoint {given.checkpoint} yet")
        return given


class Training:
    """One run: steps, the curves they leave, and a checkpoint after each epoch.

    A run that is resumed from its checkpoint gives the numbers of one that was never interrupted:
    the state of the random numbers is in the file beside model, optimizer and schedule.
    """

    def __init__(self, options: argparse.Namespace, model: Any, optimizer: Any, scheduler: Any):
        self.options = options
        self.parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.epoch = 0
        self.curves: dict[str, list[float]] = {"loss": []}
        self.seconds = 0.0
        self.examples = 0
        self._total: Any = 0.0
        self._steps = 0

    # Epochs and steps

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left, each kept in the checkpoint when it is over."""
        if self.options.resume:
            self.load(self.options.checkpoint)
        first = self.epoch + 1
        while self.epoch < self.options.epochs:
            self.epoch += 1
            self._total, self._steps, seen = 0.0, 0, self.examples
            self.model.train()
            start = time.perf_counter()
            yield self.epoch
            if self.epoch == first < self.options.epochs:
                # The first epoch compiles; its time would say nothing about the speed.
                self.examples = seen
            else:
                self.seconds += time.perf_counter() - start
            if self.options.checkpoint is not None:
                self.save(self.options.checkpoint)

    def progress(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, under a progress bar where there is a terminal to see it."""
        title = f"epoch {self.epoch}/{self.options.epochs}"
        yield from tqdm(batches, desc=title, leave=False, disable=None)

    def step(self, loss: Any, examples: int) -> None:
        """Improve the model by the gradient of a batch's loss."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        # A sum of tensors: nobody waits for a batch to know its loss.
        self._total = self._total + loss.detach()
        self._steps += 1
        self.examples += examples

    def note(self, **values: float) -> None:
        """Close an epoch: add its mean loss and these values to the curves, and print them."""
        values = {"loss": float(self._total) / self._steps, **values}
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        print(f"epoch {self.epoch:3}  {shown}", flush=True)

    def finish(self, figure: str, picture: Any = None) -> None:
        """Print the last value of a curve and the speed; draw the curves if asked to."""
        print(f"final {figure}: {self.curves[figure][-1]:.4f}")
        if self.seconds:
            print(f"examples per second: {self.examples / self.seconds:,.0f}")
        if self.options.plot is not None:
            draw(self.options.plot, self.curves, picture)

    # Checkpoints

    def save(self, path: Path) -> None:
        """Write everything that the next epoch depends on; the file is whole at any time."""
        content: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        content |= {"epoch": self.epoch, "curves": self.curves, "random": torch.get_rng_state()}
        beside = path.with_name(path.name + ".new")
        torch.save(content, beside)
        os.replace(beside, path)

    def load(self, path: Path) -> None:
        """Continue where ``save`` was called."""
        content = torch.load(path)
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        self.epoch, self.curves = content["epoch"], content["curves"]
        torch.set_rng_state(content["random"])
        print(f"continuing after epoch {self.epoch}")


def draw(path: Path, curves: dict[str, list[float]], picture: Any = None) -> None:
    """One plot a curve, and a picture (an array of grey values) beside them."""
    count = len(curves) + (picture is not None)
    figure = Figure(figsize=(4 * count, 3), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for place, (name, values) in zip(axes, curves.items()):
        place.plot(range(1, len(values) + 1), values)
        place.set(xlabel="epoch", title=name)
        place.grid(alpha=0.3)
    if picture is not None:
        axes[-1].imshow(picture, cmap="gray")
        axes[-1].set_axis_off()
    figure.savefig(path)
    print(f"curves: {path}")
