"""Pieces of graph that are recorded once and made again from other nodes.

A training step records in every step what it recorded in the step before. Where a piece of that
is a function of nodes alone, its graph is kept without values as a :class:`Template`; making it
again takes a tenth of the time that working it out takes, and gives the same graph, so that
plans, kernels and bits are those of a piece recorded as ever.

Knows nodes and how they are recorded; of tensors only that they hold a node.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from operator import itemgetter
from typing import Any

from lazytorch import engine
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.tensor import autocast, recorder
from lazytorch.tensor.site import user_site
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh

_FIXED = (leaves.CONSTANT, leaves.SCALAR)
# What another recording would not make of the same sources again.
_UNREPEATABLE = ("random", "host", "copy", "example")
# Graphs kept for one function; shapes that vary more than that are recorded as ever.
_KEPT = 256
_ONCE = ()


class Template:
    """A graph without values. Places count the sources first, then constants, then numbers that
    are kernel arguments, then what each operation gives; ``results`` are places."""

    __slots__ = ("_constants", "_numbers", "_operations", "results")

    def __init__(
        self,
        constants: Sequence[Node],
        numbers: Sequence[Node],
        operations: Sequence[tuple[Any, ...]],
        results: Sequence[int],
    ) -> None:
        self._constants = constants
        self._numbers = numbers
        self._operations = operations
        self.results = results

    def repeat(self, sources: Sequence[Node]) -> list[Node]:
        """The nodes at all places, recorded again at the user's present line."""
        values = [*sources, *self._constants]
        append = values.append
        site = user_site()
        for like in self._numbers:
            # A node of its own: one number used by two repetitions would be another graph.
            append(Node(like.op, (), (), (), like.dtype, like.device, None, like.buffer))
        if recorder.watch is not engine.recorded:
            for operation, take, attrs, shape, dtype, device in self._operations:
                node = Node(operation, take(values), attrs, shape, dtype, device, site)
                recorder.watch(node)
                append(node)
            return values
        for operation, take, attrs, shape, dtype, device in self._operations:
            read = take(values)
            node = Node(operation, read, attrs, shape, dtype, device, site)
            depth = 0
            for source in read:
                if source.depth > depth:
                    depth = source.depth
            node.depth = depth + 1
            append(node)
        engine.recorded_together(values[-1], len(self._operations))
        return values


def template_of(sources: Sequence[Node], results: Sequence[Node]) -> Template | None:
    """The graph that leads from ``sources`` to ``results``; ``None`` where it cannot be repeated:
    it was computed meanwhile, reads data of its own, or a result is a constant."""
    places = {id(node): place for place, node in enumerate(sources)}
    order = _between(results, places)
    constants = [node for node in order if node.op is leaves.CONSTANT]
    numbers = [node for node in order if node.op is leaves.SCALAR]
    made = [node for node in order if node.op not in _FIXED]
    if any(node.buffer is not None or node.op.kind in _UNREPEATABLE for node in made):
        return None
    # Not the length of ``places``: one node may be read at two of them.
    for place, node in enumerate((*constants, *numbers, *made), len(sources)):
        places[id(node)] = place
    fixed = range(len(sources), len(sources) + len(constants) + len(numbers))
    found = [places[id(node)] for node in results]
    if any(place in fixed for place in found):
        return None
    operations = [
        (
            node.op, _getter([places[id(source)] for source in node.src]), node.attrs,
            node.shape, node.dtype, node.device,
        )
        for node in made
    ]  # fmt: skip
    return Template(constants, numbers, operations, found)


class _Repeated:
    """A function whose graphs are kept; see :func:`repeated`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # The graph, and which results are tensors (None for a single one); False where it cannot
        # be repeated; _ONCE where it was not yet kept.
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def __call__(self, *arguments: Any) -> Any:
        nodes: list[Node] = []
        key: list[Any] = []
        place: Any = None
        simple = recorder.watch is engine.recorded
        for argument in arguments:
            if isinstance(argument, Tensor):
                node = node_of(argument)
                if node in nodes:
                    key.append(nodes.index(node))
                elif node.op in _FIXED or (nodes and argument._device is not place):
                    # Recording bakes the value of such a node, or refuses.
                    simple = False
                place = argument._device
                nodes.append(node)
                key.append((node.shape, node.dtype, place))
            else:
                key.append(argument)
        if not simple:
            return self._record(arguments)
        wanted = tuple(key)
        found = self._known.get(wanted)
        if found:
            template, form = found
            values = template.repeat(nodes)
            made = [fresh(values[number], place) for number in template.results]
            return made[0] if form is None else _formed(made, form)
        made = self._record(arguments)
        if found is _ONCE:
            self._known[wanted] = _kept(nodes, made)
        elif found is None:
            # What comes only once is not worth the work.
            self._known[wanted] = _ONCE
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return made

    def _record(self, arguments: tuple[Any, ...]) -> Any:
        plain = [
            fresh(node_of(argument), argument._device) if isinstance(argument, Tensor) else argument
            for argument in arguments
        ]
        # A graph is repeated in autocast regions and outside of them: it is the same in both.
        with no_grad(), autocast.suspended() if autocast.regions.open else nullcontext():
            return self._function(*plain)


def repeated(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, ``None`` and hashable values whose graph is recorded once.

    The function runs without the tape, on tensors that nobody aliases, and gives a tensor or a
    tuple of tensors and ``None``. What it records must depend on nothing but shapes, dtypes and
    devices of the tensors, on which of them are the same value, and on its other arguments, which
    are told apart by equality; it must not look at values.
    """
    return wraps(function)(_Repeated(function))


def repeated_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`repeated` for a gradient, which is itself written on the tape where that is on."""
    untaped = _Repeated(function)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return function(*arguments) if mode.enabled else untaped(*arguments)

    return call


def _kept(nodes: Sequence[Node], made: Any) -> Any:
    """What a repetition needs to know of what was just recorded."""
    form = tuple([one is not None for one in made]) if isinstance(made, tuple) else None
    results = [made] if form is None else [one for one in made if one is not None]
    template = template_of(nodes, [node_of(one) for one in results])
    return template is not None and (template, form)


def _formed(made: list[Tensor], form: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """The results with ``None`` where the function gave none."""
    following = iter(made)
    return tuple([next(following) if there else None for there in form])


def _nothing(values: list[Node]) -> tuple[Node, ...]:
    return ()


def _getter(places: list[int]) -> Callable[[list[Node]], tuple[Node, ...]]:
    """What takes the nodes at ``places`` out of a list, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return _nothing
    (place,) = places
    return lambda values: (values[place],)


def _between(results: Sequence[Node], known: dict[int, int]) -> list[Node]:
    """The nodes from which ``results`` are made out of known ones, sources before users."""
    order: list[Node] = []
    seen = set(known)
    stack = list(results)[::-1]
    while stack:
        node = stack[-1]
        waiting = [source for source in node.src if id(source) not in seen]
        if id(node) in seen:
            stack.pop()
        elif waiting:
            stack.extend(reversed(waiting))
        else:
            seen.add(id(node))
            order.append(stack.pop())
    return order
