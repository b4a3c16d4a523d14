"""The device that every machine has: memory of the process, kernels evaluated with NumPy.

Knows how to hand out memory. It builds and launches nothing; the engine runs a scheduled kernel
on it through an evaluator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.runtime.buffers import Block, Buffer, MemoryPool, export
from lazytorch.runtime.device import Capabilities, Device
from lazytorch.runtime.host import (
    aligned_host_memory,
    host_bytes,
    host_memory,
    write_host,
)

_ALIGNMENT = 64
_FRACTION = 0.9


class NumpyDevice(Device):
    """Device ``numpy``. Everything is done when a call returns, so nothing needs waiting for.

    Under another ``name`` it stands in for a device that this process may not use.
    """

    kind = "numpy"

    def __init__(self, name: str = "numpy") -> None:
        memory = host_memory()
        capabilities = Capabilities(
            name="NumPy",
            vendor="NumPy",
            driver=np.__version__,
            family="cpu",
            fp64=True,
            fp16=True,
            max_allocation=memory,
            max_argument_bytes=1 << 30,
            global_memory=memory,
            local_memory=0,
            max_work_group_size=1,
            compute_units=1,
            native_vector_width_float=1,
            base_alignment_bytes=1,
            zero_copy=True,
        )
        pool = MemoryPool(make_block, int(memory * _FRACTION), memory)
        super().__init__(name, capabilities, pool)
        pool.device = self

    def wrap_host(self, array: np.ndarray[Any, Any], origin: object | None = None) -> Buffer:
        buffer = Buffer(self, array.nbytes, None, host_bytes(array), None)
        buffer._keep = array
        buffer.origin = origin
        return buffer

    def synchronize(self) -> None:
        self.pool.end_wait(self.pool.begin_wait())

    def _write(self, buffer: Buffer, array: np.ndarray[Any, Any], idle: bool) -> None:
        assert buffer.host is not None
        write_host(buffer.host, array)

    def _read(self, buffer: Buffer, dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        return export(buffer, dtype, shape)

    def _slice(self, buffer: Buffer, offset: int, nbytes: int) -> Buffer:
        assert buffer.host is not None
        return Buffer(self, nbytes, None, buffer.host[offset : offset + nbytes], None)


def make_block(size: int) -> Block:
    """A block of plain process memory."""
    return Block(None, aligned_host_memory(size, _ALIGNMENT), size)
