"""The backward pass: gradients flow along the tape from the newest entry to the oldest.

Links on the tape lead from newer to older entries only, so taking entries by falling number
visits each after everything that feeds it. No recursion: tapes may be as long as memory allows.
Ends of the tape come last of all, so that an exception on the way leaves every ``.grad`` as it
was.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from heapq import heappop, heappush
from typing import Any

from lazytorch.autograd import hooks
from lazytorch.autograd.anomaly import check, explain
from lazytorch.autograd.anomaly import state as anomaly
from lazytorch.autograd.entries import AccumulateGrad, Edge
from lazytorch.autograd.grad_mode import mode
from lazytorch.tensor import autocast, overrides
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_arrivals = itertools.count()


class Wanted:
    """What ``autograd.grad`` asks for: gradients at entries, and the entries on the way.

    ``final`` says that the pass ends at those entries, whatever lies behind them and whoever
    listens there.
    """

    def __init__(self, edges: Sequence[Edge], roots: Sequence[Any], final: bool = False) -> None:
        self.edges = edges
        self.final = final
        self.captured: dict[tuple[int, int], Any] = {}
        self.wanted: dict[int, set[int]] = {}
        for entry, number in self.edges:
            self.wanted.setdefault(id(entry), set()).add(number)
        self.useful = self._reaching(roots)

    def _reaching(self, roots: Sequence[Any]) -> set[int]:
        """The entries from which a wanted one can be reached."""
        useful = set(self.wanted)
        order: list[Any] = []
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            entry = stack.pop()
            if id(entry) in seen:
                continue
            seen.add(id(entry))
            order.append(entry)
            if self.final and id(entry) in self.wanted:
                continue
            stack.extend(following for following, _ in entry._edges if following is not None)
        # Links lead to older entries: by rising number, successors come first.
        order.sort(key=lambda entry: entry._sequence)
        for entry in order:
            if any(id(following) in useful for following, _ in entry._edges):
                useful.add(id(entry))
        return useful

    def ends_at(self, entry: Any) -> bool:
        """Whether the pass ends at the entry."""
        return self.final and id(entry) in self.wanted

    def capture(self, entry: Any, received: list[Any]) -> None:
        """Keep what was asked for of what an entry has received."""
        for number in self.wanted.get(id(entry), ()):
            self.captured[id(entry), number] = received[number]

    def results(self) -> list[Any]:
        return [self.captured.get((id(entry), number)) for entry, number in self.edges]


class Pass:
    """A pass that runs: what each entry has received so far, and the entries in their order."""

    __slots__ = ("heap", "running", "waiting", "wanted")

    def __init__(self, wanted: Wanted | None) -> None:
        self.waiting: dict[int, list[Any]] = {}
        self.heap: list[Any] = []
        self.running: Any = None
        self.wanted = wanted

    def will_run(self, entries: Sequence[Any]) -> list[bool]:
        """Which of the entries run now or later in this pass."""
        stack = [self.running, *[entry for _, _, entry in self.heap]]
        seen: set[int] = set()
        while stack:
            entry = stack.pop()
            if entry is not None and id(entry) not in seen:
                seen.add(id(entry))
                stack.extend(following for following, _ in entry._edges)
        if self.wanted is not None:
            seen &= self.wanted.useful
        return [id(entry) in seen for entry in entries]


class _Underway(threading.local):
    """The passes that run in a thread: one may run inside another."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self.outputs: list[Sequence[Tensor]] = []


_underway = _Underway()


def run_backward(
    roots: Sequence[tuple[Any, int]],
    gradients: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
    wanted: Wanted | None = None,
    accumulate: bool = True,
) -> None:
    """Send ``gradients`` from ``roots`` (entry, output number) through the tape.

    The rules compute in the dtypes of the forward pass, in an ``autocast`` region too.
    """
    with (
        overrides.disabled() if overrides.state.active else nullcontext(),
        autocast.suspended() if autocast.regions.open else nullcontext(),
    ):
        _run_backward(roots, gradients, retain_graph, create_graph, wanted, accumulate)


def _run_backward(
    roots: Sequence[tuple[Any, int]],
    gradients: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
    wanted: Wanted | None,
    accumulate: bool,
) -> None:
    running = Pass(wanted)
    waiting, heap = running.waiting, running.heap
    before = mode.enabled
    mode.enabled = create_graph
    _underway.passes.append(running)
    try:
        for (entry, number), gradient in zip(roots, gradients):
            _deliver(entry, number, gradient, waiting, heap)
        while heap:
            _, _, entry = heappop(heap)
            running.running = entry
            _visit(entry, waiting[id(entry)], waiting, heap, wanted, accumulate)
            del waiting[id(entry)]
            if not retain_graph:
                entry.release()
    finally:
        _underway.passes.pop()
        mode.enabled = before


