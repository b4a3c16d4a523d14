"""One direction of one recurrent layer over all time steps, with its gradient.

:func:`recurrent_layer` is what ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` are made of: the input's
products of all steps as one contraction, then one ``recurrent`` operation. Its gradient is one
``recurrent_gradient`` and a contraction for each weight over all steps at once; a gradient that is
to be differentiated again is that of :func:`_unrolled`, the same layer step by step.
"""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import enable_grad, mode, no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach_many
from lazytorch.functional.composite import (
    detached,
    part,
    permuted,
    recorded,
    reshaped,
    sliced,
    tanh,
)
from lazytorch.functional.elementwise import where
from lazytorch.ops import recurrence
from lazytorch.ops.recurrence import Recurrence, Sections, gradient_sections, sections
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# The sources of the rule behind the input's products and the state's weight, by their parts.
_OPTIONAL = ("bias", "projection", "hidden", "cell")


def recurrent_layer(
    mode_name: str,
    gates: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    projection: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(output of all steps, last hidden state, last cell state or ``None``); the states are
    (1, batch, width or hidden), as one layer among many.

    ``gates`` (steps, batch, gates * hidden) are the input's products with their bias, ``weight``
    (gates * hidden, width) multiplies the hidden state (batch, width); ``bias`` is the GRU's
    second one. Rows end after their ``lengths`` (int64): what ``output`` holds behind them is the
    last state. See ``ops.recurrence`` for the formulas.
    """
    steps, batch, _ = shape_of(gates)
    size = shape_of(gates)[2] // recurrence.GATES[mode_name]
    given = {"hidden": hidden, "cell": cell, "bias": bias, "projection": projection}
    tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
    wanted = (gates, weight, *tensors.values())
    of = Recurrence(
        mode_name, steps, batch, size, shape_of(weight)[1], reverse,
        (*tensors, "lengths") if lengths is not None else tuple(tensors),
        mode.enabled and any(tensor.requires_grad for tensor in wanted),
    )  # fmt: skip
    with no_grad():
        more = () if lengths is None else (detached(lengths),)
        flat = recorded(
            recurrence.RECURRENT,
            (detached(gates), detached(weight), *map(detached, tensors.values()), *more),
            tuple(of),
        )
        parts = sections(of)
        output = _section(flat, parts, "output")
        last = 0 if reverse else steps - 1
        final = [part(output, 0, last, 1)]
        if mode_name == "lstm":
            final.append(_last_cell(flat, of, last))
    sources = (gates, weight, *(given[name] for name in _OPTIONAL))
    attach_many((output, *final), _RULE, sources, (of,), (flat, lengths))
    return output, final[0], final[1] if mode_name == "lstm" else None


def _section(flat: Tensor, parts: Sections, name: str) -> Tensor:
    offset, shape = parts[name]
    size = 1
    for extent in shape:
        size *= extent
    return reshaped(sliced(flat, (offset,), (size,)), shape)


def _last_cell(flat: Tensor, of: Recurrence, last: int) -> Tensor:
    """``cell[last : last + 1]``, without the other steps on the way."""
    offset, (_, *shape) = sections(of)["cell"]
    size = of.batch * of.hidden
    return reshaped(sliced(flat, (offset + last * size,), (size,)), (1, *shape))


def _row(states: Tensor, time: int) -> Tensor:
    return reshaped(part(states, 0, time, 1), shape_of(states)[1:])


# Gradient -------------------------------------------------------------------------------------


def _gradients(
    g: Any, attrs: Any, extra: Any, needs: Any, gates: Any, weight: Any, bias: Any,
    projection: Any, hidden: Any, cell: Any,
) -> tuple[Any, ...]:  # fmt: skip
    (of,) = attrs
    flat, lengths = extra
    sources = (gates, weight, bias, projection, hidden, cell)
    if mode.enabled:
        return _differentiable(of, g, needs, sources, lengths)
    given = {"hidden": hidden, "cell": cell, "projection": projection, "lengths": lengths}
    given.update(zip(("grad_output", "grad_hidden", "grad_cell"), g))
    for name in ("grad_hidden", "grad_cell"):
        if given.get(name) is not None:
            given[name] = reshaped(given[name], shape_of(given[name])[1:])
    tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
    wanted = of._replace(parts=tuple(tensors))
    made = recorded(
        recurrence.RECURRENT_GRADIENT,
        (flat, detached(weight), *map(detached, tensors.values())), tuple(wanted),
    )  # fmt: skip
    parts = gradient_sections(wanted)
    outer = _section(made, parts, "gates")
    inner = _section(made, parts, "recurrent") if of.mode == "gru" else outer
    states = _section(flat, sections(of), "output")
    result: list[Any] = [outer, None, None, None, None, None]
    if needs[1]:
        result[1] = _weight_gradient(of, inner, states, hidden)
    if bias is not None and needs[2]:
        result[2] = functions.sum(inner, (0, 1))
    if projection is not None and needs[3]:
        each = _section(made, parts, "output")
        unprojected = _section(flat, sections(of), "unprojected")
        result[3] = _over_time(each, unprojected)
    if hidden is not None and needs[4]:
        result[4] = _section(made, parts, "hidden")
    if cell is not None and needs[5]:
        result[5] = _section(made, parts, "cell")
    return tuple(result)


_RULE = Rule("RecurrentBackward0", _gradients)


def _over_time(first: Tensor, second: Tensor) -> Tensor:
    """The sum over time and batch of the outer products of (time, batch, n) and (.., m)."""
    steps, batch, n = shape_of(first)
    rows = reshaped(first, (steps * batch, n))
    columns = reshaped(second, (steps * batch, shape_of(second)[2]))
    return functions.matmul(permuted(rows, (1, 0)), columns)  # type: ignore[no-any-return]


def _weight_gradient(of: Recurrence, inner: Tensor, states: Tensor, hidden: Any) -> Any:
    """Each step's gradient with the state before it, over all steps."""
    later, earlier = (0, 1) if of.reverse else (1, 0)
    rest = of.steps - 1
    total = _over_time(part(inner, 0, later, rest), part(states, 0, earlier, rest))
    if hidden is None:
        return total
    first = _row(inner, rest if of.reverse else 0)
    return total + functions.matmul(permuted(first, (1, 0)), hidden)


# Step by step ---------------------------------------------------------------------------------


def _differentiable(
    of: Recurrence, g: Any, needs: Any, sources: tuple[Any, ...], lengths: Any
) -> tuple[Any, ...]:
    """The gradients by way of the layer step by step, so that they have gradients themselves."""
    with enable_grad():
        outputs = _unrolled(of, lengths, *sources)
    pairs = [(out, given) for out, given in zip(outputs, g) if given is not None]
    places = [number for number, needed in enumerate(needs) if needed]
    found = grad(
        [out for out, _ in pairs], [sources[place] for place in places],
        [given for _, given in pairs], create_graph=True, allow_unused=True,
    )  # fmt: skip
    result: list[Any] = [None] * len(sources)
    for place, gradient in zip(places, found):
        result[place] = gradient
    return tuple(result)


def _unrolled(
    of: Recurrence, lengths: Any, gates: Any, weight: Any, bias: Any, projection: Any,
    hidden: Any, cell: Any,
) -> list[Any]:  # fmt: skip
    """The outputs of :func:`recurrent_layer` as a graph that grows with the steps."""
    options = {"dtype": dtype_of(gates), "device": gates.device}
    if hidden is None:
        hidden = functions.zeros((of.batch, of.width), **options)
    if cell is None:
        cell = functions.zeros((of.batch, of.hidden), **options)
    made: list[Any] = [None] * of.steps
    for time in range(of.steps - 1, -1, -1) if of.reverse else range(of.steps):
        state, other = one_step(of.mode, gates[time], weight, bias, projection, hidden, cell)
        if lengths is not None:
            alive = functions.unsqueeze(functions.gt(lengths, time), 1)
            state, other = where(alive, state, hidden), where(alive, other, cell)
        made[time] = hidden = state
        cell = other
    states = (hidden, cell) if of.mode == "lstm" else (hidden,)
    return [functions.stack(made, 0), *(functions.unsqueeze(state, 0) for state in states)]


def one_step(
    mode_name: str, gates: Any, weight: Any, bias: Any, projection: Any, hidden: Any, cell: Any
) -> tuple[Any, Any]:
    """(hidden, cell) after one step; ``gates`` (batch, gates * hidden) as in
    :func:`recurrent_layer`."""
    if mode_name == "gru":
        product = functions.linear(hidden, weight, bias)
        x, h = functions.chunk(gates, 3, 1), functions.chunk(product, 3, 1)
        reset, update = functions.sigmoid(x[0] + h[0]), functions.sigmoid(x[1] + h[1])
        new = tanh(x[2] + reset * h[2])
        return new + update * (hidden - new), cell
    total = gates + functions.linear(hidden, weight)
    if mode_name != "lstm":
        return tanh(total) if mode_name == "rnn_tanh" else functions.relu(total), cell
    i, f, g, o = functions.chunk(total, 4, 1)
    cell = functions.sigmoid(f) * cell + functions.sigmoid(i) * tanh(g)
    made = functions.sigmoid(o) * tanh(cell)
    return made if projection is None else functions.linear(made, projection), cell


def in_compute_type(tensor: Any) -> Any:
    """16-bit floats as float32: states are carried over many steps."""
    if tensor is None or dtype_of(tensor).itemsize != 2:
        return tensor
    return cast(tensor, dtypes.float32)
