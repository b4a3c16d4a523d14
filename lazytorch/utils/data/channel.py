"""What a loader and its worker say to each other: numbered messages over a socket.

Small messages travel in the socket. Large ones are laid into memory that has no name in any file
system, and the socket carries the right to it: whoever dies at whatever moment, the system takes
the memory back with the last process that held it. Arrays and tensors are copied there once and
read back once, and large tensors stay where they were read. Knows nothing about datasets.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import select
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from lazytorch import dtypes
from lazytorch.tensor.attach import functions
from lazytorch.tensor.creation import in_given_memory
from lazytorch.tensor.tensor import Tensor
from lazytorch.utils.data.collate import from_host, with_range

# A socket that is ready to write takes so much at once: nobody waits in the middle of a message.
INLINE_BYTES = 1 << 15
PATIENCE_SECONDS = 5.0
_ALIGNMENT = 64
_HEADER = struct.Struct("<BqqQQ")
# Where sockets cannot carry the right to memory everything goes through the pipe itself.
_PASSES_MEMORY = os.name == "posix"


class Message(NamedTuple):
    """One message, its contents still as they travelled: late ones are never unpacked."""

    kind: int
    epoch: int
    number: int
    parts: Sequence[memoryview]

    def value(self) -> Any:
        """What was sent."""
        return pickle.loads(self.parts[0], buffers=self.parts[1:])


class Channel:
    """One end of the line."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, kind: int, epoch: int, number: int, value: Any = None) -> None:
        """Send one message; nothing is sent when ``value`` cannot be pickled."""
        parts = _packed(value)
        table = struct.pack(f"<{len(parts)}Q", *(len(part) for part in parts))
        starts, size = _layout(len(table), parts)
        inline = size <= INLINE_BYTES or not _PASSES_MEMORY
        header = _HEADER.pack(kind, epoch, number, len(parts), 0 if inline else size)
        if inline:
            area = bytearray(size)
            _fill(memoryview(area), table, starts, parts)
            self.connection.send_bytes(header + area)
            return
        with _nameless_memory(size) as memory:
            _write(memory, table, starts, parts)
            self.connection.send_bytes(header)
            reduction.send_handle(self.connection, memory, 0)

    def receive(self) -> Message:
        """The next message, waited for; ``EOFError`` when the other end is gone."""
        raw = memoryview(bytearray(self.connection.recv_bytes()))
        kind, epoch, number, count, size = _HEADER.unpack_from(raw)
        if size:
            return Message(kind, epoch, number, self._fetched(count))
        area = raw[_HEADER.size :]
        lengths = struct.unpack_from(f"<{count}Q", area)
        starts, _ = _layout(8 * count, lengths)
        parts = [area[start : start + length] for start, length in zip(starts, lengths)]
        return Message(kind, epoch, number, parts)

    def _fetched(self, count: int) -> list[memoryview]:
        """The parts of a message, each in memory of its own: keeping one keeps no others."""
        memory = reduction.recv_handle(self.connection)
        try:
            lengths = struct.unpack(f"<{count}Q", _read_at(memory, 8 * count, 0))
            starts, _ = _layout(8 * count, lengths)
            return [_read_at(memory, length, start) for start, length in zip(starts, lengths)]
        finally:
            os.close(memory)

    def wait_until_writable(self, meanwhile: Callable[[], None]) -> None:
        """Wait for room for a message. ``meanwhile`` is called when something arrives before
        that, and every few seconds."""
        if not _PASSES_MEMORY:
            return
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLOUT | select.POLLIN)
        while not any(event & ~select.POLLIN for _, event in poll.poll(1000 * PATIENCE_SECONDS)):
            meanwhile()

    def close(self) -> None:
        """Hang up; the other end reads ``EOFError``."""
        self.connection.close()


def _layout(table: int, parts: Sequence[Any]) -> tuple[list[int], int]:
    """Where each part (or a part of that length) begins behind the table, and the whole size."""
    starts: list[int] = []
    end = table
    for part in parts:
        starts.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
        end = starts[-1] + (part if isinstance(part, int) else len(part))
    return starts, end


def _fill(area: memoryview, table: bytes, starts: Sequence[int], parts: Sequence[Any]) -> None:
    area[: len(table)] = table
    for start, part in zip(starts, parts):
        area[start : start + len(part)] = part


def _write(memory: int, table: bytes, starts: Sequence[int], parts: Sequence[Any]) -> None:
    _write_at(memory, memoryview(table), 0)
    for start, part in zip(starts, parts):
        _write_at(memory, part, start)


def _write_at(memory: int, part: memoryview, start: int) -> None:
    done = 0
    while done < len(part):
        done += os.pwrite(memory, part[done:], start + done)


def _read_at(memory: int, length: int, start: int) -> memoryview:
    part = memoryview(np.empty(length, np.uint8))  # type: ignore[arg-type]
    done = 0
    while done < length:
        done += os.preadv(memory, [part[done:]], start + done)
    return part


@contextlib.contextmanager
def _nameless_memory(size: int) -> Iterator[int]:
    """A descriptor of memory that ends with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("lazytorch-batch")
        try:
            yield memory
        finally:
            os.close(memory)
        return
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


# Contents -------------------------------------------------------------------------------------


def _packed(value: Any) -> list[memoryview]:
    """The pickle of ``value``, and behind it the memory of the arrays and tensors in it."""
    stream = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(stream, 5, buffer_callback=buffers.append).dump(value)
    return [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]


class _Pickler(pickle.Pickler):
    """Takes of a tensor what it shows, not the whole storage it is a part of."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor:
            return NotImplemented
        if value.requires_grad and not value.is_leaf:  # type: ignore[attr-defined]
            raise RuntimeError(
                "a worker cannot send a tensor with a gradient history to the loader: a graph "
                "does not cross processes. Use detach() in the dataset or collate_fn."
            )
        host: Any = np.ascontiguousarray(functions.peek(value.detach()))  # type: ignore[attr-defined]
        facts = (tuple(value.shape), value.dtype.name, value.device, value.requires_grad)  # type: ignore[attr-defined]
        return _tensor_from, (host.reshape(-1).view(np.uint8), *facts)


def _tensor_from(
    raw: np.ndarray, shape: tuple[int, ...], dtype: str, device: Any, requires_grad: bool
) -> Tensor:
    array = raw.view(dtypes.by_name(dtype).numpy).reshape(shape)
    if raw.nbytes > INLINE_BYTES:
        made = with_range(in_given_memory(array, device), array)
    else:
        made = from_host(array, device)
    return made.requires_grad_() if requires_grad else made  # type: ignore[attr-defined,no-any-return]
