"""The parts of pyopencl that are faster or quieter than its public interface.

Everything that leans on pyopencl's internals is here, each with a public way out, so that a new
release of it can break speed but not function.

- ``Program.build`` warns about harmless compiler output and has a cache of its own.
- Creating a kernel looks up a generated launcher in a database in the user's cache folder, which
  costs 60 µs and raises when that folder cannot be made. lazytorch has no use for that launcher.
- ``Kernel.set_arg`` takes 6 µs for a scalar, the packing setter of the generated launchers 0.1.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np


class _LaunchersInMemory(dict[Any, Any]):
    """In place of pyopencl's database of generated launchers. A launcher without argument types
    depends on the number of arguments only, so kernels of any name share one."""

    @staticmethod
    def _without_name(key: Any) -> Any:
        return key[1:] if isinstance(key, tuple) and len(key) > 3 and key[3] is None else key

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._without_name(key))

    def store_if_not_present(self, key: Any, value: Any) -> None:
        self.setdefault(self._without_name(key), value)


def prepare(cl: Any) -> None:
    """Keep pyopencl's launchers in memory; does nothing when its internals have changed or the
    user switched its caches off."""
    if getattr(cl, "_PYOPENCL_NO_CACHE", True):
        return
    cl._PYOPENCL_NO_CACHE = True
    try:
        invoker = importlib.import_module("pyopencl.invoker")
    finally:
        cl._PYOPENCL_NO_CACHE = False
    invoker.invoker_cache = _LaunchersInMemory()  # type: ignore[attr-defined]


def create_program(cl: Any, context: Any, source: str) -> Any:
    """A program that is not built yet."""
    core = getattr(cl._cl, "_Program", None)
    return cl.Program(context, source) if core is None else core(context, source)


def create_program_from_binary(cl: Any, context: Any, device: Any, binary: bytes) -> Any:
    """A program that is not built yet, from an earlier program's binary."""
    core = getattr(cl._cl, "_Program", cl.Program)
    return core(context, [device], [binary])


def build_program(program: Any, device: Any, options: str) -> None:
    """Build in place; raises ``cl.Error`` when the compiler refuses."""
    if hasattr(program, "_build"):
        program._build(options=options.encode(), devices=[device])
    elif type(program).__name__ == "_Program":
        program.build(options.encode(), [device])
    else:
        program.build(options, devices=[device], cache_dir=False)


# 'l' has 8 bytes except on Windows, and the packing setter knows no 'q'.
_LONG = struct.calcsize("l") == 8
CODES: dict[type, bytes] = {
    np.bool_: b"B",
    np.int8: b"b",
    np.uint8: b"B",
    np.int16: b"h",
    np.uint16: b"H",
    np.int32: b"i",
    np.uint32: b"I",
    np.float32: b"f",
    np.float64: b"d",
    **({np.int64: b"l", np.uint64: b"L"} if _LONG else {}),
}
_TYPES = {code: scalar for scalar, code in CODES.items() if scalar is not np.bool_}
Setter = Callable[[tuple[Any, ...]], None]


def buffer_setter(kernel: Any) -> Setter:
    """``set((index, handle, index, handle, ...))``."""
    fast = getattr(kernel, "_set_arg_multi", None)
    if fast is not None:
        return fast  # type: ignore[no-any-return]

    def slow(pairs: tuple[Any, ...]) -> None:
        for index, handle in zip(pairs[::2], pairs[1::2], strict=True):
            kernel.set_arg(index, handle)

    return slow


def scalar_setter(kernel: Any) -> Setter:
    """``set((index, code, number, index, code, number, ...))`` with the codes of CODES."""
    fast = getattr(kernel, "_set_arg_buf_pack_multi", None)
    if fast is not None:
        return fast  # type: ignore[no-any-return]

    def slow(triples: tuple[Any, ...]) -> None:
        for index, code, number in zip(triples[::3], triples[1::3], triples[2::3], strict=True):
            kernel.set_arg(index, _TYPES[code](number))

    return slow
