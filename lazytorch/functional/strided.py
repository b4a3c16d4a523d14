"""Strided regions as values: what gradients of views and of writes are made of.

Strides and offsets count elements of the contiguous tensor they are applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch import engine
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import REGENERATED, attach
from lazytorch.ops import indexing, movement
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import apply, make_view
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import View, dtype_of, overlaps, shape_of, strided_positions
from lazytorch.tensor.tensor import Tensor, fresh


def insert_strided(base: Tensor, value: Tensor, strides: tuple[int, ...], offset: int) -> Tensor:
    """``base`` with ``value`` written over a strided region of it."""
    shape = shape_of(value)
    if not count(shape):
        return base
    if overlaps(shape, tuple(strides)):
        place = place_tensor(shape, tuple(strides), offset, base)
        flat = base.reshape(-1)  # type: ignore[attr-defined]
        written = scatter_primitive(flat, place, value.reshape(-1), 0, "set")  # type: ignore[attr-defined]
        return written.reshape(shape_of(base))  # type: ignore[attr-defined]
    return apply(movement.INSERT, (base, value), (tuple(strides), offset))


def as_strided_value(
    base: Tensor, shape: Sequence[int], strides: tuple[int, ...], offset: int
) -> Tensor:
    """A strided region of ``base`` as a value of its own."""
    attrs = (tuple(shape), tuple(strides), offset)
    return apply(movement.AS_STRIDED, (base,), attrs)


def strided_gradient(
    g: Tensor,
    base_shape: Sequence[int],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> Tensor:
    """The gradient of a tensor of ``base_shape`` from that of a strided region of it."""
    zeros: Tensor = functions.zeros(tuple(base_shape), dtype=g.dtype, device=g.device)
    if not overlaps(shape, strides):
        return insert_strided(zeros, g, strides, offset)
    kept = tuple(
        0 if stride == 0 and extent > 1 else extent for extent, stride in zip(shape, strides)
    )
    repeated = tuple(axis for axis, extent in enumerate(kept) if extent == 0)
    if repeated and 0 not in shape:
        g = functions.sum(g, repeated, keepdim=True)
        shape = tuple(g.shape)
        if not overlaps(shape, strides):
            return insert_strided(zeros, g, strides, offset)
    place = place_tensor(shape, strides, offset, g)
    flat = zeros.reshape(-1)  # type: ignore[attr-defined]
    summed = scatter_primitive(flat, place, g.reshape(-1), 0, "add")  # type: ignore[attr-defined]
    return summed.reshape(tuple(base_shape))  # type: ignore[attr-defined]


def place_tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, like: Tensor
) -> Tensor:
    """The flat positions of a strided region, in row-major order, as a vector."""
    positions = strided_positions(shape, strides, offset)
    return fresh(engine.leaf_from_array(positions, like._device.runtime), like._device)


def scatter_primitive(
    base: Tensor, positions: Tensor, values: Tensor, axis: int, mode: str
) -> Tensor:
    """The primitive scatter: see ``ops.indexing``."""
    return apply(indexing.SCATTER, (base, positions, values), (axis, mode))


def gather_primitive(data: Tensor, positions: Tensor, axis: int) -> Tensor:
    """The primitive gather: see ``ops.indexing``."""
    return apply(indexing.GATHER, (data, positions), (axis,))


_as_strided_rule = Rule(
    "AsStridedBackward0", (lambda g, f, attrs: f.strided_gradient(g, *attrs[3:], *attrs[:3]),)
)


@public(out=False)
def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the tensor's storage by explicit geometry, counted in the storage."""
    offset = input.storage_offset() if storage_offset is None else storage_offset
    shape, strides = tuple(size), tuple(stride)
    if len(shape) != len(strides):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(step < 0 for step in strides):
        raise RuntimeError("as_strided: Negative strides are not supported at the moment")
    reach = sum((extent - 1) * step for extent, step in zip(shape, strides)) + offset
    memory = input.untyped_storage().node
    room = count(memory.shape) * memory.dtype.itemsize
    width = dtype_of(input).itemsize
    if 0 not in shape and ((reach + 1) * width > room or offset < 0):
        raise RuntimeError(
            f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset}, "
            f"and itemsize {width} requiring a storage size of {(reach + 1) * width} are out of "
            f"bounds for storage of size {room}"
        )
    whole = as_whole_storage(input)
    made = make_view(
        whole, movement.AS_STRIDED, (shape, strides, offset), shape, strides, offset, REGENERATED
    )
    if made._view is not None and input._view is not None:
        origin = input._view.base
        made._view.base = input if origin is None else origin
    made._grad_fn = None
    made._requires_grad = False
    base = made._view.base if made._view is not None else None
    if base is not None and base._requires_grad and input._requires_grad:
        before = base._view
        shift = 0 if before is None else before.offset
        attach(made, REGENERATED, (base,), (shape_of(base), shape, strides, offset - shift))
    return made


