"""The program of a build worker: compiles OpenCL C for another process and gives the binaries back.

Run as a file, not as a module of the package: it loads pyopencl and the driver and nothing else.
Arguments: the device's platform name, device name and driver version. Over standard input it gets
pairs of messages, build options and source; over standard output it sends one empty message when
the device is open, then one for each pair: the binary, or nothing when the source does not compile.
A message is its length in eight bytes, then its bytes. It ends when its input does.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # This folder must not offer its modules (cache, device ...) to other packages.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]

import queue
import struct
import threading
import warnings
from typing import Any, BinaryIO

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: bytes) -> None:
    """Write one message."""
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """Read one message; ``None`` at the end of the stream, even in the middle of a message."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (count,) = LENGTH.unpack(head)
    message = stream.read(count)
    return message if len(message) == count else None


def find_device(cl: Any, platform_name: str, device_name: str, driver_version: str) -> Any:
    """The device that the parent process means."""
    wanted = (platform_name, device_name, driver_version)
    for platform in cl.get_platforms():
        if platform.name.strip() != platform_name:
            continue
        for device in platform.get_devices():
            found = (platform.name.strip(), device.name.strip(), device.driver_version.strip())
            if found == wanted:
                return device
    raise LookupError(f"there is no device {device_name!r} of {platform_name!r}")


def compile_source(cl: Any, context: Any, source: str, options: list[str]) -> bytes:
    """The binary of a program; nothing when it does not compile, which the parent tries itself
    to have the driver's words."""
    try:
        program = cl.Program(context, source).build(options, cache_dir=False)
        return bytes(program.get_info(cl.program_info.BINARIES)[0])
    except cl.Error:
        return b""


def listen(stream: BinaryIO, requests: queue.SimpleQueue[tuple[str, list[str]]]) -> None:
    """Pass requests on. Without a parent there is nothing left to do, not even to finish what is
    being compiled."""
    while (options := receive(stream)) is not None and (source := receive(stream)) is not None:
        requests.put((source.decode(), options.decode().split()))
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Compile what arrives until the input ends."""
    warnings.simplefilter("ignore")
    # A driver that prints must not speak into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.SimpleQueue[tuple[str, list[str]]] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, requests), daemon=True).start()
    import pyopencl as cl

    context = cl.Context([find_device(cl, *arguments)])
    # The driver's compiler initializes itself at the first build.
    compile_source(cl, context, "__kernel void nothing(__global int* a) { a[0] = 0; }", [])
    send(answers, b"")
    while True:
        source, options = requests.get()
        send(answers, compile_source(cl, context, source, options))


if __name__ == "__main__":
    main(sys.argv[1:])
