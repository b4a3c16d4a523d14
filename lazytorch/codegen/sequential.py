"""Bodies that walk an axis in order: running scans and scatters.

Rows are independent; within one, order is what makes the result the same every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lazytorch.codegen import ctypes
from lazytorch.codegen.emitter import Emitter
from lazytorch.dtypes import DType
from lazytorch.ir.index import Axis
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


@dataclass(frozen=True)
class Columns:
    """Rows of a scatter that lie side by side in the target and share their positions: those
    of ``axis`` from ``start`` to ``stop`` (C texts) are treated ``width`` at a time."""

    axis: Axis
    width: int
    start: str
    stop: str


def scatter_axis(body: ScatterBody, width: int) -> Axis | None:
    """The row axis along which a scatter can be done in vectors, if there is one."""
    axis = body.rows[-1] if body.rows else None
    if axis is None or axis.size < width:
        return None
    # An index that needs a position of its own in each row is not linear in the axis.
    if body.base_index.coefficient(axis) != 1 or body.target_index.coefficient(axis) != 1:
        return None
    return axis


def render_scatter(
    body: ScatterBody, emitter: Emitter, values: dict[int, DType], columns: Columns | None = None
) -> None:
    """Copy the base along its axis, then combine the values into it one after the other."""
    name = emitter.names(body.target)
    dtype = values[body.target]

    def copy(width: int) -> None:
        assert body.base is not None
        emitter.store(name, body.base_index, body.base, dtype, width)

    def combine(width: int) -> None:
        text = emitter.wide(body.value, width)
        if body.combine is not None:
            held = emitter.element(name, body.target_index, dtype, width)
            text = emitter.operation(body.combine, [held, text], dtype, dtype, width)
        emitter.store_text(name, body.target_index, text, dtype, width)

    if body.base is not None:
        _walk(emitter, body.base_axis, copy, columns)
    _walk(emitter, body.axis, combine, columns)


def _walk(
    emitter: Emitter, axis: Axis, statement: Callable[[int], None], columns: Columns | None
) -> None:
    """``statement`` at each position of an axis in order, for one row or for a block of them."""
    with emitter.loops((axis,)):
        if columns is None:
            statement(1)
        else:
            _in_columns(emitter, statement, columns)


def _in_columns(emitter: Emitter, statement: Callable[[int], None], columns: Columns) -> None:
    column = emitter.fresh("c")
    axis, width, stop = columns.axis, columns.width, columns.stop
    emitter.line(f"{emitter.index_type} {column} = {columns.start};")
    emitter.open(axis, width)
    emitter.name_axis(axis, column)
    statement(width)
    emitter.close(f"for (; {column} + {width} <= {stop}; {column} += {width}) {{")
    if axis.size % width:
        emitter.open()
        emitter.name_axis(axis, column)
        statement(1)
        emitter.close(f"for (; {column} < {stop}; {column}++) {{")
