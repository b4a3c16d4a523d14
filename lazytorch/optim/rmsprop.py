"""RMSprop: steps scaled by a running average of the squared gradient."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_at_least_zero, check_flags, check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class RMSprop(Optimizer):
    """``v = α·v + (1 − α)·g²``, ``p -= lr · g / (√v + eps)``.

    ``centered`` subtracts the square of the running mean of the gradient from ``v``;
    ``momentum`` accumulates the steps. Bad values raise ``ValueError``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_learning_rate(lr)
        check_at_least_zero(eps, "epsilon value")
        check_at_least_zero(momentum, "momentum value")
        check_at_least_zero(weight_decay, "weight_decay value")
        check_at_least_zero(alpha, "alpha value")
        check_flags(foreach, None, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "capturable": capturable,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        state = {"step": host_entry(), "square_avg": state_like(parameter)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = state_like(parameter)
        if group["centered"]:
            state["grad_avg"] = state_like(parameter)
        return state

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "alpha": group["alpha"],
            "1 - alpha": 1 - group["alpha"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
            "lr": group["lr"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        square = state["square_avg"] * number("alpha") + gradient * gradient * number("1 - alpha")
        new, variance = {"square_avg": square}, square
        if group["centered"]:
            before = state["grad_avg"]
            mean = before + (gradient - before) * number("1 - alpha")
            new["grad_avg"] = mean
            variance = square - mean * mean
        change = gradient / (variance.sqrt() + number("eps"))
        if group["momentum"] > 0:
            change = state["momentum_buffer"] * number("momentum") + change
            new["momentum_buffer"] = change
        return value - change * number("lr"), new
