"""The C types of a contraction's sums, and the stores of a finished sum.

Unsigned arithmetic wraps where signed overflow is undefined in C, so integers are summed in the
unsigned type of their width and change back with their bits.
"""

from __future__ import annotations

from collections.abc import Iterable

from lazytorch.codegen import ctypes
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.stores import store_all
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import Store

_UNSIGNED = {"int": "uint", "long": "ulong"}


class Sums:
    """What the sums of ``form`` are called in C: ``type`` in them, ``value_type`` outside."""

    def __init__(self, form: Form, emitter: Emitter) -> None:
        self.value_type = ctypes.value_type(form.accumulate)
        self.type = _UNSIGNED.get(self.value_type, self.value_type)
        self._emitter = emitter
        self._result = ex.result(form.number, form.accumulate)

    def of_value(self, text: str, width: int) -> str:
        """A value's bits in the type of the sums."""
        if self.type == self.value_type:
            return text
        return f"as_{ctypes.vector(self.type, width)}({text})"

    def store(self, text: str, width: int, stores: Iterable[Store]) -> None:
        """The stores of ``width`` finished sums, which are read as ``text``."""
        emitter, typed = self._emitter, ctypes.vector(self.value_type, width)
        if self.type != self.value_type:
            text = f"as_{typed}({text})"
        emitter.line(f"const {typed} total = {text};")
        emitter.define(self._result, "total", width)
        store_all(stores, emitter, width)
