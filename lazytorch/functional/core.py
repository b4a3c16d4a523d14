"""What belongs to every tensor: gradients, aliases, conversion, reading values, writing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.autograd.entries import Handle
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.tape import current_grad_fn
from lazytorch.functional.conversion import converted
from lazytorch.functional.shape import as_shape
from lazytorch.ops.shapes import count
from lazytorch.tensor import creation
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import are_examples
from lazytorch.tensor.device import device
from lazytorch.tensor.inplace import copied, store
from lazytorch.tensor.recorder import array_of
from lazytorch.tensor.storage import (
    View,
    current_node,
    dtype_of,
    host_view,
    node_of,
    repeats,
    shape_of,
    share_from_numpy,
    share_with_numpy,
)
from lazytorch.tensor.tensor import Tensor, alias, fresh, show_value_of

functions.as_shape = as_shape
members: Any = Tensor

# Gradients ------------------------------------------------------------------------------------


def _requires_grad(self: Tensor) -> bool:
    view = self._view
    if view is not None and not self._requires_grad and view.base is not None:
        current_node(self)
    return self._requires_grad


def _set_requires_grad(self: Tensor, wanted: bool) -> None:
    if not wanted and self._grad_fn is not None:
        raise RuntimeError(
            "you can only change requires_grad flags of leaf variables. If you want to use a "
            "computed variable in a subgraph that doesn't require differentiation use "
            "var_no_grad = var.detach()."
        )
    if wanted and dtype_of(self).kind not in "fc":
        raise RuntimeError(
            "only Tensors of floating point dtype (or complex) can require gradients"
        )
    if wanted and not mode.inference and self._storage is not None and self._storage.inference:
        raise RuntimeError(
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed. "
            "Make a clone of it to get a normal tensor."
        )
    self._requires_grad = bool(wanted)


members.requires_grad = property(_requires_grad, _set_requires_grad)


@public(function=False)
def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Set ``requires_grad``; returns the tensor."""
    if are_examples(self):
        raise RuntimeError(
            "You are attempting to call Tensor.requires_grad_() inside of a function being "
            "transformed by vmap. This is unsupported: use the transforms of torch.func (grad, "
            "vjp, jacrev, jacfwd, hessian) there, or call requires_grad_() outside."
        )
    _set_requires_grad(self, requires_grad)
    return self


def _grad_fn(self: Tensor) -> Any:
    return self._grad_fn if self._view is None else current_grad_fn(self)


members.grad_fn = property(_grad_fn)
members.is_leaf = property(lambda self: _grad_fn(self) is None)
members.output_nr = property(lambda self: self._output_number)


def _grad(self: Tensor) -> Tensor | None:
    return self._grad


def _set_grad(self: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"assigned grad expected to be a Tensor or None but got grad of type "
                f"{type(gradient).__name__}"
            )
        if gradient is self:
            raise RuntimeError("can't assign Variable as its own grad")
        if shape_of(gradient) != shape_of(self):
            raise RuntimeError(
                f"attempting to assign a gradient of size '{list(gradient.shape)}' to a tensor of "
                f"size '{list(self.shape)}': gradient and tensor must be of one size"
            )
        if dtype_of(gradient) is not dtype_of(self):
            raise RuntimeError(
                f"attempting to assign a gradient with dtype '{gradient.dtype!r}' to a tensor of "
                f"dtype '{self.dtype!r}': they must match"
            )
        if gradient._device is not self._device:
            raise RuntimeError(
                f"assigned grad has data located on a different device: expected {self.device}, "
                f"got {gradient.device}"
            )
    self._grad = gradient


def _del_grad(self: Tensor) -> None:
    self._grad = None


members.grad = property(_grad, _set_grad, _del_grad)


def _extra_of(self: Tensor) -> dict[str, Any]:
    if self._extra is None:
        self._extra = {}
    extra: dict[str, Any] = self._extra
    return extra


@public(function=False)
def register_hook(self: Tensor, hook: Callable[..., Any]) -> Handle:
    """Call ``hook(grad)`` when the tensor's gradient is known; a result replaces it."""
    if not self._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    entry = _grad_fn(self)
    if entry is None:
        return Handle(_extra_of(self).setdefault("hooks", {}), hook)
    handle: Handle = entry.add_tensor_hook(self._output_number, hook)
    return handle


