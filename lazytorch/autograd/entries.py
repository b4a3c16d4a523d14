"""The entries of the tape: what ``grad_fn`` shows, hooks on them, and the end at a leaf."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from lazytorch import engine
from lazytorch.autograd.grad_mode import mode
from lazytorch.tensor.recorder import own_value
from lazytorch.tensor.storage import dtype_of, node_of, shape_of, storage_of
from lazytorch.tensor.tensor import Tensor, fresh

_count = itertools.count()
next_sequence = _count.__next__
NO_EDGE = (None, 0)
Edge = tuple[Any, int]


class GradientFunction:
    """One entry of the tape: what ``grad_fn`` shows.

    ``shapes_out`` and ``dtypes_out`` describe the results, so that incoming gradients can be
    brought into their form.
    """

    __slots__ = (
        "__weakref__",
        "_device",
        "_edges",
        "_metadata",
        "_sequence",
        "_site",
        "dtypes_out",
        "post_hooks",
        "pre_hooks",
        "shapes_out",
        "tensor_hooks",
    )  # fmt: skip

    _edges: tuple[Edge, ...]
    shapes_out: tuple[tuple[int, ...], ...]
    dtypes_out: tuple[Any, ...]
    tensor_hooks: Any
    pre_hooks: Any
    post_hooks: Any

    def start(self, edges: tuple[Edge, ...], outputs: Sequence[Tensor]) -> None:
        """Fill in what every entry has."""
        self._edges = edges
        self._sequence = next_sequence()
        self.shapes_out = tuple([shape_of(out) for out in outputs])
        self.dtypes_out = tuple([dtype_of(out) for out in outputs])
        self._device = outputs[0]._device
        self.tensor_hooks = self.pre_hooks = self.post_hooks = None

    @property
    def next_functions(self) -> tuple[Edge, ...]:
        return self._edges

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for whatever a user wants to note here."""
        try:
            return self._metadata
        except AttributeError:
            self._metadata: dict[Any, Any] = {}
            return self._metadata

    @property
    def requires_grad(self) -> bool:
        """Entries exist only where a gradient is wanted."""
        return True

    def _sequence_nr(self) -> int:
        return self._sequence

    def name(self) -> str:
        """The name shown by ``print(tensor)``."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        """The gradients for each edge from those of the results."""
        raise NotImplementedError

    def pack(self, packed: Callable[[Any], Any]) -> None:
        """Replace each tensor that was saved by what ``packed`` gives for it."""

    def release(self) -> None:
        """Forget what was kept."""

    def __call__(self, *gradients: Any) -> Any:
        result = self.run(list(gradients), tuple(edge[0] is not None for edge in self._edges))
        return result[0] if len(result) == 1 else result

    def register_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(grad_inputs, grad_outputs)`` after the entry has run."""
        if self.post_hooks is None:
            self.post_hooks = {}
        return Handle(self.post_hooks, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(grad_outputs)`` before the entry runs."""
        if self.pre_hooks is None:
            self.pre_hooks = {}
        return Handle(self.pre_hooks, hook)

    def add_tensor_hook(self, output: int, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(gradient)`` on the gradient of one result."""
        if self.tensor_hooks is None:
            self.tensor_hooks = {}
        return Handle(self.tensor_hooks.setdefault(output, {}), hook)


class Handle:
    """Removes a hook again; also a context manager."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self.id = next(Handle._ids)
        self._hooks = hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Stop calling the hook."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


class AccumulateGrad(GradientFunction):
    """The end of the tape at a leaf: adds to its ``.grad``."""

    __slots__ = ("variable",)

    def __init__(self, variable: Tensor) -> None:
        self.start((), (variable,))
        self.variable = variable

    def name(self) -> str:
        """PyTorch's name of it."""
        return "torch::autograd::AccumulateGrad"

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        gradient = gradients[0]
        if gradient is None:
            return ()
        variable = self.variable
        before = variable._grad
        if before is None:
            if mode.enabled and gradient._requires_grad:
                variable._grad = gradient
            else:
                before = fresh(own_value(node_of(gradient)), gradient._device)
                engine.note_state(storage_of(before))
                variable._grad = before
        elif mode.enabled:
            variable._grad = before + gradient
        else:
            if _is_pending_work(node_of(before)):
                # An earlier pass left it: were passes to pile up, so would what they keep.
                engine.flush()
            before.add_(gradient)  # type: ignore[attr-defined]
        return ()


_LOOKED_THROUGH = 4


def _is_pending_work(node: Any) -> bool:
    """Whether computing a node frees memory: it is not ready, and no constant in some shape."""
    for _ in range(_LOOKED_THROUGH):
        if node.buffer is not None or not node.src:
            return False
        if len(node.src) > 1:
            return True
        node = node.src[0]
    return True


def used_twice() -> RuntimeError:
    """The error for a second pass through what the first one freed."""
    return RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved "
        "tensors after they have already been freed). Saved intermediate values of the "
        "graph are freed when you call .backward() or autograd.grad(). Specify "
        "retain_graph=True if you need to backward through the graph a second time or "
        "if you need to access saved tensors after calling backward."
    )
