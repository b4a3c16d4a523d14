"""Adagrad (Duchi, Hazan and Singer 2011): steps scaled by the sum of squared gradients."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_at_least_zero, check_flags, check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import host_entry, state_like
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
        check_flags(foreach, fused, differentiable)
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
                self.state[parameter].update(self._new_state(group, parameter))

    def share_memory(self) -> None:
        """Refused: tensors of lazytorch are not shared between processes."""
        raise NotImplementedError("share_memory() is not supported")

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        start: Any = self.defaults["initial_accumulator_value"]
        if parameter.is_complex():
            start = complex(start, start)
        return {"step": host_entry(), "sum": state_like(parameter, start)}

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "rate": group["lr"] / (1 + entries["step"] * group["lr_decay"]),
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        total = state["sum"] + gradient * gradient
        deviation = total.sqrt() + number("eps")
        return value - number("rate") * gradient / deviation, {"sum": total}
