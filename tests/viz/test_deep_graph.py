"""A chain of a hundred thousand pending operations can be drawn at the default recursion limit."""

from __future__ import annotations

import sys
from pathlib import Path

import lazytorch as torch
from lazytorch import config, engine

DEPTH = 100_000


def test_a_deep_chain_is_drawn(tmp_path: Path) -> None:
    assert sys.getrecursionlimit() <= 10_000
    with config.override(FLUSH_DEPTH=10 * DEPTH, FLUSH_NODES=10 * DEPTH):
        engine.pending.reset()
        x = torch.ones(2)
        y = x
        for _ in range(DEPTH):
            y = y + x
        graph = torch.graph(y)
        assert "add" in str(graph)
        graph.save(tmp_path / "graph.html")
        assert (tmp_path / "graph.html").stat().st_size < 4 << 20
    engine.pending.reset()
