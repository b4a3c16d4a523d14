"""Launching a compiled kernel, as fast as Python can.

A :class:`Launcher` is one kernel of a program. :meth:`Launcher.bind` makes a
:class:`BoundLaunch`: it owns a kernel object whose arguments stay set, so a replay sets only what
changed. Calling a Launcher sets every argument and is safe from any thread.

Arguments are :class:`Buffer`, NumPy scalars (``np.float32(0.5)``: their type is the C type), or
:class:`LocalMemory`. Python numbers carry no C type and are refused, except where a scalar of
known type is replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazytorch.runtime.binding import CODES, buffer_setter, scalar_setter
from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.counters import counters

if TYPE_CHECKING:
    from lazytorch.runtime.opencl import OpenCLDevice

LAUNCHES_BETWEEN_WAITS = 2048
Sizes = tuple[int, ...]


class LocalMemory:
    """An argument that stands for ``nbytes`` of local memory."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class _Arguments:
    """A kernel object and how each of its scalars is packed."""

    __slots__ = ("_buffers", "_cl", "_codes", "_kernel", "_scalars", "name")

    def __init__(self, cl: Any, program: Any, name: str) -> None:
        self._cl = cl
        self.name = name
        self._kernel = cl.Kernel(program, name)
        self._buffers = buffer_setter(self._kernel)
        self._scalars = scalar_setter(self._kernel)
        self._codes: dict[int, bytes] = {}

    def set_all(self, arguments: Sequence[Any]) -> None:
        buffers: list[Any] = []
        scalars: list[Any] = []
        for index, argument in enumerate(arguments):
            if type(argument) is Buffer:
                buffers += (index, argument.handle)
            elif argument is None:
                continue
            elif isinstance(argument, LocalMemory):
                buffers += (index, self._cl.LocalMemory(argument.nbytes))
            else:
                self._collect_scalar(index, argument, scalars)
        if buffers:
            self._buffers(tuple(buffers))
        if scalars:
            self._scalars(tuple(scalars))

    def _collect_scalar(self, index: int, value: Any, scalars: list[Any]) -> None:
        code = CODES.get(type(value))
        if code is None:
            dtype = getattr(value, "dtype", None)
            if dtype is None:
                raise TypeError(
                    f"argument {index} of {self.name}: expected a Buffer, a NumPy scalar or "
                    f"LocalMemory, got {type(value).__name__}; give the scalar its C type, "
                    "for example numpy.float32(value)"
                )
            if dtype.itemsize != 2:
                self._kernel.set_arg(index, value)
                return
            # float16 and bfloat16 travel as the bits they are
            code, value = b"H", value.view(np.uint16)
        self._codes[index] = code
        scalars += (index, code, value.item())


class Launcher:
    """One kernel of a program, callable from any thread.

    >>> launcher([a, b, np.float32(2)], (1024,), (64,))  # doctest: +SKIP
    """

    __slots__ = ("_arguments", "_cl", "_lock", "_program", "device", "name")

    def __init__(self, device: OpenCLDevice, cl: Any, program: Any, name: str) -> None:
        self.device = device
        self.name = name
        self._cl = cl
        self._program = program
        self._lock = threading.Lock()
        self._arguments = _Arguments(cl, program, name)

    def __call__(
        self, arguments: Sequence[Any], global_size: Sizes, local_size: Sizes | None
    ) -> None:
        """Set every argument and launch."""
        if 0 in global_size:
            return
        with self._lock:
            self._arguments.set_all(arguments)
            _enqueue(
                self.device, self._cl, self._arguments._kernel, self.name, global_size, local_size
            )

    def bind(
        self, arguments: Sequence[Any], global_size: Sizes, local_size: Sizes | None
    ) -> BoundLaunch:
        """A launch that keeps its arguments; None leaves a slot to be set before each launch.

        The buffers given here are kept alive by the result; those set later are not.
        """
        return BoundLaunch(
            self.device, self._cl, self._program, self.name, arguments, global_size, local_size
        )

    def work_group_limit(self) -> int:
        """The largest work-group this kernel can run with on its device."""
        information = self._cl.kernel_work_group_info.WORK_GROUP_SIZE
        return int(self._arguments._kernel.get_work_group_info(information, self.device.cl_device))


