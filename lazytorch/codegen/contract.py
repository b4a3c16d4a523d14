"""Lowering contractions: from a sum of products over axes to kernels with explicit tiles.

On a CPU target: an operand that cannot be read in place as broadcast scalars is packed by a
kernel of its own; the other is staged by the main kernel. When few outputs share long sums the
sums are split over work-items and added up by a last kernel. Knows forms and schedules; must
not know C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lazytorch.codegen.choice import (
    ContractSchedule,
    GroupSchedule,
    PixelSchedule,
    Schedule,
    TapSchedule,
)
from lazytorch.codegen.contract_body import (
    GroupContractBody,
    PixelContractBody,
    TapContractBody,
    TiledContractBody,
)
from lazytorch.codegen.contract_form import Form, affine, canonical, has_unit_stride, swapped
from lazytorch.codegen.contract_memory import remembered_pixels, remembered_taps, remembered_tiling
from lazytorch.codegen.contract_pack import PanelPackBody, panel_pitch
from lazytorch.codegen.contract_pixels import PixelTiling
from lazytorch.codegen.contract_pixels_choice import wished_pixels
from lazytorch.codegen.contract_pixels_pack import PixelPackBody, packed_elements, packed_kernel
from lazytorch.codegen.contract_schedule import rows_collide, wish_for
from lazytorch.codegen.contract_taps import TapTiling, wished_taps
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.group_tiling import choose_group_tiling
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index, row_major_strides
from lazytorch.ir.kernel import ContractBody, Kernel, Reduce, RowBody, Store, extent
from lazytorch.ops import elementwise, reduction

NewValue = Callable[[DType, int], int]
Temporary = Callable[[DType, int], int]
# Bytes between neighbours along the sum from which the scalar operand is packed.
FAR_STRIDE = 1536
PARTIAL = "contract: sums split over work-items"


def lower_contract(
    body: ContractBody,
    values: dict[int, DType],
    new_value: NewValue,
    target: Target,
    schedule: Schedule | None = None,
) -> list[Kernel]:
    """The kernels that compute ``body``, in launch order.

    ``new_value(dtype, count)`` gives the number of a new temporary array; ``schedule`` is what
    somebody wants instead of the rules' choice.
    """
    form = settled(body, target)
    known = dict(values)

    def temporary(dtype: DType, count: int) -> int:
        number = new_value(dtype, count)
        known[number] = dtype
        return number

    def kernel(body: Any, note: str = "", packs: bool = False) -> Kernel:
        return Kernel((body,), dict(known), notes=(note,) if note else (), packs=packs)

    if form.summed_count == 0:
        return [kernel(_empty_sum(form), "contract: nothing to sum")]
    if target.family == "cpu" and _is_row_of_dots(form):
        return [kernel(_as_reduction(form), "contract: dot products")]
    if target.family == "gpu":
        wanted_groups = schedule if isinstance(schedule, GroupSchedule) else None
        groups = choose_group_tiling(form, target, wanted_groups)
        if groups.splits == 1:
            return [kernel(GroupContractBody(form, groups))]
        partial, split, final = _split_sum(form, groups.splits, temporary)
        return [kernel(GroupContractBody(partial, groups, split=split)), kernel(final, PARTIAL)]
    kernels: list[Kernel] = []
    pixels, taps = _convolution(form, target, schedule)
    if pixels is not None:
        kernel_pack, main = _pixels(*pixels, temporary)
        return [kernel(kernel_pack, "contract: packed kernel", True), kernel(main)]
    if taps is not None:
        if taps.splits == 1:
            return [kernel(TapContractBody(form, taps))]
        partial, split, final = _split_sum(form, taps.splits, temporary, along_rows=True)
        return [kernel(TapContractBody(partial, taps, split=split)), kernel(final, PARTIAL)]
    wanted = schedule if isinstance(schedule, ContractSchedule) else None
    tiling = remembered_tiling(form, target, wanted)
    how = _packing(form, tiling, wanted.pack if wanted is not None else "")
    if how != "place":
        pack: Any
        if how == "panels":
            pack, form = _pack_panels(form, tiling, temporary)
            tiling = tiling.changed(packed_panels=True)
        else:
            pack, form = _pack_rows(form, temporary)
        kernels.append(kernel(pack, "contract: packed operand", True))
    if tiling.splits == 1:
        kernels.append(kernel(TiledContractBody(form, tiling)))
        return kernels
    partial, split, final = _split_sum(form, tiling.splits, temporary)
    kernels.append(kernel(TiledContractBody(partial, tiling, split=split)))
    kernels.append(kernel(final, PARTIAL))
    return kernels


def _convolution(
    form: Form, target: Target, schedule: Schedule | None
) -> tuple[tuple[Form, PixelTiling] | None, TapTiling | None]:
    """A tiling for convolutions: the one that is wished for, where it fits, or the rules'. Neither
    where another kind of tiling is wished for, or none is known."""
    wish = wish_for(form, target)
    if isinstance(schedule, ContractSchedule):
        return None, None
    if isinstance(schedule, TapSchedule):
        taps = wished_taps(form, wish, schedule)
        if taps is not None:
            return None, taps
    pixels = None
    if isinstance(schedule, PixelSchedule):
        pixels = wished_pixels(form, wish, schedule)
    pixels = pixels or remembered_pixels(form, target)
    return pixels, remembered_taps(form, target) if pixels is None else None


def _pixels(
    form: Form, tiling: PixelTiling, temporary: Temporary
) -> tuple[PixelPackBody, PixelContractBody]:
    """What packs the kernel, and what convolves."""
    number = temporary(form.accumulate, packed_elements(form, tiling))
    packed = replace(form, vector=packed_kernel(form, tiling, number))
    pack = PixelPackBody(form, tiling, number)
    return pack, PixelContractBody(packed, tiling, pack.batch)


def settled(body: ContractBody, target: Target) -> Form:
    """The form that schedules are chosen for."""
    form = _accumulating(canonical(body))
    return swapped(form) if target.family == "cpu" and _saves_packing(form) else form


def is_reduction(body: ContractBody, target: Target) -> bool:
    """Whether the contraction is written as a reduction of rows."""
    return target.family == "cpu" and _is_row_of_dots(settled(body, target))


def _packing(form: Form, tiling: Tiling, wanted: str) -> str:
    """How the scalar operand is read: 'place', or packed in 'panels' or 'rows'."""
    if tiling.scalar_windows:
        return "place"
    possible = possible_packing(form)
    if wanted in possible:
        return wanted
    if tiling.in_place and rows_collide(form, tiling.panels) and _is_large(form):
        return "rows"
    return "place" if _readable_in_place(form) else possible[0]


def _is_large(form: Form) -> bool:
    """Whether copying a few rows takes no time beside reading the vector operand."""
    return form.column_count * form.summed_count >= 1 << 20


def possible_packing(form: Form) -> list[str]:
    """The ways to read the scalar operand that this form allows, the rule's way to pack first."""
    ways = ["panels", "rows"] if _packs_in_panels(form) else ["rows"]
    index = affine(form.scalar, (*form.batch, *form.rows, *form.summed), form.accumulate)
    return ways if index is None else [*ways, "place"]


