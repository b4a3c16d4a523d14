"""Lowering contractions: from a sum of products over axes to kernels with explicit tiles.

On a CPU target: an operand that cannot be read in place as broadcast scalars is packed by a
kernel of its own; the other is staged by the main kernel. When few outputs share long sums the
sums are split over work-items and added up by a last kernel. Knows forms and schedules; must
not know C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lazytorch.codegen.contract_body import TiledContractBody
from lazytorch.codegen.contract_form import Form, affine, canonical
from lazytorch.codegen.contract_schedule import choose_tiling
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index, row_major_strides
from lazytorch.ir.kernel import ContractBody, Kernel, Reduce, RowBody, Store, extent
from lazytorch.ops import elementwise, reduction

NewValue = Callable[[DType, int], int]



def lower_contract(
    body: ContractBody, values: dict[int, DType], new_value: NewValue, target: Target
) -> list[Kernel]:
    """The kernels that compute ``body``, in launch order.

    ``new_value(dtype, count)`` gives the number of a new temporary array.
    """
    form = _accumulating(canonical(body))
    known = dict(values)

    def temporary(dtype: DType, count: int) -> int:
        number = new_value(dtype, count)
        known[number] = dtype
        return number

    kernels: list[Kernel] = []
    tiling = choose_tiling(form, target)
    if not tiling.scalar_windows and not _readable_in_place(form):
        pack, form = _pack_scalar(form, temporary)
        kernels.append(Kernel((pack,), dict(known), notes=("contract: packed operand",)))
    if tiling.splits == 1:
        main = TiledContractBody(form, tiling)
        kernels.append(Kernel((main,), dict(known)))  # type: ignore[arg-type]
        return kernels
    partial, final = _split_sum(form, tiling.splits, temporary)
    kernels.append(Kernel((replace(partial, tiling=tiling),), dict(known)))  # type: ignore[arg-type]
    kernels.append(Kernel((final,), dict(known), notes=("contract: partial sums",)))
    return kernels


def _accumulating(form: Form) -> Form:
    """Operands in the type of the sum."""

    def cast(operand: Expression) -> Expression:
        if operand.dtype.compute is form.accumulate:
            return operand
        return ex.apply(elementwise.CAST, (form.accumulate,), (operand,), form.accumulate)

    return replace(form, scalar=cast(form.scalar), vector=cast(form.vector))


def _flat(axes: tuple[Axis, ...]) -> Index:
    strides = row_major_strides(tuple(axis.size for axis in axes))
    return ix.total(ix.of_atom(axis) * stride for axis, stride in zip(axes, strides))


def _readable_in_place(form: Form) -> bool:
    """Whether the register tile may broadcast the scalar operand straight from its array."""
    axes = (*form.batch, *form.rows, *form.summed)
    index = affine(form.scalar, axes, form.accumulate)
    if index is None:
        return False
    return True


def _pack_scalar(form: Form, temporary: Callable[[DType, int], int]) -> tuple[RowBody, Form]:
    """A kernel that writes the scalar operand row by row, and the form that reads that."""
    summed = extent(form.summed)
    pitch = padded_pitch(summed, form.accumulate.itemsize)
    used = form.scalar.axes()
    batch = tuple(axis for axis in form.batch if axis in used)
    count = extent(batch) * form.row_count * pitch
    number = temporary(form.accumulate, count)
    index = _flat((*batch, *form.rows)) * pitch + _flat(form.summed)
    rows = (*batch, *form.rows, *form.summed)
    pack = RowBody(rows, (Store(number, index, form.scalar),))
    packed = ex.load(number, index, (), form.accumulate)
    return pack, replace(form, scalar=packed)


def padded_pitch(length: int, itemsize: int) -> int:
    """A row length in elements at which rows do not fall on the same cache sets."""
    line = 64 // itemsize
    pitch = -(-length // line) * line
    return pitch + line if pitch * itemsize % 1024 == 0 else pitch


def _split_sum(
    form: Form, splits: int, temporary: Callable[[DType, int], int]
) -> tuple[TiledContractBody, RowBody]:
    """The body that computes partial sums, and the one that adds them up."""
    outputs = (*form.batch, *form.rows, *form.columns)
    total = extent(outputs)
    number = temporary(form.accumulate, total * splits)
    split = Axis(splits, "p")
    place = ix.of_atom(split) * total + _flat(outputs)
    result = ex.result(form.number, form.accumulate)
    partial = replace(form, epilogue=(Store(number, place, result),))
    loaded = ex.load(number, place, (), form.accumulate)
    reduce = Reduce(form.number, reduction.SUM, loaded, (split,))
    final = RowBody(outputs, (reduce, *form.epilogue))
    return TiledContractBody(partial, None, split), final


