"""Sums of pieces inserted into zeros: which become concatenations, and that none changes value."""

from __future__ import annotations

import numpy as np
import pytest

from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, movement
from lazytorch.schedule.graph import build_graph, number_graph
from lazytorch.schedule.simplify import simplify
from tests.graphs import Builder, assert_close, expected

Piece = tuple[tuple[int, ...], tuple[int, ...], int]
WHOLE = (4, 6, 5)


def summed(build: Builder, pieces: list[Piece]) -> Node:
    """Pieces (shape, strides, offset) inserted into zeros of ``WHOLE`` and added up."""
    total = None
    for number, (shape, strides, offset) in enumerate(pieces):
        values = np.random.default_rng(number).standard_normal(shape).astype("f4")
        zeros = build.expand(build.constant(0.0), WHOLE)
        term = build.apply(
            movement.INSERT, zeros, build.leaf(values), attrs=(strides, offset)
        )  # fmt: skip
        total = term if total is None else build.apply(elementwise.ADD, term, total)
    assert total is not None
    return build.apply(elementwise.MUL, total, build.scalar(2.0))


UNBOUND: list[Piece] = [((6, 5), (5, 1), 30 * number) for number in (2, 0, 3, 1)]
JOINED: dict[str, list[Piece]] = {
    "unbind": UNBOUND,
    "unbind inside": [((4, 5), (30, 1), 5 * number) for number in range(6)],
    "split": [((4, 2, 5), (30, 5, 1), 0), ((4, 4, 5), (30, 5, 1), 10)],
    "last axis": [((4, 6, 2), (30, 5, 1), 3), ((4, 6, 3), (30, 5, 1), 0)],
    "an axis of one": [((4, 1, 5), (30, 5, 1), 0), ((4, 5, 5), (30, 5, 1), 5)],
}
KEPT: dict[str, list[Piece]] = {
    "a part is missing": UNBOUND[:3],
    "two parts meet": [*UNBOUND[:3], UNBOUND[0]],
    "every other row": [((2, 6, 5), (60, 5, 1), 0), ((2, 6, 5), (60, 5, 1), 30)],
    "turned around": [((5, 6), (1, 5), 30 * number) for number in range(4)],
    "in two axes": [((4, 3, 5), (30, 5, 1), 0), ((4, 3, 2), (30, 5, 1), 15),
                    ((4, 3, 3), (30, 5, 1), 17)],
}  # fmt: skip


@pytest.mark.parametrize("name", [*JOINED, *KEPT])
def test_pieces_behind_each_other_are_concatenated(name: str) -> None:
    build = Builder("numpy")
    root = summed(build, JOINED.get(name) or KEPT[name])
    graph = simplify(build_graph(number_graph([root])))
    assert (movement.CONCATENATE in graph.ops) == (name in JOINED)
    assert (movement.INSERT in graph.ops) == (name in KEPT)
    (wanted,) = expected(root)
    assert_close(build.compute(root)[0], wanted)


def test_a_term_that_is_needed_itself_stays() -> None:
    build = Builder("numpy")
    first, second = (
        build.apply(
            movement.INSERT, build.expand(build.constant(0.0), (4,)),
            build.leaf(np.arange(2, dtype="f4")), attrs=((1,), start),
        )
        for start in (0, 2)
    )  # fmt: skip
    roots = [first, build.apply(elementwise.ADD, first, second)]
    wanted = expected(*roots)
    for got, value in zip(build.compute(*roots), wanted):
        assert_close(got, value)
