"""Adadelta (Zeiler 2012): steps as large as earlier steps, so without units of their own."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_at_least_zero, check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class Adadelta(Optimizer):
    """``v = ρ·v + (1 − ρ)·g²``, ``d = g·√(u + eps) / √(v + eps)``, ``u = ρ·u + (1 − ρ)·d²``,
    ``p -= lr · d``.

    Matthew D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012. Bad values raise
    ``ValueError``; ``foreach`` and ``capturable`` change nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.Adadelta(model.parameters(), rho=0.95)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_learning_rate(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_at_least_zero(eps, "epsilon value")
        check_at_least_zero(weight_decay, "weight_decay value")
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "capturable": capturable,
                "foreach": foreach,
                "differentiable": differentiable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {
            "step": host_entry(), "square_avg": state_like(parameter),
            "acc_delta": state_like(parameter),
        }  # fmt: skip

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "rho": group["rho"],
            "1 - rho": 1 - group["rho"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "lr": group["lr"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        rho, rest, eps = number("rho"), number("1 - rho"), number("eps")
        square = state["square_avg"] * rho + gradient * gradient * rest
        change = (state["acc_delta"] + eps).sqrt() / (square + eps).sqrt() * gradient
        changes = state["acc_delta"] * rho + change * change * rest
        return value - change * number("lr"), {"square_avg": square, "acc_delta": changes}
