"""The backward pass: gradients flow along the tape from the newest entry to the oldest.

Links on the tape lead from newer to older entries only, so taking entries by falling number
visits each after everything that feeds it. No recursion: tapes may be as long as memory allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from heapq import heappop, heappush
from typing import Any

from lazytorch import engine
from lazytorch.autograd.anomaly import check, explain
from lazytorch.autograd.anomaly import state as anomaly
from lazytorch.autograd.entries import AccumulateGrad
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.tape import edge_of
from lazytorch.tensor import overrides
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.levels import opened
from lazytorch.tensor.storage import dtype_of, shape_of, storage_of
from lazytorch.tensor.tensor import Tensor

_Key = tuple[int, int]
_arrivals = itertools.count()


class Wanted:
    """What ``autograd.grad`` asks for: gradients at entries, and the entries on the way.

    ``final`` says that the pass ends at those entries, whatever lies behind them and whoever
    listens there.
    """

    def __init__(
        self, edges: Sequence[tuple[Any, int]], roots: Sequence[Any], final: bool = False
    ) -> None:
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
            stack.extend(following for following, _ in entry.edges if following is not None)
        # Links lead to older entries: by rising number, successors come first.
        order.sort(key=lambda entry: entry.sequence)
        for entry in order:
            if any(id(following) in useful for following, _ in entry.edges):
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


def run_backward(
    roots: Sequence[tuple[Any, int]],
    gradients: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
    wanted: Wanted | None = None,
    accumulate: bool = True,
) -> None:
    """Send ``gradients`` from ``roots`` (entry, output number) through the tape."""
    with overrides.disabled() if overrides.state.active else nullcontext():
        _run_backward(roots, gradients, retain_graph, create_graph, wanted, accumulate)


def _run_backward(
    roots: Sequence[tuple[Any, int]],
    gradients: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
    wanted: Wanted | None,
    accumulate: bool,
) -> None:
    waiting: dict[int, list[Any]] = {}
    heap: list[tuple[int, Any]] = []
    before = mode.enabled
    mode.enabled = create_graph
    try:
        for (entry, number), gradient in zip(roots, gradients):
            _deliver(entry, number, gradient, waiting, heap)
        while heap:
            _, _, entry = heappop(heap)  # type: ignore[misc]
            received = waiting.pop(id(entry))
            _visit(entry, received, waiting, heap, wanted, accumulate)
            if not retain_graph:
                entry.release()
    finally:
        mode.enabled = before


def _deliver(
    entry: Any, number: int, gradient: Any, waiting: dict[int, list[Any]], heap: list[Any]
) -> None:
    """Add a gradient to what an entry has received."""
    received = waiting.get(id(entry))
    if received is None:
        received = waiting[id(entry)] = [None] * len(entry.shapes_out)
        # Ends of the tape have no successors and may wait until the last.
        rank = 1 if entry.__class__ is AccumulateGrad else -entry.sequence
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
        run_tensor_hooks(entry, received)
    if entry.pre_hooks is not None:
        for hook in list(entry.pre_hooks.values()):
            changed = hook(tuple(received))
            if changed is not None:
                received[:] = changed if isinstance(changed, tuple) else (changed,)
    edges = entry.edges
    if wanted is None:
        needs = tuple([edge[0] is not None for edge in edges])
    else:
        for number in wanted.wanted.get(id(entry), ()):
            value = received[number]
            if entry.__class__ is AccumulateGrad and value is not None:
                value = _run_leaf_hooks(entry.variable, value)
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
        for hook in list(entry.post_hooks.values()):
            changed = hook(results, tuple(received))
            if changed is not None:
                results = changed if isinstance(changed, tuple) else (changed,)
    for edge, needed, gradient in zip(edges, needs, results):
        if needed and gradient is not None:
            _deliver(edge[0], edge[1], _fitted(edge, gradient), waiting, heap)


def _checked_run(entry: Any, received: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
    """Run an entry and look at what it made."""
    try:
        results: tuple[Any, ...] = entry.run(received, needs)
    except RuntimeError as error:
        raise RuntimeError(f"{error} (in {entry.name()}{explain(entry)})") from error
    if anomaly.check_nan:
        check(entry, results, functions.peek)
    return results


def _fitted(edge: tuple[Any, int], gradient: Tensor) -> Tensor:
    """The gradient summed and converted to the form of what it belongs to."""
    entry, number = edge
    shape = entry.shapes_out[number]
    if shape_of(gradient) != shape:
        gradient = functions.sum_to_size(gradient, shape)
    dtype = entry.dtypes_out[number]
    if dtype_of(gradient) is not dtype:
        gradient = cast(gradient, dtype)
    return gradient


def run_tensor_hooks(entry: Any, received: list[Any]) -> None:
    """Let the hooks on an entry's results change the gradients it has received."""
    for number, hooks in entry.tensor_hooks.items():
        for hook in list(hooks.values()):
            if received[number] is None:
                continue
            changed = hook(received[number])
            if changed is not None:
                received[number] = changed


