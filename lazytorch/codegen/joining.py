"""Joining neighbouring loops of a row body.

``collapse`` joins loops that walk memory as one. ``widen`` joins the last loops where they are
shorter than a vector, as in images of a few pixels: quotients and remainders of the joined
position are constants from lane to lane, so that a vector covers several lines of an image, or
several channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from lazytorch.codegen.rows import choose_style, style_score
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, Index, Quotient, Remainder, of_atom
from lazytorch.ir.kernel import RowBody, Stage, Store, extent
from lazytorch.schedule.align import inner_nests, substitute_stage


def collapse(body: RowBody) -> RowBody:
    """Join neighbouring axes wherever no index becomes more complicated by it."""
    rows = [axis for axis in body.rows if axis.size > 1]
    body = RowBody(tuple(rows), tuple(_drop_units(stage) for stage in body.stages))
    body = _collapse_nest(body, body.rows, is_rows=True)
    for nest in inner_nests(body.stages):
        body = _collapse_nest(body, nest, is_rows=False)
    return body


def _drop_units(stage: Stage) -> Stage:
    # A loop of one step stays only if it is all that tells an inner stage from a row-level one.
    kept = tuple(axis for axis in stage.axes if axis.size != 1)
    if isinstance(stage, Store):
        return replace(stage, axes=kept)
    return replace(stage, axes=kept or stage.axes[:1])


def _collapse_nest(body: RowBody, nest: tuple[Axis, ...], is_rows: bool) -> RowBody:
    axes = list(nest)
    if any(axis.size == 0 for axis in axes):
        return body  # Nothing divides by an axis without positions, and no loop runs over it.
    position = len(axes) - 2
    while position >= 0:
        outer, inner = axes[position], axes[position + 1]
        joined = Axis(outer.size * inner.size, outer.name)
        replacements = {
            outer: of_atom(joined) // inner.size,
            inner: of_atom(joined) % inner.size,
        }
        if all(_stays_simple(index, outer, inner, replacements) for index in _indices(body)):
            body = _joined(body, outer, inner, joined, replacements, is_rows)
            axes[position : position + 2] = [joined]
        position -= 1
    return body


def _indices(body: RowBody) -> Iterable[Index]:
    for expression in ex.walk(body.expressions()):
        yield from ex.indices_of(expression)
    for store in body.stores():
        yield store.index


def _stays_simple(index: Index, outer: Axis, inner: Axis, replacements: dict[Axis, Index]) -> bool:
    axes = index.axes()
    if outer not in axes and inner not in axes:
        return True
    return _divisions(index.substitute(replacements)) <= _divisions(index)


def _divisions(index: Index) -> int:
    count = 0
    for atom, _ in index.terms:
        if isinstance(atom, (Quotient, Remainder)):
            count += 1 + _divisions(atom.dividend)
    return count


def _joined(
    body: RowBody,
    outer: Axis,
    inner: Axis,
    joined: Axis,
    replacements: dict[Axis, Index],
    is_rows: bool,
) -> RowBody:
    parts: dict[Axis, tuple[Axis, ...]] = {outer: (joined,), inner: ()}
    stages = tuple(substitute_stage(stage, replacements, parts) for stage in body.stages)
    rows = body.rows
    if is_rows:
        rows = tuple(joined if a is outer else a for a in rows if a is not inner)
    return RowBody(rows, stages)


def widen(body: RowBody, target: Target) -> RowBody:
    """Join the last rows, or the last loops of a reduction, where a vector is longer than they
    are and takes several at once; the body itself where that does not pay."""
    if target.family == "gpu":
        return body
    kind = choose_style(body, target).kind
    if kind == "elements" and body.rows and body.rows[-1].size < target.vector_width:
        return _widened(body, target, "columns") or _widened(body, target, "inner") or body
    if kind in ("elements", "inner"):
        return _widened(body, target, "inner") or body
    return body


def _widened(body: RowBody, target: Target, kind: str) -> RowBody | None:
    """The body with as many of its last loops joined as make a vector, where it is then written
    in the style and no worse than before."""
    best = style_score(body, target, kind)
    found = None
    while True:
        nest = body.rows if kind == "columns" else _longest(body)
        if len(nest) < 2 or nest[-1].size >= target.vector_width:
            return found
        outer, inner = nest[-2:]
        if not inner.size:
            return found  # Nothing divides by an axis without positions.
        if not all(_has_both_or_none(stage, outer, inner) for stage in body.stages):
            return found
        joined = Axis(outer.size * inner.size, outer.name)
        replaced = {outer: of_atom(joined) // inner.size, inner: of_atom(joined) % inner.size}
        body = _joined(body, outer, inner, joined, replaced, kind == "columns")
        score = style_score(body, target, kind)
        if score >= max(best, 0.0) and choose_style(body, target).kind == kind:
            best, found = score, body


def _has_both_or_none(stage: Stage, outer: Axis, inner: Axis) -> bool:
    """Whether a stage loops over both axes, one inside the other, or over neither: a sum over one
    of them alone would be made over the joined one."""
    axes = stage.axes
    if outer not in axes and inner not in axes:
        return True
    return (outer, inner) in pairwise(axes)


def _longest(body: RowBody) -> tuple[Axis, ...]:
    """The longest nest of inner loops."""
    return max(inner_nests(body.stages), key=extent, default=())
