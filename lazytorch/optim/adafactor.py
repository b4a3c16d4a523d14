"""Adafactor (Shazeer and Stern 2018): Adam's scaling from the sums of rows and columns alone."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rule import Entries, Group, NewValues, Number, Numbers, State
from lazytorch.optim.scalars import host_entry, state_like
from lazytorch.tensor.tensor import Tensor


class Adafactor(Optimizer):
    """Steps relative to the size of a parameter, scaled by a factored running variance.

    With ``ρ = min(lr, 1/√t)``, ``α = max(eps[1], rms(p))·ρ`` and ``1 − β = t^beta2_decay``: running
    averages of ``g²`` over the columns (``r``) and rows (``c``) of a matrix, or over the elements
    of a vector, give ``v = r·c / max(mean(r), eps[0])``; ``u = g / √max(v, eps[0]²)``,
    ``p -= α · u / max(1, rms(u) / d)``. ``eps[0]`` is the dtype's epsilon when it is ``None``;
    ``weight_decay`` shrinks ``p`` by ``lr · weight_decay`` first. Noam Shazeer and Mitchell Stern,
    "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018. The state of a matrix is
    one row and one column; nothing is read by the host, and a matrix takes three kernels. Bad
    values raise ``ValueError``, a step on complex parameters ``RuntimeError``; ``foreach`` changes
    nothing.

    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-2)
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not beta2_decay <= 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not eps[0] >= 0.0:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not eps[1] >= 0.0:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not d >= 1.0:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not weight_decay >= 0.0:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(
            params,
            {
                "lr": lr,
                "beta2_decay": beta2_decay,
                "eps": eps,
                "d": d,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )

    def _new_state(self, group: Group, parameter: Tensor) -> State:
        if parameter.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        if parameter.dim() < 2:
            return {"step": host_entry(), "variance": state_like(parameter)}
        return {
            "step": host_entry(),
            "row_var": state_like(parameter[..., :1].detach()),
            "col_var": state_like(parameter[..., :1, :].detach()),
        }

    def _numbers(self, group: Group, entries: Entries) -> Numbers:
        count, lr = entries["step"] + 1, group["lr"]
        most = count**-0.5
        numbers = {
            "shrink": 1 - lr * group["weight_decay"],
            "share": count ** group["beta2_decay"],
            "rate": lr.clamp(max=most) if isinstance(lr, Tensor) else min(lr, most),
            "smallest size": group["eps"][1],
            "d": group["d"],
        }
        for dtype in {parameter.dtype for parameter in group["params"]}:
            least = group["eps"][0]
            least = torch.finfo(dtype).eps if least is None else least
            numbers[f"least {dtype}"] = least
            numbers[f"least variance {dtype}"] = least * least
        return numbers

    def _update(
        self, group: Group, value: Tensor, gradient: Tensor, state: State, number: Number
    ) -> NewValues:
        rate = torch.maximum(_root_mean_square(value), number("smallest size")) * number("rate")
        if group["weight_decay"] != 0:
            value = value * number("shrink")
        if gradient.dim() > 1:
            rows = _averaged(state["row_var"], gradient, -1, number)
            columns = _averaged(state["col_var"], gradient, -2, number)
            mean, least = rows.mean(dim=-2, keepdim=True), number(f"least {value.dtype}")
            variance = rows * columns / torch.maximum(mean, least)
            new = {"row_var": rows, "col_var": columns}
        else:
            before = state["variance"]
            variance = before + (gradient * gradient - before) * number("share")
            new = {"variance": variance}
        least = number(f"least variance {value.dtype}")
        change = torch.maximum(variance, least).rsqrt() * gradient
        excess = torch.clamp(_root_mean_square(change) / number("d"), min=1.0)
        return value - change * (rate / excess), new


def _root_mean_square(x: Tensor) -> Tensor:
    norm = _norm(x, tuple(range(x.dim())))
    return _wide(norm) / x.numel() ** 0.5


def _averaged(before: Tensor, gradient: Tensor, dim: int, number: Number) -> Tensor:
    """The running average of the mean square of the gradient over one dimension."""
    norm = _norm(gradient, (dim,), keepdim=True)
    mean = norm * norm / gradient.size(dim)
    return before + (mean - before) * number("share")


def _norm(x: Tensor, dims: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Rounded once, however narrow the dtype is."""
    return torch.linalg.vector_norm(_wide(x), dim=dims, keepdim=keepdim).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