class BoundLaunch:
    """A kernel with its arguments set. Not thread safe: hold ``device.lock`` over a replay."""

    __slots__ = (
        "_arguments",
        "_cl",
        "_empty",
        "_keep",
        "_kernel",
        "device",
        "global_size",
        "local_size",
        "name",
        "set_handles",
    )

    def __init__(
        self,
        device: OpenCLDevice,
        cl: Any,
        program: Any,
        name: str,
        arguments: Sequence[Any],
        global_size: Sizes,
        local_size: Sizes | None,
    ) -> None:
        self.device = device
        self.name = name
        self.global_size = global_size
        self.local_size = local_size
        self._cl = cl
        self._empty = 0 in global_size
        self._arguments = _Arguments(cl, program, name)
        self._kernel = self._arguments._kernel
        self._keep = [item for item in arguments if type(item) is Buffer]
        self._arguments.set_all(arguments)
        #: the fastest way: ``set_handles((index, buffer.handle, index, buffer.handle, ...))``
        self.set_handles = self._arguments._buffers

    def set_buffer(self, index: int, buffer: Buffer) -> None:
        """Replace one buffer argument. The caller keeps it alive until after the launch."""
        self._kernel.set_arg(index, buffer.handle)

    def set_scalar(self, index: int, value: Any) -> None:
        """Replace one scalar; a Python number takes the type the slot was bound with."""
        code = self._arguments._codes.get(index)
        if code is None or hasattr(value, "dtype"):
            scalars: list[Any] = []
            self._arguments._collect_scalar(index, value, scalars)
            if scalars:
                self._arguments._scalars(tuple(scalars))
        else:
            self._arguments._scalars((index, code, value))

    def set_numbers(self, numbers: Sequence[tuple[int, Any]]) -> None:
        """Replace scalars by Python numbers of the types the slots were bound with, in one call."""
        codes = self._arguments._codes
        packed: list[Any] = []
        for index, value in numbers:
            code = codes.get(index)
            if code is None:
                self.set_scalar(index, value)
            else:
                packed += (index, code, value)
        if packed:
            self._arguments._scalars(tuple(packed))

    def launch(self) -> None:
        """Enqueue with the arguments as they are."""
        device = self.device
        if device.profile is None and not self._empty:
            try:
                self._cl.enqueue_nd_range_kernel(
                    device.queue, self._kernel, self.global_size, self.local_size
                )
                counters.kernels_launched += 1
                if not counters.kernels_launched % LAUNCHES_BETWEEN_WAITS:
                    device.throttle()
                return
            except Exception as error:
                device.launch_failed(self.name, error)
        if not self._empty:
            _enqueue(device, self._cl, self._kernel, self.name, self.global_size, self.local_size)


def _enqueue(
    device: OpenCLDevice,
    cl: Any,
    kernel: Any,
    name: str,
    global_size: Sizes,
    local_size: Sizes | None,
) -> None:
    """Launch; when the driver is out of memory, once more after cleaning up."""
    try:
        event = cl.enqueue_nd_range_kernel(device.queue, kernel, global_size, local_size)
    except Exception as error:
        device.launch_failed(name, error)
        try:
            event = cl.enqueue_nd_range_kernel(device.queue, kernel, global_size, local_size)
        except Exception as again:
            raise device.launch_out_of_memory(name, again) from again
    counters.kernels_launched += 1
    if not counters.kernels_launched % LAUNCHES_BETWEEN_WAITS:
        device.throttle()
    if device.profile is not None:
        device.profile.append((name, event))
