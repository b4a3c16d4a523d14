"""Recording: one call of a function under a capture, made into a Program where it can be."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from lazytorch import engine
from lazytorch.autograd.operation import RELEASED
from lazytorch.compiler.environment import Environment
from lazytorch.compiler.program import Changed, Program, describe
from lazytorch.engine import Capture
from lazytorch.tensor.storage import is_contiguous, node_of
from lazytorch.tensor.tensor import Tensor


class Recording:
    """The outcome of a call: its value, and a program or the reason why there is none.

    ``on_tape`` says that the result has a live gradient history, which a plan cannot give.
    """

    def __init__(self, value: Any, program: Program | None, reason: str, on_tape: bool) -> None:
        self.value = value
        self.program = program
        self.reason = reason
        self.on_tape = on_tape


def record(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    arguments: list[Tensor],
    refuse: Callable[[str], Exception] | None,
) -> Recording:
    """Call the function and capture what it does."""
    environment = Environment(function, *_objects((*args, *kwargs.values())))
    for tensor in arguments:
        environment.tensors.pop(id(tensor), None)
    engine.flush()
    capture = Capture(refuse)
    before = _Before(environment, arguments, capture)
    environment.note_updates()
    engine.current.capture = capture
    try:
        value = function(*args, **kwargs)
    except BaseException:
        engine.current.capture = None
        engine.flush()
        raise
    engine.current.capture = None
    on_tape = False
    try:
        if capture.broken is not None:
            raise Changed(capture.broken)
        if environment.refused is not None:
            raise Changed(environment.refused)
        returned: list[Tensor] = []
        form = describe(value, lambda t: returned.append(t) or len(returned) - 1)  # type: ignore[func-returns-value]
        on_tape = any(_on_tape(tensor) for tensor in (*returned, *before.written_tensors()))
        if on_tape:
            raise Changed("its result has a gradient history")
        program = before.program(form, returned)
        changed = environment.changed()
        if changed is not None and program is not None:
            raise Changed(f"the call itself changes what it depends on ({changed})")
    except Changed as change:
        capture.broken = capture.broken or str(change)
        engine.flush()
        return Recording(value, None, str(change), on_tape)
    if program is None:
        return Recording(value, None, capture.broken or "it cannot be captured", False)
    return Recording(value, program, "", False)


def _objects(values: Any) -> list[Any]:
    """What the arguments hold besides tensors, numbers and the lists around them."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, (list, tuple)):
            found += _objects(value)
        elif type(value) is dict:
            found += _objects(value.values())
        elif not isinstance(value, Tensor):
            found.append(value)
    return found


