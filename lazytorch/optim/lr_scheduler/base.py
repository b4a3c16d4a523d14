"""What all schedules share: counting steps and writing rates into parameter groups.

A schedule changes Python numbers only, and an optimizer hands those to kernels as arguments, so
no schedule ever causes a compilation.
"""

from __future__ import annotations

import warnings
from typing import Any

from lazytorch.optim.optimizer import Optimizer
from lazytorch.tensor.tensor import Tensor


class LRScheduler:
    """Base class of the schedules; a subclass defines ``get_lr``.

    ``get_lr`` computes the next rates from the present ones, so that several schedules can work
    on one optimizer. ``last_epoch`` counts the calls of ``step``; -1 means a fresh start.
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for place, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", _copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{place}] when resuming "
                    "scheduler with last_epoch >= 0: load the optimizer's state before making "
                    "the scheduler, or start with last_epoch=-1"
                )
        self.base_lrs: list[Any] = [
            _copied(group["initial_lr"]) for group in optimizer.param_groups
        ]
        self.last_epoch = last_epoch
        self._step_count = 1
        self._count_optimizer_steps()
        self._initial_step()

    def _count_optimizer_steps(self) -> None:
        """Notice that the optimizer has stepped, for the warning about the order of calls."""
        optimizer: Any = self.optimizer
        if not getattr(optimizer, "_counts_for_schedules", False):
            optimizer._counts_for_schedules = True
            optimizer._opt_called = False
            optimizer.register_step_post_hook(_note_step)

    def _initial_step(self) -> None:
        self._is_initial = True
        try:
            self._update_lr()
        finally:
            self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {
            **{key: value for key, value in self.__dict__.items() if key != "optimizer"},
            "_is_initial": self._is_initial,
            "_get_lr_called_within_step": self._get_lr_called_within_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; the rates in the optimizer come from the optimizer's own state."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates set by the last ``step``, one for each group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The next rates, one for each group."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go on by one step and write the new rates into the groups."""
        self._warn_about_order()
        self._step_count += 1
        if epoch is not None:
            warnings.warn(
                "The epoch parameter in `scheduler.step()` was not necessary and is being "
                "deprecated where possible. Please use `scheduler.step()` to step the scheduler.",
                UserWarning,
                stacklevel=2,
            )
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed_form = getattr(self, "_get_closed_form_lr", None)
        self._get_lr_called_within_step = True
        try:
            rates = closed_form() if epoch is not None and closed_form else self.get_lr()
        finally:
            self._get_lr_called_within_step = False
        self._write(rates)

    def _write(self, rates: list[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates):
            set_rate(group, "lr", rate)
        self._last_lr: list[Any] = self._rates()

    def _warn_about_order(self) -> None:
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", True):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch "
                "1.1.0 and later, you should call them in the opposite order: `optimizer.step()` "
                "before `lr_scheduler.step()`.  Failure to do this will result in PyTorch "
                "skipping the first value of the learning rate schedule.",
                UserWarning,
                stacklevel=3,
            )

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use "
                "`get_last_lr()`.",
                UserWarning,
                stacklevel=3,
            )

    def _rates(self, key: str = "lr") -> list[Any]:
        return [_copied(group[key]) for group in self.optimizer.param_groups]


_LRScheduler = LRScheduler


def set_rate(group: dict[str, Any], key: str, value: Any) -> None:
    """Write a rate into a group; a tensor there keeps its identity."""
    if isinstance(group[key], Tensor):
        group[key].fill_(value)
    else:
        group[key] = value


def _copied(rate: Any) -> Any:
    return rate.clone() if isinstance(rate, Tensor) else rate


def _note_step(optimizer: Any, *_: Any) -> None:
    optimizer._opt_called = True
