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
    """Rows of a scatter that lie side by side in the target: those of ``axis`` from ``start`` to
    ``stop`` (C texts). They are copied ``width`` at a time, and combined so where they ``share``
    their positions; else one after the other."""

    axis: Axis
    width: int
    start: str
    stop: str
    share: bool


def scatter_axis(body: ScatterBody, width: int) -> Axis | None:
    """The row axis whose rows lie side by side in the target, if there is one."""
    axis = body.rows[-1] if body.rows else None
    if axis is None or axis.size < width or body.base_index.coefficient(axis) != 1:
        return None
    return axis


def share_positions(body: ScatterBody, axis: Axis) -> bool:
    """Whether all rows along ``axis`` write to the same positions; an index that needs a position
    of its own in each row is not linear in the axis."""
    return body.target_index.coefficient(axis) == 1


def render_scatter(
    body: ScatterBody,
    emitter: Emitter,
    values: dict[int, DType],
    columns: Columns | None = None,
    width: int = 1,
) -> None:
    """Copy the base along its axis, then combine the values into it one after the other.

    Without ``columns`` one row is treated, whose base is copied ``width`` elements at a time.
    """
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

    if columns is None:
        if body.base is not None:
            _in_columns(emitter, copy, Columns(body.base_axis, width, "0", "", False), width)
        _walk(emitter, body.axis, lambda: combine(1))
        return
    if body.base is not None:
        _walk(emitter, body.base_axis, lambda: _in_columns(emitter, copy, columns, columns.width))
    part = columns.width if columns.share else 1
    _walk(emitter, body.axis, lambda: _in_columns(emitter, combine, columns, part))


def _walk(emitter: Emitter, axis: Axis, statement: Callable[[], None]) -> None:
    """``statement`` at each position of an axis in order."""
    with emitter.loops((axis,)):
        statement()


def _in_columns(
    emitter: Emitter, statement: Callable[[int], None], columns: Columns, width: int
) -> None:
    """``statement`` for the columns, ``width`` at a time, then for what is left one by one."""
    column = emitter.fresh("c")
    axis, stop = columns.axis, columns.stop or str(columns.axis.size)
    emitter.line(f"{emitter.index_type} {column} = {columns.start};")
    for part in (width, 1) if width > 1 and axis.size % width else (width,):
        emitter.open(axis if part > 1 else None, part)
        emitter.name_axis(axis, column)
        statement(part)
        emitter.close(f"for (; {column} + {part} <= {stop}; {column} += {part}) {{")