class _Before:
    """What is remembered of the state before the call, to see what the call did to it."""

    def __init__(self, environment: Environment, arguments: list[Tensor], capture: Capture) -> None:
        self.environment = environment
        self.capture = capture
        self.arguments = arguments
        self.sources: list[tuple[Tensor, Any]] = [
            (tensor, ("argument", place)) for place, tensor in enumerate(arguments)
        ]
        tensors = list(environment.tensors.values())
        self.sources += [(tensor, ("tensor", tensor)) for tensor in tensors]
        gradients: dict[int, Any] = {}
        for tensor in tensors:
            if tensor._requires_grad and tensor._grad_fn is None:
                gradients[id(tensor)] = tensor._grad
                if tensor._grad is not None:
                    self.sources.append((tensor._grad, ("grad", tensor)))
        self.leaf_gradients = [a._grad for a in arguments]
        pending = []
        for tensor, _ in self.sources:
            node = node_of(tensor)
            if node.buffer is None:
                pending.append(node)
        engine.realize(pending)
        del pending
        self.versions: dict[int, int] = {}
        for tensor, source in self.sources:
            capture.note_leaf(node_of(tensor), source)
            if tensor._storage is not None:
                self.versions[id(tensor._storage)] = tensor._storage.version
        self.storages = {id(t._storage): t._storage for t, _ in self.sources if t._storage}
        # The gradients' tensors are held by nothing else from now on than by who had them.
        self.old_gradients = {
            key: None if gradient is None else weakref.ref(gradient)
            for key, gradient in gradients.items()
        }
        del gradients
        self.sources = [(t, s) for t, s in self.sources if s[0] != "grad"]

    def _written(self) -> list[tuple[Tensor, Any, int]]:
        """Tensors whose storage was written, one for each storage, and how many versions."""
        written: dict[int, tuple[Tensor, Any, int]] = {}
        candidates = list(self.sources)
        for tensor in self.environment.tensors.values():
            grad = tensor._grad
            if grad is not None and self._old_gradient(id(tensor)) is grad:
                candidates.append((grad, ("grad", tensor)))
        for tensor, source in candidates:
            storage = tensor._storage
            if storage is None or id(storage) in written:
                continue
            grown = storage.version - self.versions.get(id(storage), 0)
            if grown:
                written[id(storage)] = (tensor, source, grown)
        return list(written.values())

    def written_tensors(self) -> list[Tensor]:
        """What the call wrote that existed before, and the gradients it made."""
        made = [t._grad for t, _ in self._new_gradients() if t._grad is not None]
        return [tensor for tensor, _, _ in self._written()] + made

    def _new_gradients(self) -> list[tuple[Tensor, bool]]:
        """Leaves whose ``.grad`` is another object, and whether there is one."""
        found = []
        for key, old in self.old_gradients.items():
            leaf = self.environment.tensors[key]
            # One that had a gradient and has none now was cleared, also if the old one is gone.
            if leaf._grad is not self._old_gradient(key) or (old is not None and old() is None):
                found.append((leaf, leaf._grad is not None))
        return found

    def _old_gradient(self, key: int) -> Tensor | None:
        old = self.old_gradients.get(key)
        return None if old is None else old()

    def program(self, form: Any, returned: list[Tensor]) -> Program | None:
        """Compute everything and bind it; ``None`` when the capture is broken."""
        if any(a._grad is not g for a, g in zip(self.arguments, self.leaf_gradients)):
            raise Changed("it gives gradients to its arguments")
        written = self._written()
        gradients = self._new_gradients()
        known = {id(tensor): source for tensor, source in self.sources}
        own = {id(t._storage) for t, _ in self.sources if t._storage is not None}
        nodes = [storage.node for storage in (t._storage for t, _, _ in written)]  # type: ignore[union-attr]
        fresh_ones = []
        storages: set[int] = set()
        for leaf, there in gradients:
            grad = leaf._grad
            if there and grad is not None:
                if grad._view is not None or id(grad._storage) in own | storages:
                    raise Changed("a gradient shares its memory")
                if grad._storage is not None:
                    storages.add(id(grad._storage))
                nodes.append(node_of(grad))
        for tensor in returned:
            if id(tensor) in known:
                continue
            storage = tensor._storage
            if storage is not None:
                if id(storage) in own or id(storage) in storages:
                    raise Changed("it returns an alias of another tensor")
                if storage.host is not None:
                    raise Changed("it returns memory that NumPy sees")
                storages.add(id(storage))
            view = tensor._view
            if view is not None and not is_contiguous(view.shape, view.strides):
                raise Changed("it returns a view with strides of its own")
            fresh_ones.append(tensor)
        nodes += [node_of(tensor) for tensor in fresh_ones]
        if any(node.buffer is not None for node in nodes):
            raise Changed("a result is data that the call did not compute")
        for owner in engine.noted_state():
            if id(owner) not in self.storages and owner.node.buffer is None:
                if id(owner) not in storages and not self._is_counter(owner):
                    # Written, but reachable from nothing we know: it may belong to anybody.
                    nodes.append(owner.node)
        distinct = list({id(node): node for node in nodes}.values())
        places = {id(node): place for place, node in enumerate(distinct)}
        which = [places[id(node)] for node in nodes]
        del nodes
        captured = engine.close_capture(self.capture, distinct)
        if captured is None:
            return None
        positions = [captured.positions[place] for place in which]
        writes = [
            (source, positions[place], grown) for place, (_, source, grown) in enumerate(written)
        ]
        start = len(writes)
        made: list[tuple[Tensor, int | None]] = []
        for leaf, there in gradients:
            made.append((leaf, positions[start] if there else None))
            start += there
        specifications = []
        for tensor in returned:
            if id(tensor) in known:
                specifications.append(("same", known[id(tensor)]))
                continue
            node = node_of(tensor)
            specifications.append(
                (
                    "made", positions[start], node.shape, node.dtype, node.device, tensor._device,
                    tensor._grad_fn, tensor._output_number, tensor._requires_grad,
                )  # type: ignore[arg-type]
            )  # fmt: skip
            start += 1
        program = Program(
            self.environment, captured, self.capture, writes, made,
            _with(form, specifications),
        )  # fmt: skip
        program.note_gradients({key: old is not None for key, old in self.old_gradients.items()})
        return program

    def _is_counter(self, owner: Any) -> bool:
        return owner.node.shape == ()


def _with(form: Any, specifications: list[Any]) -> Any:
    """The form of a result with specifications in place of the numbers of its tensors."""
    kind, content = form
    if kind == "tensor":
        return (kind, specifications[content])
    if kind == "value":
        return form
    if kind == "named":
        return (kind, (content[0], [_with(item, specifications) for item in content[1]]))
    if kind == "dict":
        return (kind, [(key, _with(item, specifications)) for key, item in content])
    return (kind, [_with(item, specifications) for item in content])


def _on_tape(tensor: Tensor) -> bool:
    """Whether a gradient could still flow from a tensor to what it was made from."""
    stack = [tensor._grad_fn]
    seen: set[int] = set()
    while stack:
        entry = stack.pop()
        if entry is None or id(entry) in seen:
            continue
        if getattr(entry, "saved", None) is RELEASED:
            return False
        seen.add(id(entry))
        stack.extend(edge for edge, _ in entry._edges)
    return bool(seen)


__all__ = ["Recording", "record"]
