"""Runs scheduled kernels on NumPy arrays.

This is how the NumPy device computes: the same fused loop nests that other devices compile,
evaluated over whole index spaces at once. It knows kernels and arrays, nothing of graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression, Guard
from lazytorch.ir.index import Axis, Index, Loaded, Quotient, of_int, row_major_strides
from lazytorch.ir.kernel import (
    AttentionBody,
    ContractBody,
    Kernel,
    RecurrentBody,
    Reduce,
    RowBody,
    ScanBody,
    ScatterBody,
    SortBody,
    Stash,
)
from lazytorch.ir.segments import segments
from lazytorch.ops.attention import Operands, attend, attend_backward
from lazytorch.ops.contraction import as_matrix_product
from lazytorch.ops.philox import philox_bits, philox_blocks

Arrays = Mapping[int, np.ndarray]


def run(kernel: Kernel, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    """Execute a kernel; ``arrays`` are flat and written in place."""
    with np.errstate(all="ignore"):
        for body in kernel.bodies:
            _RUNNERS[type(body)](body, arrays, scalars)


class Space:
    """Evaluates expressions over an ordered set of axes: one array dimension for each."""

    def __init__(self, axes: tuple[Axis, ...], arrays: Arrays, scalars: Mapping[int, Any]) -> None:
        self.axes = axes
        self.shape = tuple(axis.size for axis in axes)
        self.dimension = {axis: number for number, axis in enumerate(axes)}
        self.arrays = arrays
        self.scalars = scalars
        self.known: dict[Expression, np.ndarray] = {}
        # By number, not by expression: those of a stored plan are older than the table in which
        # expressions are unique.
        self.results: dict[int, np.ndarray] = {}

    def value(self, expression: Expression) -> np.ndarray:
        """The value with size 1 along axes that it does not depend on."""
        known = self.known.get(expression)
        if known is None:
            known = self.known[expression] = self._compute(expression)
        return known

    def full(self, expression: Expression) -> np.ndarray:
        """The value repeated along every axis."""
        return np.broadcast_to(self.value(expression), self.shape)

    def index(self, index: Index) -> np.ndarray:
        """Positions as an int64 array."""
        total: np.ndarray = np.asarray(index.constant, np.int64)
        for atom, factor in index.terms:
            total = total + self._atom(atom) * factor
        return total

    def _atom(self, atom: Any) -> np.ndarray:
        if isinstance(atom, Axis):
            shape = [1] * len(self.axes)
            shape[self.dimension[atom]] = atom.size
            return np.arange(atom.size, dtype=np.int64).reshape(shape)
        if isinstance(atom, Loaded):
            return self.value(atom.value).astype(np.int64)
        dividend = self.index(atom.dividend)
        return dividend // atom.divisor if isinstance(atom, Quotient) else dividend % atom.divisor

    def mask(self, guard: Guard) -> np.ndarray:
        """Where all conditions hold."""
        result: np.ndarray = np.asarray(True)
        for condition in guard:
            index = self.index(condition.index)
            result = result & (index >= condition.low) & (index <= condition.high)
        return result

    def view(self, array: np.ndarray, index: Index) -> np.ndarray | None:
        """The elements at an index that is linear in the axes, without a copy."""
        strides = [0] * len(self.axes)
        shape = [1] * len(self.axes)
        offset = index.constant
        for atom, factor in index.terms:
            if not isinstance(atom, Axis):
                return None
            position = self.dimension[atom]
            strides[position] = factor * array.itemsize
            shape[position] = atom.size
        if index.low < 0 or index.high >= array.size:
            return None
        return np.lib.stride_tricks.as_strided(array[offset:], shape, strides)

    def _compute(self, expression: Expression) -> np.ndarray:
        kind, data = expression.kind, expression.data
        numpy_type = expression.dtype.numpy
        if kind == ex.CONSTANT:
            return np.asarray(data).astype(numpy_type)
        if kind == ex.ARGUMENT:
            return np.asarray(self.scalars[data]).astype(numpy_type)
        if kind == ex.LOAD:
            return self._load(*data)
        if kind == ex.APPLY:
            op, attrs = data
            return np.asarray(op.numpy(attrs, *(self.value(o) for o in expression.operands)))
        if kind == ex.POSITION:
            return self.index(data).astype(numpy_type)
        if kind == ex.CHOOSE:
            then, otherwise = (self.value(operand) for operand in expression.operands)
            return np.where(self.mask(data), then, otherwise)
        if kind == ex.RANDOM:
            return self._random(expression)
        if kind == ex.RESULT and data in self.results:
            return self.results[data]
        raise KeyError(f"{expression!r} is read before it is computed")

    def _load(self, number: int, index: Index, guard: Guard) -> np.ndarray:
        array = self.arrays[number]
        if array.size == 0:
            return np.zeros(self.shape, array.dtype)
        if not guard:
            view = self.view(array, index)
            if view is not None:
                return view
            return array[self.index(index)]
        mask = self.mask(guard)
        loaded = array[np.where(mask, self.index(index), 0)]
        return np.where(mask, loaded, np.zeros((), array.dtype))

    def _random(self, expression: Expression) -> np.ndarray:
        seed, offset = (int(self.value(operand)) for operand in expression.operands)
        if _is_row_major(expression.data, self.axes):
            return philox_bits(seed, offset, self.shape, expression.data.constant)
        index = self.index(expression.data)
        blocks, inverse = np.unique(index // 4, return_inverse=True)
        words = philox_blocks(seed, blocks.astype(np.uint64) + np.uint64(offset))
        return words[inverse.reshape(index.shape), index % 4]


def _is_row_major(index: Index, axes: tuple[Axis, ...]) -> bool:
    strides = row_major_strides(tuple(axis.size for axis in axes))
    wanted = {axis: stride for axis, stride in zip(axes, strides) if axis.size > 1}
    return index.constant >= 0 and dict(index.terms) == wanted


def _store(space: Space, target: int, index: Index, value: np.ndarray) -> None:
    array = space.arrays[target]
    view = space.view(array, index)
    if view is not None and all(s or n == 1 for s, n in zip(view.strides, space.shape)):
        view[...] = np.broadcast_to(value, view.shape)
        return
    positions = space.index(index)
    array[np.broadcast_to(positions, space.shape)] = np.broadcast_to(value, space.shape)


def _apart(value: np.ndarray) -> np.ndarray:
    """The value, apart from an array that it is a view of and that may be written before it."""
    return value if value.flags.owndata else value.copy()


def _run_rows(body: RowBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    for part in segments(body):
        _run_segment(part, arrays, scalars)


def _run_segment(body: RowBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    row_space = Space(body.rows, arrays, scalars)
    spaces: dict[tuple[Axis, ...], Space] = {(): row_space}
    results: dict[int, np.ndarray] = {}
    # A store may overwrite an array that a later stage of the same rows still reads (an
    # in-place update): every value is computed before any is stored.
    waiting = []
    for stage in body.stages:
        space = spaces.get(stage.axes)
        if space is None:
            space = spaces[stage.axes] = Space((*body.rows, *stage.axes), arrays, scalars)
            for key, array in results.items():
                space.results[key] = array.reshape(array.shape + (1,) * len(stage.axes))
        if isinstance(stage, Reduce):
            first = len(body.rows)
            dimensions = tuple(range(first, first + len(stage.axes)))
            reduced = stage.op.numpy((dimensions,), space.full(stage.value))
            results[stage.number] = reduced
            for axes, other in spaces.items():
                other.results[stage.number] = reduced.reshape(reduced.shape + (1,) * len(axes))
        elif isinstance(stage, Stash):
            raise TypeError("stashes are made by code generation, not by the scheduler")
        else:
            waiting.append((space, stage, _apart(space.value(stage.value))))
    for space, stage, value in waiting:
        _store(space, stage.target, stage.index, value)


def _run_contract(body: ContractBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    accumulate = body.accumulate.numpy
    first, first_axes = _operand(body.first, body, arrays, scalars)
    second, second_axes = _operand(body.second, body, arrays, scalars)
    output = (*body.batch, *body.rows, *body.columns)
    order: dict[Axis, int] = {}
    for axis in (*output, *body.summed):
        order[axis] = len(order)
    repeated = 1
    for axis in body.summed:
        if axis not in first_axes and axis not in second_axes:
            repeated *= axis.size
    product = as_matrix_product(
        first.astype(accumulate, copy=False), [order[a] for a in first_axes],
        second.astype(accumulate, copy=False), [order[a] for a in second_axes],
        tuple(order[a] for a in output if a in first_axes or a in second_axes),
    )  # fmt: skip
    if repeated != 1:
        product = product * np.asarray(repeated, accumulate)
    shape = tuple(a.size if a in first_axes or a in second_axes else 1 for a in output)
    space = Space(output, arrays, scalars)
    space.results[body.number] = product.reshape(shape).astype(accumulate, copy=False)
    computed = [(store, _apart(space.value(store.value))) for store in body.epilogue]
    for store, value in computed:
        _store(space, store.target, store.index, value)


def _operand(
    expression: Expression, body: ContractBody, arrays: Arrays, scalars: Mapping[int, Any]
) -> tuple[np.ndarray, list[Axis]]:
    """The operand with one dimension for each axis that it depends on."""
    everything = (*body.batch, *body.rows, *body.columns, *body.summed)
    axes = tuple(axis for axis in everything if axis in expression.axes())
    space = Space(axes, arrays, scalars)
    return space.full(expression), list(axes)


def _run_attention(body: AttentionBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    """One head after the other, so that no more than one head's scores are in memory."""
    results = {
        result.name: np.empty([axis.size for axis in result.axes], body.accumulate.numpy)
        for result in body.results
    }
    axes = {
        "query": (body.queries, body.inner), "key": (body.keys, body.inner),
        "value": (body.keys, body.columns), "scale": (), "bias": (body.queries, body.keys),
        "factor": (body.queries, body.keys), "gradient": (body.queries, body.columns),
        "logsumexp": (body.queries,), "delta": (body.queries,),
    }  # fmt: skip
    for head in np.ndindex(*(axis.size for axis in body.batch)):
        place = {axis: of_int(position) for axis, position in zip(body.batch, head)}
        given = {}
        for name, own in axes.items():
            operand = getattr(body, name)
            if operand is not None:
                space = Space(own, arrays, scalars)
                operand = space.full(operand.substitute_axes(place))
            given[name] = operand
        named = Operands(**given)
        if body.gradient is None:
            made = dict(zip(("output", "logsumexp"), attend(named, body.causal)))
        else:
            made = dict(zip(("query", "key", "value"), attend_backward(named, body.causal)))
        for name, array in results.items():
            array[head] = made[name]
    waiting = []
    for result in body.results:
        space = Space(result.axes, arrays, scalars)
        space.results[result.number] = results[result.name]
        waiting += [(space, store, _apart(space.value(store.value))) for store in result.epilogue]
    for space, store, value in waiting:
        _store(space, store.target, store.index, value)


