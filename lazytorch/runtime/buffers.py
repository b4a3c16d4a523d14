"""Buffers and the pool they come from.

Knows sizes, lifetimes and statistics; what a block of memory is made of is the device's affair
(a function ``make_block``). A buffer that dies only appends its block to a deque: that is safe
from any thread, inside a garbage collection and at interpreter exit; the pool takes the blocks
back at the next allocation.

Time is told by a counter. A block notes when it was freed, and ``synchronize`` notes when it
began to wait; a block freed before the last wait began is certainly idle.
"""

from __future__ import annotations

import gc
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lazytorch import config, logs
from lazytorch.errors import OutOfMemoryError

if TYPE_CHECKING:
    from lazytorch.runtime.device import Device

Array = np.ndarray[Any, Any]
SMALLEST_BLOCK = 256
# Wrapped arrays cannot be released while a kernel may still use them; beyond these bounds a
# loop that never waits is made to wait once.
QUARANTINE_BYTES = 512 << 20
QUARANTINE_COUNT = 4096
# Rather a fresh small block than a wait, but not for ever: past this many, one wait frees them all.
BUSY_BLOCKS = 16
LISTED_BUFFERS = 8


class Block:
    """Memory of one size class. ``size`` is 0 for memory that is not the pool's own."""

    __slots__ = ("freed_at", "handle", "host", "size", "used")

    def __init__(self, handle: Any, host: Array | None, size: int) -> None:
        self.handle = handle
        self.host = host
        self.size = size
        self.used = 0
        self.freed_at = -1


class Buffer:
    """A piece of a device's memory.

    ``handle`` is what a kernel takes (``cl.Buffer`` or None on the NumPy device), ``host`` the
    same memory as a NumPy array of uint8, None where NumPy cannot see it. ``origin`` is anything
    whose ``str`` tells the user where the buffer comes from. ``shared`` says that others may write
    the memory. ``packed`` has what ``runtime.packed`` knows of the present contents; whoever writes
    sets it to None.
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_keep",
        "device",
        "handle",
        "host",
        "idle",
        "nbytes",
        "origin",
        "packed",
        "shared",
    )

    def __init__(
        self, device: Device, nbytes: int, handle: Any, host: Array | None, block: Block | None
    ) -> None:
        self.device = device
        self.nbytes = nbytes
        self.handle = handle
        self.host = host
        self._block = block
        self._keep: Any = None
        self.origin: object | None = None
        self.idle = False
        self.shared = False
        self.packed: dict[Any, Buffer | int] | None = None

    def __del__(self) -> None:
        try:
            if self._block is not None:
                self.device.returned.append(self._block)
        except AttributeError:  # died while being made
            pass

    def __repr__(self) -> str:
        return f"<Buffer of {self.nbytes} bytes on {self.device.name}>"

    @property
    def owned(self) -> bool:
        """Whether the memory is the pool's: neither shared with NumPy by wrapping nor a slice."""
        return self._block is not None and self._block.size > 0

    @property
    def whole(self) -> bool:
        """Whether this is all of a memory that nobody else may write."""
        return self._block is not None and not self.shared

    def slice(self, offset: int, nbytes: int) -> Buffer:
        """A buffer for a part of this one, sharing its memory and keeping it alive.

        ``offset`` must be a multiple of the device's ``base_alignment_bytes``.
        """
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise ValueError(
                f"slice [{offset}, {offset + nbytes}) is outside a buffer of {self.nbytes} bytes"
            )
        part = self.device._slice(self, offset, nbytes)
        part._keep = self
        part.origin = self.origin
        return part

    def piece(self, offset: int, nbytes: int) -> Buffer | None:
        """A buffer for a part of this one at any offset, or None where the device has no way.

        It shares the memory and keeps this buffer alive; nobody may write through it.
        """
        aligned = offset % self.device.capabilities.base_alignment_bytes == 0
        if aligned or self.device.inherited:
            return self.slice(offset, nbytes)
        if self.host is None:
            return None
        part = self.device.wrap_host(self.host[offset : offset + nbytes], self.origin)
        # In a tuple: the part has a handle of its own, and its slices are counted from there.
        part._keep = (self,)
        return part

    def as_numpy(self, dtype: Any, shape: tuple[int, ...]) -> Array:
        """The contents, after everything launched is done: a view of the same memory on a
        zero-copy device (it keeps the buffer alive), a copy elsewhere."""
        return self.device._read(self, np.dtype(dtype), shape)

    def copy_from(self, source: Array | Buffer) -> None:
        """Overwrite the beginning with an array's elements or another buffer's bytes."""
        if isinstance(source, Buffer):
            source = source.as_numpy(np.uint8, (source.nbytes,))
        if source.nbytes > self.nbytes:
            raise ValueError(
                f"cannot copy {source.nbytes} bytes into a buffer of {self.nbytes} bytes"
            )
        if source.nbytes:
            self.packed = None
            self.device._write(self, source, False)


