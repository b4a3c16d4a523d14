"""Adamax (Kingma and Ba 2015, section 7.1): Adam with a decayed maximum for the square."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.arguments import check_adam_options
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class Adamax(Optimizer):
    """``m = β1·m + (1 − β1)·g``, ``u = max(β2·u, |g| + eps)``, ``p -= lr / (1 − β1ᵗ) · m / u``.

    Diederik P. Kingma and Jimmy Ba, "Adam: A Method for Stochastic Optimization", 2015, section
    7.1. Bad values raise ``ValueError``; ``foreach`` and ``capturable`` change nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.Adamax(model.parameters(), lr=2e-3)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_adam_options(lr, betas, eps, weight_decay)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {
            "step": host_entry(), "exp_avg": state_like(parameter),
            "exp_inf": state_like(parameter),
        }  # fmt: skip

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        beta1, beta2 = group["betas"]
        return {
            "1 - beta1": 1 - beta1,
            "beta2": beta2,
            "rate": group["lr"] / (1 - beta1 ** (entries["step"] + 1)),
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        mean = state["exp_avg"] + (gradient - state["exp_avg"]) * number("1 - beta1")
        largest = torch.maximum(state["exp_inf"] * number("beta2"), gradient.abs() + number("eps"))
        return value - number("rate") * mean / largest, {"exp_avg": mean, "exp_inf": largest}