def _accumulating(form: Form) -> Form:
    """Operands in the type of the sum."""

    def cast(operand: Expression) -> Expression:
        if operand.dtype.compute is form.accumulate:
            return operand
        return ex.apply(elementwise.CAST, (form.accumulate,), (operand,), form.accumulate)

    return replace(form, scalar=cast(form.scalar), vector=cast(form.vector))


def _empty_sum(form: Form) -> RowBody:
    """The epilogue of zeros."""

    def change(value: Expression) -> Expression | None:
        return ex.constant(0, value.dtype) if value.kind == ex.RESULT else None

    stores = tuple(
        replace(store, value=ex.rewrite(store.value, {}, change)) for store in form.epilogue
    )
    return RowBody((*form.batch, *form.rows, *form.columns), stores)


def _is_row_of_dots(form: Form) -> bool:
    """Whether the register tile would hold next to nothing and both operands run along the sum."""
    if not form.summed or form.summed_count < 32:
        return False
    if form.row_count * form.column_count == 1:
        return True
    return form.row_count == 1 and has_unit_stride(form.vector, form.summed[-1])


def _as_reduction(form: Form) -> RowBody:
    product = ex.apply(elementwise.MUL, (), (form.scalar, form.vector), form.accumulate)
    reduce = Reduce(form.number, reduction.SUM, product, form.summed)
    return RowBody((*form.batch, *form.rows, *form.columns), (reduce, *form.epilogue))


def _flat(axes: tuple[Axis, ...]) -> Index:
    strides = row_major_strides(tuple(axis.size for axis in axes))
    return ix.total(ix.of_atom(axis) * stride for axis, stride in zip(axes, strides))