def _run_scan(body: ScanBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    space = Space((*body.rows, body.axis), arrays, scalars)
    made = body.op.numpy((len(body.rows),), space.full(body.value))
    _store(space, body.target, body.index, made)


def _run_recurrent(body: RecurrentBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    operands = [
        arrays[operand.data[0]].reshape(shape)
        for operand, shape in zip(body.operands, body.shapes)
    ]
    arrays[body.target][...] = body.op.numpy(body.attrs, *operands)


def _run_sort(body: SortBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    space = Space((*body.rows, body.axis), arrays, scalars)
    arrays[body.target][...] = body.op.numpy(body.attrs, space.full(body.value)).reshape(-1)


def _run_scatter(body: ScatterBody, arrays: Arrays, scalars: Mapping[int, Any]) -> None:
    target = arrays[body.target]
    if body.base is not None:
        base = Space((*body.rows, body.base_axis), arrays, scalars)
        _store(base, body.target, body.base_index, base.value(body.base))
    space = Space((*body.rows, body.axis), arrays, scalars)
    positions = np.broadcast_to(space.index(body.target_index), space.shape)
    values = space.full(body.value)
    # Order along the walked axis decides among equal positions: make it the slowest.
    positions = np.moveaxis(positions, -1, 0).reshape(-1)
    values = np.moveaxis(values, -1, 0).reshape(-1)
    if body.combine is None:
        for start in range(0, positions.size, max(positions.size // max(body.axis.size, 1), 1)):
            stop = start + max(positions.size // max(body.axis.size, 1), 1)
            target[positions[start:stop]] = values[start:stop]
        return
    _UFUNCS[body.combine.name].at(target, positions, values)


_UFUNCS: dict[str, Any] = {
    "add": np.add, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
_RUNNERS: dict[type, Callable[[Any, Arrays, Mapping[int, Any]], None]] = {
    RowBody: _run_rows,
    ContractBody: _run_contract,
    AttentionBody: _run_attention,
    ScanBody: _run_scan,
    ScatterBody: _run_scatter,
    RecurrentBody: _run_recurrent,
    SortBody: _run_sort,
}

__all__ = ["Space", "run"]
