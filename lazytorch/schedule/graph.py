"""Canonical form: a graph as numbered rows.

One iterative walk over the pending nodes numbers their values. A row is (operation, attributes,
numbers of the sources), so equal computations get one number (common subexpressions), nodes
that nobody needs are never reached, and the tuple of rows is an exact key for finished plans:
two graphs have the same key only if they are the same computation on leaves of the same types.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lazytorch.dtypes import DType
from lazytorch.ir.definition import OpDef
from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.schedule import choices
from lazytorch.schedule.pieces import PIECES, settle_pieces


@dataclass
class Graph:
    """A numbered graph. Lists are indexed by value number, sources before users.

    ``nodes`` holds one node for each number (others with the same value are in ``twins``);
    ``leaves`` and ``scalars`` are the numbers bound at launch, in order of appearance.
    ``outputs`` are the numbers whose buffers somebody keeps.
    """

    ops: list[OpDef] = field(default_factory=list)
    attrs: list[tuple[Any, ...]] = field(default_factory=list)
    sources: list[tuple[int, ...]] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[DType] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    scalars: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ops)

    def size(self, number: int) -> int:
        result = 1
        for extent in self.shapes[number]:
            result *= extent
        return result

    def nbytes(self, number: int) -> int:
        return self.size(number) * self.dtypes[number].itemsize

    def add(
        self,
        op: OpDef,
        sources: tuple[int, ...],
        attrs: tuple[Any, ...],
        shape: tuple[int, ...],
        dtype: DType,
        node: Node,
    ) -> int:
        """Append a row; its number."""
        self.ops.append(op)
        self.attrs.append(attrs)
        self.sources.append(sources)
        self.shapes.append(shape)
        self.dtypes.append(dtype)
        self.nodes.append(node)
        return len(self.ops) - 1


class GraphKey(tuple[Any, ...]):
    """The key of a graph: a tuple that is hashed once, for it is long and asked for often."""

    _hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash


@dataclass
class Numbering:
    """The result of the walk: the exact ``key``, and what binds a plan to this graph.

    ``order`` lists the pending nodes, ``numbers`` their value numbers in the same order.
    ``leaf_nodes`` and ``scalar_nodes`` hold the values to bind. ``outputs`` pairs each value
    number that must be kept with the nodes that want it. ``alive`` and ``leaves_alive`` tell to
    which nodes of ``order`` and ``leaf_nodes`` somebody outside the graph refers, ``private`` to
    which leaves and their memory nobody does: on this the key depends besides the graph itself.
    """

    key: GraphKey
    order: list[Node]
    numbers: list[int]
    leaf_nodes: list[Node]
    leaf_numbers: list[int]
    scalar_nodes: list[Node]
    scalar_numbers: list[int]
    outputs: dict[int, list[Node]]
    copies: list[Node] = field(default_factory=list)
    alive: list[bool] = field(default_factory=list)
    leaves_alive: list[bool] = field(default_factory=list)
    private: tuple[int, ...] = ()


_BUFFER_ROW = "leaf"
_SCALAR_ROW = "scalar"


def number_graph(roots: Sequence[Node], pieces: bool = True) -> Numbering:
    """Number everything pending below ``roots``.

    Besides the roots, values are kept that somebody outside the graph still refers to and that
    are dear to compute again: saved activations of a live tape, states, and the like. With
    ``pieces``, contiguous parts of ready data are leaves of their own.
    """
    order: list[Node] = []
    numbers: list[int] = []
    known: dict[int, int] = {}
    uses: dict[int, int] = {}
    rows: list[tuple[Any, ...]] = []
    table: dict[tuple[Any, ...], int] = {}
    leaf_nodes: list[Node] = []
    leaf_numbers: list[int] = []
    scalar_nodes: list[Node] = []
    scalar_numbers: list[int] = []
    scalar_op = leaves.SCALAR
    copies: list[Node] = []
    refused: set[int] = set()
    stack: list[Node] = list(roots)[::-1]
    while stack:
        node = stack[-1]
        key = id(node)
        if key in known:
            stack.pop()
            continue
        if pieces and node.buffer is None and node.op in PIECES:
            # A batch cut from ready data: where it was cut must not be part of the key.
            settle_pieces(node, refused)
        if node.buffer is not None:
            stack.pop()
            if node.op is scalar_op:
                row: tuple[Any, ...] = (_SCALAR_ROW, node.dtype, len(scalar_nodes))
                scalar_nodes.append(node)
                scalar_numbers.append(len(rows))
            else:
                row = (_BUFFER_ROW, node.dtype, node.shape, len(leaf_nodes))
                leaf_nodes.append(node)
                leaf_numbers.append(len(rows))
            known[key] = len(rows)
            rows.append(row)
            continue
        sources = node.src
        if node.op is leaves.COPY:
            # It crosses devices: the engine makes it a leaf and numbers again.
            known[key] = -1
            copies.append(node)
            continue
        ready = True
        for source in sources:
            if id(source) not in known:
                if ready:
                    ready = False
                stack.append(source)
        if not ready:
            continue
        stack.pop()
        places = []
        for source in sources:
            place = id(source)
            uses[place] = uses.get(place, 0) + 1
            places.append(known[place])
        if sources:
            row = (node.op, node.attrs, *places)
        elif node.op is leaves.CONSTANT:
            row = (node.op, repr(node.attrs[0]), node.dtype)
        else:
            row = (node.op, node.attrs, node.shape, node.dtype)
        number = table.get(row)
        if number is None:
            number = table[row] = len(rows)
            rows.append(row)
        known[key] = number
        order.append(node)
        numbers.append(number)
    if copies:
        return Numbering(GraphKey(), [], [], [], [], [], [], {}, copies)
    # Counting references comes next: the walk must not hold any of its own.
    node = source = sources = None  # type: ignore[assignment]
    alive = _alive(order, uses)
    outputs = _kept(roots, order, numbers, alive)
    # Leaves nobody outside refers to any more may give their memory to an output.
    leaves_alive = _alive(leaf_nodes, uses)
    private = _private_leaves(leaf_nodes, leaves_alive)
    donated = private if choices.DONATE else ()
    if donated:
        needed = _needed_later(order, alive, outputs)
        donated = tuple(place for place in donated if id(leaf_nodes[place]) not in needed)
    plan_key = GraphKey((tuple(rows), tuple(outputs), donated))
    return Numbering(
        plan_key, order, numbers, leaf_nodes, leaf_numbers, scalar_nodes, scalar_numbers, outputs,
        [], alive, leaves_alive, private,
    )  # fmt: skip


def _kept(
    roots: Sequence[Node],
    order: list[Node],
    numbers: list[int],
    alive: list[bool],
) -> dict[int, list[Node]]:
    """Which values get a buffer of their own: roots, and live values dear to recompute."""
    wanted = {id(root) for root in roots}
    outputs: dict[int, list[Node]] = {}
    # Arithmetic since the last value in memory; None where a reduction or contraction lies
    # between.
    depth: dict[int, int | None] = {}
    for position, node in enumerate(order):
        key = id(node)
        number = numbers[position]
        cost: int | None = node.op.cost if node.op.kind in ("map", "random", "gather") else 0
        if node.op.kind not in ("map", "move", "random", "leaf", "gather"):
            cost = None
        else:
            for source in node.src:
                if source.buffer is None:
                    below = depth[id(source)]
                    cost = None if cost is None or below is None else cost + below
        keep = key in wanted
        if not keep and (cost is None or cost > choices.RECOMPUTE_COST):
            keep = alive[position]
        if keep and node.op.kind != "leaf":
            depth[key] = 0
        else:
            depth[key] = cost
        if keep:
            outputs.setdefault(number, []).append(node)
        elif number in outputs:
            outputs[number].append(node)
    return outputs


def _count_own_references() -> int:
    order = [object()]
    for _, node in enumerate(order):
        return sys.getrefcount(node)
    raise AssertionError


# References that the walk itself holds to a node while it asks for the count.
_OWN_REFERENCES = _count_own_references()


def _alive(nodes: list[Node], uses: dict[int, int]) -> list[bool]:
    """To which of the nodes somebody outside the graph refers."""
    alive = []
    for _, node in enumerate(nodes):
        alive.append(sys.getrefcount(node) - _OWN_REFERENCES > uses.get(id(node), 0))
    return alive


def _private_leaves(leaf_nodes: list[Node], alive: list[bool]) -> tuple[int, ...]:
    """Positions of leaves to which, as to their buffers, only this graph refers."""
    return tuple(
        position
        for position, node in enumerate(leaf_nodes)
        if not alive[position] and holds_alone(node)
    )


def holds_alone(node: Node) -> bool:
    """Whether a ready node is the only one who refers to its buffer, which may be written."""
    # Two references: the node's slot and the call's argument.
    return bool(sys.getrefcount(node.buffer) <= 2 and node.buffer.owned)


def _needed_later(order: list[Node], alive: list[bool], outputs: dict[int, list[Node]]) -> set[int]:
    """Identities of what values without a buffer of their own will be computed from again.

    Somebody outside the graph refers to such a value (a cheap one saved for a gradient), so the
    leaves below it must keep their content.
    """
    stored = {id(node) for group in outputs.values() for node in group}
    needed: set[int] = set()
    for position in range(len(order) - 1, -1, -1):
        node = order[position]
        key = id(node)
        if key not in stored and (alive[position] or key in needed):
            needed.update(map(id, node.src))
    return needed


def self_contained(numbering: Numbering) -> list[Node]:
    """The nodes of kept values that read no memory, where other kept values do.

    A move of such a value (labels in another shape) is no value of its own. A small graph has
    none: it costs little to make one more plan.
    """
    rows = numbering.key[0]
    if len(rows) < choices.BEGINNING_ROWS:
        return []
    outputs = numbering.outputs
    reads: list[bool] = []
    moved: set[int] = set()
    found: list[Node] = []
    for number, row in enumerate(rows):
        if row[0] == _BUFFER_ROW:
            reads.append(True)
            continue
        if row[0] == _SCALAR_ROW or row[0].arity == 0:
            reads.append(False)
        else:
            reads.append(row[0].kind == "host" or any(reads[source] for source in row[2:]))
        if reads[number]:
            continue
        if row[0] != _SCALAR_ROW and row[0].kind == "move" and moved.intersection(row[2:]):
            moved.add(number)
        elif number in outputs:
            moved.add(number)
            found.extend(outputs[number])
    return found if any(reads[number] for number in outputs) else []


def build_graph(numbering: Numbering) -> Graph:
    """The graph as data for the scheduler: rows once each, in the numbering's order."""
    graph = Graph()
    count = len(numbering.key[0])
    holder: list[Node | None] = [None] * count
    for node, number in zip(numbering.leaf_nodes, numbering.leaf_numbers):
        holder[number] = node
    for node, number in zip(numbering.scalar_nodes, numbering.scalar_numbers):
        holder[number] = node
    for node, number in zip(numbering.order, numbering.numbers):
        if holder[number] is None:
            holder[number] = node
    for row, held in zip(numbering.key[0], holder):
        assert held is not None
        node = held
        is_leaf = row[0] in (_BUFFER_ROW, _SCALAR_ROW)
        if row[0] == _BUFFER_ROW:
            op = leaves.BUFFER
        elif row[0] == _SCALAR_ROW:
            op = leaves.SCALAR
        else:
            op = node.op
        sources = () if is_leaf or not node.src else tuple(row[2:])
        graph.add(op, sources, node.attrs, node.shape, node.dtype, node)
    graph.leaves = list(numbering.leaf_numbers)
    graph.scalars = list(numbering.scalar_numbers)
    graph.outputs = list(numbering.outputs)
    return graph
