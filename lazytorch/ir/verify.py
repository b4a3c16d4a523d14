"""The grammar of kernels: what every loop nest must keep, whoever made or changed it.

Run on each kernel when the setting VERIFY is on (the tests set it). Knows kernels, expressions
and indices; nothing about graphs or devices. Whatever is wrong here is a bug in lazytorch, so
the message shows the part of the kernel rather than advice.

A bound is first asked of the index itself, which is exact for nearly every load. Where intervals
are too coarse (guards, correlated divisions) the index is evaluated at every point of a small
space and at a sample of a large one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lazytorch.errors import VerificationError
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Condition, Expression, Guard
from lazytorch.ir.index import Axis, Index, Loaded, Quotient
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RecurrentBody,
    Reduce,
    RowBody,
    ScanBody,
    ScatterBody,
    SortBody,
    Stash,
    Store,
    extent,
)

# Points of a loop nest that are all evaluated; of larger nests as many are drawn.
EXACT_POINTS = 1 << 14

Sizes = Mapping[int, int]


def verify_kernel(kernel: Kernel, sizes: Sizes, complete: bool = True) -> None:
    """Raise :class:`VerificationError` unless the kernel obeys the grammar.

    ``sizes`` gives the number of elements of every array. ``complete`` also wants each stored
    array to be written everywhere, which kernels that only prepare others need not do.
    """
    for number, body in enumerate(kernel.bodies):
        where = f"body {number} of the kernel of values {list(kernel.covers)}"
        _verify_values(body, kernel, where)
        _verify_independence(body, kernel.bodies[:number], where)
        if isinstance(body, RowBody):
            _verify_rows(body, sizes, where)
        elif isinstance(body, ContractBody):
            _verify_contract(body, sizes, where)
        elif isinstance(body, AttentionBody):
            _verify_attention(body, sizes, where, complete)
        elif isinstance(body, ScanBody):
            _verify_scan(body, sizes, where)
        elif isinstance(body, RecurrentBody):
            _verify_recurrent(body, sizes, where)
        elif isinstance(body, SortBody):
            _verify_sort(body, sizes, where)
        elif isinstance(body, ScatterBody):
            _verify_scatter(body, sizes, where)
        else:
            continue
        if complete and isinstance(body, (RowBody, ContractBody)):
            _verify_coverage(body, sizes, where)


def _fail(where: str, what: str) -> None:
    raise VerificationError(f"{where}: {what}")


def _verify_values(body: Body, kernel: Kernel, where: str) -> None:
    """Every array and scalar has a dtype, and loads agree with it."""
    for expression in ex.walk(body.expressions()):
        number = None
        if expression.kind == ex.LOAD:
            number = expression.data[0]
        elif expression.kind == ex.ARGUMENT:
            number = expression.data
        if number is None:
            continue
        dtype = kernel.values.get(number)
        if dtype is not expression.dtype:
            _fail(where, f"value {number} is {dtype!r} in the table, {expression!r} reads "
                         f"{expression.dtype!r}")  # fmt: skip
    for store in body.stores():
        if store.target not in kernel.values:
            _fail(where, f"stores value {store.target}, which has no dtype")


def _verify_independence(body: Body, others: Sequence[Body], where: str) -> None:
    """Bodies run side by side: none may read or write what another one writes."""
    written = {store.target for store in body.stores()}
    read = {load.data[0] for load in ex.loads_of(body.expressions())}
    if isinstance(body, RowBody) and written & read:
        _fail(where, f"reads values {sorted(written & read)}, which it stores itself")
    for other in others:
        stored = {store.target for store in other.stores()}
        if stored & written:
            _fail(where, f"values {sorted(stored & written)} are stored by two bodies")
        if stored & read or written & {n.data[0] for n in ex.loads_of(other.expressions())}:
            _fail(where, "reads what another body of the same launch writes")


def _verify_rows(body: RowBody, sizes: Sizes, where: str) -> None:
    _verify_distinct(body.rows, where)
    results: set[int] = set()
    stashes: dict[int, int] = {}
    for position, stage in enumerate(body.stages):
        place = f"{where}, stage {position}"
        axes = (*body.rows, *stage.axes)
        _verify_distinct(axes, place)
        _verify_expressions([stage.value], axes, results, stashes, sizes, place)
        if isinstance(stage, Reduce):
            if not stage.axes:
                _fail(place, f"reduction {stage.number} has no axes")
            results.add(stage.number)
        elif isinstance(stage, Stash):
            _verify_bounds(stage.index, (), axes, stage.size, "stash", place)
            stashes[stage.number] = stage.size
        else:
            _verify_store(stage, axes, sizes, place)


def _verify_contract(body: ContractBody, sizes: Sizes, where: str) -> None:
    outer = (*body.batch, *body.rows, *body.columns)
    everything = (*outer, *body.summed)
    _verify_distinct(everything, where)
    _verify_expressions([body.first, body.second], everything, set(), {}, sizes, where)
    for axis in body.rows:
        if axis in body.second.axes():
            _fail(where, f"row axis {axis} occurs in the second operand")
    for axis in body.columns:
        if axis in body.first.axes():
            _fail(where, f"column axis {axis} occurs in the first operand")
    for store in body.epilogue:
        if store.axes:
            _fail(where, f"the epilogue stores value {store.target} in an inner loop")
        _verify_expressions([store.value], outer, {body.number}, {}, sizes, where)
        _verify_store(store, outer, sizes, where)


def _verify_attention(body: AttentionBody, sizes: Sizes, where: str, complete: bool) -> None:
    scores = (*body.batch, body.queries, body.keys)
    _verify_distinct((*scores, body.inner, body.columns), where)
    queries, keys = (*body.batch, body.queries), (*body.batch, body.keys)
    for operand, axes in (
        (body.query, (*queries, body.inner)), (body.key, (*keys, body.inner)),
        (body.value, (*keys, body.columns)), (body.scale, ()), (body.bias, scores),
        (body.factor, scores), (body.gradient, (*queries, body.columns)),
        (body.logsumexp, queries), (body.delta, queries),
    ):  # fmt: skip
        if operand is None:
            continue
        _verify_expressions([operand], axes, set(), {}, sizes, where)
        if operand.dtype is not body.accumulate:
            _fail(where, f"operand {operand!r} is {operand.dtype!r}, not {body.accumulate!r}")
    # Several results may be parts of one value.
    points: dict[int, int] = {}
    for result in body.results:
        for store in result.epilogue:
            if store.axes:
                _fail(where, f"the epilogue stores value {store.target} in an inner loop")
            _verify_expressions([store.value], result.axes, {result.number}, {}, sizes, where)
            _verify_store(store, result.axes, sizes, where)
            points[store.target] = points.get(store.target, 0) + extent(result.axes)
    for target, count in points.items() if complete else ():
        if count != sizes[target]:
            _fail(where, f"{count} points of value {target} are stored, which has {sizes[target]}")


def _verify_scan(body: ScanBody, sizes: Sizes, where: str) -> None:
    axes = (*body.rows, body.axis)
    _verify_distinct(axes, where)
    _verify_expressions([body.value], axes, set(), {}, sizes, where)
    _verify_store(Store(body.target, body.index, body.value), axes, sizes, where)


def _verify_recurrent(body: RecurrentBody, sizes: Sizes, where: str) -> None:
    """Operands are whole arrays, and the result is written everywhere."""
    for operand, shape in zip(body.operands, body.shapes):
        size = 1
        for extents in shape:
            size *= extents
        if size and (operand.kind != ex.LOAD or sizes[operand.data[0]] != size):
            _fail(where, f"{operand!r} is not a whole array of {size} elements")
    if body.axis.size != sizes[body.target]:
        _fail(where, f"stores {body.axis.size} of the {sizes[body.target]} elements")


def _verify_sort(body: SortBody, sizes: Sizes, where: str) -> None:
    axes = (*body.rows, body.axis)
    _verify_distinct(axes, where)
    _verify_expressions([body.value], axes, set(), {}, sizes, where)
    count = extent(body.rows) * body.kept
    if count != sizes[body.target]:
        _fail(where, f"stores {count} of the {sizes[body.target]} elements")


def _verify_scatter(body: ScatterBody, sizes: Sizes, where: str) -> None:
    walked = (*body.rows, body.axis)
    _verify_distinct((*walked, body.base_axis), where)
    _verify_expressions([body.value], walked, set(), {}, sizes, where)
    if body.base is not None:
        copied = (*body.rows, body.base_axis)
        _verify_expressions([body.base], copied, set(), {}, sizes, where)
        _verify_bounds(body.base_index, (), copied, sizes[body.target], "store", where)
    if extent(walked):
        _verify_bounds(body.target_index, (), walked, sizes[body.target], "store", where)


def _verify_distinct(axes: Sequence[Axis], where: str) -> None:
    if len(set(axes)) != len(axes):
        _fail(where, f"an axis is bound twice: {list(axes)}")


def _verify_expressions(
    roots: Sequence[Expression],
    axes: Sequence[Axis],
    results: set[int],
    stashes: Mapping[int, int],
    sizes: Sizes,
    where: str,
) -> None:
    """Axes are bound, results and stashes made before, loads inside their arrays."""
    bound = {axis for axis in axes}
    empty = extent(axes) == 0
    for expression in ex.walk(roots):
        free = {axis for axis in _own_axes(expression) if axis.size > 1} - bound
        if free:
            _fail(where, f"axes {sorted(map(repr, free))} of {expression!r} are not bound")
        if expression.kind == ex.RESULT and expression.data not in results:
            _fail(where, f"result {expression.data} is used before it is computed")
        if expression.kind == ex.STASHED:
            size = stashes.get(expression.data[0])
            if size is None:
                _fail(where, f"stash {expression.data[0]} is used before it is filled")
            elif not empty:
                _verify_bounds(expression.data[1], (), axes, size, repr(expression), where)
        if expression.kind == ex.LOAD and not empty:
            number, index, guard = expression.data
            _verify_bounds(index, guard, axes, sizes[number], repr(expression), where)


def _own_axes(expression: Expression) -> set[Axis]:
    found: set[Axis] = set()
    for index in ex.indices_of(expression):
        found |= index.axes()
    return found


def _verify_store(store: Store, axes: Sequence[Axis], sizes: Sizes, where: str) -> None:
    if extent(axes) == 0:
        return
    free = {axis for axis in store.index.axes() if axis.size > 1} - set(axes)
    if free:
        _fail(where, f"axes {sorted(map(repr, free))} of a store's index are not bound")
    what = f"store to value {store.target} at {store.index}"
    _verify_bounds(store.index, (), axes, sizes[store.target], what, where)
    if not _is_injective(store.index, axes):
        _fail(where, f"{what} writes an element more than once")


# Bounds ---------------------------------------------------------------------------------------


def _verify_bounds(
    index: Index, guard: Guard, axes: Sequence[Axis], size: int, what: str, where: str
) -> None:
    if index.low >= 0 and index.high < size:
        return
    points = _points(axes)
    inside = _holds(guard, points)
    for low_side in (True, False):
        position = _evaluate(index, points, low_side)
        wrong = inside & ((position < 0) | (position >= size))
        if wrong.any():
            worst = position[wrong]
            _fail(
                where,
                f"{what} reaches element {int(worst.min())} to {int(worst.max())} of an array "
                f"of {size}",
            )


def _points(axes: Sequence[Axis]) -> dict[Axis, np.ndarray]:
    """All points of a small loop nest, or corners and random points of a large one."""
    axes = [axis for axis in axes if axis.size > 1]
    total = extent(axes)
    if total <= EXACT_POINTS:
        grid = np.unravel_index(np.arange(total), [axis.size for axis in axes]) if axes else ()
        return dict(zip(axes, grid)) if axes else {}
    rng = np.random.default_rng(0)
    result = {}
    for axis in axes:
        values = rng.integers(0, axis.size, EXACT_POINTS)
        edge = rng.integers(0, 4, EXACT_POINTS)
        values[edge == 0] = 0
        values[edge == 1] = axis.size - 1
        result[axis] = values
    return result


def _evaluate(index: Index, points: Mapping[Axis, np.ndarray], low_side: bool) -> np.ndarray:
    """The index at points; a loaded position takes its lowest or highest value."""
    result = np.asarray(index.constant, np.int64)
    for atom, factor in index.terms:
        if isinstance(atom, Axis):
            value = points.get(atom, np.asarray(0))
        elif isinstance(atom, Loaded):
            value = np.asarray(atom.low if low_side == (factor > 0) else atom.high)
        elif isinstance(atom, Quotient):
            value = _evaluate(atom.dividend, points, low_side) // atom.divisor
        else:
            value = _evaluate(atom.dividend, points, low_side) % atom.divisor
        result = result + value.astype(np.int64) * factor
    return np.atleast_1d(result)


def _holds(guard: Iterable[Condition], points: Mapping[Axis, np.ndarray]) -> np.ndarray:
    result = np.ones(1, bool)
    for condition in guard:
        # A condition on a loaded position may hold or not: count it as holding.
        if any(isinstance(atom, Loaded) for atom, _ in condition.index.terms):
            continue
        value = _evaluate(condition.index, points, True)
        result = result & (condition.low <= value) & (value <= condition.high)
    return result


def _is_injective(index: Index, axes: Sequence[Axis]) -> bool:
    """Whether different points give different positions; large non-linear indices pass."""
    wanted = [axis for axis in axes if axis.size > 1]
    factors = {atom: abs(factor) for atom, factor in index.terms if isinstance(atom, Axis)}
    if len(factors) == len(index.terms):
        reach = 0
        for axis in sorted(factors, key=lambda a: factors[a]):
            if factors[axis] <= reach:
                break
            reach += factors[axis] * (axis.size - 1)
        else:
            return set(wanted) <= set(factors)
    if extent(wanted) > EXACT_POINTS:
        return True
    positions = _evaluate(index, _points(wanted), True)
    return len(np.unique(positions)) == extent(wanted)


def _verify_coverage(body: RowBody | ContractBody, sizes: Sizes, where: str) -> None:
    """Each stored array is written at as many points as it has elements."""
    outer = body.rows if isinstance(body, RowBody) else (*body.batch, *body.rows, *body.columns)
    for store in body.stores():
        written = extent((*outer, *store.axes))
        if written != sizes[store.target]:
            _fail(
                where,
                f"stores {written} of the {sizes[store.target]} elements of value {store.target}",
            )
