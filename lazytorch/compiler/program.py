"""Program: one captured call of a function, repeated without walking a graph.

A repetition reads the tensors that the plan's leaves came from, works out its scalars (random
offsets, learning rates), runs the plan, and puts the results where the call put them: into
storages, into ``.grad``, and into what is returned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lazytorch import dtypes, engine
from lazytorch.autograd.entries import GradientFunction
from lazytorch.compiler.environment import Environment
from lazytorch.engine import Capture, Captured
from lazytorch.errors import LazytorchError
from lazytorch.functional.bounds import value_range
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.runtime import Buffer
from lazytorch.runtime.interrupts import interrupts_held
from lazytorch.tensor.generator import _signed
from lazytorch.tensor.storage import node_of, storage_of
from lazytorch.tensor.tensor import Tensor, fresh

Source = tuple[Any, ...]


class Changed(LazytorchError):
    """Something is not as it was at the capture; the call has to be traced."""


class Program:
    """A plan, its bindings, and what a repetition does besides running it.

    ``writes`` are (source of a tensor, place among the outputs, versions counted) of storages,
    ``gradients`` (leaf, place) of new ``.grad``; ``result`` rebuilds what is returned.
    """

    def __init__(
        self,
        environment: Environment,
        captured: Captured,
        capture: Capture,
        writes: list[tuple[Source, int, int]],
        gradients: list[tuple[Tensor, int | None]],
        result: Any,
    ) -> None:
        self.environment = environment
        self.replay = captured.replay
        self.captured = captured
        self.draws = capture.draws
        self.steps = capture.steps
        self.ranges = capture.ranges
        self.writes = writes
        self.gradients = gradients
        self.result = result
        self.verified = False
        self._origins = [None] * len(captured.replay.plan.outputs)
        read = {id(source[1]) for source in captured.leaves if source[0] == "grad"}
        #: leaves whose old gradient may be let go before memory for the new one is taken
        self._dropped = [leaf for leaf, _ in gradients if id(leaf) not in read]
        self._tensors = [
            (t, t._storage, t._view, t._requires_grad) for t in environment.tensors.values()
        ]
        self._without_gradient: list[tuple[Tensor, bool]] = []

    def note_gradients(self, before: dict[int, bool]) -> None:
        """Remember which leaves had a gradient when the call began."""
        tensors = self.environment.tensors
        self._without_gradient = [(tensors[key], not there) for key, there in before.items()]

    def signature(self) -> tuple[Any, ...]:
        """Two captures with equal signatures are the same computation."""
        captured = self.captured
        return (
            captured.key, tuple(map(_identity, captured.leaves)),
            tuple(map(_identity, captured.scalars)),
            tuple((_identity(source), place, count) for source, place, count in self.writes),
            tuple((id(leaf), place) for leaf, place in self.gradients),
            _identity(self.result), tuple((id(g), n) for g, n in self.draws),
            tuple(map(id, self.steps)),
        )  # fmt: skip

    def stale(self) -> str | None:
        """Why the program does not fit what is reachable now, or ``None``."""
        for tensor, storage, view, requires_grad in self._tensors:
            if (
                tensor._view is not view
                or (storage is not None and tensor._storage is not storage)
                or tensor._requires_grad is not requires_grad
                or tensor._extra is not None
            ):
                return "a tensor is another one, or has hooks"
        for leaf, missing in self._without_gradient:
            if (leaf._grad is None) is not missing:
                return "a gradient has come or gone"
        return self.environment.changed()

    def run(self, arguments: list[Tensor]) -> Any:
        """Repeat the call; raises :class:`Changed`, before anything is done, when it cannot."""
        captured = self.captured
        nodes = self._leaf_nodes(arguments)
        for source, low, high in self.ranges:
            found = value_range(_tensor(source, arguments))
            if found[0] < low or found[1] > high:
                raise Changed("positions are outside the range that was checked")
        self._check_private(nodes)
        scalars = self._scalars()
        buffers = [node.buffer for node in nodes]
        del nodes
        if captured.donated:
            with interrupts_held():
                results = self._repeat(arguments, buffers, scalars)
        else:
            results = self._repeat(arguments, buffers, scalars)
        return rebuild(self.result, arguments, results)

    def _repeat(
        self, arguments: list[Tensor], buffers: list[Buffer], scalars: list[Any]
    ) -> list[Buffer]:
        """Carry the plan out, and give what it made to tensors, gradients and optimizers."""
        for leaf in self._dropped:
            leaf._grad = None
        results = self.replay.run(buffers, scalars, self._origins)
        for generator, blocks in self.draws:
            generator.advance(blocks)
        for source, place, count in self.writes:
            storage = storage_of(_tensor(source, arguments))
            storage.node = _ready(storage.node, results[place])
            storage.version += count
        device = self.captured.replay.device.name
        for leaf, position in self.gradients:
            if position is None:
                leaf._grad = None
            else:
                like = node_of(leaf)
                node = Node(
                    leaves.BUFFER, (), (), like.shape, like.dtype, device, None, results[position]
                )
                leaf._grad = fresh(node, leaf._device)
        for optimizer in self.steps:
            optimizer._step_repeated()
        return results

    def _leaf_nodes(self, arguments: list[Tensor]) -> list[Node]:
        nodes = []
        pending = []
        for source, (shape, dtype, device) in zip(self.captured.leaves, self.captured.shapes):
            node = node_of(_tensor(source, arguments))
            if node.shape != shape or node.dtype is not dtype or node.device != device:
                raise Changed("a tensor has another shape, dtype or device")
            if node.buffer is None:
                pending.append(node)
            nodes.append(node)
        if pending:
            engine.realize(pending)
        return nodes

    def _check_private(self, nodes: list[Node]) -> None:
        """Memory that the plan writes in place must not be anybody else's."""
        for place in self.captured.donated:
            node = nodes[place]
            # Held by the tensor, the list and this loop; the buffer by the node alone.
            if (
                sys.getrefcount(node) > _NODE_REFERENCES
                or sys.getrefcount(node.buffer) > _BUFFER_REFERENCES
                or not node.buffer.owned
            ):
                raise Changed("a value that is updated in place has other readers")

    def _scalars(self) -> list[Any]:
        values = []
        offsets: list[int] = []
        ahead: dict[int, int] = {}
        for generator, blocks in self.draws:
            moved = ahead.get(id(generator), 0)
            offsets.append(generator._offset + moved)
            ahead[id(generator)] = moved + blocks
        numbers: dict[Any, dict[str, Any]] = {}
        for source in self.captured.scalars:
            kind = source[0]
            if kind == "constant":
                values.append(source[1])
            elif kind == "number":
                _, optimizer, group, parameter, name = source
                state = optimizer.state.get(parameter, {})
                key = (id(group), optimizer._host.identity(state))
                known = numbers.get(key)
                if known is None:
                    entries = optimizer._host.read(state)
                    known = numbers[key] = optimizer._numbers(group, entries)
                values.append(known[name])
            elif kind == "seed":
                values.append(_signed(self.draws[source[1]][0]._seed))
            else:
                values.append(_signed(offsets[source[1]] & ((1 << 64) - 1)))
        return values


