"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.optimizer import (
    Optimizer,
    check_at_least_zero,
    check_flags,
    check_learning_rate,
    effective_gradient,
)
from lazytorch.optim.scalars import StepScalars, state_like
from lazytorch.tensor.tensor import Tensor


class SGD(Optimizer):
    """``p -= lr · v`` with ``v = momentum · v + (1 − dampening) · gradient``.

    The first ``v`` is the gradient itself. ``weight_decay`` adds ``weight_decay · p`` to the
    gradient, ``nesterov`` uses ``gradient + momentum · v``, ``maximize`` negates the gradient.
    ``foreach`` and ``fused`` are accepted and change nothing. Bad values raise ``ValueError``.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_learning_rate(lr)
        check_at_least_zero(momentum, "momentum value")
        check_at_least_zero(weight_decay, "weight_decay value")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_flags("SGD", foreach, fused, differentiable)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def _numbers(self, group: dict[str, Any], count: float) -> dict[str, Any]:
        return {
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
            "share": 1 - group["dampening"],
            "lr": group["lr"],
        }

    def _update_group(
        self, group: dict[str, Any], parameters: list[Tensor], scalars: StepScalars
    ) -> None:
        momentum = group["momentum"]
        for parameter in parameters:
            gradient = effective_gradient(parameter, group, scalars)
            if momentum != 0:
                state = self.state[parameter]
                velocity = state.get("momentum_buffer")
                share = 1 - group["dampening"]
                if velocity is None:
                    # The first velocity is the gradient: zeros and a share of one give it in
                    # the same computation as all later steps.
                    velocity = state["momentum_buffer"] = state_like(parameter)
                    share = 1.0
                kept = velocity * scalars("momentum", momentum, parameter)
                velocity.copy_(kept + gradient * scalars("share", share, parameter))
                if group["nesterov"]:
                    gradient = gradient + velocity * scalars("momentum", momentum, parameter)
                else:
                    gradient = velocity
            parameter.copy_(parameter - gradient * scalars("lr", group["lr"], parameter))
