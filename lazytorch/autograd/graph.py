"""``torch.autograd.graph``: looking at the tape and hooking into it.

``Node`` is the class of everything that ``grad_fn`` shows. Hooks on what the tape saves are
``saved``'s, places on the tape ``flow``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lazytorch.autograd.backward_pass import Pass, current_pass
from lazytorch.autograd.entries import Edge, Handle
from lazytorch.autograd.entries import GradientFunction as Node
from lazytorch.autograd.flow import GradientEdge, get_gradient_edge
from lazytorch.autograd.saved import (
    allow_mutation_on_saved_tensors,
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)
from lazytorch.autograd.tape import edge_of
from lazytorch.tensor.storage import storage_of
from lazytorch.tensor.tensor import Tensor


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Tell the version check that a tensor (or each of several) was written to.

    For memory that is changed behind the tape's back, by NumPy or a kernel of the user's own: a
    gradient that needs the old value then raises instead of being wrong.
    """
    for one in (tensor,) if isinstance(tensor, Tensor) else tensor:
        storage = storage_of(one)
        if not storage.inference:
            storage.version += 1
            if one._view is not None:
                one._view.version = one._view.history = storage.version


class _Gathered:
    """The gradients of several tensors in one pass, and how many are still to come."""

    def __init__(self, running: Pass, edges: Sequence[Edge]) -> None:
        self.running = running
        self.gradients: list[Any] = [None] * len(edges)
        self.missing = sum(running.will_run([entry for entry, _ in edges]))
        self.called = False


class _Handles:
    """Removes several hooks together."""

    def __init__(self, handles: Sequence[Handle]) -> None:
        self._handles = tuple(handles)

    def remove(self) -> None:
        """Stop calling the hook."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[[Any], Any], *, mode: str = "all"
) -> _Handles:
    """Call ``fn`` once in each backward pass that computes gradients of some of ``tensors``.

    With ``mode="all"`` it gets the list of the gradients when all that this pass computes are
    there, ``None`` for the others; with ``"any"`` the first of them. What it returns is ignored,
    and it must not write into its arguments. Raises ``ValueError`` for another mode and
    ``RuntimeError`` for tensors that require no gradient.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    edges = [edge_of(tensor) for tensor in tensors if _must_require(tensor)]
    gathered: list[_Gathered] = []

    def note(place: int, gradient: Tensor) -> None:
        running = current_pass()
        if not gathered or gathered[0].running is not running:
            gathered[:] = [_Gathered(running, edges)]
        now = gathered[0]
        now.gradients[place] = gradient
        now.missing -= 1
        if mode == "any" and not now.called:
            now.called = True
            fn(gradient)
        elif mode == "all" and now.missing == 0:
            gathered.clear()
            fn(now.gradients)

    def hook(place: int) -> Callable[[Tensor], None]:
        return lambda gradient: note(place, gradient)

    return _Handles([tensor.register_hook(hook(n)) for n, tensor in enumerate(tensors)])


def _must_require(tensor: Tensor) -> bool:
    if not tensor.requires_grad:
        raise RuntimeError(
            "cannot register a hook on a tensor that doesn't require gradient: set requires_grad "
            "of each of the tensors"
        )
    return True


__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]
