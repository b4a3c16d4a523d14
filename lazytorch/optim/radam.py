"""RAdam (Liu and others 2020): Adam that trusts its variance only when there is enough of it."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.arguments import check_adam_options
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class RAdam(Optimizer):
    """Adam with its step rectified while few gradients have been seen.

    With ``ρ∞ = 2 / (1 − β2) − 1`` and ``ρₜ = ρ∞ − 2·t·β2ᵗ / (1 − β2ᵗ)``: where ``ρₜ > 5``, Adam's
    step times ``√((ρₜ − 4)(ρₜ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρₜ))``, else ``lr · m / (1 − β1ᵗ)`` alone.
    Liyuan Liu and others, "On the Variance of the Adaptive Learning Rate and Beyond", 2020.
    ``weight_decay`` adds to the gradient, or shrinks parameters with ``decoupled_weight_decay``.
    Bad values raise ``ValueError``; ``foreach`` and ``capturable`` change nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.RAdam(model.parameters(), lr=1e-3)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam_options(lr, betas, eps, weight_decay)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "decoupled_weight_decay": decoupled_weight_decay,
                "differentiable": differentiable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {
            "step": host_entry(), "exp_avg": state_like(parameter),
            "exp_avg_sq": state_like(parameter),
        }  # fmt: skip

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        beta1, beta2 = group["betas"]
        count, lr = entries["step"] + 1, group["lr"]
        correction = 1 - beta2**count
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * count * beta2**count / correction
        rectification = 0.0
        if length > 5:
            ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            rectification = (ratio * correction) ** 0.5
        return {
            "shrink": 1 - lr * group["weight_decay"],
            "weight_decay": group["weight_decay"],
            "1 - beta1": 1 - beta1,
            "beta2": beta2,
            "1 - beta2": 1 - beta2,
            "rate": lr / (1 - beta1**count),
            "rectification": rectification,
            "eps": group["eps"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        value, gradient = decayed(value, gradient, group, number)
        mean = state["exp_avg"] + (gradient - state["exp_avg"]) * number("1 - beta1")
        square = state["exp_avg_sq"] * number("beta2") + gradient * gradient * number("1 - beta2")
        # A choice by value, so that the first steps are the same computation as all others.
        rectification = number("rectification")
        adapted = rectification / (square.sqrt() + number("eps"))
        change = mean * torch.where(rectification > 0, adapted, 1.0)
        return value - change * number("rate"), {"exp_avg": mean, "exp_avg_sq": square}
