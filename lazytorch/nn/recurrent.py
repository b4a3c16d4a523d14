"""Recurrent layers: RNN, LSTM and GRU, over whole sequences.

Each direction of each layer is one contraction and one ``recurrent`` operation
(``functional.recurrence``); nothing here runs step by step.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch.functional.recurrence import in_compute_type, recurrent_layer
from lazytorch.nn import functional as F
from lazytorch.nn import init
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.nn.utils.rnn import (
    PackedSequence,
    lengths_of_batches,
    packed_places,
    padded_places,
)
from lazytorch.ops.recurrence import GATES
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

_PLAIN_MODES = ("RNN_TANH", "RNN_RELU", "LSTM", "GRU")


class RNNBase(Module):
    """What RNN, LSTM and GRU share: weights by layer and direction, checks, and the layers.

    Parameters of layer k: ``weight_ih_l{k}`` (gates * hidden_size, input), ``weight_hh_l{k}``
    (gates * hidden_size, hidden_size or proj_size), ``bias_ih_l{k}``, ``bias_hh_l{k}`` and, with a
    projection, ``weight_hr_l{k}`` (proj_size, hidden_size); those of the reverse direction end in
    ``_reverse``. All start uniform in ±1/√hidden_size.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if mode not in _PLAIN_MODES:
            raise ValueError(f"Unrecognized RNN mode: {mode}")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout) if isinstance(dropout, (int, float)) else dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        _check_arguments(self, dropout)
        width = proj_size or hidden_size
        gates = GATES[mode.lower()] * hidden_size
        options = {"device": device, "dtype": dtype}
        for layer in range(num_layers):
            entering = input_size if layer == 0 else width * self._directions
            shapes = [("weight_ih", (gates, entering)), ("weight_hh", (gates, width))]
            if bias:
                shapes += [("bias_ih", (gates,)), ("bias_hh", (gates,))]  # type: ignore[list-item]
            if proj_size:
                shapes.append(("weight_hr", (proj_size, hidden_size)))
            for suffix in self._suffixes(layer):
                for name, shape in shapes:
                    setattr(self, name + suffix, Parameter(torch.empty(shape, **options)))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def reset_parameters(self) -> None:
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing: weights are packed by the kernels that read them."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        names = ["weight_ih", "weight_hh"]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        names += ["weight_hr"] if self.proj_size else []
        return [
            [getattr(self, name + suffix) for name in names]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (
            ("proj_size", 0), ("num_layers", 1), ("bias", True), ("batch_first", False),
            ("dropout", 0), ("bidirectional", False),
        ):  # fmt: skip
            value = getattr(self, name)
            if value != usual:
                text += f", {name}={value}"
        return text

    # Checks -----------------------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """``ValueError`` or ``RuntimeError`` for an input that does not fit the weights."""
        data: Any = input
        weight: Any = self.weight_ih_l0
        if data.dtype is not weight.dtype and not torch.is_autocast_enabled(data.device.type):
            raise ValueError(
                f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: "
                f"model.to({data.dtype})"
            )
        expected = 2 if batch_sizes is not None else 3
        if data.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {data.dim()}")
        if data.shape[-1] != self.input_size:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. Expected "
                f"{self.input_size}, got {data.shape[-1]}"
            )
        if 0 in data.shape[: 1 if not self.batch_first or batch_sizes is not None else 2][-1:]:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def check_hidden_size(
        self, hx: Any, expected: tuple[int, ...], msg: str = "Expected hidden size {}, got {}"
    ) -> None:
        """``RuntimeError`` unless a state has the expected shape."""
        if tuple(hx.shape) != expected:
            raise RuntimeError(msg.format(expected, list(hx.shape)))

    def _expected(self, batch: int, size: int) -> tuple[int, ...]:
        return self.num_layers * self._directions, batch, size

    def _check_states(self, states: list[Any], batch: int) -> None:
        self.check_hidden_size(states[0], self._expected(batch, self.proj_size or self.hidden_size))

    # Forward ----------------------------------------------------------------------------------

    def _run(self, input: Any, states: list[Any] | None) -> tuple[Any, list[Any]]:
        """(output, last states) for a padded, unbatched or packed input; ``states`` in the same
        form, hidden first."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        name = type(self).__name__ if type(self).__name__ in ("RNN", "LSTM", "GRU") else "RNN"
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{name}: Expected input to be 2D or 3D, got {input.dim()}D"
                f"{' tensor' if name == 'RNN' else ''} instead"
            )
        unbatched = input.dim() == 2
        self._check_rank(states, unbatched)
        data = input
        if unbatched:
            data = input.unsqueeze(0 if self.batch_first else 1)
            states = None if states is None else [state.unsqueeze(1) for state in states]
        self.check_input(data, None)
        if self.batch_first:
            data = data.transpose(0, 1)
        if states is not None:
            self._check_states(states, data.shape[1])
        output, last = self._layers(data, states, None)
        if self.batch_first:
            output = output.transpose(0, 1)
        if unbatched:
            output = output.squeeze(0 if self.batch_first else 1)
            last = [state.squeeze(1) for state in last]
        return output, last

    def _check_rank(self, states: list[Any] | None, unbatched: bool) -> None:
        if states is None or all(state.dim() == (2 if unbatched else 3) for state in states):
            return
        kind = "unbatched 2-D" if unbatched else "batched 3-D"
        wanted = "2-D" if unbatched else "3-D"
        if len(states) == 1:
            raise RuntimeError(
                f"For {kind} input, hx should also be {wanted} but got {states[0].dim()}-D tensor"
            )
        ranks = ", ".join(f"{state.dim()}-D" for state in states)
        raise RuntimeError(
            f"For {kind} input, hx and cx should also be {wanted} but got ({ranks}) tensors"
        )

    def _run_packed(
        self, packed: PackedSequence, states: list[Any] | None
    ) -> tuple[Any, list[Any]]:
        self.check_input(packed.data, packed.batch_sizes)
        places = _Packing(packed)
        if states is not None:
            self._check_states(states, places.batch)
            if packed.sorted_indices is not None:
                states = [state.index_select(1, packed.sorted_indices) for state in states]
        output, last = self._layers(packed.data, states, places)
        if packed.unsorted_indices is not None:
            last = [state.index_select(1, packed.unsorted_indices) for state in last]
        return PackedSequence(
            output, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        ), last

    def _layers(
        self, data: Any, states: list[Any] | None, places: _Packing | None
    ) -> tuple[Any, list[Any]]:
        """All layers over (steps, batch, input), or over packed rows (elements, input)."""
        finals: list[list[Any]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                data = F.dropout(data, self.dropout, True)
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                number = layer * self._directions + direction
                own = None if states is None else [state[number] for state in states]
                output, *final = self._direction(data, own, places, suffix, direction == 1)
                outputs.append(output)
                finals.append(final)
            data = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        return data, [torch.cat(parts, 0) if len(parts) > 1 else parts[0] for parts in zip(*finals)]

    def _direction(
        self,
        data: Any,
        states: list[Any] | None,
        places: _Packing | None,
        suffix: str,
        reverse: bool,
    ) -> list[Any]:
        """(output, last states) of one direction of one layer."""
        kept: dict[str, Any] = {}
        bias = None
        if self.bias:
            bias, second = getattr(self, "bias_ih" + suffix), getattr(self, "bias_hh" + suffix)
            if self.mode == "GRU":
                kept["bias"] = second
            else:
                bias = bias + second
        if self.proj_size:
            kept["projection"] = getattr(self, "weight_hr" + suffix)
        kept.update(zip(("hidden", "cell"), states or ()))
        gates = F.linear(data, getattr(self, "weight_ih" + suffix), bias)
        if places is not None:
            gates = places.padded(gates)
            kept["lengths"] = places.lengths
        output, *final = recurrent_layer(
            self.mode.lower(), in_compute_type(gates),
            in_compute_type(getattr(self, "weight_hh" + suffix)), reverse=reverse,
            **{name: in_compute_type(tensor) for name, tensor in kept.items()},
        )  # fmt: skip
        if places is not None:
            output = places.packed(output)
        # In an autocast region the products are shorter than the data, and but for the GRU, which
        # adds up shares of its state, the results are too.
        dtype = data.dtype if self.mode == "GRU" else gates.dtype
        return [made.to(dtype) for made in (output, *final) if made is not None]


def _check_arguments(module: RNNBase, dropout: Any) -> None:
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an "
            "element being zeroed"
        )
    if dropout > 0 and module.num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and "
            f"num_layers={module.num_layers}",
            stacklevel=4,
        )
    for name, kind in (
        ("bias", bool), ("batch_first", bool), ("input_size", int), ("hidden_size", int),
    ):  # fmt: skip
        value = getattr(module, name)
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} should be of type {kind.__name__}, got: {type(value).__name__}"
            )
    for name in ("input_size", "hidden_size", "num_layers"):
        if getattr(module, name) <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if module.proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if module.proj_size >= module.hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


class _Packing:
    """Where rows of packed data stand among (steps, batch), and back."""

    def __init__(self, packed: PackedSequence) -> None:
        sizes = packed.batch_sizes.numpy()  # type: ignore[attr-defined]
        self.steps, self.batch = len(sizes), int(sizes[0])
        device = packed.data.device  # type: ignore[attr-defined]
        # Behind a sequence's end any row will do: nothing comes of it.
        inside = padded_places(sizes, 0).reshape(-1)
        self._padded = functions.tensor(inside, device=device)
        self._packed = functions.tensor(packed_places(sizes), device=device)
        self.lengths = functions.tensor(lengths_of_batches(sizes).astype(np.int64), device=device)

    def padded(self, rows: Any) -> Any:
        return rows.index_select(0, self._padded).reshape(self.steps, self.batch, rows.shape[1])

    def packed(self, output: Any) -> Any:
        flat = output.reshape(self.steps * self.batch, output.shape[2])
        return flat.index_select(0, self._packed)


class RNN(RNNBase):
    """``h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)``, or relu with ``nonlinearity``.

    Input (steps, batch, input_size), (batch, steps, input_size) with ``batch_first``, (steps,
    input_size) unbatched, or a packed sequence; initial state (layers * directions, batch,
    hidden_size), zeros if not given. Results: the output of all steps (.., directions *
    hidden_size) and the last states.

    >>> nn.RNN(10, 20, 2)(torch.ones(5, 3, 10))[0].shape
    torch.Size([5, 3, 20])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Tensor]:
        output, (hidden,) = self._run(input, None if hx is None else [hx])
        return output, hidden


