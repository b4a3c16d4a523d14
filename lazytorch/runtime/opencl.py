"""An OpenCL device: its memory, its in-order queue, its programs and their launches.

Knows pyopencl, which is imported only when the first device is opened. Must not know where
kernels come from or what they mean.

A CPU device with ``USE_HOST_PTR`` works in place on memory of any alignment and length, measured
on Intel's runtime and on PoCL: what NumPy writes a kernel sees, and the reverse, without mapping.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import logs
from lazytorch.errors import BuildError, DeviceError, OutOfMemoryError
from lazytorch.runtime import binding, build_pool, discovery
from lazytorch.runtime.buffers import Block, Buffer, MemoryPool, export
from lazytorch.runtime.cache import FileCache
from lazytorch.runtime.capabilities import default_options, read_capabilities
from lazytorch.runtime.counters import counters
from lazytorch.runtime.device import Device
from lazytorch.runtime.discovery import Candidate
from lazytorch.runtime.host import (
    aligned_host_memory,
    host_bytes,
    host_memory,
    write_host,
)
from lazytorch.runtime.launch import Launcher

# Part of the key of every cached binary; raise it when binaries of older versions must not load.
_BINARY_FORMAT = "1"
_FRACTION = 0.9
_PROGRAMS_KEPT = 1024
_programs = FileCache("programs")
_forked = False
_orphans: list[Any] = []  # what belongs to the parent, kept so that it is not released
_open_devices: weakref.WeakSet[OpenCLDevice] = weakref.WeakSet()


class OpenCLDevice(Device):
    """Device ``opencl:N``. Launches go to one in-order queue and return at once."""

    kind = "opencl"

    def __init__(self, candidate: Candidate, masked: Sequence[str] = ()) -> None:
        self._cl = cl = discovery.pyopencl()
        self.candidate = candidate
        self.cl_device = candidate.device
        capabilities = read_capabilities(cl, candidate, tuple(masked))
        memory = host_memory() if capabilities.zero_copy else capabilities.global_memory
        pool = MemoryPool(
            self._zero_copy_block if capabilities.zero_copy else self._device_block,
            int(memory * _FRACTION),
            capabilities.max_allocation,
        )
        super().__init__(f"opencl:{candidate.index}", capabilities, pool)
        pool.device = self
        self.context = cl.Context([self.cl_device])
        self.profile: list[tuple[str, Any]] | None = None
        self.queue = self._make_queue(profiling=False)
        self._build_lock = threading.Lock()
        self._kept: dict[str, Any] = {}
        # Programs whose binaries are not in the file cache yet.
        self._unstored: set[str] = set()
        # PoCL compiles a kernel for any work-group to give a binary, and once more for a launch.
        self.binaries_are_compiled = "portable" in candidate.platform_name.lower()
        self._marker: Any = None
        self.closing = False
        self._options = default_options(cl, self.cl_device, capabilities)
        self._key_parts = (_BINARY_FORMAT, *candidate.identity)
        _open_devices.add(self)

    @property
    def signature(self) -> tuple[Any, ...]:
        return (*super().signature, *self._key_parts, *self._options)

    # memory

    def _zero_copy_block(self, size: int) -> Block:
        host = aligned_host_memory(size, self.capabilities.base_alignment_bytes)
        return Block(self._share(host), host, size)

    def _device_block(self, size: int) -> Block:
        self.check_usable()
        try:
            return Block(
                self._cl.Buffer(self.context, self._cl.mem_flags.READ_WRITE, size), None, size
            )
        except self._cl.MemoryError as error:
            raise MemoryError(str(error)) from None

    def _share(self, host: np.ndarray[Any, Any]) -> Any:
        self.check_usable()
        flags = self._cl.mem_flags
        access = flags.READ_WRITE if host.flags.writeable else flags.READ_ONLY
        try:
            return self._cl.Buffer(self.context, access | flags.USE_HOST_PTR, hostbuf=host)
        except self._cl.MemoryError as error:
            raise MemoryError(str(error)) from None

    def wrap_host(self, array: np.ndarray[Any, Any], origin: object | None = None) -> Buffer:
        host = host_bytes(array)
        if not self.capabilities.zero_copy:
            return self.upload(array, origin)
        if not array.nbytes:
            return self.pool.allocate(0, origin)
        buffer = self.pool.adopt(self._share(host), host, array.nbytes)
        buffer.origin = origin
        return buffer

    def _slice(self, buffer: Buffer, offset: int, nbytes: int) -> Buffer:
        host = None if buffer.host is None else buffer.host[offset : offset + nbytes]
        if nbytes == 0 or self.inherited:
            handle = buffer.handle
        elif offset % self.capabilities.base_alignment_bytes:
            raise ValueError(
                f"a slice must begin at a multiple of {self.capabilities.base_alignment_bytes} "
                f"bytes on {self.name}, got {offset}"
            )
        else:
            handle = self._root(buffer).get_sub_region(self._offset(buffer) + offset, nbytes)
        return Buffer(self, nbytes, handle, host, None)

    # A sub-buffer of a sub-buffer is not allowed, so a slice of a slice goes back to the root.

    def _root(self, buffer: Buffer) -> Any:
        while isinstance(buffer._keep, Buffer):
            buffer = buffer._keep
        return buffer.handle

    @staticmethod
    def _offset(buffer: Buffer) -> int:
        return int(buffer.handle.offset) if isinstance(buffer._keep, Buffer) else 0

    def _write(self, buffer: Buffer, array: np.ndarray[Any, Any], idle: bool) -> None:
        if buffer.host is not None:
            if not (idle or self.inherited):
                self.synchronize()
            write_host(buffer.host, array)
            return
        self.check_usable()
        source = np.ascontiguousarray(array)
        self._cl.enqueue_copy(self.queue, buffer.handle, host_bytes(source), is_blocking=True)

    def _read(self, buffer: Buffer, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if not self.inherited:
            self.synchronize()
        if buffer.host is not None:
            return export(buffer, dtype, shape)
        result = np.empty(shape, dtype)
        if result.nbytes > buffer.nbytes:
            raise ValueError(f"{shape} of {dtype} does not fit {buffer.nbytes} bytes")
        if result.nbytes:
            self._cl.enqueue_copy(self.queue, host_bytes(result), buffer.handle, is_blocking=True)
        return result

    # time

    def synchronize(self) -> None:
        self.check_usable()
        counters.syncs += 1
        began = self.pool.begin_wait()
        try:
            self.queue.finish()
        except self._cl.Error as error:
            raise DeviceError(f"{self.name} failed while computing: {error}") from error
        self.pool.end_wait(began)

    def flush(self) -> None:
        self.check_usable()
        self.queue.flush()

    def _make_queue(self, profiling: bool) -> Any:
        properties = self._cl.command_queue_properties.PROFILING_ENABLE if profiling else 0
        self.profile = [] if profiling else None
        return self._cl.CommandQueue(self.context, properties=properties)

    def set_profiling(self, enabled: bool) -> None:
        """Record the device time of every launch from now on, or stop."""
        if enabled != (self.profile is not None):
            with self.lock:
                self.synchronize()
                self.queue = self._make_queue(enabled)

    def take_profile(self) -> list[tuple[str, int, int]]:
        """(kernel name, start, end) in nanoseconds of every launch since the last call."""
        if self.profile is None:
            return []
        self.synchronize()
        events, self.profile = self.profile, []
        return [(name, event.profile.start, event.profile.end) for name, event in events]

    # programs

    def build(
        self,
        source: str,
        kernel_names: Sequence[str],
        options: Sequence[str] = (),
        trial: str | None = None,
    ) -> dict[str, Launcher]:
        """Compile OpenCL C, or load the binary of an earlier process.

        ``trial`` is for a program that may be run only once: further options that make compiling
        cheap, "" for none. One compiled in full before is taken instead; of a driver that compiles
        again to give a binary, none is asked for until the program is built without ``trial``.
        Raises ``BuildError`` with the driver's log and the path of the dumped source.
        """
        self.check_usable()
        text = " ".join(self._with_defaults(options))
        key = FileCache.key(source, text, *self._key_parts)
        program = self._kept.get(key) or self._load(key, text)
        if program is None and trial:
            text = f"{text} {trial}"
            key = FileCache.key(source, text, *self._key_parts)
            program = self._kept.get(key) or self._load(key, text)
        if program is None:
            program = self._compile(source, text, kernel_names)
            self._unstored.add(key)
        else:
            counters.program_cache_hits += 1
            if key in self._unstored and trial is None:
                # The program has run and may be running. What PoCL compiles for a binary it takes,
                # when a launch ends, for what was launched, and an assertion ends the process.
                self.synchronize()
        if key in self._unstored and (trial is None or not self.binaries_are_compiled):
            self._unstored.discard(key)
            binary = self._store(key, program)
            if binary and not self.binaries_are_compiled:
                # What Intel's compiler made on the way, 2.5 of 5 MiB, goes with its program.
                program = self._from_binary(key, binary, text) or program
        self._kept[key] = program
        if len(self._kept) > _PROGRAMS_KEPT:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest, None)
            self._unstored.discard(oldest)
        return {name: self._launcher(program, name) for name in kernel_names}

    def expect_long_build(self) -> None:
        if self._has_build_workers():
            build_pool.pool_of(self.candidate).start(build_pool.processes() - 1)

    def _has_build_workers(self) -> bool:
        """Only for processors: opening a graphics device again takes longer and holds memory."""
        return self.capabilities.family == "cpu" and build_pool.processes() > 1

    def build_parts(self, parts: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Launcher]:
        self.check_usable()
        options = " ".join(self._with_defaults(()))
        missing = [part for part in parts if not self._is_built(part[0], options)]
        if len(missing) < 2 or not self._has_build_workers():
            return super().build_parts(parts)
        missing.sort(key=lambda part: -len(part[0]))
        pool = build_pool.pool_of(self.candidate)
        pool.start(min(build_pool.processes(), len(missing)) - 1)
        jobs = pool.submit([source for source, _ in missing], options)
        left: list[build_pool.Job] = []
        try:
            for job, (source, names) in zip(jobs, missing, strict=True):
                if job.claim():
                    self.build(source, names)
                else:
                    left.append(job)
            for job in left:
                self._adopt(job)
        finally:
            # After an error nobody wants the rest.
            for job in jobs:
                job.claim()
        return super().build_parts(parts)

    def _is_built(self, source: str, options: str) -> bool:
        key = FileCache.key(source, options, *self._key_parts)
        return key in self._kept or _programs.has(key)

    def _adopt(self, job: build_pool.Job) -> None:
        """Keep what a worker compiled; without a binary the source is still to be built."""
        binary = job.wait()
        if binary is None:
            return
        key = FileCache.key(job.source, job.options, *self._key_parts)
        program = self._from_binary(key, binary, job.options)
        if program is not None:
            counters.programs_built += 1
            self._kept[key] = program
            _programs.write(key, binary)

    def _launcher(self, program: Any, name: str) -> Launcher:
        try:
            return Launcher(self, self._cl, program, name)
        except self._cl.Error as error:
            raise BuildError(f"the program has no kernel {name!r}: {error}") from error

    def _with_defaults(self, options: Sequence[str]) -> list[str]:
        chosen = list(self._options)
        if any(item.startswith("-cl-std") for item in options):
            chosen = [item for item in chosen if not item.startswith("-cl-std")]
        return [*chosen, *options]

    def _load(self, key: str, options: str) -> Any:
        binary = _programs.read(key)
        return None if binary is None else self._from_binary(key, binary, options)

    def _from_binary(self, key: str, binary: bytes, options: str) -> Any:
        try:
            program = binding.create_program_from_binary(
                self._cl, self.context, self.cl_device, binary
            )
            binding.build_program(program, self.cl_device, options)
            return program
        except self._cl.Error as error:
            complaint = f"{self.name} refused binary {key}: {error}"
            logs.write("cache", lambda: complaint)
            _programs.remove(key)
            return None

    def _store(self, key: str, program: Any) -> bytes:
        """Put a program's binary into the file cache; nothing is returned where there is none."""
        try:
            binary = bytes(program.get_info(self._cl.program_info.BINARIES)[0] or b"")
        except self._cl.Error as error:
            complaint = f"{self.name} gives no binary: {error}"
            logs.write("cache", lambda: complaint)
            return b""
        if binary:
            _programs.write(key, binary)
        return binary

    def _compile(self, source: str, options: str, kernel_names: Sequence[str]) -> Any:
        program = binding.create_program(self._cl, self.context, source)
        # One at a time: drivers that compile from several threads take three times as long.
        with self._build_lock:
            try:
                binding.build_program(program, self.cl_device, options)
            except self._cl.Error as error:
                self._report_failure(source, options, kernel_names, program, error)
        counters.programs_built += 1
        if logs.enabled("build"):
            logs.write("build", lambda: f"{', '.join(kernel_names)}: {self._log(program)}")
        return program

    def _log(self, program: Any) -> str:
        try:
            text = program.get_build_info(self.cl_device, self._cl.program_build_info.LOG)
        except self._cl.Error as error:
            return f"(no log: {error})"
        return str(text).strip("\0 \n")

    def _report_failure(
        self, source: str, options: str, names: Sequence[str], program: Any, error: Exception
    ) -> None:
        driver_log = self._log(program)
        path = _dump(source)
        shown = "\n".join(driver_log.splitlines()[:20]) or str(error)
        raise BuildError(
            f"kernel {', '.join(names)} did not compile on {self.name} "
            f"({self.capabilities.name}) with options {options!r}; source: {path}\n{shown}",
            driver_log,
            path,
        ) from error

    def throttle(self) -> None:
        """Called now and then by launches: a loop that never waits would fill the driver's queue
        without bound. Waits for the launches before the previous call, so the queue never runs
        empty."""
        previous, self._marker = self._marker, self._cl.enqueue_marker(self.queue)
        if previous is not None:
            previous.wait()

    # failures while launching

    def check_usable(self) -> None:
        if self.closing:
            if threading.current_thread() is threading.main_thread():
                raise DeviceError(f"{self.name} is closed: the interpreter is shutting down")
            raise SystemExit  # ends a thread without a word
        super().check_usable()

    def launch_failed(self, name: str, error: Exception) -> None:
        """Called by a launch that raised: make it clear what happened, or clean up so that it
        may be tried again."""
        self.check_usable()
        if isinstance(error, self._cl.MemoryError):
            self.empty_cache()
            return
        if isinstance(error, self._cl.Error):
            raise DeviceError(f"launching {name} on {self.name} failed: {error}") from error
        raise error

    def launch_out_of_memory(self, name: str, error: Exception) -> OutOfMemoryError:
        return OutOfMemoryError(f"{self.name} has no memory to run {name}: {error}")


