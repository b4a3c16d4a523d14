"""Numbers of an update rule as 0-d values shared by all parameters.

Knows how a Python number becomes a kernel argument, and how step counters and the like are kept
without ever reading one back from a device. It must not know any update rule.
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
from lazytorch.tensor.promotion import get_default_dtype
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
            return value.reshape(())
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


class HostEntries:
    """Entries of the state that are numbers: step counters, running products, averaged rates.

    The state has them as 0-d tensors, as PyTorch does, but rules need their values on the host:
    those are kept here beside the tensors, which nothing reads. All parameters with the same
    value share one tensor; a tensor of unknown value (loaded from a file, or put there by the
    user) is read once.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        # Tensor, its version, value; by the tensor's identity.
        self._known: dict[int, tuple[Tensor, int, float]] = {}
        self._next: dict[int, tuple[Tensor, int, float]] = {}
        self._by_value: dict[Any, Tensor] = {}

    def identity(self, state: dict[str, Any]) -> tuple[int, ...]:
        """Equal for parameters whose entries are the same tensors."""
        return tuple([id(state.get(name)) for name in self.names])

    def read(self, state: dict[str, Any]) -> dict[str, float]:
        """The values of the entries that a state has."""
        return {name: self._value(state[name]) for name in self.names if name in state}

    def write(self, state: dict[str, Any], values: dict[str, float]) -> None:
        """Replace the entries of a state, each in the dtype it had."""
        for name, value in values.items():
            before = state[name]
            dtype = before.dtype if isinstance(before, Tensor) else number_dtype()
            key = (name, dtype, value)
            tensor = self._by_value.get(key)
            if tensor is None:
                array = np.asarray(value, dtype.numpy)
                tensor = self._by_value[key] = functions.tensor(array, device="cpu")
                self._next[id(tensor)] = (tensor, tensor._version, float(array))
            state[name] = tensor

    def _value(self, entry: Any) -> float:
        if not isinstance(entry, Tensor):
            return float(entry)
        known = self._known.get(id(entry))
        if known is None or known[1] != entry._version:
            value = float(engine.to_array(node_of(entry), checked=True))
            known = self._known[id(entry)] = (entry, entry._version, value)
        return known[2]

    def end_step(self) -> None:
        """Forget the entries of the step before."""
        if self._next:
            self._known, self._next, self._by_value = self._next, {}, {}


def _argument(value: Any, dtype: DType, place: device) -> Tensor:
    # Numbers such as 0.5 and 1 are baked into kernels elsewhere; a schedule that passes through
    # one of them must not cost a compilation.
    return fresh(Node(SCALAR, (), (), (), dtype, place.runtime, None, float(value)), place)


def state_like(parameter: Tensor, value: complex = 0.0) -> Tensor:
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


def number_dtype() -> DType:
    """The dtype of numbers in the state: float64 when that is the default, else float32."""
    default = get_default_dtype()
    return dtypes.float64 if default == dtypes.float64 else dtypes.float32


def host_entry(value: float = 0.0) -> Tensor:
    """A number of the state, such as the step counter of a parameter not updated yet."""
    return functions.tensor(  # type: ignore[no-any-return]
        np.asarray(value, number_dtype().numpy), device="cpu"
    )
