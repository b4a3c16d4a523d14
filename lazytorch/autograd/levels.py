"""What transforms of functions stand on: inputs of their own, and results without their tape.

A transform differentiates by tensors that only it knows. Where the given tensor has a history,
its own continues that history, so that transforms nest and mix with ``backward``. Afterwards a
result keeps its tape only when it leads to something besides the transform's own inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.autograd.entries import AccumulateGrad
from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import enable_grad, mode
from lazytorch.autograd.tape import edge_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


class Level:
    """The own inputs of one use of a transform."""

    def __init__(self) -> None:
        self.taped = mode.enabled
        self._leaves: list[Tensor] = []

    def own(self, tensor: Any, name: str) -> Tensor:
        """A tensor of the same value by which this level differentiates."""
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name}: expected the arguments that are differentiated to be Tensors, or "
                f"containers of them, but got {type(tensor).__name__}"
            )
        if self.taped and tensor._requires_grad:
            return tensor.view_as(tensor)  # type: ignore[attr-defined, no-any-return]
        own: Tensor = tensor.detach().requires_grad_()  # type: ignore[attr-defined]
        self._leaves.append(own)
        return own

    def leave(self, values: Sequence[Any]) -> list[Any]:
        """The values, without a tape where it leads to this level's inputs only."""
        inside = {id(leaf) for leaf in self._leaves}
        return [
            value.detach()  # type: ignore[attr-defined]
            if isinstance(value, Tensor)
            and value._requires_grad
            and not (self.taped and _leads_outside(value, inside))
            else value
            for value in values
        ]


def _leads_outside(tensor: Tensor, inside: set[int]) -> bool:
    stack = [edge_of(tensor)[0]]
    seen: set[int] = set()
    while stack:
        entry = stack.pop()
        if id(entry) in seen:
            continue
        seen.add(id(entry))
        if entry.__class__ is AccumulateGrad:
            if id(entry.variable) not in inside:
                return True
            continue
        stack.extend(following for following, _ in entry.edges if following is not None)
    return False


def pull(outputs: Sequence[Tensor], inputs: Sequence[Tensor], seeds: Sequence[Any]) -> list[Tensor]:
    """The gradients of outputs weighted by ``seeds``, on the tape; zeros where none arrives.

    A seed of ``None`` stands for zeros.
    """
    pairs = [
        (out, seed) for out, seed in zip(outputs, seeds) if out._requires_grad and seed is not None
    ]
    if not pairs or not inputs:
        return [functions.zeros_like(one) for one in inputs]
    made, weights = zip(*pairs)
    found = grad(made, inputs, weights, True, True, allow_unused=True, materialize_grads=True)
    return list(found)


Push = Callable[[Sequence[Any]], list[Tensor]]


def pusher(outputs: Sequence[Tensor], inputs: Sequence[Tensor], level: Level) -> Push:
    """What maps tangents of the inputs to tangents of the outputs.

    Gradients are linear in the weights of the outputs, and the gradient of a linear map by its
    argument is its transpose: differentiating backward once more, by the weights, goes forward
    (J. Townsend, "A new trick for calculating Jacobian vector products", 2017).
    """
    with enable_grad():
        weights = [level.own(functions.zeros_like(out), "jvp") for out in outputs if floats(out)]
        differentiable = [out for out in outputs if floats(out)]
        pulled = pull(differentiable, inputs, weights)

    def push(tangents: Sequence[Any]) -> list[Tensor]:
        with enable_grad():
            moved = iter(pull(pulled, weights, tangents))
        return [next(moved) if floats(out) else functions.zeros_like(out) for out in outputs]

    return push


def floats(tensor: Tensor) -> bool:
    """Whether a gradient can exist."""
    return dtype_of(tensor).kind in "fc"


def units(like: Tensor) -> list[Tensor]:
    """For each element of ``like`` a tensor of its form with a one there, zeros elsewhere."""
    size = like.numel()
    table = functions.eye(size, dtype=dtype_of(like), device=like._device)
    return [functions.reshape(table[place], shape_of(like)) for place in range(size)]


def stacked(parts: Sequence[Tensor], shape: tuple[int, ...], like: Tensor, axis: int) -> Tensor:
    """The tensors along a new axis at the front (0) or the end (-1), in the form ``shape``."""
    if not parts:
        return functions.zeros(shape, dtype=dtype_of(like), device=like._device)  # type: ignore[no-any-return]
    return functions.reshape(functions.stack(list(parts), axis), shape)  # type: ignore[no-any-return]
