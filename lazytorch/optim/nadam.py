"""NAdam (Dozat 2016): Adam with Nesterov momentum."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_adam_options, check_at_least_zero
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class NAdam(Optimizer):
    """Adam whose step looks one momentum ahead.

    With ``μₜ = β1·(1 − ½·0.96^(t·momentum_decay))`` and ``M`` the product of all ``μ`` so far, the
    mean in Adam's step is ``(1 − μₜ) / (1 − Mₜ) · g + μₜ₊₁ / (1 − Mₜ₊₁) · m``. Timothy Dozat,
    "Incorporating Nesterov Momentum into Adam", 2016. ``weight_decay`` adds to the gradient, or
    shrinks parameters with ``decoupled_weight_decay``. Bad values raise ``ValueError``;
    ``foreach`` and ``capturable`` change nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    """

    _host_entries = ("step", "mu_product")

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_adam_options(lr, betas, eps, weight_decay)
        check_at_least_zero(momentum_decay, "momentum_decay value")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {
            "step": host_entry(), "mu_product": host_entry(1.0), "exp_avg": state_like(parameter),
            "exp_avg_sq": state_like(parameter),
        }  # fmt: skip

    def _advanced(self, group: Group, entries: Entries) -> Entries:
        count = entries["step"] + 1
        return {"step": count, "mu_product": entries["mu_product"] * _momentum(group, count)}

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        beta1, beta2 = group["betas"]
        count, lr = entries["step"] + 1, group["lr"]
        momentum, ahead = _momentum(group, count), _momentum(group, count + 1)
        product = entries["mu_product"] * momentum
        return {
            "shrink": 1 - lr * group["weight_decay"],
            "weight_decay": group["weight_decay"],
            "1 - beta1": 1 - beta1,
            "beta2": beta2,
            "1 - beta2": 1 - beta2,
            "correction": 1 - beta2**count,
            "rate of gradient": lr * (1 - momentum) / (1 - product),
            "rate of mean": lr * ahead / (1 - product * ahead),
            "eps": group["eps"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        value, gradient = decayed(value, gradient, group, number)
        mean = state["exp_avg"] + (gradient - state["exp_avg"]) * number("1 - beta1")
        square = state["exp_avg_sq"] * number("beta2") + gradient * gradient * number("1 - beta2")
        deviation = (square / number("correction")).sqrt() + number("eps")
        change = gradient * number("rate of gradient") + mean * number("rate of mean")
        return value - change / deviation, {"exp_avg": mean, "exp_avg_sq": square}


def _momentum(group: Group, count: float) -> float:
    beta1: float = group["betas"][0]
    return beta1 * (1.0 - 0.5 * 0.96 ** (count * group["momentum_decay"]))
