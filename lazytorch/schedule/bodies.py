"""A stored value to the loop nest that computes it."""

from __future__ import annotations

from collections.abc import Sequence

from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, flatten, of_atom, of_int, total
from lazytorch.ir.kernel import (
    AttentionBody,
    AttentionResult,
    Body,
    ContractBody,
    RecurrentBody,
    Reduce,
    RowBody,
    ScanBody,
    ScatterBody,
    SortBody,
    Store,
)
from lazytorch.ops import elementwise, movement
from lazytorch.ops.attention import AttentionAttrs, heads_inside, operands
from lazytorch.ops.recurrence import Recurrence
from lazytorch.schedule.attention import Joined
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.regions import Puller, position_index

_COMBINE = {
    "set": None, "add": elementwise.ADD, "prod": elementwise.MUL, "max": elementwise.MAXIMUM,
    "min": elementwise.MINIMUM,
}  # fmt: skip


def body_of(graph: Graph, number: int, puller: Puller) -> Body:
    """The loop nest of one stored value."""
    kind = graph.ops[number].kind
    if kind == "reduce":
        return _reduce(graph, number, puller)
    if kind == "contract":
        return _contract(graph, number, puller)
    if kind == "scan":
        return _scan(graph, number, puller)
    if kind == "recurrent":
        return _recurrent(graph, number, puller)
    if kind == "sort":
        return _sort(graph, number, puller)
    if kind == "scatter":
        return _scatter(graph, number, puller)
    return _map(graph, number, puller)


def _axes(shape: tuple[int, ...], name: str = "i") -> tuple[Axis, ...]:
    return tuple(Axis(extent, name) for extent in shape)


def _map(graph: Graph, number: int, puller: Puller) -> RowBody:
    shape = graph.shapes[number]
    rows = _axes(shape)
    index = tuple(of_atom(axis) for axis in rows)
    value = puller.computed(number, index)
    return RowBody(rows, (Store(number, flatten(index, shape), value),))


def _reduce(graph: Graph, number: int, puller: Puller) -> RowBody:
    (source,) = graph.sources[number]
    reduced = graph.attrs[number][0]
    everything = tuple(
        Axis(extent, "k" if axis in reduced else "i")
        for axis, extent in enumerate(graph.shapes[source])
    )
    rows = tuple(axis for place, axis in enumerate(everything) if place not in reduced)
    inner = tuple(axis for place, axis in enumerate(everything) if place in reduced)
    value = puller.element(source, tuple(of_atom(axis) for axis in everything))
    index = flatten(tuple(of_atom(axis) for axis in rows), graph.shapes[number])
    result = ex.result(number, graph.dtypes[number])
    return RowBody(
        rows,
        (Reduce(number, graph.ops[number], value, inner), Store(number, index, result)),
    )


def _contract(graph: Graph, number: int, puller: Puller) -> ContractBody:
    sizes, output_axes, *indices = graph.attrs[number]
    axes = _axes(tuple(sizes), "x")
    operands = []
    used = []
    for source, terms in zip(graph.sources[number], indices):
        index = tuple(
            total(of_atom(axes[axis]) * factor for axis, factor in dimension) for dimension in terms
        )
        operands.append(puller.element(source, index))
        used.append({axis for dimension in terms for axis, _ in dimension})
    output = set(output_axes)
    first, second = used
    position = {axis: of_atom(axes[axis]) for axis in range(len(sizes))}
    target = flatten(tuple(position[axis] for axis in output_axes), graph.shapes[number])
    dtype = graph.dtypes[number]
    result = ex.result(number, accumulation_dtype(dtype))
    if result.dtype is not dtype:
        result = ex.apply(elementwise.CAST, (dtype,), (result,), dtype)
    summed = tuple(axes[axis] for axis in range(len(sizes)) if axis not in output)
    # An output axis that neither operand uses repeats the result: treat it as a column.
    return ContractBody(
        batch=tuple(axes[a] for a in output_axes if a in first and a in second),
        rows=tuple(axes[a] for a in output_axes if a in first and a not in second),
        columns=tuple(axes[a] for a in output_axes if a not in first),
        summed=summed,
        first=operands[0],
        second=operands[1],
        number=number,
        accumulate=accumulation_dtype(dtype),
        epilogue=(Store(number, target, result),),
    )


def accumulation_dtype(dtype: DType) -> DType:
    """Sums of 16-bit floats run in float32; everything else in its own type."""
    return dtype.compute


def _scan(graph: Graph, number: int, puller: Puller) -> ScanBody:
    (axis,) = graph.attrs[number]
    everything = _axes(graph.shapes[number])
    index = tuple(of_atom(a) for a in everything)
    value = puller.element(graph.sources[number][0], index)
    rows = tuple(a for place, a in enumerate(everything) if place != axis)
    return ScanBody(
        rows, everything[axis], graph.ops[number], value, number,
        flatten(index, graph.shapes[number]),
    )  # fmt: skip


