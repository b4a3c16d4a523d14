"""RMSprop: steps scaled by a running average of the squared gradient."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.optimizer import (
    Optimizer,
    check_at_least_zero,
    check_flags,
    check_learning_rate,
    effective_gradient,
)
from lazytorch.optim.scalars import StepScalars, state_like, zero_count
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
        check_flags("RMSprop", foreach, None, differentiable)
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

    def _numbers(self, group: dict[str, Any], count: float) -> dict[str, Any]:
        return {
            "alpha": group["alpha"],
            "1 - alpha": 1 - group["alpha"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
            "lr": group["lr"],
        }

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        alpha = group["alpha"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = zero_count()
                state["square_avg"] = state_like(parameter)
                if group["momentum"] > 0:
                    state["momentum_buffer"] = state_like(parameter)
                if group["centered"]:
                    state["grad_avg"] = state_like(parameter)
            self._counts.advance(state)
            gradient = effective_gradient(parameter, group, scalars)
            square = state["square_avg"]
            old = scalars("alpha", alpha, parameter)
            new = scalars("1 - alpha", 1 - alpha, parameter)
            square.copy_(square * old + gradient * gradient * new)
            variance = square
            if group["centered"]:
                mean = state["grad_avg"]
                mean.copy_(mean + (gradient - mean) * new)
                variance = square - mean * mean
            change = gradient / (variance.sqrt() + scalars("eps", group["eps"], parameter))
            if group["momentum"] > 0:
                velocity = state["momentum_buffer"]
                kept = velocity * scalars("momentum", group["momentum"], parameter)
                velocity.copy_(kept + change)
                change = velocity
            parameter.copy_(parameter - change * scalars("lr", group["lr"], parameter))
