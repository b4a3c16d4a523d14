"""Adagrad (Duchi, Hazan and Singer 2011): steps scaled by the sum of squared gradients."""

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


class Adagrad(Optimizer):
    """``s += g²``, ``p -= lr / (1 + (t − 1)·lr_decay) · g / (√s + eps)``.

    The sums start at ``initial_accumulator_value``, and exist from the start. Bad values raise
    ``ValueError``.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_learning_rate(lr)
        check_at_least_zero(lr_decay, "lr_decay value")
        check_at_least_zero(weight_decay, "weight_decay value")
        check_at_least_zero(initial_accumulator_value, "initial_accumulator_value value")
        check_at_least_zero(eps, "epsilon value")
        check_flags("Adagrad", foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "fused": fused,
            },
        )
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = zero_count()
                state["sum"] = state_like(parameter, initial_accumulator_value)

    def share_memory(self) -> None:
        """Refused: tensors of lazytorch are not shared between processes."""
        raise NotImplementedError("share_memory() is not supported")

    def _numbers(self, group: dict[str, Any], count: float) -> dict[str, Any]:
        return {
            "rate": group["lr"] / (1 + (count - 1) * group["lr_decay"]),
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            count = self._counts.advance(state)
            gradient = effective_gradient(parameter, group, scalars)
            total = state["sum"]
            total.copy_(total + gradient * gradient)
            rate = scalars("rate", self._numbers(group, count)["rate"], parameter)
            deviation = total.sqrt() + scalars("eps", group["eps"], parameter)
            parameter.copy_(parameter - rate * gradient / deviation)
