"""Muon (Jordan and others 2024): momentum whose singular values are made alike."""

from __future__ import annotations

import math
from typing import Any

import lazytorch as torch
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, Number, Numbers, State
from lazytorch.optim.scalars import StepScalars, state_like
from lazytorch.tensor.tensor import Tensor

_RATES = ("original", "match_rms_adamw")


class Muon(Optimizer):
    """For the matrices of hidden layers: ``p = (1 − lr·weight_decay)·p − lr·f·NS(b)``.

    ``b`` is the running average of the gradient (looking ahead with ``nesterov``), ``NS`` some
    ``ns_steps`` of the iteration ``X ← a·X + (b·A + c·A²)·X`` with ``A = X·Xᵀ`` and ``(a, b, c)``
    the ``ns_coefficients``, in bfloat16: it moves all singular values near 1. ``f`` is
    ``√max(1, rows / columns)``, or ``0.2·√max(rows, columns)`` with
    ``adjust_lr_fn="match_rms_adamw"``. Keller Jordan and others, "Muon: An optimizer for hidden
    layers in neural networks", 2024; Liu and others, "Muon is Scalable for LLM Training", 2025.
    Matrices of one shape go through the iteration together, so the number of kernels depends on
    the number of shapes. Bad values and parameters that are no matrices raise ``ValueError``.

    >>> model = nn.Linear(3, 2, bias=False)
    >>> optimizer = torch.optim.Muon(model.parameters(), lr=0.02)
    """

    _host_entries = ()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn is not None and adjust_lr_fn not in _RATES:
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(
                        "Muon only supports 2D parameters whereas we found a parameter with size: "
                        f"{parameter.size()}"
                    )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        return {"momentum_buffer": state_like(parameter)}

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        lr = group["lr"]
        numbers = {
            "shrink": 1 - lr * group["weight_decay"],
            "1 - momentum": 1 - group["momentum"],
            "eps": group["eps"],
        }
        for name, coefficient in zip("abc", _coefficients(group)):
            numbers[name] = coefficient
        for shape in {tuple(parameter.shape) for parameter in group["params"]}:
            numbers[f"rate {shape}"] = lr * _rate_factor(group["adjust_lr_fn"], shape)
        return numbers

    def _update_group(self, group: Group, parameters: list[Tensor], scalars: StepScalars) -> None:
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        numbers = self._numbers(group, {})
        alike: dict[Any, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.is_complex():
                raise RuntimeError("Muon does not support complex parameters")
            if parameter.dim() != 2:
                raise ValueError("Param gradient must be a 2D matrix")
            kind = (tuple(parameter.shape), parameter.dtype, parameter.device)
            alike.setdefault(kind, []).append(parameter)
        for (shape, _, _), members in alike.items():

            def number(name: str, like: Tensor = members[0]) -> Tensor:
                return scalars(name, numbers[name], like)

            changes = [self._momentum(group, parameter, number) for parameter in members]
            directions = _orthogonalized(torch.stack(changes), group["ns_steps"], number)
            for parameter, direction in zip(members, directions.unbind()):
                kept = parameter * number("shrink")
                parameter.copy_(kept - direction.to(kept.dtype) * number(f"rate {shape}"))

    def _momentum(self, group: Group, parameter: Tensor, number: Number) -> Tensor:
        gradient: Tensor = parameter.grad  # type: ignore[assignment]
        average = self.state[parameter]["momentum_buffer"]
        new = average + (gradient - average) * number("1 - momentum")
        average.copy_(new)
        return new - (new - gradient) * number("1 - momentum") if group["nesterov"] else new


def _orthogonalized(matrices: Tensor, steps: int, number: Number) -> Tensor:
    """Matrices (count, rows, columns) with singular values near 1, by Newton and Schulz's
    iteration on the smaller side."""
    tall = matrices.size(-2) > matrices.size(-1)
    x = _rounded(matrices)
    if tall:
        x = x.mT
    norm = _rounded(torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True))
    x = _rounded(x / torch.maximum(norm, number("eps")))
    a, b, c = number("a"), number("b"), number("c")
    for _ in range(steps):
        gram = _rounded(x @ x.mT)
        polynomial = _rounded(gram * b + gram @ gram * c)
        x = _rounded(x * a + polynomial @ x)
    return x.mT if tall else x


def _rounded(x: Tensor) -> Tensor:
    """In bfloat16's numbers but not in its memory: the product that makes them rounds, and no
    kernel is needed to widen them for the next."""
    return x.bfloat16().float()


def _coefficients(group: Group) -> tuple[float, float, float]:
    given = group["ns_coefficients"]
    if len(given) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    return tuple(given)  # type: ignore[return-value]


def _rate_factor(name: str | None, shape: tuple[int, ...]) -> float:
    rows, columns = shape[:2]
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