def _run_leaf_hooks(variable: Tensor, gradient: Any) -> Any:
    extra = variable._extra
    if extra is not None:
        for hook in list(extra.get("hooks", {}).values()):
            changed = hook(gradient)
            if changed is not None:
                gradient = changed
    return gradient


def _accumulate(entry: AccumulateGrad, received: list[Any]) -> None:
    variable = entry.variable
    if variable._extra is not None:
        received[0] = _run_leaf_hooks(variable, received[0])
    entry.run(received, ())
    if variable._extra is not None:
        for hook in list(variable._extra.get("post_hooks", {}).values()):
            hook(variable)


# Front doors ----------------------------------------------------------------------------------


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) else list(value)


def _initial_gradients(outputs: list[Tensor], given: list[Any]) -> list[Any]:
    if not given:
        given = [None] * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(given)} gradients")
    result = []
    for out, gradient in zip(outputs, given):
        if not out._requires_grad:
            raise RuntimeError(
                "element 0 of tensors does not require grad and does not have a grad_fn. Was it "
                "computed inside torch.no_grad(), or from tensors without requires_grad?"
            )
        if gradient is None:
            if out.numel() != 1:
                raise RuntimeError(
                    "grad can be implicitly created only for scalar outputs: this one has shape "
                    f"{list(shape_of(out))}; reduce it or pass a gradient of that shape"
                )
            if dtype_of(out).kind not in "fc":
                raise RuntimeError(
                    "grad can be implicitly created only for real scalar outputs but got "
                    f"{dtype_of(out)!r}"
                )
            gradient = functions.ones_like(out)
        elif not isinstance(gradient, Tensor):
            raise TypeError(
                f"gradients can be either Tensors or None, but got {type(gradient).__name__}"
            )
        elif shape_of(gradient) != shape_of(out):
            raise RuntimeError(
                "Mismatch in shape: grad_output[0] has a shape of "
                f"{gradient.shape} and output[0] has a shape of {out.shape}."
            )
        result.append(gradient)
    return result


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to ``.grad`` of the leaves they came from.

    ``inputs`` limits which leaves receive them. The tape is freed unless ``retain_graph``;
    ``create_graph`` makes gradients that can be differentiated again.
    """
    if opened.levels:
        raise RuntimeError(
            "backward() called inside a functorch transform. This is not supported: use "
            "torch.func.grad or torch.func.vjp inside of vmap, or call backward() outside."
        )
    outputs = _as_list(tensors)
    gradients = _initial_gradients(outputs, _as_list(grad_tensors))
    roots = [edge_of(out) for out in outputs]
    if inputs is not None:
        targets = _as_list(inputs)
        if not targets:
            raise RuntimeError("'inputs' argument to backward() cannot be empty.")
        _check_inputs(targets)
        _backward_to(targets, roots, gradients, retain_graph, create_graph)
    else:
        keep = create_graph if retain_graph is None else retain_graph
        run_backward(roots, gradients, keep, create_graph)
    for out in outputs:
        # What the loss was must be computed with the gradients, not by a second pass.
        engine.note_state(storage_of(out))


def _check_inputs(targets: list[Tensor]) -> None:
    for tensor in targets:
        if not tensor._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")


def _backward_to(
    targets: list[Tensor],
    roots: list[Any],
    gradients: list[Any],
    retain_graph: bool | None,
    create_graph: bool,
) -> None:
    wanted = Wanted([edge_of(tensor) for tensor in targets], [entry for entry, _ in roots])
    keep = create_graph if retain_graph is None else retain_graph
    run_backward(roots, gradients, keep, create_graph, wanted, accumulate=False)
    before = mode.enabled
    mode.enabled = create_graph
    try:
        for tensor, gradient in zip(targets, wanted.results()):
            if gradient is not None:
                accumulate_into(tensor, gradient)
    finally:
        mode.enabled = before


def accumulate_into(tensor: Tensor, gradient: Tensor) -> None:
    """Add a gradient to ``tensor.grad``."""
    holder = AccumulateGrad(tensor)
    holder.run([gradient], ())


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching ``.grad``.

    ``None`` stands for inputs that were not used where ``allow_unused``; otherwise they are an
    error. ``materialize_grads`` gives zeros instead. With ``is_grads_batched`` each of
    ``grad_outputs`` has another dimension in front, and so has each result.
    """
    if is_grads_batched:
        return _batched(
            outputs, inputs, grad_outputs, create_graph, allow_unused, materialize_grads
        )
    made, sought = _as_list(outputs), _as_list(inputs)
    if not sought:
        raise ValueError("grad requires non-empty inputs.")
    _check_inputs(sought)
    gradients = _initial_gradients(made, _as_list(grad_outputs))
    roots = [edge_of(out) for out in made]
    wanted = Wanted([edge_of(tensor) for tensor in sought], [entry for entry, _ in roots])
    keep = create_graph if retain_graph is None else retain_graph
    run_backward(roots, gradients, keep, create_graph, wanted, accumulate=False)
    results = wanted.results()
    for number, (tensor, found) in enumerate(zip(sought, results)):
        if found is not None:
            continue
        if materialize_grads:
            results[number] = functions.zeros_like(tensor)
        elif not allow_unused:
            raise RuntimeError(
                "One of the differentiated Tensors appears to not have been used in the graph. "
                "Set allow_unused=True if this is the desired behavior."
            )
    return tuple(results)


def _batched(
    outputs: Any, inputs: Any, grad_outputs: Any, create_graph: bool, unused: bool | None,
    zeros: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients for each of a batch of seeds, by one pass for all of them."""
    seeds = _as_list(grad_outputs)
    sizes = {shape_of(seed)[:1] for seed in seeds if seed is not None}
    if len(sizes) != 1 or () in sizes:
        raise RuntimeError(
            "is_grads_batched: expected grad_outputs to be tensors with one batch dimension of "
            f"the same size in front, but got sizes {sorted(sizes)} there"
        )
    arrived: list[bool] = []

    def pulled(chosen: list[Any]) -> list[Tensor]:
        found = grad(outputs, inputs, chosen, True, create_graph, unused, False, zeros)
        arrived.extend(one is not None for one in found)
        return [one for one in found if one is not None]

    with nullcontext() if create_graph else no_grad():
        batches = iter(functions.for_examples(pulled, seeds, sizes.pop()[0]))
    return tuple(next(batches) if one else None for one in arrived)


@public("backward", function=False)
def _backward_method(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of this tensor to ``.grad`` of the leaves it came from."""
    backward(self, gradient, retain_graph, create_graph, inputs)