@public(function=False)
def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[..., Any]) -> Handle:
    """Call ``hook(tensor)`` after a leaf's ``.grad`` was updated."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if _grad_fn(self) is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return Handle(_extra_of(self).setdefault("post_hooks", {}), hook)


@public(function=False)
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of a tensor that is no leaf in its ``.grad``."""
    if not self._requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    entry = _grad_fn(self)
    if entry is None or _extra_of(self).get("retains"):
        return
    _extra_of(self)["retains"] = True

    def keep(gradient: Tensor) -> None:
        self._grad = gradient if self._grad is None else self._grad + gradient  # type: ignore[operator]

    entry.add_tensor_hook(self._output_number, keep)


members.retains_grad = property(lambda self: bool(self._extra and self._extra.get("retains")))

# Aliases --------------------------------------------------------------------------------------


@public(out=False)
def detach(self: Tensor) -> Tensor:
    """The same storage, cut off from the tape."""
    return alias(self)


@public(function=False)
def detach_(self: Tensor) -> Tensor:
    """Cut this tensor off from the tape."""
    if self._view is not None and self._view.base is not None:
        raise RuntimeError(
            "Can't detach views in-place. Use detach() instead. If you are using "
            "DistributedDataParallel this is not supported either."
        )
    self._grad_fn = None
    self._output_number = 0
    self._requires_grad = False
    return self


def _set_data(self: Tensor, other: Tensor) -> None:
    if not isinstance(other, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(other).__name__}")
    show_value_of(self, other)


members.data = property(alias, _set_data)


@public(function=False)
def set_(self: Tensor, source: Tensor) -> Tensor:
    """Make this tensor show the storage of another."""
    _set_data(self, source)
    return self


@public(function=False)
def share_memory_(self: Tensor) -> Tensor:
    """Nothing to do: processes do not share tensors."""
    return self


# Reading values -------------------------------------------------------------------------------


def peek(input: Tensor) -> np.ndarray:
    """The values on the host, for reading only."""
    if input._storage is not None and input._storage.host_shared:
        engine.looked("a value is looked at")
        return host_view(input)
    return array_of(node_of(input))


functions.peek = peek


@public(function=False)
def item(self: Tensor) -> Any:
    """The one value of a tensor with one element, as a Python number."""
    if count(shape_of(self)) != 1:
        raise RuntimeError(
            f"a Tensor with {count(shape_of(self))} elements cannot be converted to Scalar"
        )
    return peek(self).reshape(()).item()


@public(function=False)
def tolist(self: Tensor) -> Any:
    """The values as nested lists of Python numbers."""
    array = peek(self)
    if array.dtype == dtypes.bfloat16.numpy:
        array = array.astype(np.float32)
    return array.tolist()


