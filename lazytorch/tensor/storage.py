"""Storage: the one mutable thing, a box with the current value that aliases share.

A tensor that nobody aliases has no storage yet: it holds its node itself. The first view, alias
or write gives it one (:func:`storage_of`). From then on ``tensor._node`` is empty for a tensor
that is its whole storage, and a cached value for a view.

A write never changes a node: it puts a new one in the box and raises the version, so pending
readers keep what they read. Only memory that NumPy can see too is written in place; tensors
read it by taking a copy at the moment of reading, exactly as an eager library would have.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np

from lazytorch import engine
from lazytorch.dtypes import DType
from lazytorch.ir.index import row_major_strides
from lazytorch.ir.node import SYMBOLIC, Node
from lazytorch.ops import indexing, movement
from lazytorch.ops.shapes import count
from lazytorch.tensor.batching.levels import check_write, made_like
from lazytorch.tensor.recorder import array_of, own_value, record
from lazytorch.tensor.reinterpretation import reinterpreted, with_memory

NO_GRAD = "no_grad"
INFERENCE = "inference_mode"


class Storage:
    """The value that a tensor and its aliases share, counted in versions.

    ``inference`` says that it was made in inference mode: it counts no versions and refuses to be
    saved for a gradient. ``device`` is the user's device. ``host`` is the NumPy array whose memory
    this is, when memory is shared with NumPy.
    """

    __slots__ = (
        "__weakref__", "_export", "_own_references", "device", "host", "inference", "node",
        "version",
    )  # fmt: skip

    def __init__(self, node: Node, device: Any) -> None:
        self.node = node
        self.version = 0
        self.inference = False
        self.device = device
        self.host: np.ndarray | None = None
        self._export: Any = None
        self._own_references = 0

    @property
    def host_shared(self) -> bool:
        """Whether a NumPy array sees this memory."""
        return self.host is not None and still_shared(self)


class View:
    """How a tensor lies in its storage: shape, strides and offset in elements.

    ``base`` is the tensor whose gradient history a write through the view changes; ``None`` for
    aliases cut off from the tape. ``version`` tells which version of the storage the cached
    node shows, ``history`` for which one the tensor's ``_grad_fn`` holds. ``multiple`` is
    ``NO_GRAD`` or ``INFERENCE`` for a view made while the tape was off, or names the operation that
    made several views at once, in parentheses where it is a user's Function: such views refuse
    writes on the tape. ``dtype`` is set where the view reads
    the memory as elements of another type; shape, strides and offset then count those.
    """

    __slots__ = ("base", "dtype", "history", "multiple", "offset", "shape", "strides", "version")

    def __init__(
        self,
        base: Any,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
        version: int,
        dtype: DType | None = None,
    ) -> None:
        self.base = base
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        self.offset = offset
        self.version = version
        self.history = version
        self.multiple: str | None = None


def storage_of(tensor: Any) -> Storage:
    """The tensor's storage, made now if it had none."""
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage(tensor._node, tensor._device)
        tensor._node = None
    return storage


def _no_tensor(value: Any) -> TypeError:
    """What to raise where something else was passed; looked at late, so that nobody pays."""
    return TypeError(f"expected a Tensor, but got {type(value).__name__}")


def node_of(tensor: Any) -> Node:
    """The node of the tensor's current value."""
    try:
        node = tensor._node
    except AttributeError:
        raise _no_tensor(tensor) from None
    if node is None or tensor._view is not None:
        return current_node(tensor)
    return node


