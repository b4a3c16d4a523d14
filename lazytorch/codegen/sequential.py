"""Bodies that walk an axis in order: running scans and scatters.

Rows are independent; within one, order is what makes the result the same every time.
"""

from __future__ import annotations

from lazytorch.codegen import ctypes
from lazytorch.codegen.emitter import Emitter
from lazytorch.dtypes import DType
from lazytorch.ir.index import Index
from lazytorch.ir.kernel import ScanBody, ScatterBody


def render_scan(body: ScanBody, emitter: Emitter, values: dict[int, DType]) -> None:
    """One running combination along the axis."""
    dtype = body.value.dtype
    assert body.op.identity is not None
    held = emitter.fresh("acc")
    type_name = ctypes.value_type(dtype)
    emitter.line(f"{type_name} {held} = {ctypes.literal(body.op.identity(dtype), dtype)};")
    step = emitter.fresh("k")
    emitter.open()
    emitter.name_axis(body.axis, step)
    text, _ = emitter.value(body.value)
    compute = dtype.compute
    combined = emitter.operation(body.op.combine, [held, text], compute, compute, 1)
    emitter.line(f"{held} = {combined};")
    emitter.store_text(emitter.names(body.target), body.index, held, values[body.target])
    emitter.close(f"for (int {step} = 0; {step} < {body.axis.size}; {step}++) {{")


def render_scatter(body: ScatterBody, emitter: Emitter, values: dict[int, DType]) -> None:
    """Copy the base along its axis, then combine the values into it one after the other."""
    name = emitter.names(body.target)
    dtype = values[body.target]
    if body.base is not None:
        step = emitter.fresh("k")
        emitter.open()
        emitter.name_axis(body.base_axis, step)
        emitter.store(name, body.base_index, body.base, dtype, 1)
        emitter.close(f"for (int {step} = 0; {step} < {body.base_axis.size}; {step}++) {{")
    step = emitter.fresh("k")
    emitter.open()
    emitter.name_axis(body.axis, step)
    text, _ = emitter.value(body.value)
    where: Index = body.target_index
    if body.combine is not None:
        held = emitter.element(name, where, dtype)
        text = emitter.operation(body.combine, [held, text], dtype, dtype, 1)
    emitter.store_text(name, where, text, dtype)
    emitter.close(f"for (int {step} = 0; {step} < {body.axis.size}; {step}++) {{")
