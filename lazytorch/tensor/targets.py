"""What may be given as ``out=``, and storing results in it.

Everything is checked before the first result is stored, so a call that is refused changes
nothing. Results are computed before they are stored, so memory that an input reads would come to
no harm here; functions for which PyTorch refuses it refuse it too, because their program fails
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lazytorch.autograd.grad_mode import mode
from lazytorch.dtypes import DType
from lazytorch.ir.index import row_major_strides
from lazytorch.ops.shapes import count
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import Target, functions
from lazytorch.tensor.inplace import assign_result
from lazytorch.tensor.promotion import check_storable, scalar_name
from lazytorch.tensor.storage import View, dtype_of, node_of, repeats, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor, fresh, show_value_of

Shape = tuple[int, ...]


def call_with_out(
    name: str, implementation: Callable[..., Any], target: Target, args: Any, kwargs: dict[str, Any]
) -> Any:
    """Call a function that was given ``out=``; returns ``out`` in the form of the result."""
    out = kwargs.pop("out")
    if out is None:
        return implementation(*args, **kwargs)
    targets = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    for given in targets:
        if not isinstance(given, Tensor):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(given).__name__}")
        _check_memory(given)
        if target.known is not None:
            _check_exact(given, target.known)
    if target.decides:
        kwargs = {"dtype": dtype_of(targets[0]), "device": targets[0]._device, **kwargs}
    result = implementation(*args, **kwargs)
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(targets):
        raise TypeError(
            f"{name}(): argument 'out' must be {len(results)} tensors, one for each result, not "
            f"{len(targets)}"
        )
    for place, (given, value) in enumerate(zip(targets, results)):
        _check_value(given, value, exact=place < target.exact)
        if target.apart:
            _check_apart(given, shape_of(value), args)
    for given, value in zip(targets, results):
        _put(given, value)
    if not isinstance(result, tuple):
        return targets[0]
    return targets if type(result) is tuple else type(result)(*targets)


def copy_out(target: Tensor, value: Tensor) -> None:
    """Store one result in the tensor given as ``out=``; a tensor of another shape is resized."""
    _check_memory(target)
    _check_value(target, value, exact=False)
    _put(target, value)


def _put(target: Tensor, value: Tensor) -> None:
    shape = shape_of(value)
    if shape_of(target) != shape:
        if not _fits(target, shape):
            dtype = dtype_of(target)
            show_value_of(target, fresh(node_of(cast(value, dtype)), value._device))
            return
        place = (shape, row_major_strides(shape), target.storage_offset())
        dtype = None if target._view is None else target._view.dtype
        target._view = View(None, *place, -1, dtype)
    assign_result(target, value)


def _fits(target: Tensor, shape: Shape) -> bool:
    """Whether the memory that a target has, and may share, can hold a result of this shape."""
    storage = target._storage
    if storage is None:
        return False
    # Elements of another dtype than the storage's come from a view as one: they are left alone.
    own = target._view is None or target._view.dtype is None
    return own and target.storage_offset() + count(shape) <= count(storage.node.shape)


def _check_memory(target: Tensor) -> None:
    """Refuse a target two of whose elements are one."""
    if repeats(shape_of(target), strides_of(target)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def _check_apart(target: Tensor, shape: Shape, inputs: Any) -> None:
    """Refuse a target that will lie, in the shape of its result, where an input is read."""
    strides = strides_of(target) if shape_of(target) == shape else row_major_strides(shape)
    memory = _reach(shape, strides, target.storage_offset())
    if any(_share_memory(target, memory, tensor) for tensor in _tensors(inputs)):
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor "
            "refer to a single memory location. Please clone() the tensor before performing the "
            "operation."
        )


def _check_exact(target: Tensor, wanted: DType) -> None:
    given = dtype_of(target)
    if given is not wanted:
        raise RuntimeError(
            f"Expected out tensor to have dtype {_lower(wanted)}, but got {_lower(given)} instead"
        )


def _check_value(target: Tensor, value: Tensor, exact: bool) -> None:
    """Refuse a target that cannot take this result."""
    if mode.enabled and (target._requires_grad or value._requires_grad):
        raise RuntimeError(
            "out=... arguments don't support automatic differentiation, but one of the arguments "
            "requires grad."
        )
    if exact:
        _check_exact(target, dtype_of(value))
    check_storable(dtype_of(value), dtype_of(target))
    storage, shape = target._storage, shape_of(value)
    if shape_of(target) != shape and storage is not None and storage.host_shared:
        if not _fits(target, shape):
            raise RuntimeError(
                "Trying to resize storage that is not resizable: the tensor given as out= lies in "
                f"the memory of a NumPy array, which has no room for shape {list(shape)}"
            )


def _lower(dtype: DType) -> str:
    return scalar_name(dtype).lower()


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments, and in lists among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _reach(shape: Shape, strides: Shape, first: int) -> tuple[int, int]:
    """The first element of a region in its storage, and the one behind the last."""
    if not count(shape):
        return first, first
    return first, first + 1 + sum((extent - 1) * step for extent, step in zip(shape, strides))


def _share_memory(target: Tensor, memory: tuple[int, int], other: Tensor) -> bool:
    if target is other:
        return True
    if target._storage is None or target._storage is not other._storage:
        return False
    first, stop = _reach(shape_of(other), strides_of(other), other.storage_offset())
    return first < memory[1] and memory[0] < stop


functions.call_with_out = call_with_out
functions.copy_out = copy_out
