"""Rprop (Riedmiller and Braun 1993): steps by the sign of the gradient alone."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.arguments import check_learning_rate
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class Rprop(Optimizer):
    """A step size for each element, larger while its gradient keeps its sign, else smaller.

    ``s *= η⁺`` where the gradient has the sign of the step before, ``s *= η⁻`` where it has the
    other, within ``step_sizes``; ``p -= sign(g)·s``, with ``g = 0`` after a change of sign. The
    sizes start at ``lr``. Martin Riedmiller and Heinrich Braun, "A Direct Adaptive Method for
    Faster Backpropagation Learning: The RPROP Algorithm", 1993, without its backtracking. Meant
    for whole batches. Bad values raise ``ValueError``; ``foreach`` and ``capturable`` change
    nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.Rprop(model.parameters(), etas=(0.5, 1.2))
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_learning_rate(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(
            params,
            {
                "lr": lr,
                "etas": etas,
                "step_sizes": step_sizes,
                "foreach": foreach,
                "maximize": maximize,
                "differentiable": differentiable,
                "capturable": capturable,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        lr = float(group["lr"])
        # The two parts of a complex number have steps of their own.
        size: Any = complex(lr, lr) if parameter.is_complex() else lr
        return {
            "step": host_entry(), "prev": state_like(parameter),
            "step_size": state_like(parameter, size),
        }  # fmt: skip

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        return {
            "smaller": group["etas"][0],
            "larger": group["etas"][1],
            "smallest": group["step_sizes"][0],
            "largest": group["step_sizes"][1],
        }

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        agreement = gradient * state["prev"]
        # Where the sign is 0 the factor is 1, and where it is NaN it stays so.
        factor = torch.where(agreement < 0, number("smaller"), agreement.sign() + 1)
        factor = torch.where(agreement > 0, number("larger"), factor)
        size = torch.maximum(state["step_size"] * factor, number("smallest"))
        size = torch.minimum(size, number("largest"))
        gradient = torch.where(agreement < 0, 0.0, gradient)
        return value - gradient.sign() * size, {"prev": gradient, "step_size": size}
