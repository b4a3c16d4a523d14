"""Recording an optimizer's update once and repeating the recording.

An update takes about a dozen operations for every parameter, and every step records the same
ones: for a small network that is more than half of all that a training step records. Here the
graph of one update is kept, without values, and made again from the nodes of the next step,
without going through tensors: a tenth of the time, and the same graph, so that plans, kernels and
bits are those of a recorded update.

Knows which tensors an update reads and writes, by where they stand; it must not know any rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from lazytorch import engine
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.optim.scalars import HostEntries, StepScalars
from lazytorch.tensor.storage import node_of, write
from lazytorch.tensor.templates import Template, template_of
from lazytorch.tensor.tensor import Tensor

# Updates kept for one optimizer: one for each group, and for each set of parameters with gradients.
_KEPT = 16
# Updates that could not be kept, after which no more are tried.
_FAILURES = 8

_type_of = attrgetter("shape", "dtype", "device")


class UpdateInputs:
    """What the update of one group reads, and what must be alike for two updates to be alike.

    ``tensors`` are, for each parameter, itself, its gradient, and the tensors of its state but
    for the step counter and other entries whose values are known on the host. ``counters`` gives
    for each parameter which of the group's different counters is its own.
    """

    def __init__(
        self, options: Any, parameters: Sequence[Tensor], states: Sequence[dict[str, Any]],
        host: HostEntries,
    ) -> None:  # fmt: skip
        self.parameters = parameters
        self.states = states
        self.host = host
        self.tensors: list[Tensor] = []
        names: list[str | None] = []
        for parameter, state in zip(parameters, states):
            self.tensors += (parameter, parameter._grad)  # type: ignore[arg-type]
            names.append(None)
            for name, value in state.items():
                if name not in host.names and isinstance(value, Tensor):
                    self.tensors.append(value)
                    names.append(name)
        numbers: dict[tuple[int, ...], int] = {}
        self.counters = [numbers.setdefault(host.identity(state), len(numbers)) for state in states]
        self.nodes: list[Node] = list(map(node_of, self.tensors))
        places: dict[int, int] = {}
        alike = [places.setdefault(id(node), place) for place, node in enumerate(self.nodes)]
        self.key = (
            options, tuple(names), tuple(self.counters), tuple(map(_type_of, self.nodes)),
            None if len(places) == len(alike) else tuple(alike),
        )  # fmt: skip

    def independent(self) -> bool:
        """Whether no write to one of the tensors is seen through another, or by NumPy."""
        storages: dict[int, Tensor] = {}
        for tensor, node in zip(self.tensors, self.nodes):
            storage = tensor._storage
            if storage is not None and storage.host is not None:
                return False
            # Recording may bake the value of such a node.
            if node.op is leaves.CONSTANT or node.op is leaves.SCALAR:
                return False
            other = storages.setdefault(id(tensor if storage is None else storage), tensor)
            if other is not tensor:
                return False
        return all(
            tensor._view is None
            for parameter, state in zip(self.parameters, self.states)
            for tensor in (parameter, *state.values())
            if isinstance(tensor, Tensor)
        )

    def entries(self) -> dict[int, dict[str, float]]:
        """The values on the host, for each of the different counters."""
        firsts = {counter: state for counter, state in zip(self.counters, self.states)}
        return {counter: self.host.read(state) for counter, state in firsts.items()}


class RecordedUpdate:
    """The graph of one update: a template whose sources are what is read, then numbers of the
    rule. ``writes`` are places among what is read, for each of the template's results."""

    def __init__(
        self, numbers: list[tuple[str, int]], template: Template, writes: list[int]
    ) -> None:
        self.numbers = numbers
        self._template = template
        self._writes = writes

    def repeat(self, inputs: UpdateInputs, numbers: list[Node]) -> None:
        """Record the update again, at the user's present line."""
        sources = [*inputs.nodes, *numbers]
        inputs.nodes = []
        values = self._template.repeat(sources)
        del sources
        for place, result in zip(self._writes, self._template.results):
            write(inputs.tensors[place], values[result])


def recorded_update(
    inputs: UpdateInputs, scalars: StepScalars, expected: dict[int, dict[str, Any]]
) -> RecordedUpdate | None:
    """The update that was just recorded from ``inputs``; ``None`` if it depends on more than those
    and on the numbers that are ``expected`` for each counter, or was computed meanwhile."""
    written = {
        id(tensor._storage): (place, node_of(tensor))
        for place, (tensor, before) in enumerate(zip(inputs.tensors, inputs.nodes))
        if node_of(tensor) is not before
    }
    # The order of outputs is part of a plan's key.
    noted = [key for key in map(id, engine.noted_state()) if key in written]
    if not written or len(noted) != len(written):
        return None
    numbers: list[tuple[str, int]] = []
    made: list[Node] = []
    place_of = {id(parameter): place for place, parameter in enumerate(inputs.parameters)}
    for name, value, parameter, scalar in scalars.made:
        place = place_of[id(parameter)]
        if expected[inputs.counters[place]].get(name, scalars) != value:
            return None
        made.append(scalar._node)
        numbers.append((name, place))
    # Numbers that are not the rule's depend on shapes alone: how many elements a mean divides by.
    template = template_of([*inputs.nodes, *made], [written[key][1] for key in noted])
    if template is None:
        return None
    return RecordedUpdate(numbers, template, [written[key][0] for key in noted])


class UpdateMemory:
    """The recorded updates of one optimizer."""

    def __init__(self) -> None:
        self._kept: dict[Any, RecordedUpdate] = {}
        self._failures = 0

    def record(
        self, optimizer: Any, group: dict[str, Any], options: Any, parameters: list[Tensor]
    ) -> None:
        """Record the update of a group's parameters: repeat it if it is known, or keep it."""
        scalars = StepScalars((optimizer, group))
        if self._failures >= _FAILURES:
            optimizer._update_group(group, parameters, scalars)
            return
        states = [optimizer.state.get(parameter, {}) for parameter in parameters]
        inputs = UpdateInputs(options, parameters, states, optimizer._host)
        if not inputs.independent():
            optimizer._update_group(group, parameters, scalars)
            return
        expected = {
            counter: optimizer._numbers(group, entries)
            for counter, entries in inputs.entries().items()
        }
        known = self._kept.get(inputs.key)
        if known is not None:
            for state in states:
                optimizer._count(group, state)
            made = [
                scalars(name, expected[inputs.counters[place]][name], parameters[place])._node
                for name, place in known.numbers
            ]
            known.repeat(inputs, made)
            return
        sizes = [len(optimizer.state.get(parameter, ())) for parameter in parameters]
        optimizer._update_group(group, parameters, scalars)
        if sizes != [len(optimizer.state.get(parameter, ())) for parameter in parameters]:
            # It made state, which a repetition would not.
            return
        found = recorded_update(inputs, scalars, expected)
        if found is None:
            self._failures += 1
        else:
            self._kept[inputs.key] = found
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
