"""How one loop nest reads what another one writes.

Two nests can share a launch when each point of one needs only what the same row of the other
makes. That is decided on index maps: the consumer's load index must be the producer's store
index under a correspondence of axes, where one axis of the producer may be several neighbouring
axes of the consumer (a reshape between them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index, Quotient, Remainder, of_atom, total
from lazytorch.ir.kernel import Reduce, RowBody, Stage, Store


@dataclass(frozen=True)
class Correspondence:
    """For each axis of the producer, the consumer's axes it is made of, slowest first."""

    parts: dict[Axis, tuple[Axis, ...]]

    def index_of(self, axis: Axis) -> Index:
        """The producer's axis as an index over the consumer's."""
        result = []
        step = 1
        for part in reversed(self.parts[axis]):
            result.append(of_atom(part) * step)
            step *= part.size
        return total(result)

    def replacements(self) -> dict[Axis, Index]:
        return {axis: self.index_of(axis) for axis in self.parts}

    def inverse(self) -> dict[Axis, Index]:
        """Each of the consumer's axes as an index over the producer's."""
        result: dict[Axis, Index] = {}
        for axis, parts in self.parts.items():
            step = 1
            for part in reversed(parts):
                result[part] = (of_atom(axis) // step) % part.size
                step *= part.size
            if parts:
                result[parts[0]] = of_atom(axis) // (step // parts[0].size)
        return result

    def image(self, axes: Iterable[Axis]) -> list[Axis]:
        """The consumer's axes that the producer's ``axes`` are made of."""
        return [part for axis in axes for part in self.parts.get(axis, ())]


def correspond(store: Index, axes: tuple[Axis, ...], load: Index) -> Correspondence | None:
    """The correspondence under which ``load`` reads just what ``store`` writes, or ``None``."""
    if store.constant != load.constant:
        return None
    written = _linear(store)
    read = _linear(load)
    if written is None or read is None:
        return None
    terms = sorted(read.items(), key=lambda term: -term[1])
    parts: dict[Axis, tuple[Axis, ...]] = {}
    used = 0
    for axis in axes:
        if axis.size == 1:
            parts[axis] = ()
            continue
        step = written.get(axis)
        if step is None or step <= 0:
            return None
        inside = [(part, factor) for part, factor in terms if step <= factor < step * axis.size]
        expected = step * axis.size
        for part, factor in inside:
            if factor * part.size != expected:
                return None
            expected = factor
        if expected != step:
            return None
        parts[axis] = tuple(part for part, _ in inside)
        used += len(inside)
    return Correspondence(parts) if used == len(terms) else None


def _linear(index: Index) -> dict[Axis, int] | None:
    terms: dict[Axis, int] = {}
    for atom, factor in index.terms:
        if not isinstance(atom, Axis):
            return None
        terms[atom] = factor
    return terms


def split_rows(body: RowBody, loads: Iterable[Expression]) -> RowBody:
    """The nest with each row axis cut in two of which the loads use quotient and remainder.

    An axis that several axes were merged into (blocks and the positions inside them) is so taken
    apart again, and the loads become linear.
    """
    indices = [load.data[1] for load in loads]
    while True:
        cut = next((found for index in indices if (found := _cut(index, body.rows))), None)
        if cut is None:
            return body
        axis, divisor = cut
        parts = (Axis(axis.size // divisor, axis.name), Axis(divisor, axis.name))
        replaced = {axis: of_atom(parts[0]) * divisor + of_atom(parts[1])}
        rows = tuple(part for row in body.rows for part in (parts if row is axis else (row,)))
        stages = tuple(substitute_stage(stage, replaced, {}) for stage in body.stages)
        body = RowBody(rows, stages)
        indices = [index.substitute(replaced) for index in indices]


def _cut(index: Index, rows: tuple[Axis, ...]) -> tuple[Axis, int] | None:
    """A row axis whose quotient or remainder the index holds, and the divisor."""
    for atom, _ in index.terms:
        if not isinstance(atom, (Quotient, Remainder)) or atom.dividend.constant:
            continue
        if len(atom.dividend.terms) != 1:
            continue
        ((axis, factor),) = atom.dividend.terms
        if isinstance(axis, Axis) and axis in rows and factor == 1:
            if axis.size % atom.divisor == 0:
                return axis, atom.divisor
    return None


def substitute_stage(
    stage: Stage, replacements: Mapping[Axis, Index], parts: Mapping[Axis, tuple[Axis, ...]]
) -> Stage:
    """The stage over other axes; ``parts`` says which loops replace a loop."""
    axes = tuple(part for axis in stage.axes for part in parts.get(axis, (axis,)))
    value = stage.value.substitute_axes(replacements)
    if isinstance(stage, Reduce):
        return replace(stage, value=value, axes=axes)
    return replace(stage, value=value, axes=axes, index=stage.index.substitute(replacements))


def substitute_body(body: RowBody, correspondence: Correspondence) -> RowBody:
    """A producer's nest rewritten over the consumer's axes."""
    replacements = correspondence.replacements()
    parts = correspondence.parts
    rows = tuple(part for axis in body.rows for part in parts.get(axis, (axis,)))
    stages = tuple(substitute_stage(stage, replacements, parts) for stage in body.stages)
    return RowBody(rows, stages)


def rename_inner(stages: tuple[Stage, ...], known: list[tuple[Axis, ...]]) -> tuple[Stage, ...]:
    """Use the axes of a nest of the same sizes in ``known`` for the inner loops of stages."""
    result = []
    for stage in stages:
        sizes = tuple(axis.size for axis in stage.axes)
        if stage.axes and stage.axes not in known:
            for axes in known:
                if tuple(axis.size for axis in axes) == sizes:
                    renaming = {a: of_atom(b) for a, b in zip(stage.axes, axes)}
                    parts = {a: (b,) for a, b in zip(stage.axes, axes)}
                    stage = substitute_stage(stage, renaming, parts)
                    break
        result.append(stage)
    return tuple(result)


def refine_inner(
    first: tuple[Stage, ...], second: tuple[Stage, ...]
) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Both with inner loops cut alike, where they count the same points in different axes: a group
    of channels as one axis, and its channels and pixels. Loops that need no cut are joined again
    when the kernel is written.
    """
    for nest in inner_nests(first):
        for other in inner_nests(second):
            sizes = _common_sizes(nest, other)
            if other == nest or sizes is None:
                continue
            axes = tuple(Axis(size, nest[-1].name) for size in sizes)
            first = _recut(_recut(first, nest, axes), other, axes)
            second = _recut(_recut(second, nest, axes), other, axes)
            nest = axes
    return first, second


def _common_sizes(first: tuple[Axis, ...], second: tuple[Axis, ...]) -> list[int] | None:
    """Sizes of the coarsest nest of which both are made, if there is one.

    >>> _common_sizes((Axis(64),), (Axis(4), Axis(16))), _common_sizes((Axis(6),), (Axis(2),))
    ([4, 16], None)
    """
    totals = [_steps(nest)[0] * nest[0].size for nest in (first, second)]
    # One point has no steps to cut at, and must keep the loop that a reduction needs.
    if totals[0] != totals[1] or totals[0] <= 1:
        return None
    cuts = sorted({*_steps(first), *_steps(second), totals[0]}, reverse=True)
    if any(outer % inner for outer, inner in pairwise(cuts)):
        return None
    return [outer // inner for outer, inner in pairwise(cuts)]


def _steps(nest: tuple[Axis, ...]) -> list[int]:
    """How many points each axis of a nest moves on."""
    steps = [1]
    for axis in reversed(nest[1:]):
        steps.insert(0, steps[0] * axis.size)
    return steps


def _recut(
    stages: tuple[Stage, ...], nest: tuple[Axis, ...], axes: tuple[Axis, ...]
) -> tuple[Stage, ...]:
    """The stages over ``nest`` over the finer ``axes`` instead."""
    steps = dict(zip(axes, _steps(axes)))
    parts: dict[Axis, tuple[Axis, ...]] = {}
    indices: dict[Axis, Index] = {}
    for axis, step in zip(nest, _steps(nest)):
        inside = [a for a in axes if step <= steps[a] < step * axis.size]
        parts[axis] = tuple(inside)
        indices[axis] = total(of_atom(a) * (steps[a] // step) for a in inside)
    return tuple(
        substitute_stage(stage, indices, parts) if stage.axes == nest else stage
        for stage in stages
    )


def inner_nests(stages: Iterable[Stage]) -> list[tuple[Axis, ...]]:
    """The distinct inner loops of stages."""
    return list(dict.fromkeys(stage.axes for stage in stages if stage.axes))


def replace_loads(
    stages: tuple[Stage, ...], values: Mapping[int, Store]
) -> tuple[Stage, ...] | None:
    """Read the producer's values instead of its arrays; ``None`` if some load is not aligned."""
    failed = False

    def answer(expression: Expression) -> Expression | None:
        nonlocal failed
        if expression.kind != ex.LOAD:
            return None
        store = values.get(expression.data[0])
        if store is None:
            return None
        if expression.data[1] != store.index:
            failed = True
            return None
        if expression.data[2]:
            # A guarded load reads 0 outside; the value itself has no such outside.
            zero = ex.constant(0, expression.dtype)
            return ex.choose(expression.data[2], store.value, zero)
        return store.value

    memo: dict[Expression, Expression] = {}
    result = tuple(
        replace(stage, value=ex.rewrite(stage.value, {}, answer, memo)) for stage in stages
    )
    return None if failed else result
