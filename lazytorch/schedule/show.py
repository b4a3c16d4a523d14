"""Graphs as text: one line a value."""

from __future__ import annotations

from lazytorch.ops import leaves
from lazytorch.schedule.graph import Graph


def show_row(graph: Graph, number: int) -> str:
    """``v4 = add(v1, v3) float32[2, 5]``."""
    op, attrs = graph.ops[number], graph.attrs[number]
    inside = [f"v{source}" for source in graph.sources[number]]
    if op is leaves.CONSTANT:
        inside.append(repr(attrs[0]))
    elif op.kind != "leaf":
        inside += [str(getattr(item, "name", item)).replace("torch.", "") for item in attrs]
    shape = list(graph.shapes[number])
    return f"v{number} = {op.name}({', '.join(inside)}) {graph.dtypes[number].name}{shape}"


def show_graph(graph: Graph) -> str:
    """All rows, outputs last."""
    lines = [show_row(graph, number) for number in range(len(graph))]
    return "\n".join([*lines, f"outputs {_values(graph.outputs)}"])


def _values(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(f"v{number}" for number in numbers) or "none"
