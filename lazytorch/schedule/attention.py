"""Attention in the scheduler: rows of one computation together, operands read in place.

The rows of a graph that differ only in which result they name become one nest with several
stores. Queries, keys and values are read many times, so what is computed for them is stored
first; moves are followed, so heads cut from one projection are never copied. Dropout's factor is
as large as the scores and is computed in place, however many kernels need it. The gradients of
queries, keys and values that were cut from one projection are written into the gradient of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazytorch.ir.index import Index, flatten, unflatten
from lazytorch.ops import elementwise, movement
from lazytorch.ops.attention import AttentionAttrs, computation, operands
from lazytorch.schedule.graph import Graph

# Moves through which an operand is read without conditions or computed positions.
_PLAIN_MOVES = frozenset(
    (movement.RESHAPE, movement.PERMUTE, movement.EXPAND, movement.SLICE, movement.AS_STRIDED)
)


def families(graph: Graph, stored: Sequence[int]) -> dict[int, list[int]]:
    """The attention rows among ``stored`` by the first one of the same computation."""
    found: dict[object, list[int]] = {}
    for number in stored:
        if graph.ops[number].kind == "attention":
            key = computation(AttentionAttrs(*graph.attrs[number]), graph.sources[number])
            found.setdefault(key, []).append(number)
    return {numbers[0]: numbers for numbers in found.values()}


def values_to_store(graph: Graph, number: int) -> list[int]:
    """What must be in memory before the attention ``number`` reads it many times."""
    given = operands(AttentionAttrs(*graph.attrs[number]), graph.sources[number])
    wanted = []
    for source in (given.query, given.key, given.value, given.gradient):
        if source is None:
            continue
        while graph.ops[source] in _PLAIN_MOVES or graph.ops[source] is elementwise.CAST:
            source = graph.sources[source][0]
        if graph.ops[source].kind != "leaf":
            wanted.append(source)
    return wanted


def computed_in_place(graph: Graph, number: int) -> list[int]:
    """The values between dropout's random bits and the attention ``number``."""
    given = operands(AttentionAttrs(*graph.attrs[number]), graph.sources[number])
    found = []
    waiting = [given.factor] if given.factor is not None else []
    while waiting:
        source = waiting.pop()
        if graph.ops[source].kind in ("map", "move"):
            found.append(source)
            waiting.extend(graph.sources[source])
    return found


# Results written into a larger array --------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """Attention rows whose results are parts of the value ``target``.

    ``paths`` has for each row the moves that lead from it to the target, each with the number of
    the source through which it is entered.
    """

    target: int
    paths: dict[int, tuple[tuple[int, int], ...]]

    def index(self, graph: Graph, row: int, index: tuple[Index, ...]) -> Index:
        """Where the element of a row at ``index`` lies in the target."""
        for number, source in self.paths[row]:
            index = _moved_to(graph, number, source, index)
        return flatten(index, graph.shapes[self.target])


def _moved_to(
    graph: Graph, number: int, source: int, index: tuple[Index, ...]
) -> tuple[Index, ...]:
    """Where a move puts the element of one of its sources."""
    op, attrs, sources = graph.ops[number], graph.attrs[number], graph.sources[number]
    shapes = [graph.shapes[s] for s in sources]
    if op is movement.PERMUTE:
        return tuple(index[axis] for axis in attrs[0])
    if op is movement.RESHAPE:
        return unflatten(flatten(index, shapes[0]), graph.shapes[number])
    assert op is movement.CONCATENATE
    (axis,) = attrs
    before = sum(shape[axis] for shape in shapes[:source])
    return (*index[:axis], index[axis] + before, *index[axis + 1 :])


def joined_results(graph: Graph, stored: Mapping[int, str]) -> list[Joined]:
    """Concatenations of the results of one attention, with the moves behind them.

    Nothing on the way but the last value may be stored.
    """
    if movement.CONCATENATE not in graph.ops:
        return []
    readers: list[list[int]] = [[] for _ in graph.ops]
    for number, sources in enumerate(graph.sources):
        for source in sources:
            readers[source].append(number)
    found = []
    for number, op in enumerate(graph.ops):
        if op is movement.CONCATENATE:
            behind = _moves_behind(graph, number, readers, stored)
            paths = _paths(graph, number, stored)
            if paths:
                rest = tuple((move, 0) for move in behind[1:])
                paths = {row: (*path, *rest) for row, path in paths.items()}
                found.append(Joined(behind[-1], paths))
    return found


def _moves_behind(
    graph: Graph, number: int, readers: Sequence[Sequence[int]], stored: Mapping[int, str]
) -> list[int]:
    """A value and the plain moves that are its only readers, one after the other."""
    chain = [number]
    while number not in stored and len(readers[number]) == 1:
        (number,) = readers[number]
        if graph.ops[number] not in (movement.PERMUTE, movement.RESHAPE):
            break
        chain.append(number)
    return chain


def _paths(
    graph: Graph, concatenation: int, stored: Mapping[int, str]
) -> dict[int, tuple[tuple[int, int], ...]] | None:
    """For each attention row the way into the concatenation; ``None`` if it has other sources."""
    paths = {}
    for position, source in enumerate(graph.sources[concatenation]):
        way = [(concatenation, position)]
        while graph.ops[source] in (movement.PERMUTE, movement.RESHAPE) and source not in stored:
            way.append((source, 0))
            (source,) = graph.sources[source]
        if graph.ops[source].kind != "attention" or graph.attrs[source][0] == "logsumexp":
            return None
        paths[source] = tuple(reversed(way))
    kinds = {computation(AttentionAttrs(*graph.attrs[row]), graph.sources[row]) for row in paths}
    whole = len(paths) == len(graph.sources[concatenation])
    return paths if whole and len(kinds) == 1 else None
