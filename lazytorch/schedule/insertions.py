"""Sums of pieces inserted into zeros as one concatenation.

The gradient of each piece of a tensor (``unbind``, ``split``, ``chunk``, slices) is the piece's
gradient in an array of zeros, and the tensor's gradient is their sum. Where the pieces fill the
tensor and lie one behind the other along one axis, that sum is their concatenation: nothing is
added, and whoever computes a piece may write it into its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from lazytorch.ir.index import row_major_strides
from lazytorch.ops import elementwise, leaves, movement
from lazytorch.schedule import choices
from lazytorch.schedule.graph import Graph

Shape = tuple[int, ...]


class _Box(NamedTuple):
    """Where one piece lies in the whole: its first element and its extents."""

    start: Shape
    extents: Shape


def join_insertions(graph: Graph) -> Graph:
    """The graph with such sums rewritten; the same object when there is none."""
    if movement.INSERT not in graph.ops:
        return graph
    found = _sums(graph)
    joined = {number: parts for number, rows in found.items() if (parts := _in_order(graph, rows))}
    return _rewritten(graph, joined) if joined else graph


def _sums(graph: Graph) -> dict[int, list[int]]:
    """The insertions that each sum of nothing else consists of, by the last addition."""
    uses = [0] * len(graph)
    for number in itertools.chain(graph.outputs, *graph.sources):
        uses[number] += 1
    terms: dict[int, list[int]] = {}
    found: dict[int, list[int]] = {}
    for number, op in enumerate(graph.ops):
        if op is movement.INSERT and _is_zero(graph, graph.sources[number][0]):
            terms[number] = [number]
        elif op is elementwise.ADD:
            sources = graph.sources[number]
            parts = [terms.get(source, []) for source in sources]
            if all(parts) and all(uses[source] == 1 for source in sources):
                terms[number] = found[number] = [row for part in parts for row in part]
                for source in sources:
                    found.pop(source, None)
    return found


def _is_zero(graph: Graph, number: int) -> bool:
    while graph.ops[number] in (movement.EXPAND, movement.RESHAPE):
        (number,) = graph.sources[number]
    return graph.ops[number] is leaves.CONSTANT and graph.attrs[number][0] == 0


def _in_order(graph: Graph, rows: Sequence[int]) -> tuple[int, list[tuple[int, Shape]]] | None:
    """(axis, the pieces with the shape that each has in the whole), or ``None``."""
    whole = graph.shapes[rows[0]]
    pieces = []
    for row in rows:
        piece = graph.sources[row][1]
        box = _box(whole, graph.shapes[piece], *graph.attrs[row])
        if box is None or graph.shapes[row] != whole:
            return None
        pieces.append((box, piece))
    cut = {axis for box, _ in pieces for axis, e in enumerate(box.extents) if e != whole[axis]}
    if len(cut) != 1 or len(pieces) > choices.MAX_CONCATENATED:
        return None
    (axis,) = cut
    pieces.sort(key=lambda entry: entry[0].start[axis])
    end = 0
    for box, _ in pieces:
        if box.start[axis] != end:
            return None
        end += box.extents[axis]
    if end != whole[axis]:
        return None
    return axis, [(piece, box.extents) for box, piece in pieces]


def _box(whole: Shape, piece: Shape, strides: Shape, offset: int) -> _Box | None:
    """The box of ``whole`` that the strided region is, in row-major order, or ``None``."""
    steps = row_major_strides(whole)
    start = []
    for step, extent in zip(steps, whole):
        start.append(offset // step % extent if extent else 0)
    extents = [1] * len(whole)
    position = 0
    for extent, stride in zip(piece, strides):
        if extent == 1:
            continue
        while position < len(whole) and (steps[position] != stride or whole[position] == 1):
            position += 1
        if position == len(whole) or start[position] + extent > whole[position]:
            return None
        extents[position] = extent
        position += 1
    return _Box(tuple(start), tuple(extents)) if 0 not in piece else None


def _rewritten(graph: Graph, joined: dict[int, tuple[int, list[tuple[int, Shape]]]]) -> Graph:
    made = Graph()
    needed = _needed(graph, joined)
    place: dict[int, int] = {}
    for number, op in enumerate(graph.ops):
        if number not in needed:
            continue
        dtype, node = graph.dtypes[number], graph.nodes[number]
        attrs = graph.attrs[number]
        sources = tuple(place[s] for s in graph.sources[number] if s in place)
        if number in joined:
            axis, pieces = joined[number]
            op, attrs = movement.CONCATENATE, (axis,)
            sources = tuple(
                place[piece]
                if graph.shapes[piece] == shape
                else made.add(
                    movement.RESHAPE, (place[piece],), (shape,), shape, dtype, graph.nodes[piece]
                )
                for piece, shape in pieces
            )
        place[number] = made.add(op, sources, attrs, graph.shapes[number], dtype, node)
    made.leaves = [place[number] for number in graph.leaves]
    made.scalars = [place[number] for number in graph.scalars]
    made.outputs = [place[number] for number in graph.outputs]
    return made


def _needed(graph: Graph, joined: dict[int, tuple[int, list[tuple[int, Shape]]]]) -> set[int]:
    """The rows that are still read."""
    needed = {*graph.leaves, *graph.scalars, *graph.outputs}
    for number in range(len(graph) - 1, -1, -1):
        if number not in needed:
            continue
        if number in joined:
            needed.update(piece for piece, _ in joined[number][1])
        else:
            needed.update(graph.sources[number])
    return needed