class LSTM(RNNBase):
    """Long short-term memory; see ``ops.recurrence`` for the formula and its sources.

    Input as in :class:`RNN`; initial states ``(h_0, c_0)``: (layers * directions, batch,
    proj_size or hidden_size) and (layers * directions, batch, hidden_size). Results: the output
    of all steps and ``(h_n, c_n)``.

    >>> nn.LSTM(10, 20, 2)(torch.ones(5, 3, 10))[0].shape
    torch.Size([5, 3, 20])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def _check_states(self, states: list[Any], batch: int) -> None:
        for number, size in enumerate((self.proj_size or self.hidden_size, self.hidden_size)):
            self.check_hidden_size(
                states[number], self._expected(batch, size),
                f"Expected hidden[{number}] size {{}}, got {{}}",
            )  # fmt: skip

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        output, (hidden, cell) = self._run(input, None if hx is None else list(hx))
        return output, (hidden, cell)


class GRU(RNNBase):
    """Gated recurrent unit; see ``ops.recurrence`` for the formula and its source.

    Input, state and results as in :class:`RNN`.

    >>> nn.GRU(10, 20, 2)(torch.ones(5, 3, 10))[0].shape
    torch.Size([5, 3, 20])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Tensor]:
        output, (hidden,) = self._run(input, None if hx is None else [hx])
        return output, hidden
