"""Tensor: a value with a shape, a place, and perhaps a gradient history.

Only what a tensor *is* stands here. What can be done with one is attached by the modules that
define it (``tensor.attach``), so that each operation exists once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lazytorch.autograd.grad_mode import inference, mode
from lazytorch.dtypes import DType
from lazytorch.ops.shapes import count
from lazytorch.tensor import formats
from lazytorch.tensor.device import device
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import (
    Storage,
    View,
    dtype_of,
    is_contiguous,
    node_of,
    shape_of,
    storage_of,
    strides_of,
)


class Tensor:
    """A multi-dimensional array of one dtype on one device.

    Operations on it are recorded, not computed; looking at a value computes it.

    >>> import lazytorch as torch
    >>> torch.tensor([1.0, 2.0]) + 1
    tensor([2., 3.])
    """

    __module__ = "torch"  # What its class prints as.
    __slots__ = (
        "__dict__", "__weakref__", "_accumulator", "_device", "_extra", "_grad", "_grad_fn",
        "_node", "_output_number", "_requires_grad", "_storage", "_view",
    )  # fmt: skip

    _node: Any
    _storage: Storage | None
    _view: View | None
    _device: device
    _requires_grad: bool
    _grad_fn: Any
    _output_number: int
    _grad: Tensor | None
    _accumulator: Any
    _extra: Any

    __array_priority__ = 1000
    is_sparse = False
    is_quantized = False
    is_mkldnn = False
    is_nested = False
    layout = formats.strided
    names: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        data = legacy_constructor(*args, **kwargs)
        return as_class(data, cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing left to do: ``__new__`` made the tensor."""

    @property
    def shape(self) -> Size:
        return Size(shape_of(self))

    @property
    def dtype(self) -> DType:
        return dtype_of(self)

    @property
    def device(self) -> device:
        return self._device

    @property
    def ndim(self) -> int:
        return len(shape_of(self))

    def dim(self) -> int:
        """The number of dimensions."""
        return len(shape_of(self))

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one dimension."""
        shape = shape_of(self)
        if dim is None:
            return Size(shape)
        if not -len(shape) <= dim < len(shape):
            bound = max(len(shape), 1)
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], "
                f"but got {dim})"
            )
        return shape[dim]

    def numel(self) -> int:
        """The number of elements."""
        return count(shape_of(self))

    nelement = numel

    @property
    def itemsize(self) -> int:
        return dtype_of(self).itemsize

    def element_size(self) -> int:
        """Bytes of one element."""
        return dtype_of(self).itemsize

    @property
    def nbytes(self) -> int:
        return count(shape_of(self)) * self.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Strides in elements, or the stride of one dimension."""
        strides = strides_of(self)
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        """The position of the first element in the storage."""
        return 0 if self._view is None else self._view.offset

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether elements lie in row-major order without gaps, or in a memory format's order."""
        view = self._view
        in_order = view is None or is_contiguous(view.shape, view.strides)
        if memory_format is None:
            return in_order
        return formats.lies_in(memory_format, shape_of(self), strides_of(self), in_order)

    def data_ptr(self) -> int:
        """A number that tensors share when they begin at one place of one storage."""
        return id(storage_of(self)) + self.storage_offset() * self.itemsize

    def untyped_storage(self) -> Storage:
        """The storage shared by the tensor's aliases."""
        return storage_of(self)

    storage = untyped_storage

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point type."""
        return dtype_of(self).kind == "f"

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return dtype_of(self).kind == "c"

    def is_signed(self) -> bool:
        """Whether the dtype can hold negative numbers."""
        return dtype_of(self).kind in "ifc"

    @property
    def is_cuda(self) -> bool:
        return self._device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return self._device.type == "cpu"

    @property
    def is_mps(self) -> bool:
        return self._device.type == "mps"

    @property
    def is_xpu(self) -> bool:
        return self._device.type == "xpu"

    @property
    def is_meta(self) -> bool:
        return self._device.type == "meta"

    def get_device(self) -> int:
        """The device's number, -1 on the CPU."""
        return -1 if self._device.type == "cpu" else self._device.index or 0

    @property
    def _version(self) -> int:
        if self._storage is not None and self._storage.inference:
            raise RuntimeError("Inference tensors do not track version counter.")
        return 0 if self._storage is None else self._storage.version

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view.base

    def _is_view(self) -> bool:
        return self._view is not None and self._view.base is not None

    def __hash__(self) -> int:
        return id(self)

    if TYPE_CHECKING:
        # What ``functional`` attaches, told to type checkers: operators, and methods by name.
        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __lshift__(self, other: Any) -> Tensor: ...
        def __rshift__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __len__(self) -> int: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def __index__(self) -> int: ...


_new = object.__new__


def fresh(node: Any, place: device) -> Tensor:
    """A tensor that nobody aliases, with ``node`` as its value."""
    tensor: Tensor = _new(Tensor)
    tensor._node = node
    tensor._storage = None
    tensor._view = None
    tensor._device = place
    tensor._requires_grad = False
    tensor._grad_fn = None
    tensor._output_number = 0
    tensor._grad = None
    tensor._accumulator = None
    tensor._extra = None
    if inference.threads and node is not None:
        mark_inference(tensor)
    return tensor


def mark_inference(tensor: Tensor) -> Tensor:
    """Mark the storage of a new tensor if this thread is in inference mode."""
    if mode.inference:
        storage_of(tensor).inference = True
    return tensor


def alias(tensor: Tensor, cls: type[Tensor] = Tensor) -> Tensor:
    """A tensor in the same storage, cut off from the tape (what ``detach`` gives)."""
    other: Tensor = _new(cls)
    storage = storage_of(tensor)
    view = tensor._view
    other._storage = storage
    other._node = tensor._node
    if view is None:
        other._view = None
    else:
        place = (view.shape, view.strides, view.offset)
        other._view = View(None, *place, view.version, view.dtype)
    other._device = tensor._device
    other._requires_grad = False
    other._grad_fn = None
    other._output_number = 0
    other._grad = None
    other._accumulator = None
    other._extra = None
    return other


def show_value_of(tensor: Tensor, other: Tensor) -> None:
    """Put ``tensor`` in another's storage; its history and gradient stay."""
    twin = alias(other)
    tensor._storage, tensor._node, tensor._view = twin._storage, twin._node, twin._view
    tensor._device = twin._device


def as_class(data: Tensor, cls: type[Tensor]) -> Tensor:
    """``data`` itself for Tensor, an alias of the wanted class for a subclass."""
    return data if cls is Tensor else alias(data, cls)


def legacy_constructor(*args: Any, **kwargs: Any) -> Tensor:
    """``torch.Tensor(2, 3)`` and ``torch.Tensor([1, 2])``; creation puts the real one here."""
    raise NotImplementedError("lazytorch.tensor.creation is not loaded")


__all__ = ["Tensor", "alias", "as_class", "dtype_of", "fresh", "node_of", "shape_of"]
