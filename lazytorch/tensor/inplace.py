"""Writing into tensors: checks, values and the gradient history of what was written.

A write through a view is functional underneath: the base's new value is its old one with a
region replaced, and its history says so (``CopySlices``); views made before find their new
history through the base when they are asked.
"""

from __future__ import annotations

from typing import Any

from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import (
    attach,
    current_grad_fn,
    edge_of,
    function_name,
    keep_for,
    relative,
    rule_class,
)
from lazytorch.tensor.apply import CAST_RULE, cast, scalar_tensor, to_device_node
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import check_storable
from lazytorch.tensor.storage import (
    INFERENCE,
    NO_GRAD,
    dtype_of,
    node_of,
    shape_of,
    storage_of,
    write,
)
from lazytorch.tensor.tensor import Tensor, fresh

# The base's old gradient outside the region, the written value's inside.
COPY_SLICES = Rule(
    "CopySlices",
    (
        lambda g, f, attrs: f.insert_strided(
            g, f.zeros(attrs[0], dtype=g.dtype, device=g.device), *attrs[1:]
        ),
        lambda g, f, attrs: f.as_strided_value(g, *attrs),
    ),
)
COPY_RULE = Rule("CopyBackwards", (lambda g, f: f.zeros_like(g), lambda g: g))


def snapshot(tensor: Tensor) -> Tensor:
    """The tensor's present value with its history, untouched by later writes."""
    taken = fresh(node_of(tensor), tensor._device)
    if tensor._requires_grad:
        check_writable(tensor)
        taken._requires_grad = True
        taken._grad_fn = tensor._grad_fn if tensor._view is None else current_grad_fn(tensor)
        taken._output_number = tensor._output_number
        if taken._grad_fn is None and mode.enabled is False:
            taken._requires_grad = False
    return taken


def check_writable(target: Tensor) -> None:
    """Refuse a write that would lose the gradient of a leaf."""
    if not mode.enabled or mode.muted or not target._requires_grad:
        return
    if target._grad_fn is None:
        raise RuntimeError(
            "a leaf Variable that requires grad is being used in an in-place operation. Wrap "
            "the statement in torch.no_grad(), or write into a clone."
        )
    view = target._view
    if view is not None and view.base is not None:
        if view.base._grad_fn is None and view.base._requires_grad:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place "
                "operation. Wrap the statement in torch.no_grad(), or write into a clone."
            )


def assign_result(target: Tensor, value: Tensor) -> Tensor:
    """Store the result of an in-place operation; returns ``target``.

    The result must have the target's shape and a dtype of no higher category.
    """
    shape = shape_of(target)
    if shape_of(value) != shape:
        raise RuntimeError(
            f"output with shape {list(shape)} doesn't match the broadcast shape "
            f"{list(shape_of(value))}"
        )
    dtype = dtype_of(target)
    if dtype_of(value) is not dtype:
        check_storable(dtype_of(value), dtype)
        value = cast(value, dtype)
    return store(target, value)


def store(target: Tensor, value: Tensor) -> Tensor:
    """Write ``value``, of the target's shape, dtype and device, and carry its history over."""
    view = target._view
    storage = target._storage
    if storage is not None and storage.inference and not mode.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can "
            "make a clone to get a normal tensor before doing inplace update."
        )
    tracked = mode.enabled and (
        target._requires_grad
        or value._requires_grad
        or (view is not None and view.base is not None and view.base._requires_grad)
    )
    if mode.muted and target._requires_grad and target._grad_fn is None:
        tracked = False
    if tracked:
        check_writable(target)
        _check_rebase(target)
        if target._requires_grad and not value._requires_grad:
            value = fresh(node_of(value), value._device)
            attach(value, COPY_RULE, (snapshot(target), None))
        base_edge_source = base_before(target)
    write(target, node_of(value))
    if tracked:
        carry_history(target, value, base_edge_source)
    return target


def _check_rebase(target: Tensor) -> None:
    view = target._view
    if view is None or view.base is None or view.multiple is None:
        return
    if view.multiple in (NO_GRAD, INFERENCE):
        modes = (
            "no_grad mode and is being modified inplace with grad mode enabled"
            if view.multiple == NO_GRAD
            else "inference mode and is being modified inplace in normal mode"
        )
        raise RuntimeError(
            f"A view was created in {modes}. Given that this use case is ambiguous and "
            "error-prone, it is forbidden. Move both the view and the write inside the block "
            "(they are then not tracked) or both outside of it."
        )
    if view.multiple.startswith("("):
        raise RuntimeError(
            f"Output {target._output_number} of {view.multiple[1:-1]} is a view and is being "
            "modified inplace. This view was created inside a custom Function (or because an "
            "input was returned as-is) and the autograd logic to handle view+inplace would "
            "override the custom backward associated with the custom Function, leading to "
            "incorrect gradients. This behavior is forbidden. Clone the output of the custom "
            "Function before writing to it."
        )
    raise RuntimeError(
        f"Output {target._output_number} of {function_name(view.multiple)} is a view and is being "
        "modified inplace. This view is the output of a function that returns multiple views. Such "
        "functions do not allow the output views to be modified inplace. You should replace the "
        "inplace operation by an out-of-place one."
    )


def base_before(target: Tensor) -> Any:
    """A stand-in for the base as it was, whose history the write continues."""
    view = target._view
    if view is None or view.base is None:
        return None
    base = view.base
    before = fresh(None, base._device)
    before._node = node_of(base)
    if base._requires_grad:
        before._requires_grad = True
        before._grad_fn, before._output_number = edge_of(base)
    return before


def carry_history(target: Tensor, value: Tensor, before: Tensor | None) -> None:
    """Give a tensor that was written the history of the value written; ``before`` is what
    :func:`base_before` gave."""
    storage = storage_of(target)
    entry = value._grad_fn
    if value._storage is not None and getattr(entry, "out_storage", None) is value._storage:
        # A later write to the target must be noticed by what kept this result.
        entry.out_storage, entry.out_version = storage, storage.version
        entry.out_node = node_of(value)
    if before is None:
        target._grad_fn, target._output_number = edge_of(value)
        target._requires_grad = True
        if target._view is not None:
            target._view.history = storage.version
        return
    base = target._view.base  # type: ignore[union-attr]
    view = target._view
    cls = rule_class(COPY_SLICES)
    copied = cls()
    edges = tuple(
        edge_of(source) if source._requires_grad else (None, 0) for source in (before, value)
    )
    copied.start(edges, (base,))
    keep_for(copied, COPY_SLICES, 3, (None, None), None)
    placed = relative(base, view.strides, view.offset)  # type: ignore[union-attr]
    copied.attrs = (view.shape, *placed)  # type: ignore[union-attr]
    copied.extra = None
    base._grad_fn, base._output_number = copied, 0
    base._requires_grad = True
    if base._view is not None:
        base._view.history = storage.version
    target._requires_grad = True
    target._grad_fn = copied
    view.history = storage.version - 1  # type: ignore[union-attr]


def copied(target: Tensor, source: Any) -> Tensor:
    """``source`` (tensor or number) in the target's shape, dtype and device."""
    shape, dtype, place = shape_of(target), dtype_of(target), target._device
    if not isinstance(source, Tensor):
        source = scalar_tensor(source, dtype, place)
    elif source._device is not place:
        moved = fresh(to_device_node(source, place), place)
        source = attach(moved, CAST_RULE, (source,))
    source = cast(source, dtype)
    if shape_of(source) != shape:
        source = functions.broadcast_for_write(source, shape)
    return source


functions.snapshot = snapshot
functions.assign_result = assign_result