class _Export:
    """Lets a NumPy array keep a Buffer alive: NumPy holds on to this as the array's base."""

    __slots__ = ("__array_interface__", "_buffer")

    def __init__(self, buffer: Buffer, host: Array) -> None:
        self._buffer = buffer
        self.__array_interface__ = host.__array_interface__


def export(buffer: Buffer, dtype: Any, shape: tuple[int, ...]) -> Array:
    """A view of ``buffer.host`` that keeps the buffer alive as long as any view of it lives."""
    host = buffer.host
    assert host is not None
    count = dtype.itemsize
    for extent in shape:
        count *= extent
    if count > buffer.nbytes:
        raise ValueError(f"{shape} of {dtype} takes {count} bytes, the buffer has {buffer.nbytes}")
    if count == 0:
        return np.empty(shape, dtype)
    flat = np.asarray(_Export(buffer, host[:count]))
    view: Array = flat.view(dtype).reshape(shape)
    return view


def size_class(nbytes: int) -> int:
    """The block size for a request: eight classes for each power of two, so at most an eighth
    is wasted.

    >>> size_class(1), size_class(1025)
    (256, 1152)
    """
    if nbytes <= SMALLEST_BLOCK:
        return SMALLEST_BLOCK
    shift = (nbytes - 1).bit_length() - 4
    return ((nbytes + (1 << shift) - 1) >> shift) << shift


