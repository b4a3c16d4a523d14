"""Kernel: a loop nest as data, another type than Node.

A kernel is one or more bodies that run side by side in one launch. A :class:`RowBody` has row
axes, whose points are independent and run in parallel, and stages that run one after the
other for each row: reductions over inner axes, stores, and values kept on chip. A
:class:`ContractBody` is a sum of products, an :class:`AttentionBody` two of them around a
softmax. :class:`ScanBody` and :class:`ScatterBody` walk one axis in order;
:class:`RecurrentBody` walks the time steps of a recurrent layer, a :class:`SortBody` puts rows in
order.

Arrays are named by value numbers; the plan binds them to buffers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Union

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef
from lazytorch.ir.expression import ARGUMENT, LOAD, Expression, loaded_values, walk
from lazytorch.ir.index import Axis, Index, of_atom


@dataclass(frozen=True)
class Store:
    """``target[index] = value`` for every point of the inner ``axes`` (() : once a row)."""

    target: int
    index: Index
    value: Expression
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Reduce:
    """Result ``number`` = ``value`` combined by ``op`` over the inner ``axes``."""

    number: int
    op: OpDef
    value: Expression
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Stash:
    """Keep ``value`` for every point of the inner ``axes`` on chip, at flat ``index``."""

    number: int
    index: Index
    value: Expression
    axes: tuple[Axis, ...]
    size: int


Stage = Union[Store, Reduce, Stash]


@dataclass(frozen=True)
class RowBody:
    """Independent rows, each a sequence of stages."""

    rows: tuple[Axis, ...]
    stages: tuple[Stage, ...]

    def expressions(self) -> list[Expression]:
        return [stage.value for stage in self.stages]

    def stores(self) -> list[Store]:
        return [stage for stage in self.stages if isinstance(stage, Store)]

    @property
    def is_map(self) -> bool:
        """Only stores, one element a row."""
        return all(isinstance(stage, Store) and not stage.axes for stage in self.stages)


@dataclass(frozen=True)
class ContractBody:
    """``sum over summed of first * second`` at every point of (batch, rows, columns).

    ``batch`` axes occur in both operands and the output, ``rows`` only in the first,
    ``columns`` only in the second, ``summed`` in both or either. The sum is computed in
    ``accumulate`` and then called RESULT ``number`` in the values of ``epilogue``, whose
    stores have no inner axes. Operands may be any expression over the axes.
    """

    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    first: Expression
    second: Expression
    number: int
    accumulate: DType
    epilogue: tuple[Store, ...]

    def expressions(self) -> list[Expression]:
        return [self.first, self.second, *(store.value for store in self.epilogue)]

    def stores(self) -> list[Store]:
        return list(self.epilogue)

    @property
    def flops(self) -> int:
        return 2 * extent((*self.batch, *self.rows, *self.columns, *self.summed))


@dataclass(frozen=True)
class AttentionResult:
    """One result of an attention: RESULT ``number`` at every point of ``axes``, then its stores.

    ``name`` is the operation's: output, logsumexp, query, key or value.
    """

    name: str
    number: int
    axes: tuple[Axis, ...]
    epilogue: tuple[Store, ...]


@dataclass(frozen=True)
class AttentionBody:
    """An attention or its gradient, whose scores are never stored; ``ops.attention`` says what.

    ``queries`` and ``keys`` are the axes of the scores, ``inner`` the one that query and key are
    multiplied along, ``columns`` the value's. Operands may be any expression over the axes they
    have there; ``bias`` and ``factor`` are ``None`` where there is none, and so are the last
    three outside a gradient. Everything is computed in ``accumulate``.
    """

    batch: tuple[Axis, ...]
    queries: Axis
    keys: Axis
    inner: Axis
    columns: Axis
    causal: bool
    query: Expression
    key: Expression
    value: Expression
    scale: Expression
    bias: Expression | None
    factor: Expression | None
    gradient: Expression | None
    logsumexp: Expression | None
    delta: Expression | None
    accumulate: DType
    results: tuple[AttentionResult, ...]

    def operands(self) -> list[Expression]:
        """What is read, without the epilogues."""
        everything = (
            self.query, self.key, self.value, self.scale, self.bias, self.factor, self.gradient,
            self.logsumexp, self.delta,
        )  # fmt: skip
        return [operand for operand in everything if operand is not None]

    def expressions(self) -> list[Expression]:
        return [*self.operands(), *(store.value for store in self.stores())]

    def stores(self) -> list[Store]:
        return [store for result in self.results for store in result.epilogue]

    def result(self, name: str) -> AttentionResult | None:
        """The result of that name, or ``None`` where nobody wants it."""
        return next((result for result in self.results if result.name == name), None)

    @property
    def flops(self) -> int:
        """Two products forwards, five backwards; half the scores when causal."""
        pairs = extent((*self.batch, self.queries, self.keys))
        wide, narrow = (3, 2) if self.gradient is not None else (1, 1)
        total = 2 * pairs * (wide * self.inner.size + narrow * self.columns.size)
        return total // 2 if self.causal else total


@dataclass(frozen=True)
class ScanBody:
    """``target[index] =`` running combination of ``value`` along ``axis``, for each row."""

    rows: tuple[Axis, ...]
    axis: Axis
    op: OpDef
    value: Expression
    target: int
    index: Index

    def expressions(self) -> list[Expression]:
        return [self.value]

    def stores(self) -> list[Store]:
        return [Store(self.target, self.index, self.value, (self.axis,))]


@dataclass(frozen=True)
class RecurrentBody:
    """``target =`` what the recurrent operation ``op`` makes of whole arrays, for each row.

    ``operands`` load the arrays over axes of their own, in row-major order; ``attrs`` say what
    they are. ``rows`` is the batch.
    """

    rows: tuple[Axis, ...]
    op: OpDef
    attrs: tuple[Any, ...]
    operands: tuple[Expression, ...]
    shapes: tuple[tuple[int, ...], ...]
    target: int
    axis: Axis

    def expressions(self) -> list[Expression]:
        return list(self.operands)

    def stores(self) -> list[Store]:
        return [Store(self.target, of_atom(self.axis), self.operands[0], (self.axis,))]


@dataclass(frozen=True)
class SortBody:
    """``target =`` what the ordering operation ``op`` makes of the values along ``axis``.

    Each row has ``kept`` results, which lie side by side in the target; rows follow one another.
    """

    rows: tuple[Axis, ...]
    axis: Axis
    op: OpDef
    attrs: tuple[Any, ...]
    value: Expression
    target: int
    kept: int

    def expressions(self) -> list[Expression]:
        return [self.value]

    def stores(self) -> list[Store]:
        flat = Axis(extent(self.rows) * self.kept, "flat")
        return [Store(self.target, of_atom(flat), self.value, (flat,))]


@dataclass(frozen=True)
class ScatterBody:
    """For each row: copy ``base`` along ``base_axis`` into the target, then walk ``axis`` in
    order and combine ``value`` into the target at ``position``.

    ``base`` is ``None`` when the target already holds it (a donated buffer).
    """

    rows: tuple[Axis, ...]
    base_axis: Axis
    base: Expression | None
    base_index: Index
    axis: Axis
    value: Expression
    target_index: Index
    combine: OpDef | None
    target: int
    dtype: DType = field(kw_only=True)

    def expressions(self) -> list[Expression]:
        # The positions stand inside target_index; they are read as well.
        probe = [self.value]
        if self.base is not None:
            probe.append(self.base)
        probe.extend(loaded_values(self.target_index))
        return probe

    def stores(self) -> list[Store]:
        return [Store(self.target, self.target_index, self.value, (self.axis,))]


Body = Union[
    RowBody, ContractBody, AttentionBody, ScanBody, ScatterBody, RecurrentBody, SortBody
]  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """Bodies that run side by side in one launch.

    ``values`` gives the dtype of every array and scalar by number. ``covers`` are the numbers
    of the graph's values computed here, ``notes`` say why the kernel was cut as it is.
    ``packs`` marks a kernel that only lays an operand out anew for the kernels behind it.
    """

    bodies: tuple[Body, ...]
    values: dict[int, DType]
    covers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    packs: bool = False

    def reads(self) -> tuple[int, ...]:
        """Numbers of the arrays that are loaded, in order of appearance."""
        return _unique(
            expression.data[0]
            for body in self.bodies
            for expression in walk(body.expressions())
            if expression.kind == LOAD
        )

    def writes(self) -> tuple[int, ...]:
        """Numbers of the arrays that are stored."""
        return _unique(store.target for body in self.bodies for store in body.stores())

    def scalars(self) -> tuple[int, ...]:
        """Numbers of the scalar arguments, in order of appearance."""
        return _unique(
            expression.data
            for body in self.bodies
            for expression in walk(body.expressions())
            if expression.kind == ARGUMENT
        )


def _unique(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))


def extent(axes: Iterable[Axis]) -> int:
    """Number of points of a nest of axes."""
    result = 1
    for axis in axes:
        result *= axis.size
    return result
