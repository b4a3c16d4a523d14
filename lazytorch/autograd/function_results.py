"""What a user's Function returned, written on the tape.

Results that are inputs or views of them become views whose gradient is the Function's own, so
they refuse later writes on the tape; inputs that were changed in place are the results
themselves, and the views among them carry the Function's gradient to their base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.entries import Edge
from lazytorch.tensor.inplace import carry_history
from lazytorch.tensor.storage import View, node_of, shape_of, storage_of, strides_of
from lazytorch.tensor.tensor import Tensor, alias, fresh


def finish(
    entry: Any,
    edges: tuple[Edge, ...],
    inputs: tuple[Any, ...],
    output: Any,
    before: dict[int, Any],
    tracked: bool,
) -> Any:
    """What ``apply`` returns. ``before`` holds what the bases of inputs that are views were."""
    results = output if isinstance(output, tuple) else (output,)
    dirty = _dirty_inputs(entry, results)
    saved = list(entry._saved)
    made = []
    for value in results:
        own = value
        if isinstance(value, Tensor) and not _contains(dirty, value):
            own = _own_result(value, inputs, entry._forward_cls.__name__)
        if tracked and own is not value:
            saved = [own if kept is value else kept for kept in saved]
            if _contains(_marked(entry), value):
                entry._undifferentiable = (*entry._undifferentiable, own)
        made.append(own)
    tensors = [value for value in made if isinstance(value, Tensor)]
    if tracked and tensors:
        _write(entry, edges, tensors, dirty, before)
        entry.saves(saved)
    return tuple(made) if isinstance(output, tuple) else made[0]


def _contains(tensors: Sequence[Any], wanted: Tensor) -> bool:
    return any(wanted is other for other in tensors)


def _marked(entry: Any) -> tuple[Any, ...]:
    for value in entry._undifferentiable:
        if not isinstance(value, Tensor):
            raise RuntimeError(
                f"mark_non_differentiable only accepts variable arguments, but got "
                f"{type(value).__name__}"
            )
    return entry._undifferentiable  # type: ignore[no-any-return]


def _dirty_inputs(entry: Any, results: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs marked as changed; their versions rise, and each must be a result."""
    for value in entry._dirty:
        if not isinstance(value, Tensor):
            raise RuntimeError(
                f"mark_dirty can only accept variables, but argument is of type "
                f"{type(value).__name__}"
            )
        if not _contains(results, value):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as "
                "output. The inputs that are modified inplace must all be outputs of the Function."
            )
        storage_of(value).version += 1
        if value._view is not None:
            node_of(value)
    return entry._dirty  # type: ignore[no-any-return]


def _own_result(value: Tensor, inputs: tuple[Any, ...], name: str) -> Tensor:
    """A result as a tensor of its own: an alias where it is an input or a view of one."""
    base = value._view.base if value._view is not None else None
    if _contains(inputs, value):
        base = base or value
    elif base is None or not any(_shares(base, other) for other in inputs):
        return value
    own = alias(value, type(value))
    version = storage_of(value).version
    offset = value._view.offset if value._view is not None else 0
    own._view = View(base, shape_of(value), strides_of(value), offset, version)
    own._view.dtype = value._view.dtype if value._view is not None else None
    own._view.multiple = f"({name})"
    own._node = node_of(value)
    return own


def _shares(base: Tensor, other: Any) -> bool:
    return (
        isinstance(other, Tensor)
        and other._storage is not None
        and (other._storage is base._storage)
    )


def _write(
    entry: Any, edges: tuple[Edge, ...], tensors: list[Tensor], dirty: tuple[Any, ...],
    before: dict[int, Any],
) -> None:  # fmt: skip
    entry.start(edges, tensors)
    marked = _marked(entry)
    for number, out in enumerate(tensors):
        if node_of(out).dtype.kind not in "fc" or _contains(marked, out):
            continue
        if _contains(dirty, out):
            _rewrite(entry, number, out, before.get(id(out)))
            continue
        out._grad_fn, out._output_number, out._requires_grad = entry, number, True
        if out._view is not None:
            out._view.history = storage_of(out).version


def _rewrite(entry: Any, number: int, out: Tensor, before: Any) -> None:
    """Give an input that was changed in place the Function as its history."""
    if out._requires_grad and out._grad_fn is None:
        raise RuntimeError(
            "a leaf Variable that requires grad has been used in an in-place operation."
        )
    value = fresh(node_of(out), out._device)
    value._grad_fn, value._output_number, value._requires_grad = entry, number, True
    carry_history(out, value, before)