@public("numpy", function=False)
def numpy_(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The tensor as a NumPy array in the same memory: each sees the other's writes.

    Raises for tensors that require a gradient or are on another device, unless ``force``.
    """
    if force:
        return share_with_numpy(converted(detach(self), device("cpu"), dtype_of(self)))
    if self._requires_grad:
        raise RuntimeError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )
    if self._device.type not in ("cpu", "numpy"):
        raise TypeError(
            f"can't convert {self._device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first."
        )
    if dtype_of(self) is dtypes.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16: NumPy has none, use .float() first")
    return share_with_numpy(self)


def share_strided_array(array: np.ndarray, place: device) -> Tensor:
    """A tensor in the memory of an array that is not C-contiguous."""
    if any(stride % array.itemsize for stride in array.strides):
        raise ValueError(
            "given numpy array strides not a multiple of the element byte size. Copy the numpy "
            "array to reallocate the memory."
        )
    strides = tuple(stride // array.itemsize for stride in array.strides)
    room = 1 + sum((extent - 1) * step for extent, step in zip(array.shape, strides))
    if 0 in array.shape:
        return creation.in_memory_of(np.ascontiguousarray(array))
    flat = np.lib.stride_tricks.as_strided(array, (room,), (array.itemsize,))
    made = fresh(None, place)
    made._storage = share_from_numpy(flat, place)
    made._view = View(None, array.shape, strides, 0, 0)
    return made


functions.share_strided_array = share_strided_array


def _truth(self: Tensor) -> bool:
    size = count(shape_of(self))
    if size != 1:
        if size == 0:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    if are_examples(self):
        raise RuntimeError(
            "vmap: It looks like you're attempting to use a Tensor in some data-dependent control "
            "flow: it has another value for each example of the batch, and the function runs once "
            "for all. Choose between values with torch.where instead."
        )
    return bool(item(self))


def _index(self: Tensor) -> int:
    if dtype_of(self).kind not in "iub" or count(shape_of(self)) != 1:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(item(self))


def _length(self: Tensor) -> int:
    shape = shape_of(self)
    if not shape:
        raise TypeError("len() of a 0-d tensor")
    return shape[0]


def _iterate(self: Tensor) -> Iterator[Tensor]:
    if not shape_of(self):
        raise TypeError("iteration over a 0-d tensor")
    return iter(functions.unbind(self, 0))


def _contains(self: Tensor, element: Any) -> bool:
    if not isinstance(element, (Tensor, bool, int, float)):
        raise RuntimeError(
            f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
            f"{type(element)}."
        )
    return bool(np.any(peek(functions.eq(self, element))))


def _format(self: Tensor, specification: str) -> str:
    if not shape_of(self) and type(self) is Tensor:
        return format(item(self), specification)
    return object.__format__(self, specification)


members.__bool__ = _truth
members.__int__ = lambda self: int(item(self))
members.__float__ = lambda self: float(item(self))
members.__complex__ = lambda self: complex(item(self))
members.__index__ = _index
members.__len__ = _length
members.__iter__ = _iterate
members.__contains__ = _contains
members.__format__ = _format


@public(function=False)
def realize(self: Tensor) -> Tensor:
    """Compute the value now; returns the tensor."""
    node = node_of(self)
    if node.op.kind != "leaf":
        engine.realize([node])
    return self


# Writing --------------------------------------------------------------------------------------


@public(function=False)
def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write another tensor's values, converted and expanded, into this one."""
    return store(self, copied(self, src))


@public(function=False)
def fill_(self: Tensor, value: Any) -> Tensor:
    """Write one value everywhere."""
    if isinstance(value, Tensor) and shape_of(value):
        raise RuntimeError(
            "fill_ only supports 0-dimension value tensor but got tensor with "
            f"{len(shape_of(value))} dimensions."
        )
    return _filled(self, value)


def _filled(target: Tensor, value: Any) -> Tensor:
    """Fill a tensor; unlike other writes, one that repeats its elements too (an expanded one)."""
    strides = target.stride()
    if repeats(shape_of(target), strides):
        once = tuple(slice(0, 1) if step == 0 else slice(None) for step in strides)
        place = target[once]
        store(place, copied(place, value))
    else:
        store(target, copied(target, value))
    return target


@public(function=False)
def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Write one value along the main diagonal of a matrix (or of equal dimensions)."""
    shape = shape_of(self)
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) != 1):
        raise RuntimeError(
            "fill_diagonal_: dimensions must be at least 2, and all equal if more than 2; got "
            f"{list(shape)}"
        )
    strides = self.stride()
    length = min(shape)
    if wrap and len(shape) == 2 and shape[0] > shape[1]:
        flat = functions.as_strided(self, (count(shape),), (1,), self.storage_offset())
        fill_(flat[:: shape[1] + 1], fill_value)
        return self
    diagonal = functions.as_strided(self, (length,), (sum(strides),), self.storage_offset())
    fill_(diagonal, fill_value)
    return self


@public(function=False)
def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Give the tensor another shape: its elements in order, zeros behind them."""
    shape = as_shape(sizes)
    have, wanted = count(shape_of(self)), count(shape)
    if self._requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    flat = functions.reshape(fresh(node_of(self), self._device), (-1,))
    if wanted > have:
        rest = functions.zeros((wanted - have,), dtype=dtype_of(self), device=self._device)
        flat = functions.cat([flat, rest])
    shaped = functions.reshape(flat[:wanted], shape)
    _set_data(self, fresh(node_of(shaped), self._device))
    return self


@public(function=True, out=False)
def resize_as_(self: Tensor, other: Tensor, *, memory_format: Any = None) -> Tensor:
    """``resize_`` to the shape of another tensor."""
    return resize_(self, shape_of(other))


@public(function=True, out=False)
def zero_(self: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return _filled(self, 0)
