"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.arguments import check_at_least_zero, check_flags, check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State, decayed_gradient
from lazytorch.optim.scalars import state_like
from lazytorch.tensor.tensor import Tensor


class SGD(Optimizer):
    """``p -= lr · v`` with ``v = momentum · v + (1 − dampening) · gradient``.

    The first ``v`` is the gradient itself. ``weight_decay`` adds ``weight_decay · p`` to the
    gradient, ``nesterov`` uses ``gradient + momentum · v``, ``maximize`` negates the gradient.
    ``foreach`` and ``fused`` are accepted and change nothing. Bad values raise ``ValueError``.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    """

    _host_entries = ()

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
        check_flags(foreach, fused, differentiable)
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

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        if group["momentum"] == 0 or group["dampening"] != 0:
            return {}
        # The first velocity is the gradient: zeros give it in the same computation as all later
        # steps.
        return {"momentum_buffer": state_like(parameter)}

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
            "share": 1 - group["dampening"],
            "lr": group["lr"],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        gradient = decayed_gradient(gradient, value, group, number)
        if group["momentum"] == 0:
            return value - gradient * number("lr"), {}
        before = state.get("momentum_buffer")
        velocity = gradient
        if before is not None:
            velocity = before * number("momentum") + gradient * number("share")
        change = velocity
        if group["nesterov"]:
            change = gradient + velocity * number("momentum")
        return value - change * number("lr"), {"momentum_buffer": velocity}
