"""The canonical form of a contraction: which operand is broadcast, which is a vector, and axes.

One operand supplies scalars that are broadcast, the other vectors along the axis in which the
output has unit stride. Adjacent axes that every index walks as one are merged, so that a batch
of images, a matrix product and a 1x1 convolution look alike. Knows expressions and bodies;
must not know tile sizes or C.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index
from lazytorch.ir.kernel import ContractBody, Store, extent

# Up to so many rows the other operand stays as it lies; sums and columns shorter than this are
# no matter.
FEW_ROWS, LONG_SUM = 16, 128


@dataclass(frozen=True)
class Form:
    """A contraction with its roles settled: ``sum over summed of scalar * vector``.

    ``scalar`` depends on (batch, rows, summed) and ``vector`` on (batch, columns, summed).
    ``columns`` ends with the axis that vectors run along.
    """

    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    scalar: Expression
    vector: Expression
    number: int
    accumulate: DType
    epilogue: tuple[Store, ...]

    @property
    def row_count(self) -> int:
        return extent(self.rows)

    @property
    def column_count(self) -> int:
        return extent(self.columns)

    @property
    def summed_count(self) -> int:
        return extent(self.summed)

    @property
    def batch_count(self) -> int:
        return extent(self.batch)

    def substitute(self, replacements: Mapping[Axis, Index]) -> Form:
        """The form with axes replaced in every expression (the axis lists are left alone)."""
        stores = tuple(
            replace(
                store,
                index=store.index.substitute(replacements),
                value=store.value.substitute_axes(replacements),
            )
            for store in self.epilogue
        )
        return replace(
            self,
            scalar=self.scalar.substitute_axes(replacements),
            vector=self.vector.substitute_axes(replacements),
            epilogue=stores,
        )

    def indices(self) -> list[Index]:
        """Every index in the operands and the epilogue."""
        values = [self.scalar, self.vector, *(store.value for store in self.epilogue)]
        found = [store.index for store in self.epilogue]
        for value in ex.walk(values):
            found.extend(ex.indices_of(value))
        return found


@dataclass(frozen=True)
class Window:
    """``free`` and ``tap`` occur only as ``stride * free + dilation * tap`` in an operand."""

    free: Axis
    tap: Axis
    stride: int
    dilation: int

    @property
    def extent(self) -> int:
        return (self.free.size - 1) * self.stride + (self.tap.size - 1) * self.dilation + 1


def canonical(body: ContractBody) -> Form:
    """Settle the roles of the operands, order the axes and merge what can be merged."""
    form = Form(
        batch=body.batch, rows=body.rows, columns=body.columns, summed=body.summed,
        scalar=body.first, vector=body.second, number=body.number,
        accumulate=body.accumulate, epilogue=body.epilogue,
    )  # fmt: skip
    form = _merge(_drop_single(form))
    if _prefers_swap(form):
        form = swapped(form)
    return _ordered(form)


def swapped(form: Form) -> Form:
    """The same sum with the operands' roles exchanged."""
    return replace(
        form, rows=form.columns, columns=form.rows, scalar=form.vector, vector=form.scalar
    )


def _drop_single(form: Form) -> Form:
    def kept(axes: Iterable[Axis]) -> tuple[Axis, ...]:
        return tuple(axis for axis in axes if axis.size != 1)

    return replace(
        form, batch=kept(form.batch), rows=kept(form.rows),
        columns=kept(form.columns), summed=kept(form.summed),
    )  # fmt: skip


def _prefers_swap(form: Form) -> bool:
    if not form.columns or not form.rows:
        return bool(form.rows)
    # Vectors along a kernel position are a few elements long: the gradient of a convolution's
    # weight wants them along the other operand's axes, whatever the output's layout.
    if _is_narrow(form.vector, form.columns, form.summed) and form.row_count >= 8:
        return True
    if _is_narrow(form.scalar, form.rows, form.summed) and form.column_count >= 8:
        return False
    unit = unit_axis(form)
    # Phases of a strided convolution lie side by side in the result; they are two or three.
    if unit is not None and unit.size < 8:
        if unit in form.rows and windows(form.vector, form.columns, form.summed):
            return False
        if unit in form.columns and windows(form.scalar, form.rows, form.summed):
            return True
    turned = unit is not None and unit in form.rows
    vector = form.scalar if turned else form.vector
    rows, columns = (form.columns, form.rows) if turned else (form.rows, form.columns)
    if _suits_broadcast(vector, rows, columns, form):
        return not turned
    return turned


def _suits_broadcast(
    vector: Expression, rows: tuple[Axis, ...], columns: tuple[Axis, ...], form: Form
) -> bool:
    """Whether what would be the vector operand had better be read in place as scalars.

    A matrix that is contiguous along the sum would be turned around for a handful of rows; turning
    those few around takes a fraction of that, and the matrix is read once, in order.
    """
    if extent(rows) > FEW_ROWS or len(columns) != 1 or form.summed_count < LONG_SUM:
        return False
    return columns[0].size >= LONG_SUM and any(
        has_unit_stride(vector, axis) and not has_unit_stride(vector, columns[0])
        for axis in form.summed
    )


