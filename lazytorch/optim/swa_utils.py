"""Averages of weights: stochastic weight averaging and exponential moving averages.

Izmailov and others, "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.nn import BatchNorm1d, BatchNorm2d, BatchNorm3d
from lazytorch.nn.module import Module
from lazytorch.optim.lr_scheduler.base import LRScheduler
from lazytorch.optim.optimizer import Optimizer
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """``(average, value, count) -> decay · average + (1 − decay) · value``."""
    _check_decay(decay)

    @no_grad()  # type: ignore[untyped-decorator]
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Average:
    """``(average, value, count) -> average + (value − average) / (count + 1)``."""

    @no_grad()  # type: ignore[untyped-decorator]
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """:func:`get_ema_avg_fn` for lists of tensors, which are written."""
    return _for_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """:func:`get_swa_avg_fn` for lists of tensors, which are written."""
    return _for_lists(get_swa_avg_fn())


def _for_lists(average: Average) -> MultiAverage:
    @no_grad()  # type: ignore[untyped-decorator]
    def update(averages: Sequence[Tensor], values: Sequence[Tensor], num_averaged: Any) -> None:
        for old, value in zip(averages, values):
            old.copy_(average(old, value, num_averaged))

    return update


def _check_decay(decay: float) -> None:
    if decay < 0.0 or decay > 1.0:
        raise ValueError(
            f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        )


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's over time.

    ``update_parameters(model)`` takes the model's parameters into the average: equally weighted, or
    by ``avg_fn(average, value, count)`` or ``multi_avg_fn(averages, values, count)``. Buffers are
    averaged too with ``use_buffers``, else copied. The averages of all parameters are a few
    kernels. ``n_averaged``, the number of updates, is read by the first update and after somebody
    else has changed it.

    >>> model = nn.Linear(2, 1)
    >>> averaged = torch.optim.swa_utils.AveragedModel(model)
    >>> averaged.update_parameters(model); averaged.n_averaged
    tensor(1)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module: Any = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", functions.tensor(0, dtype=torch.long, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers
        # The counter, its version, and the value it has then.
        self._known: tuple[Tensor, int, int] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's."""
        return self.module(*args, **kwargs)

    @no_grad()  # type: ignore[untyped-decorator]
    def update_parameters(self, model: Module) -> None:
        """Take the parameters of ``model`` into the average; the first are copied."""
        averages = [tensor.detach() for tensor in _averaged(self.module, self.use_buffers)]
        values = [
            value.detach().to(average.device)
            for average, value in zip(averages, _averaged(model, self.use_buffers))
        ]
        known = self._known
        if known is None or known[0] is not self.n_averaged or known[1] != self.n_averaged._version:
            count = int(self.n_averaged)
        else:
            count = known[2]
        if count == 0:
            for average, value in zip(averages, values):
                average.copy_(value)
        else:
            self._average(averages, values)
        if not self.use_buffers:
            for buffer, value in zip(self.module.buffers(), model.buffers()):
                buffer.detach().copy_(value.detach().to(buffer.device))
        self.n_averaged += 1
        self._known = (self.n_averaged, self.n_averaged._version, count + 1)

    def _average(self, averages: list[Tensor], values: list[Tensor]) -> None:
        alike: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
        for average, value in zip(averages, values):
            ours, theirs = alike.setdefault((average.device, average.dtype), ([], []))
            ours.append(average)
            theirs.append(value)
        for (device, _), (ours, theirs) in alike.items():
            count = self.n_averaged.to(device)
            if self.multi_avg_fn is not None:
                self.multi_avg_fn(ours, theirs, count)
            else:
                _for_lists(self.avg_fn or get_swa_avg_fn())(ours, theirs, count)


def _averaged(model: Module, buffers: bool) -> Iterable[Tensor]:
    return chain(model.parameters(), model.buffers()) if buffers else model.parameters()


@no_grad()  # type: ignore[untyped-decorator]
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the statistics of batch normalization anew, from one pass over ``loader``.

    Batches are tensors, or lists and tuples whose first entry is one; ``device`` is where they are
    moved. Does nothing for a model without batch normalization.
    """
    kinds = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
    momenta: dict[Any, Any] = {}
    for module in model.modules():
        if isinstance(module, kinds):
            module.reset_running_stats()
            momenta[module] = module.momentum
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        # The average over all batches, each with the same weight.
        module.momentum = None
    for batch in loader:
        values = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(values if device is None else values.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the present rates to ``swa_lr`` in ``anneal_epochs`` steps, then constant.

    ``anneal_strategy`` is ``"cos"`` or ``"linear"``. Bad values raise ``ValueError``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Any,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        groups = optimizer.param_groups
        rates = list(swa_lr) if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(groups)
        if len(rates) != len(groups):
            raise ValueError(
                f"swa_lr must have the same length as optimizer.param_groups. swa_lr has "
                f"{len(rates)} values, param_groups has {len(groups)}."
            )
        for rate, group in zip(rates, groups):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How much of the way is done after the share ``t`` of the epochs."""
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[Any]:
        """The next rates, from the present ones."""
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        epochs = max(1, self.anneal_epochs)
        before = self.anneal_func(max(0, min(1, (step - 1) / epochs)))
        now = self.anneal_func(max(0, min(1, step / epochs)))
        rates = []
        for group in self.optimizer.param_groups:
            last = group["swa_lr"]
            start = last if before == 1 else (group["lr"] - before * last) / (1 - before)
            rates.append(last * now + start * (1 - now))
        return rates
