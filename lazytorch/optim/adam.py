"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.arguments import check_adam_options, check_flags, check_tensor_options
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed
from lazytorch.optim.scalars import host_entry, state_like
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
        check_adam_options(lr, betas, eps, weight_decay)
        check_tensor_options(lr, betas, foreach, capturable)
        check_flags(foreach, fused, differentiable)
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

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        state = {
            "step": host_entry(), "exp_avg": state_like(parameter),
            "exp_avg_sq": state_like(parameter),
        }  # fmt: skip
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = state_like(parameter)
        return state

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        beta1, beta2 = (float(beta) for beta in group["betas"])
        count = entries["step"] + 1
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

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        value, gradient = decayed(value, gradient, group, number)
        mean = state["exp_avg"] + (gradient - state["exp_avg"]) * number("1 - beta1")
        square = state["exp_avg_sq"] * number("beta2") + gradient * gradient * number("1 - beta2")
        new, variance = {"exp_avg": mean, "exp_avg_sq": square}, square
        if group["amsgrad"]:
            variance = new["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], square)
        deviation = variance.sqrt() / number("correction") + number("eps")
        return value - number("rate") * mean / deviation, new


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
