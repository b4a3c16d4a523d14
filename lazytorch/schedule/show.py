"""Graphs and plans as text: one line a value, one block a step."""

from __future__ import annotations

from lazytorch.ir.show import show_kernel
from lazytorch.ops import leaves
from lazytorch.schedule.graph import Graph
from lazytorch.schedule.plan import CallStep, LaunchStep, Plan


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


def show_plan(plan: Plan) -> str:
    """Steps in order with their kernels, and where every value lives."""
    lines = [
        f"plan of {len(plan.steps)} steps, {plan.layout.arena_bytes} bytes of arena",
        f"leaves {_values(plan.leaves)}; scalars {_values(plan.scalars)}; "
        f"outputs {_values(plan.outputs)}",
    ]
    for number, step in enumerate(plan.steps):
        if isinstance(step, CallStep):
            lines.append(f"{number}: v{step.number} = {step.op.name}({_values(step.reads)})")
            continue
        lines.append(
            f"{number}: launch {step.name or 'kernel'} on {step.groups} x {step.local}, "
            f"{step.flops} flops, {step.nbytes} bytes"
        )
        if step.kernel is not None:
            lines += ["   " + line for line in show_kernel(step.kernel).splitlines()]
        lines += _places(plan, step)
    return "\n".join(lines)


def _places(plan: Plan, step: LaunchStep) -> list[str]:
    result = []
    for number in step.arrays:
        place = plan.layout.places[number]
        text = f"{place.kind} {place.position}" if place.kind != "arena" else f"at {place.position}"
        if place.kind == "output" and place.position in plan.layout.donors:
            text += f" in place of leaf {plan.layout.donors[place.position]}"
        result.append(f"   v{number}: {place.nbytes} bytes, {text}")
    return result


def _values(numbers: tuple[int, ...] | list[int]) -> str:
    return ", ".join(f"v{number}" for number in numbers) or "none"
