"""A graph is recognized only if numbering it would give the same: key, leaves and outputs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import dtypes, nn
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise as op
from lazytorch.ops import reduction
from lazytorch.schedule import choices, recall
from lazytorch.schedule.graph import Numbering, number_graph
from lazytorch.schedule.recall import Memory
from tests.graphs import Builder

Summary = tuple[Any, ...]
# Roots, and whatever else somebody holds while they are numbered.
Case = tuple[list[Node], list[Any]]


@pytest.fixture(autouse=True)
def everything_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "RECALLED_DEPTH", 0)
    monkeypatch.setattr(choices, "RECALL_ATTEMPTS", 10_000)


def summary(numbering: Numbering) -> Summary:
    """What a numbering says, without references to nodes, which would count as somebody's."""
    return (
        numbering.key,
        list(map(id, numbering.order)),
        numbering.numbers,
        list(map(id, numbering.leaf_nodes)),
        numbering.leaf_numbers,
        list(map(id, numbering.scalar_nodes)),
        numbering.scalar_numbers,
        {number: list(map(id, group)) for number, group in numbering.outputs.items()},
    )


def recalled(memory: Memory, roots: Sequence[Node]) -> tuple[Summary, bool]:
    """The summary by memory, compared with the one by the walk, and whether it was recalled."""
    walks = []

    def counted(nodes: Sequence[Node], pieces: bool = True) -> Numbering:
        walks.append(1)
        return number_graph(nodes, pieces)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall, "number_graph", counted)
        found = summary(memory.number(roots))
    made = summary(number_graph(roots))
    assert found == made
    return found, not walks


build = Builder()


def layer(
    change: Callable[[Node], Node] = lambda node: node,
    x: Node | None = None,
    hold: bool = False,
    value: Any = 2.0,
) -> Case:
    x = x or build.leaf(np.ones((4, 5), "f4"))
    w = build.leaf(np.ones((5, 6), "f4"))
    product = build.matmul(change(x), w)
    y = build.apply(op.MUL, build.relu(product), build.constant(value))
    return [build.apply(op.ADD, y, build.scalar(0.3))], [product, x] if hold else []


def shared(first: int, second: int, held: Sequence[int] = ()) -> Case:
    nodes = [build.leaf(np.ones(3, "f4")) for _ in range(2)]
    root = build.apply(op.SUB, build.apply(op.EXP, nodes[first]), nodes[second])
    return [root], [nodes[place] for place in held]


def row(starts: tuple[int, int], sizes: tuple[int, int]) -> Case:
    data = build.leaf(np.arange(60, dtype="f4").reshape(6, 10))
    return [build.apply(op.EXP, build.slice(data, starts, sizes, (1, 1)))], []


def row_of_rows(first: int, second: int) -> Case:
    data = build.leaf(np.arange(60, dtype="f4").reshape(6, 10))
    part = build.slice(data, (first, 0), (3, 10), (1, 1))
    return [build.apply(op.EXP, build.slice(part, (second, 0), (1, 10), (1, 1)))], []


def two_roots(order: int, again: bool = False) -> Case:
    x = build.leaf(np.ones(3, "f4"))
    roots = [build.apply(op.EXP, x), build.apply(op.NEG, x)][::order]
    return roots + roots[:1] if again else roots, []


def ready_inside(ready: bool) -> Case:
    inner = build.apply(op.EXP, build.leaf(np.ones(3, "f4")))
    if ready:
        build.compute(inner)
    return [build.apply(op.NEG, build.apply(op.NEG, inner))], []


def twins(number: int) -> Case:
    x = build.leaf(np.ones(3, "f4"))
    values = [build.apply(op.EXP, x) for _ in range(number)]
    return [build.apply(op.ADD, values[0], values[-1])], []


CASES: dict[str, Callable[[], Case]] = {
    "layer": layer,
    "transposed": lambda: layer(lambda x: build.permute(build.permute(x, (1, 0)), (1, 0))),
    "other op": lambda: layer(lambda x: build.apply(op.EXP, x)),
    "held product": lambda: layer(hold=True),
    "other shape": lambda: layer(x=build.leaf(np.ones((7, 5), "f4"))),
    **{f"constant {v!r}": (lambda v=v: layer(value=v)) for v in (0.0, -0.0, 1, 1.0, True)},
    "x - x": lambda: shared(0, 0),
    "x - y": lambda: shared(0, 1),
    "x held - y": lambda: shared(0, 1, [0]),
    "x - y held": lambda: shared(0, 1, [1]),
    "columns": lambda: row((1, 2), (2, 3)),
    "other columns": lambda: row((1, 3), (2, 3)),
    "rows": lambda: row((1, 0), (2, 10)),
    "row of rows": lambda: row_of_rows(1, 2),
    "exp, neg": lambda: two_roots(1),
    "neg, exp": lambda: two_roots(-1),
    "a root twice": lambda: two_roots(1, again=True),
    "ready inside": lambda: ready_inside(True),
    "pending inside": lambda: ready_inside(False),
    "one": lambda: twins(1),
    "twins": lambda: twins(2),
}