def current_node(tensor: Any) -> Node:
    """The node of a tensor that has a storage."""
    storage = tensor._storage
    view = tensor._view
    if storage.host is not None and still_shared(storage):
        array = np.array(host_view(tensor), order="C")
        node = engine.leaf_from_array(array, storage.node.device)
        if engine.current.capture is not None:
            engine.current.capture.note_leaf(node, ("read", tensor))
        return node
    if view is None:
        return storage.node
    if tensor._node is None or view.version != storage.version:
        base = storage.node if view.dtype is None else reinterpreted(storage.node, view.dtype)
        tensor._node = take(base, view.shape, view.strides, view.offset)
        view.version = storage.version
        if view.base is not None and view.base._requires_grad and view.multiple is None:
            tensor._requires_grad = True
    return tensor._node


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The shape, without computing or refreshing anything."""
    try:
        view = tensor._view
    except AttributeError:
        raise _no_tensor(tensor) from None
    if view is not None:
        return view.shape
    node = tensor._node
    return (tensor._storage.node if node is None else node).shape


def dtype_of(tensor: Any) -> Any:
    """The dtype, without computing or refreshing anything."""
    try:
        node = tensor._node
    except AttributeError:
        raise _no_tensor(tensor) from None
    if node is None:
        view = tensor._view
        if view is not None and view.dtype is not None:
            return view.dtype
        return tensor._storage.node.dtype
    return node.dtype


def strides_of(tensor: Any) -> tuple[int, ...]:
    """Strides in elements."""
    view = tensor._view
    return row_major_strides(shape_of(tensor)) if view is None else view.strides


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements lie in row-major order without gaps."""
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides)):
        if extent != 1:
            if stride != step and 0 not in shape:
                return False
            step *= extent
    return True