def _is_narrow(operand: Expression, free: tuple[Axis, ...], summed: tuple[Axis, ...]) -> bool:
    return any(window.free.size < window.tap.size for window in windows(operand, free, summed))


def unit_axis(form: Form) -> Axis | None:
    """The row or column axis along which the first store has unit stride."""
    index = form.epilogue[0].index
    for axis in (*form.columns, *form.rows):
        if index.coefficient(axis) == 1:
            return axis
    return None


def _merge(form: Form) -> Form:
    for name in ("batch", "rows", "columns", "summed"):
        merged = True
        while merged:
            form, merged = _merge_once(form, name)
    return form


def _merge_once(form: Form, name: str) -> tuple[Form, bool]:
    axes: tuple[Axis, ...] = getattr(form, name)
    if len(axes) < 2:
        return form, False
    indices = form.indices()
    for outer in axes:
        for inner in axes:
            if outer is inner or not _mergeable(outer, inner, indices):
                continue
            joined = Axis(outer.size * inner.size, outer.name)
            flat = ix.of_atom(joined)
            moved = form.substitute({outer: flat // inner.size, inner: flat % inner.size})
            kept = tuple(joined if axis is outer else axis for axis in axes if axis is not inner)
            return replace(moved, **{name: kept}), True  # type: ignore[arg-type]
    return form, False


def _mergeable(outer: Axis, inner: Axis, indices: Iterable[Index]) -> bool:
    for index in indices:
        outer_step, inner_step = index.coefficient(outer), index.coefficient(inner)
        if outer_step is None or inner_step is None or outer_step != inner_step * inner.size:
            return False
    return True


def _ordered(form: Form) -> Form:
    """Columns and rows by falling stride in the output; kernel positions last among the summed."""
    index = form.epilogue[0].index

    def by_store(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        steps = [index.coefficient(axis) for axis in axes]
        if any(step is None for step in steps):
            return axes
        return tuple(sorted(axes, key=lambda axis: -abs(index.coefficient(axis) or 0)))

    rows, columns = by_store(form.rows), by_store(form.columns)
    taps = {w.tap for w in windows(form.vector, columns, form.summed)}
    taps |= {w.tap for w in windows(form.scalar, rows, form.summed)}
    inner = _unit_summed(form)
    summed = sorted(form.summed, key=lambda axis: (axis in taps, not taps and axis is inner))
    return replace(form, rows=rows, columns=columns, summed=tuple(summed))


def _unit_summed(form: Form) -> Axis | None:
    for operand in (form.vector, form.scalar):
        for axis in form.summed:
            if has_unit_stride(operand, axis):
                return axis
    return None


def has_unit_stride(expression: Expression, axis: Axis) -> bool:
    """Whether every load walks ``axis`` with stride 1 or not at all, and some load does."""
    steps = {load.data[1].coefficient(axis) for load in ex.loads_of([expression])}
    return 1 in steps and steps <= {0, 1}


def windows(
    expression: Expression, free: tuple[Axis, ...], summed: tuple[Axis, ...]
) -> tuple[Window, ...]:
    """The pairs of a free and a summed axis that the operand only knows as one position."""
    indices = [index for value in ex.walk([expression]) for index in ex.indices_of(value)]
    found = []
    for axis in free:
        for tap in summed:
            window = _window(axis, tap, indices)
            if window is not None:
                found.append(window)
                break
    return tuple(found)


def _window(free: Axis, tap: Axis, indices: Iterable[Index]) -> Window | None:
    ratio: tuple[int, int] | None = None
    for index in indices:
        first, second = index.coefficient(free), index.coefficient(tap)
        if first is None or second is None:
            return None
        if first == 0 and second == 0:
            continue
        if first <= 0 or second <= 0:
            return None
        if ratio is None:
            # The smaller factor is that of the innermost dimension's index, if any is 1.
            divisor = min(first, second)
            if first % divisor or second % divisor:
                return None
            ratio = (first // divisor, second // divisor)
        if first * ratio[1] != second * ratio[0]:
            return None
    if ratio is None:
        return None
    stride, dilation = ratio
    # Without an overlap the two are a plain flattened pair, as in a row-major matrix.
    overlaps = (tap.size - 1) * dilation >= stride and (free.size - 1) * stride >= dilation
    return Window(free, tap, stride, dilation) if overlaps else None


def through_window(expression: Expression, window: Window, position: Axis) -> Expression:
    """The operand with the window's position as one axis of size ``window.extent``."""
    at = ix.of_atom(position)
    if window.dilation == 1:
        return expression.substitute_axes({window.free: ix.ZERO, window.tap: at})
    return expression.substitute_axes({window.free: at, window.tap: ix.ZERO})


def affine(expression: Expression, axes: tuple[Axis, ...], dtype: DType) -> Index | None:
    """The index of a plain unguarded load of ``dtype`` that is linear in ``axes``, or None."""
    if expression.kind != ex.LOAD or expression.dtype is not dtype:
        return None
    _, index, guard = expression.data
    if guard or any(index.coefficient(axis) is None for axis in axes):
        return None
    return index  # type: ignore[no-any-return]