def as_whole_storage(input: Tensor) -> Tensor:
    """A tensor that is the whole storage of ``input``, or ``input`` when it is that."""
    if input._view is None:
        return input
    whole = fresh(None, input._device)
    storage = whole._storage = input.untyped_storage()
    dtype = input._view.dtype
    if dtype is not None:
        room = count(storage.node.shape) * storage.node.dtype.itemsize // dtype.itemsize
        whole._view = View(None, (room,), (1,), 0, -1, dtype)
    return whole


def broadcast_for_write(source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``source`` expanded to the shape of what it is written into."""
    given = shape_of(source)
    skip = len(shape) - len(given)
    fits = skip >= 0 and all(have == want or have == 1 for have, want in zip(given, shape[skip:]))
    if not fits:
        raise RuntimeError(
            f"output with shape {list(shape)} doesn't match the broadcast shape of a value of "
            f"shape {list(given)}: the value must expand to the tensor it is written into"
        )
    return apply(movement.EXPAND, (source,), (shape,))


for _function in (
    insert_strided, as_strided_value, strided_gradient, scatter_primitive, gather_primitive,
    broadcast_for_write,
):  # fmt: skip
    setattr(functions, _function.__name__, _function)


def as_strided_backward(g: Tensor, x: Tensor, *attrs: Any) -> Tensor:
    """The gradient of ``as_strided`` in the form in which the record of the primitive asks."""
    return strided_gradient(g, shape_of(x), *attrs)


functions.as_strided_backward = as_strided_backward


# Tensors of a given geometry --------------------------------------------------------------------


@public(function=False)
def new_empty_strided(
    self: Tensor, size: Any, stride: Any, dtype: Any = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """``empty_strided`` with this tensor's dtype and device."""
    return functions.empty_strided(
        size,
        stride,
        dtype=dtype or self.dtype,
        requires_grad=requires_grad,
        device=self._device if device is None else device,
    )  # type: ignore[no-any-return]


@public(method=False, out=False)
def empty_permuted(size: Any, physical_layout: Any, **options: Any) -> Tensor:
    """A tensor without gaps whose dimensions lie in memory in the order ``physical_layout``.

    >>> empty_permuted((2, 3), (1, 0)).stride()
    (1, 2)
    """
    shape, order = tuple(size), tuple(physical_layout)
    if len(shape) != len(order):
        raise RuntimeError(
            "Number of dimensions in size does not match the length of the physical_layout; i.e. "
            f"len(size) = {len(shape)} is not equal to len(physical_layout) = {len(order)}"
        )
    strides = [0] * len(shape)
    step = 1
    for place in reversed(range(len(order))):
        axis = order[place]
        if not 0 <= axis < len(shape):
            raise RuntimeError(
                f"Dimension out of range (expected to be between 0 and {len(shape) - 1}, but got "
                f"{axis} at index {place}).  NB: negative dims not currently supported"
            )
        if strides[axis]:
            raise RuntimeError("Duplicate dim not allowed")
        strides[axis] = step
        step *= max(shape[axis], 1)
    return functions.empty_strided(shape, strides, **options)  # type: ignore[no-any-return]
