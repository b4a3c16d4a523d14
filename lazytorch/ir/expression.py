"""Scalar expressions inside a kernel: what one element is computed from.

Expressions are data and interned: two equal ones are the same object, so sharing needs no
search. They know loop axes and value numbers (which the scheduler assigns to arrays), but no
nodes, buffers or devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lazytorch.dtypes import DType
from lazytorch.ir import index as index_module
from lazytorch.ir.definition import OpDef
from lazytorch.ir.index import Axis, Index


@dataclass(frozen=True)
class Condition:
    """``low <= index <= high``."""

    index: Index
    low: int
    high: int

    def always(self) -> bool:
        """Whether the bounds of the index alone make it true."""
        return self.low <= self.index.low and self.index.high <= self.high

    def never(self) -> bool:
        """Whether the bounds of the index alone make it false."""
        return self.index.high < self.low or self.high < self.index.low

    def substitute(self, replacements: Mapping[Axis, Index]) -> Condition:
        return Condition(self.index.substitute(replacements), self.low, self.high)


Guard = tuple[Condition, ...]

# The kinds of expression, with what ``data`` holds:
CONSTANT = "constant"  # a Python number
ARGUMENT = "argument"  # the number of a scalar value: a kernel argument
POSITION = "position"  # an Index used as a number
LOAD = "load"  # (value number, flat Index, Guard): 0 where the guard fails
APPLY = "apply"  # (OpDef, attrs) of the operands
CHOOSE = "choose"  # a Guard: the first operand where it holds, the second elsewhere
RANDOM = "random"  # a flat Index: random bits under (seed, offset)
RESULT = "result"  # the number of a finished reduction of the same kernel
STASHED = "stashed"  # (stash number, Index into it): kept by an earlier stage of the kernel

# What 32 random bits cost, in additions.
RANDOM_COST = 40


class Expression:
    """One interned expression: ``kind``, ``operands`` and ``data`` as listed above."""

    __slots__ = ("_axes", "_cost", "data", "dtype", "kind", "operands")

    def __init__(
        self, kind: str, operands: tuple[Expression, ...], data: Any, dtype: DType
    ) -> None:
        self.kind = kind
        self.operands = operands
        self.data = data
        self.dtype = dtype
        self._axes: frozenset[Axis] | None = None
        self._cost = -1

    def axes(self) -> frozenset[Axis]:
        """Every loop axis the value depends on."""
        if self._axes is None:
            found: set[Axis] = set()
            for operand in self.operands:
                found |= operand.axes()
            for position in indices_of(self):
                found |= position.axes()
            self._axes = frozenset(found)
        return self._axes

    def substitute_axes(self, replacements: Mapping[Axis, Index]) -> Expression:
        """The same expression with loop axes replaced."""
        return rewrite(self, replacements, None)

    def __repr__(self) -> str:
        if self.kind == APPLY:
            return f"{self.data[0].name}({', '.join(map(repr, self.operands))})"
        if self.kind == LOAD:
            number, position, guard = self.data
            return f"v{number}[{position}]" + ("?" if guard else "")
        if self.kind in (CONSTANT, POSITION):
            return str(self.data)
        inside = ", ".join([str(self.data), *map(repr, self.operands)])
        return f"{self.kind}({inside})"


_table: dict[Any, Expression] = {}


def reset() -> None:
    """Forget interned expressions; called when scheduling of a new graph begins."""
    _table.clear()


def _make(kind: str, operands: tuple[Expression, ...], data: Any, dtype: DType) -> Expression:
    key = (kind, operands, data, dtype)
    known = _table.get(key)
    if known is None:
        known = _table[key] = Expression(kind, operands, data, dtype)
    return known


def constant(value: Any, dtype: DType) -> Expression:
    """A number."""
    # The type and text keep 1, 1.0, True and -0.0 apart, which compare equal in Python.
    key = (CONSTANT, type(value), repr(value), dtype)
    known = _table.get(key)
    if known is None:
        known = _table[key] = Expression(CONSTANT, (), value, dtype)
    return known


def argument(number: int, dtype: DType) -> Expression:
    """A scalar bound at launch."""
    return _make(ARGUMENT, (), number, dtype)


def position(index: Index, dtype: DType) -> Expression:
    """An index as a number."""
    return _make(POSITION, (), index, dtype)


def load(number: int, index: Index, guard: Guard, dtype: DType) -> Expression:
    """An element of an array; 0 where the guard fails, where nothing is read."""
    return _make(LOAD, (), (number, index, guard), dtype)


def apply(op: OpDef, attrs: Any, operands: tuple[Expression, ...], dtype: DType) -> Expression:
    """A map operation on values."""
    return _make(APPLY, operands, (op, attrs), dtype)


def choose(guard: Guard, then: Expression, otherwise: Expression) -> Expression:
    """One value where a guard holds, another elsewhere."""
    if not guard or then is otherwise:
        return then
    return _make(CHOOSE, (then, otherwise), guard, then.dtype)


def random_bits(seed: Expression, offset: Expression, index: Index, dtype: DType) -> Expression:
    """The random bits of the element at ``index`` of a draw."""
    return _make(RANDOM, (seed, offset), index, dtype)


def result(number: int, dtype: DType) -> Expression:
    """What a reduction or contraction of the same kernel came to."""
    return _make(RESULT, (), number, dtype)


def stashed(number: int, index: Index, dtype: DType) -> Expression:
    """An element of what an earlier stage kept on chip."""
    return _make(STASHED, (), (number, index), dtype)


def indices_of(expression: Expression) -> Iterable[Index]:
    """The indices that the expression itself (not its operands) holds."""
    kind, data = expression.kind, expression.data
    if kind == LOAD:
        return (data[1], *(condition.index for condition in data[2]))
    if kind in (POSITION, RANDOM):
        return (data,)
    if kind == CHOOSE:
        return tuple(condition.index for condition in data)
    if kind == STASHED:
        return (data[1],)
    return ()


def simplify_guard(conditions: Iterable[Condition]) -> Guard | None:
    """The conditions that are not always true, once each; ``None`` when one is never true."""
    kept: list[Condition] = []
    for condition in conditions:
        if condition.never():
            return None
        if not condition.always() and condition not in kept:
            kept.append(condition)
    return tuple(kept)


def rewrite(
    expression: Expression,
    axes: Mapping[Axis, Index],
    loads: Callable[[Expression], Expression | None] | None,
    memo: dict[Expression, Expression] | None = None,
) -> Expression:
    """Replace axes, and loads and results for which ``loads`` answers with another expression.

    ``loads`` sees each load after its axes were replaced.
    """
    memo = {} if memo is None else memo
    known = memo.get(expression)
    if known is not None:
        return known
    operands = tuple(rewrite(operand, axes, loads, memo) for operand in expression.operands)
    made = _rewritten(expression, operands, axes, loads, memo)
    memo[expression] = made
    return made


def _rewritten(
    expression: Expression,
    operands: tuple[Expression, ...],
    axes: Mapping[Axis, Index],
    loads: Callable[[Expression], Expression | None] | None,
    memo: dict[Expression, Expression],
) -> Expression:
    kind, data, dtype = expression.kind, expression.data, expression.dtype

    def moved(position_: Index) -> Index:
        return _substitute(position_, axes, loads, memo)

    if kind in (LOAD, RESULT, STASHED):
        made = expression
        if kind == LOAD:
            guard = simplify_guard(Condition(moved(c.index), c.low, c.high) for c in data[2])
            if guard is None:
                return constant(0, dtype)
            made = load(data[0], moved(data[1]), guard, dtype)
        elif kind == STASHED:
            made = stashed(data[0], moved(data[1]), dtype)
        answer = loads(made) if loads is not None else None
        return made if answer is None else answer
    if kind == POSITION:
        return position(moved(data), dtype)
    if kind == RANDOM:
        return random_bits(operands[0], operands[1], moved(data), dtype)
    if kind == CHOOSE:
        guard = simplify_guard(Condition(moved(c.index), c.low, c.high) for c in data)
        return operands[1] if guard is None else choose(guard, operands[0], operands[1])
    if kind == APPLY:
        return apply(data[0], data[1], operands, dtype)
    return expression


def _substitute(
    index: Index,
    axes: Mapping[Axis, Index],
    loads: Callable[[Expression], Expression | None] | None,
    memo: dict[Expression, Expression],
) -> Index:
    if not axes and loads is None:
        return index
    made = index_module.of_int(index.constant)
    for atom, factor in index.terms:
        if isinstance(atom, Axis):
            part = axes.get(atom) or index_module.of_atom(atom)
        elif isinstance(atom, index_module.Quotient):
            part = _substitute(atom.dividend, axes, loads, memo) // atom.divisor
        elif isinstance(atom, index_module.Remainder):
            part = _substitute(atom.dividend, axes, loads, memo) % atom.divisor
        else:
            value = rewrite(atom.value, axes, loads, memo)
            part = index_module.loaded(value, atom.low, atom.high)
        made = made + part * factor
    return made


def walk(roots: Iterable[Expression]) -> list[Expression]:
    """Every expression below ``roots`` once, operands first, those inside indices included."""
    seen: set[Expression] = set()
    order: list[Expression] = []

    def visit(expression: Expression) -> None:
        if expression in seen:
            return
        seen.add(expression)
        for operand in expression.operands:
            visit(operand)
        for index in indices_of(expression):
            for value in loaded_values(index):
                visit(value)
        order.append(expression)

    for root in roots:
        visit(root)
    return order


def loaded_values(index: Index) -> Iterable[Expression]:
    """The expressions that an index is computed from (a gather's positions)."""
    for atom, _ in index.terms:
        if isinstance(atom, index_module.Loaded):
            yield atom.value
        elif not isinstance(atom, Axis):
            yield from loaded_values(atom.dividend)


def loads_of(roots: Iterable[Expression]) -> list[Expression]:
    """Every load below ``roots``."""
    return [expression for expression in walk(roots) if expression.kind == LOAD]


def cost(expression: Expression) -> int:
    """What computing every distinct part below ``expression`` once costs, in additions."""
    operations = 0
    for part in walk([expression]):
        if part.kind == APPLY:
            operations += part.data[0].cost
        elif part.kind == RANDOM:
            operations += RANDOM_COST
    return operations
