"""Maps cut where a choice between two values changes: one loop for each side of the edge.

What comes out of a concatenation chooses, by its position, between the pieces. A loop over all
positions computes every piece everywhere and throws all but one away; between two edges a single
piece is left, without a test, and memory is read and written in whole vectors.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, Index, of_atom
from lazytorch.ir.kernel import RowBody, Store

# Loops made of one: each is code to compile.
MOST_SEGMENTS = 4


def segments(body: RowBody) -> list[RowBody]:
    """Bodies that together do what ``body`` does, none of which tests a position for an edge.

    The body itself where it is no map, or has more edges than are worth a loop each.
    """
    if not body.is_map:
        return [body]
    done: list[RowBody] = []
    waiting = [body]
    while waiting:
        part = waiting.pop()
        cuts = _cuts(part)
        if cuts is None:
            done.append(part)
            continue
        axis, edges = cuts
        if len(done) + len(waiting) + len(edges) + 1 > MOST_SEGMENTS:
            return [body]
        bounds = [0, *edges, axis.size]
        waiting += [_between(part, axis, low, high) for low, high in pairwise(bounds)][::-1]
    return done


def _cuts(body: RowBody) -> tuple[Axis, list[int]] | None:
    """A row axis along which choices change, and the positions where they do."""
    edges: dict[Axis, set[int]] = {}
    for expression in ex.walk(body.expressions()):
        if expression.kind != ex.CHOOSE:
            continue
        for condition in expression.data:
            if len(condition.index.terms) != 1:
                continue
            ((axis, factor),) = condition.index.terms
            if not isinstance(axis, Axis) or axis not in body.rows:
                continue
            low, high = condition.low, condition.high
            low, high = low - condition.index.constant, high - condition.index.constant
            if factor < 0:
                low, high, factor = -high, -low, -factor
            for edge in (-(-low // factor), high // factor + 1):
                if 0 < edge < axis.size:
                    edges.setdefault(axis, set()).add(edge)
    for axis, found in edges.items():
        return axis, sorted(found)
    return None


def _between(body: RowBody, axis: Axis, low: int, high: int) -> RowBody:
    """The positions ``low`` to ``high`` - 1 of ``axis``."""
    part = Axis(high - low, axis.name)
    moved: dict[Axis, Index] = {axis: of_atom(part) + low}
    memo: dict[ex.Expression, ex.Expression] = {}
    stores: list[Store] = []
    for store in body.stores():
        value = ex.rewrite(store.value, moved, None, memo)
        stores.append(replace(store, index=store.index.substitute(moved), value=value))
    return RowBody(tuple(part if a is axis else a for a in body.rows), tuple(stores))


__all__ = ["MOST_SEGMENTS", "segments"]