def test_every_graph_is_recognized_and_none_for_another() -> None:
    memory = Memory()
    keys: dict[str, Any] = {}
    for _ in range(4):
        for name, make in CASES.items():
            roots, held = make()
            key = recalled(memory, roots)[0][0]
            assert keys.setdefault(name, key) == key
            del roots, held
    for name, make in CASES.items():
        lone = Memory()
        known = False
        for _ in range(3):
            roots, held = make()
            known = recalled(lone, roots)[1]
            del roots, held
        assert known, name


@pytest.mark.parametrize("first", CASES)
def test_a_graph_is_not_taken_for_the_one_before(first: str) -> None:
    for second in CASES:
        memory = comparing_memory()
        for name in (first, second, first, second):
            roots, held = CASES[name]()
            recalled(memory, roots)
            del roots, held


def comparing_memory() -> Memory:
    """A memory that puts all graphs under one signature, so that each is compared with each."""
    memory = Memory()
    memory._known = _OneSignature()  # type: ignore[assignment]
    return memory


class _OneSignature(dict[Any, Any]):
    """Whatever is asked for, or put in, is the same."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(0, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        return super().setdefault(0, default)

    def move_to_end(self, key: Any) -> None:
        pass


MAPS = (op.EXP, op.NEG)
PAIRS = (op.ADD, op.SUB, op.MUL)


def random_graph(seed: int, mutation: int | None) -> Case:
    """A graph of a seed; with ``mutation``, one decision of its making is taken otherwise."""
    choose = random.Random(seed)
    other = random.Random(0 if mutation is None else mutation)
    decisions = 0
    changed = None if mutation is None else other.randrange(90)

    def pick(count: int) -> int:
        nonlocal decisions
        decisions += 1
        chosen = choose.randrange(count)
        return other.randrange(count) if decisions == changed else chosen

    kinds = ("f4", "f4", "f8")
    nodes = [build.leaf(np.ones((3, 3), kinds[pick(3)])) for _ in range(3)]
    nodes += [build.scalar(0.3) if pick(2) else build.constant((0.0, -0.0, 1, 2.0)[pick(4)])]
    held: list[Any] = []
    for _ in range(18):
        kind, first, second = pick(6), nodes[pick(len(nodes))], nodes[pick(len(nodes))]
        if kind < 2:
            node = build.apply(MAPS[kind], first)
        elif kind == 2 and first.shape:
            node = build.apply(reduction.SUM, first, attrs=((pick(len(first.shape)),),))
        elif second.dtype is not first.dtype:
            node = build.cast(first, dtypes.float64)
        elif first.shape and second.shape and first.shape != second.shape:
            node = build.apply(op.EXP, second)
        else:
            node = build.apply(PAIRS[kind % 3], first, second)
        nodes.append(node)
        if not pick(4):
            held.append(node)
    last = [node for node in nodes[-3:] if node.buffer is None]
    return last, held


def test_random_graphs_with_one_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "RECALLED_ALIKE", 20)
    graphs = recognized = 0
    for seed in range(60):
        memory = comparing_memory()
        for mutation in (None, None, *range(10), None):
            roots, held = random_graph(seed, mutation)
            if roots:
                graphs += 1
                recognized += recalled(memory, roots)[1]
            del roots, held
    # Everything made twice, and what differs only where nobody looks; the rest is numbered.
    assert graphs // 7 <= recognized <= graphs * 4 // 5


def test_training_steps_are_recognized_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    monkeypatch.setattr(
        recall, "number_graph", lambda roots: walks.append(len(roots)) or number_graph(roots)
    )
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data, labels = torch.rand(40, 6).realize(), (torch.arange(40) % 3).realize()
    losses = []
    for step in range(8):
        if step == 4:
            walks.clear()
        x, y = data[5 * step : 5 * step + 5], labels[5 * step : 5 * step + 5]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert walks == []
    assert len(set(losses)) == 8


def test_steps_whose_parameters_share_a_gradient_are_recognized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walks = []
    monkeypatch.setattr(
        recall, "number_graph", lambda roots: walks.append(len(roots)) or number_graph(roots)
    )
    recurrent = nn.LSTM(3, 4)
    optimizer = torch.optim.SGD(recurrent.parameters(), lr=0.1, momentum=0.9)
    x = torch.rand(5, 2, 3).realize()
    for step in range(6):
        if step == 3:
            walks.clear()
        optimizer.zero_grad()
        recurrent(x)[0].sum().backward()
        optimizer.step()
    assert recurrent.bias_ih_l0.grad is not recurrent.bias_hh_l0.grad
    assert walks == []