def _readable_in_place(form: Form) -> bool:
    """Whether the register tile may broadcast the scalar operand straight from its array."""
    index = affine(form.scalar, (*form.batch, *form.rows, *form.summed), form.accumulate)
    if index is None:
        return False
    if not form.summed:
        return True
    # Far strides along the sum touch a page for every step.
    step = abs(index.coefficient(form.summed[-1]) or 0)
    far = step * form.accumulate.itemsize >= FAR_STRIDE and form.column_count >= 64
    return not (far and _packs_in_panels(form))


def _saves_packing(form: Form) -> bool:
    """Whether the operands had better change roles, with results stored across the vectors.

    In a weight's gradient over many rows both operands are contiguous along what they do not sum.
    The wider one would be packed as scalars; as vectors it is staged at next to no cost, and the
    narrower one is read in place or packed for less. A product of 2048 x 1024 and 2048 x 256
    with an optimizer's update behind it took 5.2 ms with packing, 4.2 without.
    """
    if len(form.rows) != 1 or len(form.columns) != 1 or _readable_in_place(form):
        return False
    rows, columns = form.row_count, form.column_count
    if rows < 2 * columns or form.summed_count < 2 * columns:
        return False
    return all(
        has_unit_stride(operand, free[0])
        and affine(operand, (*form.batch, *free, *form.summed), form.accumulate) is not None
        for operand, free in ((form.scalar, form.rows), (form.vector, form.columns))
    )


def _packs_in_panels(form: Form) -> bool:
    return len(form.rows) == 1 and has_unit_stride(form.scalar, form.rows[0])


def _pack_panels(form: Form, tiling: Tiling, temporary: Temporary) -> tuple[PanelPackBody, Form]:
    """A kernel that writes the scalar operand in panels, and the form that reads those."""
    batch, summed = _batch_of(form.scalar, form), extent(form.summed)
    mr, width = tiling.panels.mr, tiling.width
    pitch = panel_pitch(summed, mr, width)
    panels = tiling.panels.count
    number = temporary(form.accumulate, extent(batch) * panels * pitch)
    pack = PanelPackBody(
        form.scalar, batch, form.rows[0], form.summed, mr, width, number, form.accumulate
    )
    # The panel's own offset is added where the main kernel counts panels.
    index = _flat(batch) * (panels * pitch) + _flat(form.summed) * mr
    packed = ex.load(number, index, (), form.accumulate)
    return pack, replace(form, scalar=packed)


def _pack_rows(form: Form, temporary: Temporary) -> tuple[RowBody, Form]:
    """A kernel that writes the scalar operand row by row, and the form that reads that."""
    pitch = padded_pitch(extent(form.summed), form.accumulate.itemsize)
    batch = _batch_of(form.scalar, form)
    number = temporary(form.accumulate, extent(batch) * form.row_count * pitch)
    index = _flat((*batch, *form.rows)) * pitch + _flat(form.summed)
    pack = RowBody((*batch, *form.rows, *form.summed), (Store(number, index, form.scalar),))
    packed = ex.load(number, index, (), form.accumulate)
    return pack, replace(form, scalar=packed)


def _batch_of(operand: Expression, form: Form) -> tuple[Axis, ...]:
    used = operand.axes()
    return tuple(axis for axis in form.batch if axis in used)


def padded_pitch(length: int, itemsize: int) -> int:
    """A row length in elements at which rows do not fall on the same cache sets."""
    line = 64 // itemsize
    pitch = -(-length // line) * line
    return pitch + line if pitch * itemsize % 1024 == 0 else pitch


def _split_sum(
    form: Form, splits: int, temporary: Temporary, along_rows: bool = False
) -> tuple[Form, Axis, RowBody]:
    """The form that computes partial sums, their axis, and the body that adds them up.

    Partial sums are contiguous along the columns, or ``along_rows``.
    """
    inner = (*form.columns, *form.rows) if along_rows else (*form.rows, *form.columns)
    outputs = (*form.batch, *inner)
    total = extent(outputs)
    number = temporary(form.accumulate, total * splits)
    split = Axis(splits, "p")
    place = ix.of_atom(split) * total + _flat(outputs)
    result = ex.result(form.number, form.accumulate)
    partial = replace(form, epilogue=(Store(number, place, result),))
    loaded = ex.load(number, place, (), form.accumulate)
    reduce = Reduce(form.number, reduction.SUM, loaded, (split,))
    return partial, split, RowBody(outputs, (reduce, *form.epilogue))
