"""Nodes: cheap, immutable, and as deep as one likes."""

from __future__ import annotations

import numpy as np

from lazytorch.ir.node import postorder
from lazytorch.ops import elementwise
from tests.graphs import Builder


def test_postorder_lists_sources_first() -> None:
    build = Builder()
    x = build.leaf(np.ones(3, "f4"))
    y = build.apply(elementwise.EXP, x)
    z = build.apply(elementwise.ADD, y, x)
    assert postorder([z, y]) == [x, y, z]


def test_a_deep_chain_needs_no_recursion() -> None:
    build = Builder()
    node = build.leaf(np.ones(3, "f4"))
    for _ in range(100_000):
        node = build.apply(elementwise.NEG, node)
    assert len(postorder([node])) == 100_001
    del node


def test_a_computed_node_forgets_its_sources() -> None:
    build = Builder()
    y = build.apply(elementwise.EXP, build.leaf(np.ones(3, "f4")))
    build.compute(y)
    assert y.src == ()
    assert y.buffer is not None