class MemoryPool:
    """Blocks by size class, kept for reuse, with a limit and statistics."""

    def __init__(self, make_block: Callable[[int], Block], limit: int, max_allocation: int) -> None:
        self.device: Device  # set by the device that owns the pool
        self.returned: deque[Block] = deque()
        self.limit = limit
        self.max_allocation = max_allocation
        self._make_block = make_block
        self._free: dict[int, list[Block]] = {}
        self._lock = threading.Lock()
        self._clock = itertools.count()
        self._synced_at = -1
        self._quarantine: list[Block] = []
        self._quarantined = 0
        self._live = 0
        self._reserved = 0
        self._peak = 0

    def renew_lock(self) -> None:
        """In a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def allocate(self, nbytes: int, origin: object | None = None, idle: bool = False) -> Buffer:
        """A buffer; with ``idle``, preferably of memory that no pending kernel uses."""
        size = size_class(nbytes)
        block = self._block(size, nbytes, idle)
        if block is None:
            block = self._after_cleaning(size, nbytes)
        buffer = self._buffer(block, nbytes, origin)
        if self._quarantined > QUARANTINE_BYTES or len(self._quarantine) > QUARANTINE_COUNT:
            self.device.synchronize()
        return buffer

    def allocate_if_room(self, nbytes: int, origin: object | None = None) -> Buffer | None:
        """A buffer, or None where others would have to be cleaned away for it."""
        block = self._block(size_class(nbytes), nbytes, False)
        return None if block is None else self._buffer(block, nbytes, origin)

    def _block(self, size: int, nbytes: int, idle: bool) -> Block | None:
        with self._lock:
            if self.returned:
                self._take_back()
            block = self._reuse(size, idle)
            if block is None:
                block = self._fresh(size)
            if block is not None:
                self._note(block, nbytes)
        return block

    def _buffer(self, block: Block, nbytes: int, origin: object | None) -> Buffer:
        host = block.host
        buffer = Buffer(
            self.device, nbytes, block.handle, None if host is None else host[:nbytes], block
        )
        buffer.origin = origin
        buffer.idle = block.freed_at <= self._synced_at
        return buffer

    def adopt(self, handle: Any, host: Array | None, nbytes: int) -> Buffer:
        """A buffer over memory of somebody else, kept until the device is done with it."""
        block = Block(handle, host, 0)
        block.used = nbytes
        if self.returned:
            with self._lock:
                self._take_back()
        buffer = Buffer(self.device, nbytes, handle, host, block)
        buffer.shared = True
        return buffer

    def begin_wait(self) -> int:
        """The time to hand to :meth:`end_wait` once the queue is empty."""
        return next(self._clock)

    def end_wait(self, began: int) -> None:
        """Everything freed before ``began`` is idle now."""
        self._synced_at = max(self._synced_at, began)
        if self._quarantine:
            with self._lock:
                self._release_quarantine()

    def allocated(self) -> int:
        with self._lock:
            self._take_back()
            return self._live

    def reserved(self) -> int:
        with self._lock:
            self._take_back()
            return self._reserved

    def peak(self) -> int:
        return self._peak

    def reset_peak(self) -> None:
        self._peak = self.allocated()

    def empty(self) -> None:
        """Wait for the device, then release every unused block."""
        self.device.synchronize()
        with self._lock:
            self._take_back()
            self._release_quarantine()
            self._drop_unused()

    # below: the lock is held

    def _take_back(self) -> None:
        returned = self.returned
        while returned:
            block = returned.popleft()
            # Stamped here and not where it was freed: later is safe, and a destructor stays short.
            block.freed_at = next(self._clock)
            if block.size:
                self._live -= block.used
                self._free.setdefault(block.size, []).append(block)
            else:
                self._quarantine.append(block)
                self._quarantined += block.used

    def _release_quarantine(self) -> None:
        busy = [block for block in self._quarantine if block.freed_at > self._synced_at]
        self._quarantine = busy
        self._quarantined = sum(block.used for block in busy)

    def _reuse(self, size: int, idle: bool) -> Block | None:
        blocks = self._free.get(size)
        if not blocks:
            return None
        if idle and blocks[-1].freed_at > self._synced_at:
            for index, block in enumerate(blocks):
                if block.freed_at <= self._synced_at:
                    return blocks.pop(index)
            if size <= 1 << 20 and len(blocks) < BUSY_BLOCKS:
                return None
        return blocks.pop()

    def _fresh(self, size: int) -> Block | None:
        limit = config.get("MEMORY_LIMIT") or self.limit
        if self._reserved + size > limit and self._live + size <= limit:
            self._drop_unused()
        if self._reserved + size > limit or size > max(self.max_allocation, SMALLEST_BLOCK):
            return None
        try:
            block = self._make_block(size)
        except MemoryError:
            return None
        self._reserved += size
        return block

    def _note(self, block: Block, nbytes: int) -> None:
        block.used = nbytes
        self._live += nbytes
        self._peak = max(self._peak, self._live)

    def _drop_unused(self) -> None:
        for blocks in self._free.values():
            self._reserved -= sum(block.size for block in blocks)
        self._free.clear()

    # out of memory: the lock is not held, because waiting and collecting run foreign code

    def _after_cleaning(self, size: int, nbytes: int) -> Block:
        logs.write("memory", lambda: f"no room for {nbytes} bytes on {self.device.name}: cleaning")
        self.device.drop_arena()
        self.device.packed.drop()
        gc.collect()
        self.empty()
        with self._lock:
            block = self._fresh(size)
            if block is not None:
                self._note(block, nbytes)
                return block
        raise OutOfMemoryError(self._complaint(nbytes))

    def _complaint(self, nbytes: int) -> str:
        name = self.device.name
        if nbytes > self.max_allocation:
            return (
                f"{name} allows at most {_readable(self.max_allocation)} in one buffer, and "
                f"{_readable(nbytes)} were asked for. Split the tensor."
            )
        limit = config.get("MEMORY_LIMIT") or self.limit
        summary = (
            f"{name} is out of memory: tried to allocate {_readable(nbytes)}; "
            f"{_readable(self.allocated())} are in use, the limit is {_readable(limit)}. "
            "Use smaller batches, drop tensors you no longer need, or raise "
            "LAZYTORCH_MEMORY_LIMIT. Largest live buffers:"
        )
        listed = [
            f"  {_readable(buffer.nbytes)}  {buffer.origin if buffer.origin is not None else ''}"
            for buffer in self.largest(LISTED_BUFFERS)
        ]
        return "\n".join(line.rstrip() for line in (summary, *listed))

    def largest(self, count: int) -> list[Buffer]:
        """The largest live buffers. Walks the heap, which nobody pays for until memory is out."""
        live = [
            item
            for item in gc.get_objects()
            if type(item) is Buffer
            and item.device is self.device
            and item._block is not None
            and item._block.size
        ]
        live.sort(key=lambda buffer: -buffer.nbytes)
        return live[:count]


def _readable(nbytes: int) -> str:
    """
    >>> _readable(3 << 20)
    '3.00 MiB'
    """
    size = float(nbytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{int(size)} bytes" if unit == "bytes" else f"{size:.2f} {unit}"
