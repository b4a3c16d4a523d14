"""Gradients of functions mapped over a batch.

Inside, the tape is that of one example (``tensor.batching``). It begins at an
:class:`ExampleBackward` for each batch that wants a gradient and may lead to tensors from outside
that all examples share. Seen from outside the whole call is one :class:`VmapBackward`, whose
backward is the inner tape run on one example of the gradients: what arrives at the beginning of
the tape is rewritten into the gradient of the batch, and what arrives at a shared tensor is summed
over the examples. That run is recorded like the function itself, so it can be differentiated again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lazytorch.autograd.backward_pass import Wanted, run_backward
from lazytorch.autograd.entries import (
    AccumulateGrad,
    Edge,
    GradientFunction,
    next_sequence,
    used_twice,
)
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.hooks import run_tensor_hooks
from lazytorch.autograd.tape import edge_of
from lazytorch.ops import movement
from lazytorch.ops.examples import Level, example_of, is_symbolic
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching import levels
from lazytorch.tensor.batching.transform import batch_of
from lazytorch.tensor.recorder import record
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh


@contextmanager
def inside(level: Level) -> Iterator[None]:
    """Work on examples of a level; tape entries written meanwhile are its own."""
    first = next_sequence()
    level.periods.append((first, sys.maxsize))
    with levels.inside(level):
        try:
            yield
        finally:
            level.periods.remove((first, sys.maxsize))
            level.periods.append((first, next_sequence()))


def _is_inside(level: Level, entry: Any) -> bool:
    return any(first <= entry._sequence < last for first, last in level.periods)


class ExampleBackward(GradientFunction):
    """Where the tape of one example begins; the edge leads to the batch."""

    __slots__ = ("level",)
    level: Level

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        raise RuntimeError(
            "vmap: the gradient by a batch was asked for inside of the function that is mapped "
            "over it, where it is not known yet. Differentiate by the function's own argument "
            "(torch.func.grad), or outside."
        )


def example(batch: Tensor, level: Level) -> Tensor:
    """The tensor that stands for one example of a batch (N, ...)."""
    one = fresh(example_of(node_of(batch), level), batch._device)
    if batch._requires_grad and mode.enabled:
        entry = ExampleBackward()
        entry.start((edge_of(batch),), (one,))
        entry.level = level
        one._grad_fn = entry
        one._requires_grad = True
    return one


class VmapBackward(GradientFunction):
    """A whole call on a batch, as the tape outside shows it."""

    __slots__ = ("ends", "level", "roots")
    level: Level
    roots: tuple[Edge, ...]
    ends: list[Edge]

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if not self.roots:
            raise used_twice()
        level = self.level
        wanted = [end for end, needed in zip(self.ends, needs) if needed]
        with inside(level):
            given = [
                (root, example(gradient, level))
                for root, gradient in zip(self.roots, gradients)
                if gradient is not None
            ]
            roots = [root for root, _ in given]
            # All ends are named, whatever is needed: none may be passed.
            sought = Wanted(self.ends, [entry for entry, _ in roots], final=True)
            seeds = [seed for _, seed in given]
            run_backward(roots, seeds, True, mode.enabled, sought, accumulate=False)
            found = dict(zip(self.ends, sought.results()))
            for entry, number in wanted:
                gradient = found[entry, number]
                if gradient is not None and _begins(entry, level) and entry.tensor_hooks:
                    received = [gradient]
                    run_tensor_hooks(entry, received)
                    found[entry, number] = received[0]
        made = [found[end] for end in wanted if found[end] is not None]
        batches = iter(leave(level, made))
        results: list[Any] = []
        for end, needed in zip(self.ends, needs):
            gradient = found[end] if needed else None
            if gradient is not None:
                gradient = next(batches)
                if not _begins(end[0], level):
                    gradient = functions.sum(gradient, 0)
            results.append(gradient)
        return tuple(results)

    def release(self) -> None:
        self.roots = ()
        self.ends = []
        self._edges = ()


def _begins(entry: Any, level: Level) -> bool:
    return entry.__class__ is ExampleBackward and entry.level is level


def _ends(roots: Sequence[Edge], level: Level) -> list[Edge]:
    """Where the inner tape ends: at the batches, and at whatever lies outside."""
    found: dict[Edge, None] = {}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        edge = stack.pop()
        entry = edge[0]
        if entry is None or edge in found:
            continue
        if _begins(entry, level):
            found[edge] = None
        elif entry.__class__ is AccumulateGrad:
            # A leaf made of an example belongs to a transform inside, which is through with it.
            if not is_symbolic(node_of(entry.variable)):
                found[edge] = None
        elif not _is_inside(level, entry):
            found[edge] = None
        elif id(entry) not in seen:
            seen.add(id(entry))
            stack.extend(entry._edges)
    return list(found)


def leave(level: Level, values: Sequence[Tensor]) -> list[Tensor]:
    """What the function made of one example as batches (N, ...), on the tape outside.

    A value that does not depend on the level is repeated. To be called outside of the level.
    """
    made = [fresh(_whole(value, level), value._device) for value in values]
    taped = [place for place, value in enumerate(values) if value._requires_grad]
    if not taped or not mode.enabled:
        return made
    roots = tuple(edge_of(values[place]) for place in taped)
    ends = _ends(roots, level)
    if not ends:
        return made
    entry = VmapBackward()
    edges = tuple(end._edges[0] if _begins(end, level) else (end, number) for end, number in ends)
    entry.start(edges, [made[place] for place in taped])
    entry.level, entry.roots, entry.ends = level, roots, ends
    for number, place in enumerate(taped):
        out = made[place]
        out._grad_fn, out._output_number, out._requires_grad = entry, number, True
    return made


def _whole(value: Tensor, level: Level) -> Any:
    node = node_of(value)
    found = batch_of(node, level)
    if found is not None:
        return found
    shape = (level.size, *node.shape)
    return record(movement.EXPAND, (node,), (shape,), shape, node.dtype, node.device)


def for_examples(
    function: Callable[[list[Any]], Sequence[Tensor]], batches: Sequence[Tensor | None], size: int
) -> list[Tensor]:
    """``function`` of one example of each batch (N, ...), for all of them; ``None`` stays.

    For passes through a tape, which draw no random numbers.
    """
    level = Level(size)
    with inside(level):
        made = function([None if batch is None else example(batch, level) for batch in batches])
    return leave(level, made)


functions.for_examples = for_examples
