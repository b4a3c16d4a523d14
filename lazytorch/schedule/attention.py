"""Attention in the scheduler: rows of one computation together, operands read in place.

The rows of a graph that differ only in which result they name become one nest with several
stores. Queries, keys and values are read many times, so what is computed for them is stored
first; moves are followed, so heads cut from one projection are never copied. Dropout's factor is
as large as the scores and is computed in place, however many kernels need it.
"""

from __future__ import annotations

from collections.abc import Sequence

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
