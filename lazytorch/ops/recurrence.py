"""recurrent and its gradient: a recurrent layer over all time steps as one operation.

The operation starts behind the input's products (one ordinary contraction for all steps) and
carries the hidden state from step to step. Its result is one flat array whose sections, listed
by :func:`sections` and :func:`gradient_sections`, are the states and what the gradient reads
again. Rows (the batch) are independent; what follows one another is time.

Modes and their formulas, with ``p = gates + hidden @ weight.T``:

* ``rnn_tanh``, ``rnn_relu``: ``hidden = tanh(p)`` or ``relu(p)``;
* ``lstm``: ``cell = sigmoid(f) cell + sigmoid(i) tanh(g)``, ``hidden = sigmoid(o) tanh(cell)``
  (S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997, with F. Gers's forget gate), and
  ``hidden @ projection.T`` with a projection (H. Sak et al., 2014);
* ``gru``: ``hidden = (1 - z) tanh(n + r q) + z hidden`` where ``q`` is the new gate's part of
  ``hidden @ weight.T + bias`` (K. Cho et al., 2014, with the reset behind the product).

With ``lengths`` a row stops after as many steps: from there on its state stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef, Shape
from lazytorch.ir.registry import register

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


class Recurrence(NamedTuple):
    """The attributes: extents, direction, and which sources follow the first two.

    ``width`` is the size of the hidden state: ``hidden``, or the projection's. ``parts`` are
    among hidden, cell, bias (GRU), projection, lengths; the gradient has also grad_output,
    grad_hidden and grad_cell. ``keeps`` says whether a gradient will read the result: without, what
    only a gradient wants of a step is written over by the next.
    """

    mode: str
    steps: int
    batch: int
    hidden: int
    width: int
    reverse: bool
    parts: tuple[str, ...]
    keeps: bool = True

    @property
    def gates(self) -> int:
        """Elements of one row's gates."""
        return GATES[self.mode] * self.hidden

    @property
    def saved(self) -> int:
        """Elements of one row that the gradient needs besides the states."""
        return 4 * self.hidden if self.mode in ("lstm", "gru") else 0

    @property
    def steps_kept(self) -> int:
        """Steps of which the result has what only the gradient reads again."""
        return self.steps if self.keeps else min(self.steps, 1)

    @property
    def projected(self) -> bool:
        return "projection" in self.parts


Sections = dict[str, tuple[int, tuple[int, ...]]]


def _placed(shapes: dict[str, tuple[int, ...]]) -> Sections:
    placed: Sections = {}
    offset = 0
    for name, shape in shapes.items():
        placed[name] = (offset, shape)
        offset += _count(shape)
    return placed


