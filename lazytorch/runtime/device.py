"""What every device offers, and the facts a scheduler may ask about one.

Knows neither OpenCL nor how a kernel is written. :class:`Device` is the base of every device:
the memory half (a pool of buffers, a shared arena, statistics) is here because it is the same
everywhere; building and launching belongs to the subclasses.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from lazytorch.errors import DeviceError
from lazytorch.runtime.buffers import Buffer, MemoryPool
from lazytorch.runtime.packed import PackedOperands


@dataclass(frozen=True)
class Capabilities:
    """What a device can do; sizes are bytes.

    ``family`` ("cpu" or "gpu") is the kind of schedule its kernels want. ``zero_copy`` says that
    a kernel and NumPy can use the same memory. ``max_argument_bytes`` bounds the arguments of one
    kernel (a buffer counts as a pointer).
    ``subgroup_size`` is one that a kernel may require, 0 where it may not.
    ``matrix_extensions`` names what the driver offers for products of small matrices in one
    instruction; no kernel uses them yet.
    ``masked`` names what the driver advertises and the probe found wrong.
    """

    name: str
    vendor: str
    driver: str
    family: str
    fp64: bool
    fp16: bool
    max_allocation: int
    max_argument_bytes: int
    global_memory: int
    local_memory: int
    max_work_group_size: int
    compute_units: int
    native_vector_width_float: int
    base_alignment_bytes: int
    zero_copy: bool
    int64: bool = True
    subgroups: bool = False
    subgroup_size: int = 0
    matrix_extensions: tuple[str, ...] = ()
    l1_bytes: int = 0
    l2_bytes: int = 0
    masked: tuple[str, ...] = ()


class Device:
    """One place where buffers live and kernels run.

    ``lock`` must be held while the launches of one plan are enqueued: the arena and the held
    kernels are shared between threads. Everything else may be called from any thread.
    """

    kind = ""
    # Whether the driver compiles again to give a program's binary.
    binaries_are_compiled = False
    # Whether this process was forked from the device's and has its memory, as NumPy sees it.
    inherited = False

    def __init__(self, name: str, capabilities: Capabilities, pool: MemoryPool) -> None:
        self.name = name
        self.capabilities = capabilities
        self.lock = threading.RLock()
        self.pool = pool
        self.returned = pool.returned
        self.usable = True
        self.packed = PackedOperands(self)
        self._arena: Buffer | None = None
        # Plans that hold slices of the arena: they let go of them when it is replaced.
        self.arena_users: weakref.WeakSet[Any] = weakref.WeakSet()

    def renew_locks(self) -> None:
        """In a forked child: a thread of the parent may have held them."""
        self.lock = threading.RLock()
        self.pool.renew_lock()

    def __repr__(self) -> str:
        return f"<device {self.name}: {self.capabilities.name}>"

    @property
    def signature(self) -> tuple[Any, ...]:
        """What a plan made for this device depends on, as plain numbers and texts."""
        return (self.kind, *astuple(self.capabilities))

    # memory

    def allocate(self, nbytes: int, origin: object | None = None) -> Buffer:
        """A buffer of ``nbytes`` with undefined contents; ``OutOfMemoryError`` when there is
        no room. ``origin`` is shown (through ``str``) when memory runs out."""
        return self.pool.allocate(nbytes, origin)

    def upload(self, array: np.ndarray[Any, Any], origin: object | None = None) -> Buffer:
        """A new buffer holding a copy of ``array`` (any strides), which may change afterwards."""
        buffer = self.pool.allocate(array.nbytes, origin, idle=True)
        if array.nbytes:
            self._write(buffer, array, buffer.idle)
        buffer.idle = False
        return buffer

    def wrap_host(self, array: np.ndarray[Any, Any], origin: object | None = None) -> Buffer:
        """A buffer sharing the memory of a C-contiguous array, both ways, where the device is
        ``zero_copy``; elsewhere a copy. Raises ``ValueError`` for other memory layouts."""
        raise NotImplementedError

    def arena(self, nbytes: int) -> Buffer:
        """The buffer for temporaries of plans: one per device, replaced by a larger one when too
        small. Compare by identity to see whether slices of it are still current."""
        arena = self._arena
        if arena is None or arena.nbytes < nbytes:
            with self.lock:
                self.drop_arena()
                arena = self._arena = self.pool.allocate(nbytes, "arena of plan temporaries")
        return arena

    def drop_arena(self) -> None:
        """Give the arena's memory back; plans bind to the next one when they run again."""
        with self.lock:
            for user in list(self.arena_users):
                user.release_arena()
            self.arena_users.clear()
            self._arena = None

    def memory_allocated(self) -> int:
        """Bytes in live buffers."""
        return self.pool.allocated()

    def max_memory_allocated(self) -> int:
        """The largest :meth:`memory_allocated` since the start or :meth:`reset_peak`."""
        return self.pool.peak()

    def memory_reserved(self) -> int:
        """Bytes held from the system: live and kept for reuse."""
        return self.pool.reserved()

    def reset_peak(self) -> None:
        """Start :meth:`max_memory_allocated` again from what is live now."""
        self.pool.reset_peak()

    def empty_cache(self) -> None:
        """Give memory that no buffer uses back to the system, and that of packed copies."""
        with self.lock:
            self.packed.drop()
        self.pool.empty()

    # what subclasses add

    def check_usable(self) -> None:
        """Raise ``DeviceError`` when this process may not use the device."""
        if not self.usable:
            raise DeviceError(
                f"{self.name} was opened before this process was forked, and OpenCL does not "
                "survive a fork. Use device 'numpy' in the child, or start it with "
                "multiprocessing.get_context('spawn') or 'forkserver'."
            )

    def build(
        self,
        source: str,
        kernel_names: Sequence[str],
        options: Sequence[str] = (),
        trial: str | None = None,
    ) -> Mapping[str, Any]:
        """Compile a program; the launchers of its kernels by name. ``BuildError`` on failure.

        ``trial`` is for a program that may be run only once: further options that make compiling
        cheap, "" for none.
        """
        raise DeviceError(f"{self.name} runs no OpenCL programs; evaluate the kernel instead")

    def build_parts(self, parts: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
        """Compile a program that was cut into programs, (source, kernel names) each; the launchers
        of all kernels by name. Like :meth:`build`, but several processes may take part."""
        return {k: v for source, names in parts for k, v in self.build(source, names).items()}

    def expect_long_build(self) -> None:
        """Said as soon as it is known that much will be compiled soon."""

    def synchronize(self) -> None:
        """Wait until everything launched so far is done."""

    def flush(self) -> None:
        """Make the device start on what was launched, without waiting."""

    def _write(self, buffer: Buffer, array: np.ndarray[Any, Any], idle: bool) -> None:
        raise NotImplementedError

    def _read(self, buffer: Buffer, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def _slice(self, buffer: Buffer, offset: int, nbytes: int) -> Buffer:
        raise NotImplementedError
