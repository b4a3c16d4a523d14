"""What a tensor is beside others: whose memory it shows, and changes of shape in place.

Also loops of Python over its elements (``apply_``, ``map_``), which NumPy runs on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import numpy as np

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.conversion import become
from lazytorch.functional.core import peek
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.inplace import check_writable, copied, store
from lazytorch.tensor.storage import (
    Storage,
    dtype_of,
    node_of,
    shape_of,
    storage_of,
    strides_of,
)
from lazytorch.tensor.tensor import Tensor, alias, fresh

# Questions ------------------------------------------------------------------------------------


@public(function=False)
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both show the same place of the same memory, in the same way."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"is_set_to(): argument 'tensor' (position 1) must be Tensor, not "
            f"{type(tensor).__name__}"
        )
    return (
        storage_of(self) is storage_of(tensor)
        and self.storage_offset() == tensor.storage_offset()
        and shape_of(self) == shape_of(tensor)
        and strides_of(self) == strides_of(tensor)
    )


@public(function=False)
def is_shared(self: Tensor) -> bool:
    """Whether another process may see the memory: never, ``share_memory_`` has nothing to do."""
    return False


@public(out=False)
def is_inference(input: Tensor) -> bool:
    """Whether a tensor was made in inference mode."""
    return input._storage is not None and input._storage.inference


def is_storage(obj: Any) -> bool:
    """Whether an object is the storage of a tensor."""
    return isinstance(obj, Storage)


functions.is_storage = is_storage


@public(function=False)
def dense_dim(self: Tensor) -> int:
    """The number of dimensions: all are dense."""
    return len(shape_of(self))


@public(function=False)
def sparse_dim(self: Tensor) -> int:
    """0: no dimension is sparse."""
    return 0


# The same tensor ------------------------------------------------------------------------------


@public(function=False)
def to_dense(self: Tensor, dtype: Any = None, *, masked_grad: bool | None = None) -> Tensor:
    """The tensor itself, which is dense, in another dtype if one is given."""
    return self if dtype is None else cast(self, dtype)


@public(function=False)
def as_subclass(self: Tensor, cls: type[Tensor]) -> Tensor:
    """The tensor's memory and history as a tensor of a subclass."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"as_subclass(): expected a subclass of Tensor, but got {cls!r}")
    twin = alias(self, cls)
    twin._requires_grad, twin._grad_fn = self.requires_grad, self.grad_fn  # type: ignore[attr-defined]
    twin._output_number = self._output_number
    return twin


_FILLED = Rule("FillBackward0", (lambda g, f: f.zeros_like(g), None))
_FILLED_WITH_TENSOR = Rule("FillBackward1", (lambda g, f: f.zeros_like(g), lambda g: g))


@public(inplace=False, out=True)
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like ``input`` with one value (a number or a 0-d tensor) everywhere.

    >>> fill(zeros(2), 3)
    tensor([3., 3.])
    """
    if isinstance(value, Tensor) and shape_of(value):
        raise RuntimeError(
            "fill only supports 0-dimension value tensor but got tensor with "
            f"{len(shape_of(value))} dimensions."
        )
    # The input has a gradient, of zeros, as in PyTorch.
    out = copied(input, value)
    rule = _FILLED_WITH_TENSOR if isinstance(value, Tensor) else _FILLED
    return attach(fresh(node_of(out), out._device), rule, (input, out))


# Shapes in place ------------------------------------------------------------------------------


@public(function=False, out=False)
def swapaxes_(self: Tensor, axis0: int, axis1: int) -> Tensor:
    """``transpose_`` under NumPy's name."""
    return become(self, functions.transpose(self, axis0, axis1))


@public(function=False, out=False)
def swapdims_(self: Tensor, dim0: int, dim1: int) -> Tensor:
    """``transpose_`` under another name."""
    return become(self, functions.transpose(self, dim0, dim1))


@public(out=False)
def as_strided_(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """``as_strided`` in place: the tensor itself gets the geometry."""
    return become(input, functions.as_strided(input, size, stride, storage_offset))


# Loops of Python ------------------------------------------------------------------------------


def _number(convert: Any, result: Any) -> Any:
    if isinstance(result, str) or not isinstance(result, (complex, SupportsFloat)):
        raise TypeError(f"must be real number, not {type(result).__name__}")
    return convert(result)


def _looped(
    self: Tensor, name: str, others: tuple[Tensor, ...], function: Callable[..., Any]
) -> Tensor:
    if self.requires_grad or any(other.requires_grad for other in others):
        raise RuntimeError(
            f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() "
            "instead."
        )
    check_writable(self)
    shape, dtype = shape_of(self), dtype_of(self)
    lines = [
        peek(other if other is self else other.expand(shape)).reshape(-1).tolist()
        for other in (self, *others)
    ]
    convert = {"b": bool, "f": float, "c": complex}.get(dtype.kind, int)
    values = [_number(convert, function(*numbers)) for numbers in zip(*lines)]
    array = np.array(values).astype(dtype.numpy).reshape(shape)
    made: Tensor = functions.tensor(array, dtype=dtype, device=self._device)
    return store(self, made)


@public(function=False)
def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Replace each element by ``callable(element)``: a loop of Python, slow by nature."""
    return _looped(self, "apply_", (), callable)


@public(function=False)
def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Replace each element by ``callable(element, other)``, with ``tensor`` expanded."""
    return _looped(self, "map_", (tensor,), callable)


@public(function=False)
def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """Replace each element by ``callable(element, of x, of y)``."""
    return _looped(self, "map2_", (x, y), callable)