def take(base: Node, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Node:
    """A node for a strided region of ``base``."""
    if is_contiguous(shape, strides) and count(shape) == count(base.shape):
        if shape == base.shape:
            return base
        return record(movement.RESHAPE, (base,), (shape,), shape, base.dtype, base.device)
    attrs = (shape, strides, offset)
    return record(movement.AS_STRIDED, (base,), attrs, shape, base.dtype, base.device)


def put(
    base: Node, value: Node, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Node:
    """A node for ``base`` with ``value`` written over a strided region of it."""
    if 0 in shape:
        return base
    if is_contiguous(shape, strides) and count(shape) == count(base.shape):
        if shape == base.shape:
            return value
        return record(
            movement.RESHAPE, (value,), (base.shape,), base.shape, base.dtype, base.device
        )
    if overlaps(shape, strides):
        return _put_in_order(base, value, strided_positions(shape, strides, offset))
    return record(
        movement.INSERT, (base, value), (strides, offset), base.shape, base.dtype, base.device
    )


def _put_in_order(base: Node, value: Node, positions: np.ndarray) -> Node:
    """Write element after element, for regions (of windows) that may meet themselves."""
    device = base.device

    def flat(node: Node) -> Node:
        shape = (count(node.shape),)
        return record(movement.RESHAPE, (node,), (shape,), shape, node.dtype, device)

    places = engine.leaf_from_array(positions, device)
    line = flat(base)
    sources = (line, places, flat(value))
    written = record(indexing.SCATTER, sources, (0, "set"), line.shape, base.dtype, device)
    return record(movement.RESHAPE, (written,), (base.shape,), base.shape, base.dtype, device)


def write(tensor: Any, value: Node) -> None:
    """Make ``value`` (of the tensor's shape, dtype and device) the tensor's content.

    Aliases see it; pending readers do not. Raises ``RuntimeError`` when elements of the target
    share memory (an expanded tensor).
    """
    storage = storage_of(tensor)
    view = tensor._view
    if view is not None and repeats(view.shape, view.strides):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    if value.depth >= SYMBOLIC:
        check_write(value, storage.node)
    if storage.node.depth >= SYMBOLIC:
        value = made_like(value, storage.node)
    if storage.host is not None and still_shared(storage):
        engine.looked("memory that NumPy sees is written")
        np.copyto(host_view(tensor), array_of(value))
        storage.version += 1
        return
    if view is None:
        storage.node = own_value(value)
        storage.version += 1
    else:
        base = storage.node
        if view.dtype is None:
            storage.node = put(base, value, view.shape, view.strides, view.offset)
        else:
            changed = reinterpreted(base, view.dtype)
            changed = put(changed, value, view.shape, view.strides, view.offset)
            storage.node = with_memory(base, changed)
        storage.version += 1
        tensor._node = value
        view.version = storage.version
    engine.note_state(storage)


def strided_positions(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    """The flat positions of a strided region, in row-major order."""
    positions = np.full((), offset, np.int64)
    for extent, stride in zip(shape, strides):
        positions = positions[..., None] + np.arange(extent, dtype=np.int64) * stride
    return np.ascontiguousarray(positions.reshape(-1))


def repeats(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether a dimension repeats one element (an expanded one)."""
    return 0 not in shape and any(
        stride == 0 and extent > 1 for stride, extent in zip(strides, shape)
    )


def overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two elements of a strided region may be one in memory."""
    reach = 0
    for stride, extent in sorted(
        (abs(stride), extent) for stride, extent in zip(strides, shape) if extent > 1
    ):
        if stride <= reach:
            return 0 not in shape
        reach += stride * (extent - 1)
    return False


# Memory shared with NumPy ---------------------------------------------------------------------


class _Export:
    """Memory handed to NumPy. Every array made from it keeps it alive, so that its death tells
    that no array sees the memory any more."""

    __slots__ = ("__array_interface__", "__weakref__", "array")

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def still_shared(storage: Storage) -> bool:
    """Whether NumPy can still see the storage's memory; ends the sharing when it cannot."""
    export = storage._export
    if export is not None:
        shared = export() is not None
    else:
        # The array came from the user; one reference is the argument of the call itself.
        shared = sys.getrefcount(storage.host) > storage._own_references + 1
    if not shared:
        # On a device with memory of its own the leaf shows what was there when it was made.
        host: Any = storage.host
        storage.node = engine.leaf_from_array(host, storage.node.device, share=True)
        storage.node.buffer.shared = False
        storage.host = storage._export = None
    return shared


def share_from_numpy(array: np.ndarray, device: Any) -> Storage:
    """A storage in the memory of a C-contiguous array of the caller's."""
    before = sys.getrefcount(array)
    storage = Storage(engine.leaf_from_array(array, device.runtime, share=True), device)
    storage.host = array
    # Memory that belongs to another object stays shared for ever.
    storage._own_references = sys.getrefcount(array) - before if array.base is None else -2
    return storage


def share_with_numpy(tensor: Any) -> np.ndarray:
    """The tensor as an array in the same memory."""
    engine.looked("a tensor is handed to NumPy")
    storage = storage_of(tensor)
    if storage.host is None or not still_shared(storage):
        # The node may have other readers, who must not see later writes: a memory of our own.
        memory = np.array(array_of(storage.node), order="C")
        storage.node = engine.leaf_from_array(memory, storage.node.device, share=True)
        export = _Export(memory)
        storage.host = memory
        storage._export = weakref.ref(export)
        array = np.asarray(export)
    elif storage._export is not None:
        array = np.asarray(storage._export())
    else:
        array = storage.host
    view = tensor._view
    return array if view is None else _strided(array, view)


def host_view(tensor: Any) -> np.ndarray:
    """The tensor as a view of its storage's NumPy memory."""
    host = tensor._storage.host
    view = tensor._view
    return host if view is None else _strided(host, view)


def _strided(array: np.ndarray, view: View) -> np.ndarray:
    if view.dtype is not None:
        size = view.dtype.itemsize
        line = array.reshape(-1).view(np.uint8)
        array = line[: line.size // size * size].view(view.dtype.numpy)
    if 0 in view.shape:
        return np.empty(view.shape, array.dtype)
    flat = array.reshape(-1)[view.offset :]
    steps = tuple(stride * array.itemsize for stride in view.strides)
    return np.lib.stride_tricks.as_strided(
        flat, view.shape, steps, writeable=bool(array.flags.writeable)
    )
