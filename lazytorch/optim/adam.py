"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.optimizer import (
    Optimizer,
    check_at_least_zero,
    check_betas,
    check_flags,
    check_learning_rate,
)
from lazytorch.optim.scalars import StepScalars, state_like, zero_count
from lazytorch.tensor.tensor import Tensor


class Adam(Optimizer):
    """Steps scaled by running averages of the gradient and of its square.

    ``m = β1·m + (1 − β1)·g``, ``v = β2·v + (1 − β2)·g²``,
    ``p -= lr · (m / (1 − β1ᵗ)) / (√(v / (1 − β2ᵗ)) + eps)``.

    ``weight_decay`` adds ``weight_decay · p`` to the gradient, or shrinks ``p`` directly with
    ``decoupled_weight_decay``; ``amsgrad`` divides by the largest ``v`` so far; ``maximize``
    negates the gradient. ``foreach``, ``fused`` and ``capturable`` are accepted and change
    nothing. Bad values raise ``ValueError``.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_learning_rate(lr)
        check_at_least_zero(eps, "epsilon value")
        check_betas(betas)
        check_at_least_zero(weight_decay, "weight_decay value")
        check_flags(type(self).__name__, foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _numbers(self, group: dict[str, Any], count: float) -> dict[str, Any]:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        lr, decay = group["lr"], group["weight_decay"]
        return {
            "shrink": 1 - lr * decay,
            "weight_decay": decay,
            "1 - beta1": 1 - beta1,
            "beta2": beta2,
            "1 - beta2": 1 - beta2,
            "correction": (1 - beta2**count) ** 0.5,
            "rate": lr / (1 - beta1**count),
            "eps": group["eps"],
        }

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = zero_count()
                state["exp_avg"] = state_like(parameter)
                state["exp_avg_sq"] = state_like(parameter)
                if group["amsgrad"]:
                    state["max_exp_avg_sq"] = state_like(parameter)
            numbers = self._numbers(group, self._counts.advance(state))
            _update(parameter, state, numbers, group, scalars)


def _update(
    parameter: Tensor,
    state: dict[str, Any],
    numbers: dict[str, Any],
    group: dict[str, Any],
    scalars: StepScalars,
) -> None:
    decay = group["weight_decay"]

    def scalar(name: str) -> Tensor:
        return scalars(name, numbers[name], parameter)

    value: Any = parameter
    gradient: Any = parameter.grad
    if group["maximize"]:
        gradient = -gradient
    if decay != 0 and group["decoupled_weight_decay"]:
        value = value * scalar("shrink")
    elif decay != 0:
        gradient = gradient + value * scalar("weight_decay")

    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.copy_(mean + (gradient - mean) * scalar("1 - beta1"))
    kept, new = scalar("beta2"), scalar("1 - beta2")
    square.copy_(square * kept + gradient * gradient * new)
    if group["amsgrad"]:
        largest = state["max_exp_avg_sq"]
        largest.copy_(torch.maximum(largest, square))
        square = largest
    deviation = square.sqrt() / scalar("correction")
    rate = scalar("rate")
    parameter.copy_(value - rate * mean / (deviation + scalar("eps")))


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p`` shrinks by ``lr · weight_decay`` each step.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[Any, Any] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad,
            foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
