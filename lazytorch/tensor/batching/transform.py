"""From one example to the batch: the graph of a mapped function, rewritten."""

from __future__ import annotations

from lazytorch.ir.node import Node
from lazytorch.ops.examples import EXAMPLE, Level, levels_of, symbolic_order
from lazytorch.tensor.batching import layers
from lazytorch.tensor.batching.rules import BY_KIND, Rule

RULES: dict[str, Rule] = {**BY_KIND, "attention": layers.attention, "recurrent": layers.recurrent}


def batch_of(node: Node, level: Level) -> Node | None:
    """The values (N, ...) that the node has for all examples of ``level``.

    ``None`` where it does not depend on the level. Every node below that does is from then on an
    example of its batch: it forgets how it was made, as a computed node does, so nothing is
    rewritten twice and what a tape keeps of one example keeps the batch, not the graph.
    """
    depends: set[int] = set()
    for one in symbolic_order(node, level):
        if one.op is EXAMPLE and one.attrs[0] is level:
            depends.add(id(one))
            continue
        marks = [id(source) in depends for source in one.src]
        if not any(marks):
            continue
        sources = [source.src[0] if mark else source for source, mark in zip(one.src, marks)]
        whole = RULES[one.op.kind](one, sources, marks, level.size)
        one.restate(EXAMPLE, (whole,), (level,))
        depends.add(id(one))
    return node.src[0] if id(node) in depends else None


def every_example(node: Node) -> Node:
    """The values for all examples of all levels; the node itself where it is one value."""
    for level in levels_of(node):
        node = batch_of(node, level) or node
    return node
