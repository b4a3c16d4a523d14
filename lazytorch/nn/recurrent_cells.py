"""One step of a recurrent layer: RNNCell, LSTMCell, GRUCell."""

from __future__ import annotations

import math
from typing import Any

import lazytorch as torch
from lazytorch.functional.recurrence import one_step
from lazytorch.nn import functional as F
from lazytorch.nn import init
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.tensor import Tensor


class RNNCellBase(Module):
    """Weights ``weight_ih`` (chunks * hidden, input), ``weight_hh`` (chunks * hidden, hidden),
    and their biases, uniform in ±1/√hidden_size."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        options = {"device": device, "dtype": dtype}
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(torch.empty((rows, input_size), **options))
        self.weight_hh = Parameter(torch.empty((rows, hidden_size), **options))
        for name in ("bias_ih", "bias_hh"):
            made = Parameter(torch.empty(rows, **options)) if bias else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text

    def _run(self, mode: str, input: Any, states: list[Any] | None) -> list[Any]:
        """The states after one step, with or without a batch dimension."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        single = input.dim() == 1
        data = input.unsqueeze(0) if single else input
        count = 2 if mode == "lstm" else 1
        if states is None:
            shape = (data.shape[0], self.hidden_size)
            zeros = torch.zeros(shape, dtype=data.dtype, device=data.device)
            states = [zeros] * count
        elif single:
            states = [state.unsqueeze(0) if state.dim() == 1 else state for state in states]
        self._check(data, states)
        bias, second = self.bias_ih, self.bias_hh
        if mode != "gru" and bias is not None:
            bias, second = bias + second, None  # type: ignore[operator]
        gates = F.linear(data, self.weight_ih, bias)
        cell = states[1] if count == 2 else states[0]
        made = one_step(mode, gates, self.weight_hh, second, None, states[0], cell)[:count]
        return [state.squeeze(0) if single else state for state in made]

    def _check(self, data: Any, states: list[Any]) -> None:
        if data.shape[1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {data.shape[1]} expected {self.input_size}"
            )
        for number, state in enumerate(states):
            if state.shape[0] != data.shape[0]:
                raise RuntimeError(
                    f"Input batch size {data.shape[0]} doesn't match hidden{number} batch size "
                    f"{state.shape[0]}"
                )
            if state.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{number} has inconsistent hidden_size: got {state.shape[1]}, expected "
                    f"{self.hidden_size}"
                )


def _check_rank(name: str, state: Any) -> None:
    if state is not None and state.dim() not in (1, 2):
        raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {state.dim()}D instead")


class RNNCell(RNNCellBase):
    """``tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu with ``nonlinearity``.

    Input (batch, input_size) or (input_size,), state (batch, hidden_size) or (hidden_size,).

    >>> nn.RNNCell(10, 20)(torch.ones(3, 10)).shape
    torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        _check_rank("RNNCell", hx)
        states = None if hx is None else [hx]
        return self._run(f"rnn_{self.nonlinearity}", input, states)[0]  # type: ignore[no-any-return]


class _GatedCell(RNNCellBase):
    """A cell without settings of its own; ``gates`` rows of weights for each element."""

    gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, self.gates, device, dtype)


class LSTMCell(_GatedCell):
    """One step of :class:`LSTM`: ``(h, c)`` from the input and ``(h, c)`` before.

    >>> nn.LSTMCell(10, 20)(torch.ones(3, 10))[0].shape
    torch.Size([3, 20])
    """

    gates = 4

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        for number, state in enumerate(hx or ()):
            if state.dim() not in (1, 2):  # type: ignore[attr-defined]
                raise ValueError(
                    f"LSTMCell: Expected hx[{number}] to be 1D or 2D, got {state.dim()}D instead"  # type: ignore[attr-defined]
                )
        hidden, cell = self._run("lstm", input, None if hx is None else list(hx))
        return hidden, cell


class GRUCell(_GatedCell):
    """One step of :class:`GRU`.

    >>> nn.GRUCell(10, 20)(torch.ones(3, 10)).shape
    torch.Size([3, 20])
    """

    gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        _check_rank("GRUCell", hx)
        return self._run("gru", input, None if hx is None else [hx])[0]  # type: ignore[no-any-return]