@contextmanager
def differentiating(outputs: Sequence[Tensor]) -> Iterator[None]:
    """For a ``with`` block, count ``outputs`` among what is underway."""
    _underway.outputs.append(outputs)
    try:
        yield
    finally:
        _underway.outputs.pop()


def values_underway() -> list[Tensor]:
    """What is differentiated in this thread, and the gradients that wait to be used."""
    outputs = [out for some in _underway.outputs for out in some]
    return outputs + [
        gradient
        for running in _underway.passes
        for received in running.waiting.values()
        for gradient in received
        if gradient is not None
    ]


def current_pass() -> Pass:
    """The innermost pass that runs in this thread."""
    return _underway.passes[-1]


def _deliver(
    entry: Any, number: int, gradient: Any, waiting: dict[int, list[Any]], heap: list[Any]
) -> None:
    """Add a gradient to what an entry has received."""
    received = waiting.get(id(entry))
    if received is None:
        received = waiting[id(entry)] = [None] * len(entry.shapes_out)
        # Ends of the tape have no successors and may wait until the last.
        rank = 1 if entry.__class__ is AccumulateGrad else -entry._sequence
        # Among equals first come, first served: an address would make the order of gradients,
        # and so the key of the plan that computes them, differ from step to step.
        heappush(heap, (rank, next(_arrivals), entry))
    known = received[number]
    received[number] = gradient if known is None else functions.add(known, gradient)


def _visit(
    entry: Any,
    received: list[Any],
    waiting: dict[int, list[Any]],
    heap: list[Any],
    wanted: Wanted | None,
    accumulate: bool,
) -> None:
    if wanted is not None and wanted.ends_at(entry):
        wanted.capture(entry, received)
        return
    if entry.tensor_hooks is not None:
        hooks.run_tensor_hooks(entry, received)
    if entry.pre_hooks is not None:
        hooks.run_pre_hooks(entry, received)
    edges = entry._edges
    if wanted is None:
        needs = tuple([edge[0] is not None for edge in edges])
    else:
        for number in wanted.wanted.get(id(entry), ()):
            value = received[number]
            if entry.__class__ is AccumulateGrad and value is not None:
                value = hooks.run_leaf_hooks(entry.variable, value)
            wanted.captured[id(entry), number] = value
        needs = tuple([edge[0] is not None and id(edge[0]) in wanted.useful for edge in edges])
        if not any(needs) and not (accumulate and entry.__class__ is AccumulateGrad):
            return
    if entry.__class__ is AccumulateGrad:
        if accumulate:
            _accumulate(entry, received)
        return
    run = _checked_run if anomaly.enabled else entry.__class__.run
    results = run(entry, received, needs)
    if entry.post_hooks is not None:
        results = hooks.run_post_hooks(entry, results, received)
    for place, (edge, gradient) in enumerate(zip(edges, results)):
        if gradient is not None and needs[place]:
            fitted = _fitted(edge, gradient, entry, place)
            _deliver(edge[0], edge[1], fitted, waiting, heap)


def _checked_run(entry: Any, received: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
    """Run an entry and look at what it made."""
    try:
        results: tuple[Any, ...] = entry.run(received, needs)
    except RuntimeError as error:
        raise RuntimeError(f"{error} (in {entry.name()}{explain(entry)})") from error
    if anomaly.check_nan:
        check(entry, results, every_value)
    return results


def _fitted(edge: Edge, gradient: Tensor, maker: Any, place: int) -> Tensor:
    """The gradient summed and converted to the form of what it belongs to."""
    entry, number = edge
    shape = entry.shapes_out[number]
    given = shape_of(gradient)
    if given != shape:
        if not _sums_to(given, shape):
            raise RuntimeError(
                f"Function {maker.name()} returned an invalid gradient at index {place} - got "
                f"{list(given)} but expected shape compatible with {list(shape)}"
            )
        gradient = functions.sum_to_size(gradient, shape)
    dtype = entry.dtypes_out[number]
    if dtype_of(gradient) is not dtype:
        gradient = cast(gradient, dtype)
    return gradient


def _sums_to(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether something of ``shape`` could have been broadcast to ``given``."""
    return len(given) >= len(shape) and all(
        extent in (1, other) for extent, other in zip(reversed(shape), reversed(given))
    )


def _accumulate(entry: AccumulateGrad, received: list[Any]) -> None:
    if entry.post_hooks is None and entry.variable._extra is None:
        entry.run(received, ())
        return
    received[0] = hooks.run_leaf_hooks(entry.variable, received[0])
    entry.run(received, ())
    if entry.post_hooks is not None:
        hooks.run_post_hooks(entry, (), received)
    hooks.run_post_accumulate_hooks(entry.variable)
