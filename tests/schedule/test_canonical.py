"""Canonical form: equal computations are one, and the key of a plan is exact."""

from __future__ import annotations

import numpy as np

from lazytorch import dtypes
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise as op
from lazytorch.schedule.graph import build_graph, number_graph
from tests.graphs import Builder


def key(*nodes: Node) -> tuple:
    return number_graph(nodes).key


def test_equal_computations_are_one() -> None:
    build = Builder()
    x = build.leaf(np.ones(3, "f4"))
    y = build.apply(op.ADD, build.apply(op.EXP, x), build.apply(op.EXP, x))
    graph = build_graph(number_graph([y]))
    assert [record.name for record in graph.ops] == ["buffer", "exp", "add"]


def test_the_key_forgets_which_buffers_but_not_how_they_are_shared() -> None:
    build = Builder()
    x, y = build.leaf(np.ones(3, "f4")), build.leaf(np.zeros(3, "f4"))
    once, twice = build.apply(op.ADD, x, y), build.apply(op.ADD, y, x)
    same = build.apply(op.ADD, x, x)
    assert key(once) == key(twice)
    assert key(once) != key(same)


def test_the_key_tells_dtypes_shapes_and_constants_apart() -> None:
    build = Builder()
    x = build.leaf(np.ones(3, "f4"))
    keys = [
        key(build.apply(op.ADD, build.leaf(np.ones(3, kind)), build.leaf(np.ones(3, kind))))
        for kind in ("f4", "f8", "i4")
    ]
    four = build.leaf(np.ones(4, "f4"))
    keys.append(key(build.apply(op.ADD, four, build.leaf(np.ones(4, "f4")))))
    keys.append(key(build.apply(op.ADD, build.leaf(np.ones((1, 3), "f4")), x)))
    for value in (0.0, -0.0, 1, 1.0, True):
        keys.append(key(build.apply(op.ADD, x, build.constant(value))))
    keys.append(key(build.apply(op.ADD, x, build.constant(1, dtypes.float64))))
    assert len(set(keys)) == len(keys)


def test_scalars_are_arguments() -> None:
    build = Builder()
    x = build.leaf(np.ones(3, "f4"))
    keys = {key(build.apply(op.MUL, x, build.scalar(rate))) for rate in (0.1, 0.2, 0.3)}
    assert len(keys) == 1


def test_what_nobody_needs_is_not_numbered() -> None:
    build = Builder()
    x = build.leaf(np.ones(3, "f4"))
    build.apply(op.EXP, x)
    y = build.apply(op.NEG, x)
    assert len(build_graph(number_graph([y]))) == 2


def test_a_dear_value_somebody_holds_is_kept() -> None:
    build = Builder()
    a, b = build.leaf(np.ones((4, 5), "f4")), build.leaf(np.ones((5, 6), "f4"))
    product = build.matmul(a, b)
    y = build.relu(product)
    build.compute(y)
    assert product.buffer is not None


def test_ten_thousand_operations_are_numbered_without_recursion() -> None:
    build = Builder()
    node = build.leaf(np.ones(3, "f4"))
    for _ in range(10_000):
        node = build.apply(op.NEG, build.apply(op.EXP, node))
    assert len(build_graph(number_graph([node]))) == 20_001