def _count(shape: Sequence[int]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result


def sections(of: Recurrence) -> Sections:
    """(offset, shape) of the parts of the result.

    ``saved`` holds the gates after their activations: i, f, g, o; or r, z, q, n.
    """
    shapes: dict[str, tuple[int, ...]] = {"output": (of.steps, of.batch, of.width)}
    if of.mode == "lstm":
        shapes["cell"] = (of.steps, of.batch, of.hidden)
    if of.saved:
        shapes["saved"] = (of.steps_kept, of.batch, of.saved)
    if of.projected:
        shapes["unprojected"] = (of.steps_kept, of.batch, of.hidden)
    return _placed(shapes)


def gradient_sections(of: Recurrence) -> Sections:
    """(offset, shape) of the parts of the gradient's result.

    ``gates`` are the gradients of the input's products, ``recurrent`` those of the state's
    products where they differ, ``output`` those of each step's state where a projection made it,
    ``hidden`` and ``cell`` those of the first states (0 for a hidden one that was not given).
    """
    shapes: dict[str, tuple[int, ...]] = {"gates": (of.steps, of.batch, of.gates)}
    if of.mode == "gru":
        shapes["recurrent"] = (of.steps, of.batch, of.gates)
    if of.projected:
        shapes["output"] = (of.steps, of.batch, of.width)
    shapes["hidden"] = (of.batch, of.width)
    if of.mode == "lstm":
        shapes["cell"] = (of.batch, of.hidden)
    return _placed(shapes)


def total(parts: Sections) -> int:
    """Elements of all sections."""
    return sum(_count(shape) for _, shape in parts.values())


def _infer(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return (total(sections(Recurrence(*attrs))),), types[0]


def _infer_gradient(
    shapes: Sequence[Shape], types: Sequence[DType], attrs: tuple[Any, ...]
) -> tuple[Shape, DType]:
    return (total(gradient_sections(Recurrence(*attrs))),), types[0]


# Meaning in NumPy -----------------------------------------------------------------------------


def _views(flat: np.ndarray, parts: Sections) -> dict[str, np.ndarray]:
    return {
        name: flat[offset : offset + _count(shape)].reshape(shape)
        for name, (offset, shape) in parts.items()
    }


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _times(of: Recurrence) -> Iterator[tuple[int, int | None]]:
    """(step, the step whose state it starts from or None for the first) in order."""
    order = range(of.steps - 1, -1, -1) if of.reverse else range(of.steps)
    before: int | None = None
    for time in order:
        yield time, before
        before = time


def _forward(
    attrs: tuple[Any, ...], gates: np.ndarray, weight: np.ndarray, *rest: np.ndarray
) -> np.ndarray:
    of = Recurrence(*attrs)
    given = dict(zip(of.parts, rest))
    out = np.zeros(total(sections(of)), gates.dtype)
    parts = _views(out, sections(of))
    hidden = given.get("hidden", np.zeros((of.batch, of.width), gates.dtype))
    cell = given.get("cell", np.zeros((of.batch, of.hidden), gates.dtype))
    with np.errstate(all="ignore"):
        for time, _ in _times(of):
            product = hidden @ weight.T
            made = _step(of, parts, time, gates[time], product, hidden, cell, given)
            if "lengths" in given:
                alive = (time < given["lengths"])[:, None]
                made = (np.where(alive, made[0], hidden), np.where(alive, made[1], cell))
                for name in parts.keys() & {"saved", "unprojected"}:
                    parts[name][time if of.keeps else 0] *= alive
            hidden, cell = made
            parts["output"][time] = hidden
            if of.mode == "lstm":
                parts["cell"][time] = cell
    return out


def _step(
    of: Recurrence,
    parts: dict[str, np.ndarray],
    time: int,
    gates: np.ndarray,
    product: np.ndarray,
    hidden: np.ndarray,
    cell: np.ndarray,
    given: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The states after one step, of rows that are all alive."""
    kept = time if of.keeps else 0
    if of.mode == "rnn_tanh":
        return np.tanh(gates + product), cell
    if of.mode == "rnn_relu":
        return np.maximum(gates + product, 0), cell
    if of.mode == "gru":
        if "bias" in given:
            product = product + given["bias"]
        x = np.split(gates, 3, 1)
        reset, update = (_sigmoid(a + b) for a, b in zip(x, np.split(product, 3, 1)[:2]))
        q = np.split(product, 3, 1)[2]
        new = np.tanh(x[2] + reset * q)
        parts["saved"][kept] = np.concatenate([reset, update, q, new], 1)
        return new + update * (hidden - new), cell
    i, f, g, o = np.split(gates + product, 4, 1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    parts["saved"][kept] = np.concatenate([i, f, g, o], 1)
    cell = f * cell + i * g
    made = o * np.tanh(cell)
    if of.projected:
        parts["unprojected"][kept] = made
        made = made @ given["projection"].T
    return made, cell


def _gradient(
    attrs: tuple[Any, ...], result: np.ndarray, weight: np.ndarray, *rest: np.ndarray
) -> np.ndarray:
    of = Recurrence(*attrs)
    given = dict(zip(of.parts, rest))
    states = _views(result, sections(of))
    out = np.zeros(total(gradient_sections(of)), result.dtype)
    parts = _views(out, gradient_sections(of))
    dh = given.get("grad_hidden", np.zeros((of.batch, of.width), result.dtype))
    dc = given.get("grad_cell", np.zeros((of.batch, of.hidden), result.dtype))
    for time, before in reversed(list(_times(of))):
        if "grad_output" in given:
            dh = dh + given["grad_output"][time]
        hidden, cell = _state_before(states, before, given)
        if of.projected:
            parts["output"][time] = dh
        direct, dc_before, outer, inner = _step_gradient(
            of, states, time, dh, dc, hidden, cell, given
        )
        if "lengths" in given:
            alive = (time < given["lengths"])[:, None]
            outer, inner = outer * alive, inner * alive
            direct, dc_before = np.where(alive, direct, dh), np.where(alive, dc_before, dc)
        parts["gates"][time] = outer
        if of.mode == "gru":
            parts["recurrent"][time] = inner
        dh, dc = direct + inner @ weight, dc_before
        if before is None and "hidden" not in given:
            dh = np.zeros_like(dh)
    parts["hidden"][...] = dh
    if of.mode == "lstm":
        parts["cell"][...] = dc
    return out


def _state_before(
    states: dict[str, np.ndarray], before: int | None, given: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    zero = np.zeros((), states["output"].dtype)
    if before is None:
        return given.get("hidden", zero), given.get("cell", zero)
    return states["output"][before], states["cell"][before] if "cell" in states else zero


def _step_gradient(
    of: Recurrence,
    states: dict[str, np.ndarray],
    time: int,
    dh: np.ndarray,
    dc: np.ndarray,
    hidden: np.ndarray,
    cell: np.ndarray,
    given: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(what goes straight to the state before, the same of the cell, gradients of the input's
    products, of the state's products)."""
    nothing = np.zeros((), dh.dtype)
    if of.mode in ("rnn_tanh", "rnn_relu"):
        out = states["output"][time]
        d = dh * (1 - out * out) if of.mode == "rnn_tanh" else dh * (out > 0)
        return nothing, nothing, d, d
    first, second, third, fourth = np.split(states["saved"][time], 4, 1)
    if of.mode == "gru":
        dn = dh * (1 - second) * (1 - fourth * fourth)
        dz = dh * (hidden - fourth) * second * (1 - second)
        dr = dn * third * first * (1 - first)
        outer = np.concatenate([dr, dz, dn], 1)
        return dh * second, nothing, outer, np.concatenate([dr, dz, dn * first], 1)
    dm = dh @ given["projection"] if of.projected else dh
    t = np.tanh(states["cell"][time])
    dc = dc + dm * fourth * (1 - t * t)
    d = np.concatenate(
        [
            dc * third * first * (1 - first), dc * cell * second * (1 - second),
            dc * first * (1 - third * third), dm * t * fourth * (1 - fourth),
        ],
        1,
    )  # fmt: skip
    return nothing, dc * second, d, d


RECURRENT = register(
    OpDef(name="recurrent", kind="recurrent", arity=-1, infer=_infer, numpy=_forward)
)
RECURRENT_GRADIENT = register(
    OpDef(
        name="recurrent_gradient", kind="recurrent", arity=-1, infer=_infer_gradient,
        numpy=_gradient,
    )
)  # fmt: skip
