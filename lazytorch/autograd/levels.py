"""What transforms of functions stand on: inputs of their own, and results without their tape.

A transform differentiates by tensors that only it knows. Where the given tensor has a history,
its own continues that history, so that transforms nest and mix with ``backward``. Afterwards a
result keeps its tape only when it leads to something besides the transform's own inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.autograd.batching import for_examples
from lazytorch.autograd.entries import AccumulateGrad
from lazytorch.autograd.flow import grad
from lazytorch.autograd.grad_mode import enable_grad, mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, edge_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh


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
        own: Tensor = tensor.detach()  # type: ignore[attr-defined]
        own.requires_grad = True  # type: ignore[attr-defined]
        self._leaves.append(own)
        return own

    def own_value(self, tensor: Tensor, rule: Rule) -> Tensor:
        """As :meth:`own`, of no memory; ``rule`` is that of an operation that changes nothing."""
        own = fresh(node_of(tensor), tensor._device)
        if self.taped and tensor._requires_grad:
            return attach(own, rule, (tensor,))
        own._requires_grad = True
        self._leaves.append(own)
        return own

    def leave(self, values: Sequence[Any]) -> list[Any]:
        """The values, without a tape where it leads to this level's inputs only."""
        inside = {id(leaf) for leaf in self._leaves}
        # Entries known to lead nowhere else: values of one call have most of their tape in common.
        harmless: set[int] = set()
        return [
            value.detach()  # type: ignore[attr-defined]
            if isinstance(value, Tensor)
            and value._requires_grad
            and not (self.taped and _leads_outside(value, inside, harmless))
            else value
            for value in values
        ]


def _leads_outside(tensor: Tensor, inside: set[int], harmless: set[int]) -> bool:
    stack = [edge_of(tensor)[0]]
    seen: set[int] = set()
    while stack:
        entry = stack.pop()
        if id(entry) in seen or id(entry) in harmless:
            continue
        seen.add(id(entry))
        if entry.__class__ is AccumulateGrad:
            if id(entry.variable) not in inside:
                return True
            continue
        stack.extend([following for following, _ in entry._edges if following is not None])
    harmless |= seen
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


def rows(out: Tensor, inputs: Sequence[Tensor], chunk_size: int | None = None) -> list[Tensor]:
    """The Jacobian of ``out`` (...) by each input (,,,), of the shape (..., ,,,).

    One pass backward through the tape, for a whole batch of seeds: as many rows at once as
    ``chunk_size`` says, else all.
    """

    def pulled(seeds: list[Any]) -> list[Tensor]:
        return pull([out], inputs, seeds)

    found = _for_units(pulled, out, chunk_size)
    return [
        functions.reshape(part, (*shape_of(out), *shape_of(one)))
        for part, one in zip(found, inputs)
    ]


def columns(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], level: Level
) -> list[list[Tensor]]:
    """The Jacobian of each output (...) by each input (,,,), of the shape (..., ,,,).

    One pass forward for each input.
    """
    push = pusher(outputs, inputs, level)
    blocks: list[list[Tensor]] = [[] for _ in outputs]
    for place, one in enumerate(inputs):
        before, behind = [None] * place, [None] * (len(inputs) - place - 1)

        def pushed(seeds: list[Any], before: Any = before, behind: Any = behind) -> list[Tensor]:
            return push([*before, *seeds, *behind])

        for block, out, part in zip(blocks, outputs, _for_units(pushed, one, None)):
            last = functions.movedim(part, 0, -1)
            block.append(functions.reshape(last, (*shape_of(out), *shape_of(one))))
    return blocks


def _for_units(
    function: Callable[[list[Any]], list[Tensor]], like: Tensor, chunk_size: int | None
) -> list[Tensor]:
    """What ``function`` makes of each tensor of the form of ``like`` that has a one somewhere
    and zeros elsewhere, with those in front."""
    size = like.numel()
    table = functions.eye(size, dtype=dtype_of(like), device=like._device)
    units = functions.reshape(table, (size, *shape_of(like)))
    if chunk_size is None or size <= chunk_size:
        return for_examples(function, [units], size)
    parts = [
        for_examples(function, [chunk], shape_of(chunk)[0])
        for chunk in functions.split(units, chunk_size)
    ]
    return [functions.cat(part) for part in zip(*parts)]