def _dump(source: str) -> str | None:
    """Write a source that failed where the user can read it."""
    try:
        number, path = tempfile.mkstemp(prefix="lazytorch-", suffix=".cl")
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(source)
        return path
    except OSError:
        return None


# A queue that still works when the interpreter goes away crashes some drivers. A thread that goes
# on launching would keep it busy for ever, so the queue is taken away first.
@atexit.register
def _finish_at_exit() -> None:
    for device in list(_open_devices):
        if device.usable:
            queue, device.queue = device.queue, None
            device.usable, device.closing = False, True
            try:
                queue.finish()
            except Exception as error:
                complaint = f"{device.name} at exit: {error}"
                logs.write("build", lambda text=complaint: text)  # type: ignore[misc]


def forked_from_user() -> bool:
    """Whether this process was forked from one that had loaded OpenCL drivers."""
    return _forked


def _finish_before_fork() -> None:
    """The child finds in memory what was launched before."""
    for device in list(_open_devices):
        if device.usable:
            device.queue.finish()


def _close_in_child() -> None:
    """After a fork: no call may reach the parent's context, not even a release. Memory that is
    the process's own is here too, written by nobody else from now on."""
    global _forked
    _forked = _forked or discovery.loaded()
    for device in list(_open_devices):
        _orphans.append((device.queue, device._marker))
        device.usable = False
        device.inherited = device.capabilities.zero_copy
        device.queue = device._marker = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_finish_before_fork, after_in_child=_close_in_child)