def _recurrent(graph: Graph, number: int, puller: Puller) -> RecurrentBody:
    operands = []
    shapes = []
    for source in graph.sources[number]:
        shape = graph.shapes[source]
        operands.append(puller.element(source, tuple(of_atom(a) for a in _axes(shape))))
        shapes.append(shape)
    return RecurrentBody(
        _axes((Recurrence(*graph.attrs[number]).batch,)), graph.ops[number], graph.attrs[number],
        tuple(operands), tuple(shapes), number, Axis(graph.size(number), "flat"),
    )  # fmt: skip


def _sort(graph: Graph, number: int, puller: Puller) -> SortBody:
    (source,) = graph.sources[number]
    *rows, axis = _axes(graph.shapes[source])
    value = puller.element(source, tuple(of_atom(a) for a in (*rows, axis)))
    return SortBody(
        tuple(rows), axis, graph.ops[number], graph.attrs[number], value, number,
        graph.shapes[number][-1],
    )  # fmt: skip


def _scatter(graph: Graph, number: int, puller: Puller) -> ScatterBody:
    base, positions, values = graph.sources[number]
    axis, mode = graph.attrs[number]
    shape = graph.shapes[number]
    everything = list(_axes(shape))
    base_axis = everything[axis]
    base_index = tuple(of_atom(a) for a in everything)
    walked = Axis(graph.shapes[values][axis], "n")
    index = list(base_index)
    index[axis] = of_atom(walked)
    picked = puller.element(
        positions,
        tuple(
            of_int(0) if extent == 1 else place
            for place, extent in zip(index, graph.shapes[positions])
        ),
    )
    target = list(index)
    target[axis] = position_index(picked, shape[axis])
    rows = tuple(a for a in everything if a is not base_axis)
    return ScatterBody(
        rows=rows,
        base_axis=base_axis,
        base=puller.element(base, base_index),
        base_index=flatten(base_index, shape),
        axis=walked,
        value=puller.element(values, tuple(index)),
        target_index=flatten(tuple(target), shape),
        combine=_COMBINE[mode],
        target=number,
        dtype=graph.dtypes[number],
    )


def attention_body(
    graph: Graph, numbers: Sequence[int], puller: Puller, joins: Sequence[Joined]
) -> AttentionBody:
    """The loop nest of attention rows with the same sources, some of them parts of ``joins``."""
    attrs = AttentionAttrs(*graph.attrs[numbers[0]])
    given = operands(attrs, graph.sources[numbers[0]])
    *lead, length, inner_size = graph.shapes[given.query]
    batch = tuple(Axis(extent, "b") for extent in lead)
    queries, keys = Axis(length, "q"), Axis(graph.shapes[given.key][-2], "k")
    inner, columns = Axis(inner_size, "e"), Axis(graph.shapes[given.value][-1], "c")
    accumulate = graph.dtypes[given.query].compute

    def read(source: int | None, *axes: Axis) -> Expression | None:
        if source is None:
            return None
        index = tuple(of_atom(axis) for axis in axes)
        shape = graph.shapes[source]
        index = movement.broadcast_index(index, shape)
        return _as(puller.element(source, index), accumulate)

    def needed(source: int, *axes: Axis) -> Expression:
        found = read(source, *axes)
        assert found is not None
        return found

    axes = {
        "output": (*batch, queries, columns), "logsumexp": (*batch, queries),
        "query": (*batch, queries, inner), "key": (*batch, keys, inner),
        "value": (*batch, keys, columns),
    }  # fmt: skip
    results = []
    for number in sorted(numbers):
        name = graph.attrs[number][0]
        into = [join for join in joins if number in join.paths]
        results.append(_result(graph, number, axes[name], accumulate, into))
    return AttentionBody(
        batch=batch, queries=queries, keys=keys, inner=inner, columns=columns,
        causal=attrs.causal,
        query=needed(given.query, *batch, queries, inner),
        key=needed(given.key, *batch, keys, inner),
        value=needed(given.value, *batch, keys, columns),
        scale=needed(given.scale),
        bias=read(given.bias, *batch, queries, keys),
        factor=read(given.factor, *batch, queries, keys),
        gradient=read(given.gradient, *batch, queries, columns),
        logsumexp=read(given.logsumexp, *batch, queries) if attrs.is_gradient else None,
        delta=read(given.delta, *batch, queries),
        accumulate=accumulate,
        results=tuple(results),
    )  # fmt: skip


def _as(value: Expression, dtype: DType) -> Expression:
    if value.dtype is dtype:
        return value
    return ex.apply(elementwise.CAST, (dtype,), (value,), dtype)


def _result(
    graph: Graph, number: int, axes: tuple[Axis, ...], accumulate: DType, joins: Sequence[Joined]
) -> AttentionResult:
    name = graph.attrs[number][0]
    index = tuple(of_atom(axis) for axis in axes)
    if name != "logsumexp":
        index = heads_inside(index)
    value = _as(ex.result(number, accumulate), graph.dtypes[number])
    own = Store(number, flatten(index, graph.shapes[number]), value)
    parts = (Store(join.target, join.index(graph, number, index), value) for join in joins)
    return AttentionResult(name, number, axes, (own, *parts))
