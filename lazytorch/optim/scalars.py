"""Numbers of an update rule as 0-d values shared by all parameters.

Knows how a Python number becomes a kernel argument, and how step counters are kept without
ever reading one back from a device. It must not know any update rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ir.node import Node
from lazytorch.ops.leaves import SCALAR
from lazytorch.tensor.attach import functions
from lazytorch.tensor.device import device
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh


class StepScalars:
    """The numbers of one group in one step, each made into a 0-d tensor once.

    They are told apart by name, never by value: two numbers that happen to be equal in one step
    must not become one argument, which would be another kernel. ``owner`` is the optimizer with
    the group: a captured step asks them for the numbers of each repetition. ``made`` are name and
    value of each, the tensor it was first made for, and the 0-d tensor.
    """

    def __init__(self, owner: Any = None) -> None:
        self.made: list[tuple[str, Any, Tensor, Tensor]] = []
        self._known: dict[tuple[str, Any, DType, Any], Tensor] = {}
        self._owner = owner

    def __call__(self, name: str, value: Any, like: Tensor) -> Tensor:
        """``value`` as a 0-d tensor that combines with ``like`` in the dtype it computes in."""
        if isinstance(value, Tensor):
            return value.detach().reshape(())
        # A 0-d float32 number does not widen 16-bit tensors, unless they are 0-d themselves.
        narrow = like.dim() > 0 and like.dtype != dtypes.float64
        dtype = dtypes.float32 if narrow else like.dtype
        key = (name, value, dtype, like.device)
        made = self._known.get(key)
        if made is None:
            made = self._known[key] = _argument(value, dtype, like.device)
            self.made.append((name, value, like, made))
            capture = engine.current.capture
            if capture is not None and self._owner is not None:
                capture.note_scalar(made._node, ("number", *self._owner, like, name))
        return made


class StepCounts:
    """Step counters: tensors in the state, as PyTorch has them, with their values on the host.

    All parameters that have taken the same number of steps share one counter tensor; a tensor
    of unknown value (loaded from a file, or put there by the user) is read once.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, float]] = {}
        self._next: dict[int, tuple[Tensor, float]] = {}
        self._by_value: dict[float, Tensor] = {}

    def advance(self, state: dict[str, Any]) -> float:
        """Add one to ``state["step"]`` and return the new count."""
        count = self.peek(state)
        advanced = self._by_value.get(count)
        if advanced is None:
            advanced = self._by_value[count] = functions.tensor(
                count, dtype=dtypes.float32, device="cpu"
            )
            self._next[id(advanced)] = (advanced, count)
        state["step"] = advanced
        return count

    def peek(self, state: dict[str, Any]) -> float:
        """What :meth:`advance` would return, without counting."""
        counter = state["step"]
        known = self._known.get(id(counter))
        if known is not None:
            return known[1] + 1.0
        # A repetition of a captured step asks again.
        return float(engine.to_array(node_of(counter), checked=True)) + 1.0

    def end_step(self) -> None:
        """Forget the counters of the step before."""
        if self._next:
            self._known, self._next, self._by_value = self._next, {}, {}


def _argument(value: Any, dtype: DType, place: device) -> Tensor:
    # Numbers such as 0.5 and 1 are baked into kernels elsewhere; a schedule that passes through
    # one of them must not cost a compilation.
    return fresh(Node(SCALAR, (), (), (), dtype, place.runtime, None, float(value)), place)


def state_like(parameter: Tensor, value: float = 0.0) -> Tensor:
    """A value in memory, not a number in the graph: so the first step is the same computation
    as all others and nothing is compiled for it alone."""
    values = np.full(tuple(parameter.shape), value, parameter.dtype.numpy)
    return functions.tensor(values, device=parameter.device)  # type: ignore[no-any-return]


def settle(parameters: Iterable[Tensor]) -> None:
    """Compute what is pending in the parameters (their random start) and in all other state, for
    the same reason: a first step that does this too would be compiled and used once."""
    engine.flush()
    by_device: dict[Any, list[Node]] = {}
    for parameter in parameters:
        node = node_of(parameter)
        by_device.setdefault(node.device, []).append(node)
    for nodes in by_device.values():
        engine.realize(nodes)
        engine.unshare(nodes)


def zero_count() -> Tensor:
    """The step counter of a parameter that has not been updated yet."""
    return functions.tensor(0.0, dtype=dtypes.float32, device="cpu")
