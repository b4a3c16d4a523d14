"""ASGD: gradient descent that also averages its parameters (Polyak and Juditsky 1992)."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_at_least_zero, check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class ASGD(Optimizer):
    """``p = (1 − λ·η)·p − η·g`` with a falling rate ``η``, and the running average ``ax`` of ``p``.

    ``η = lr / (1 + λ·lr·t)^alpha``; ``ax += μ·(p − ax)`` with ``μ = 1 / max(1, t − t0)``, so the
    average starts after ``t0`` steps. It stands in the state and is not used for steps. Boris
    Polyak and Anatoli Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992;
    Leon Bottou's formula for ``η``. Bad values raise ``ValueError``; ``foreach`` and
    ``capturable`` change nothing. A learning rate that is a tensor is read at each step.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.ASGD(model.parameters(), lr=1e-2, t0=100)
    """

    _host_entries = ("step", "eta", "mu")

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_learning_rate(lr)
        check_at_least_zero(weight_decay, "weight_decay value")
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {
            "step": host_entry(), "eta": host_entry(float(group["lr"])), "mu": host_entry(1.0),
            "ax": state_like(parameter),
        }  # fmt: skip

    def _advanced(self, group: Group, entries: Entries) -> Entries:
        count, lr = entries["step"] + 1, float(group["lr"])
        return {
            "step": count,
            "eta": lr / (1 + group["lambd"] * lr * count) ** group["alpha"],
            "mu": 1 / max(1, count - group["t0"]),
        }

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "eta": entries["eta"],
            "shrink": 1 - group["lambd"] * entries["eta"],
            "mu": entries["mu"],
            "1 - mu": 1 - entries["mu"],
            "weight_decay": group["weight_decay"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        new = value * number("shrink") - gradient * number("eta")
        # Exactly the parameter where mu is 1.
        return new, {"ax": state["ax"] * number("1 - mu") + new * number("mu")}