def _tensor(source: Source, arguments: list[Tensor]) -> Tensor:
    kind, what = source
    if kind == "argument":
        return arguments[what]
    if kind == "grad":
        if what._grad is None:
            raise Changed("a gradient is gone")
        return what._grad  # type: ignore[no-any-return]
    return what  # type: ignore[no-any-return]


def _ready(like: Node, buffer: Any) -> Node:
    return Node(leaves.BUFFER, (), (), like.shape, like.dtype, like.device, None, buffer)


def _identity(source: Any) -> Any:
    """A form of nested sources that compares objects by identity and numbers by value."""
    if isinstance(source, (tuple, list)):
        return tuple(map(_identity, source))
    if isinstance(source, dict):
        return id(source)
    if isinstance(source, (bool, int, float, str, type(None))):
        return (type(source).__name__, repr(source))
    # Each call has tape entries of its own.
    return type(source).__name__ if isinstance(source, GradientFunction) else id(source)


def _count_references() -> tuple[int, int]:
    holder = storage_of(fresh(_ready_example(), None))  # type: ignore[arg-type]
    nodes = [holder.node]
    for place in (0,):
        node = nodes[place]
        return sys.getrefcount(node), sys.getrefcount(node.buffer)
    raise AssertionError


def _ready_example() -> Node:
    return Node(leaves.BUFFER, (), (), (), dtypes.float32, "numpy", None, object())


# References that a value nobody else holds has where ``_check_private`` asks.
_NODE_REFERENCES, _BUFFER_REFERENCES = _count_references()


# What is returned -------------------------------------------------------------------------------


def describe(value: Any, of: Callable[[Tensor], Any]) -> Any:
    """A returned structure with ``of(tensor)`` in place of each tensor.

    Raises :class:`Changed` for objects that could not be made again.
    """
    if isinstance(value, Tensor):
        return ("tensor", of(value))
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        return ("value", value)
    if type(value) in (list, tuple):
        return (type(value).__name__, [describe(item, of) for item in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ("named", (type(value), [describe(item, of) for item in value]))
    if type(value) is dict:
        return ("dict", [(key, describe(item, of)) for key, item in value.items()])
    raise Changed(f"it returns a {type(value).__name__}")


def rebuild(form: Any, arguments: list[Tensor], results: list[Any]) -> Any:
    """A returned structure with new tensors in it."""
    kind, content = form
    if kind == "value":
        return content
    if kind == "tensor":
        if content[0] == "same":
            return _tensor(content[1], arguments)
        _, place, shape, dtype, runtime, where, entry, number, requires_grad = content
        node = Node(leaves.BUFFER, (), (), shape, dtype, runtime, None, results[place])
        made = fresh(node, where)
        made._grad_fn, made._output_number, made._requires_grad = entry, number, requires_grad
        return made
    if kind == "named":
        cls, items = content
        return cls(*[rebuild(item, arguments, results) for item in items])
    if kind == "dict":
        return {key: rebuild(item, arguments, results) for key, item in content}
    items = [rebuild(item, arguments, results) for item in content]
    return items if kind == "list" else tuple(items)


__all__ = ["Changed", "Program", "describe", "rebuild"]
