"""Recognizing a graph that has been numbered before, as a loop records it again in every step.

Numbering looks every node up by its row; recognizing only compares. A :class:`Recollection` is a
graph as it lay in memory: which operation with which attributes every node has, which source of
which node is which other node, which nodes are ready, of which types, and to which of them anybody
outside refers. The numbering depends on nothing else, so a graph that is the same in all of this
has the same numbering, and one that differs anywhere is numbered as ever. Each comparison is one
call for all nodes: recognizing a node takes a fifth of the time that numbering it takes.

Not safe from several threads at once; the engine computes under one lock.
"""

from __future__ import annotations

import operator
import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from typing import Any

from lazytorch.ir.node import Node
from lazytorch.ops import leaves
from lazytorch.schedule import choices
from lazytorch.schedule.graph import GraphKey, Numbering, holds_alone, number_graph
from lazytorch.schedule.pieces import PIECES, piece_of, settle_pieces

_op_of = operator.attrgetter("op")
_attrs_of = operator.attrgetter("attrs")
_sources_of = operator.attrgetter("src")
_shape_of = operator.attrgetter("shape")
_dtype_of = operator.attrgetter("dtype")
_buffer_of = operator.attrgetter("buffer")

# What the reference count of a thing is to which only one list refers.
_LISTED = next(map(sys.getrefcount, [object()]))


class _Walk:
    """The nodes behind ``roots`` in the order of a walk from users to sources.

    ``fetched`` says for every node behind the roots whose source it is, and which one;
    ``sources`` are the places of the sources of all pending nodes, one after the other.
    """

    def __init__(self, roots: Sequence[Node]) -> None:
        self.nodes = list(roots)
        self.places = {id(node): place for place, node in enumerate(self.nodes)}
        self.fetched: list[tuple[int, int]] = []
        self.sources: list[int] = []
        for place, node in enumerate(self.nodes):
            if node.buffer is not None:
                continue
            for slot, source in enumerate(node.src):
                if id(source) not in self.places:
                    self.places[id(source)] = len(self.nodes)
                    self.nodes.append(source)
                    self.fetched.append((place, slot))
                self.sources.append(self.places[id(source)])


class Recollection:
    """A numbered graph as it lay in memory. Places are positions in a :class:`_Walk`.

    Masks have one entry for every place. ``_limits`` are the reference counts above which
    somebody outside refers to a node.
    """

    def __init__(self, roots: Sequence[Node], numbering: Numbering) -> None:
        walk = _Walk(roots)
        nodes, places = walk.nodes, walk.places
        self._roots = len(roots)
        self._fetched = walk.fetched
        # Two more than there are, for a getter of one place gives no tuple.
        self._sources = operator.itemgetter(0, 0, *walk.sources)
        self._pending = [node.buffer is None for node in nodes]
        pending = [node for node in nodes if node.buffer is None]
        self._ops = [node.op for node in pending]
        self._attrs = [node.attrs for node in pending]
        self._arities = [len(node.src) for node in pending]
        # Parts of data that would be leaves if they lay in one piece.
        self._strided = [places[id(node)] for node in pending if node.op in PIECES]
        self._ready = [node.buffer is not None for node in nodes]
        ready = [node for node in nodes if node.buffer is not None]
        self._scalars = [node.op is leaves.SCALAR for node in ready]
        self._bare = [node.buffer is not None or not node.src for node in nodes]
        self._shapes = list(map(_shape_of, compress(nodes, self._bare)))
        self._dtypes = list(map(_dtype_of, compress(nodes, self._bare)))
        self._constants = [node.op is leaves.CONSTANT for node in nodes]
        self._values = _written(compress(nodes, self._constants))
        self._note_references(walk, numbering)
        self._note_numbering(places, numbering)

    def _note_references(self, walk: _Walk, numbering: Numbering) -> None:
        places = walk.places
        limits = [_LISTED] * len(walk.nodes)
        for place in walk.sources:
            limits[place] += 1
        alive = [True] * len(walk.nodes)
        asked = [False] * len(walk.nodes)
        known = chain(
            zip(numbering.order, numbering.alive),
            zip(numbering.leaf_nodes, numbering.leaves_alive),
        )
        for node, is_alive in known:
            place = places[id(node)]
            # Roots are kept whoever refers to them; what has no sources is never kept.
            if place >= self._roots and (node.src or node.buffer is not None):
                asked[place] = True
                alive[place] = is_alive
        self._limits = [limit if a else -1 for limit, a in zip(limits, asked)]
        self._alive = alive
        dying = [n for n, is_alive in zip(numbering.leaf_nodes, numbering.leaves_alive)
                 if not is_alive]  # fmt: skip
        self._dying = [places[id(node)] for node in dying]
        private = {id(numbering.leaf_nodes[position]) for position in numbering.private}
        self._private = [id(node) in private for node in dying]

    def _note_numbering(self, places: dict[int, int], numbering: Numbering) -> None:
        self._key = numbering.key
        self._order = [places[id(node)] for node in numbering.order]
        self._numbers = numbering.numbers
        self._leaves = [places[id(node)] for node in numbering.leaf_nodes]
        self._leaf_numbers = numbering.leaf_numbers
        self._scalar_nodes = [places[id(node)] for node in numbering.scalar_nodes]
        self._scalar_numbers = numbering.scalar_numbers
        self._outputs = {
            number: [places[id(node)] for node in group]
            for number, group in numbering.outputs.items()
        }

    def recognize(self, roots: Sequence[Node]) -> Numbering | None:
        """The numbering of what is pending below ``roots``, if it is this graph."""
        if len(roots) != self._roots:
            return None
        found = list(roots)
        append = found.append
        try:
            for place, slot in self._fetched:
                append(found[place].src[slot])
        except IndexError:
            return None
        pending = list(compress(found, self._pending))
        if not self._same_leaves(found, pending):
            return None
        del pending
        # Only the list and the graph itself refer to the nodes now.
        alive = list(map(operator.gt, map(sys.getrefcount, found), self._limits))
        if alive != self._alive or not self._same_nodes(found):
            return None
        if [holds_alone(found[place]) for place in self._dying] != self._private:
            return None
        take = found.__getitem__
        return Numbering(
            self._key,
            list(map(take, self._order)),
            self._numbers,
            list(map(take, self._leaves)),
            self._leaf_numbers,
            list(map(take, self._scalar_nodes)),
            self._scalar_numbers,
            {number: list(map(take, group)) for number, group in self._outputs.items()},
        )

    def _same_leaves(self, found: list[Node], pending: list[Node]) -> bool:
        """Whether the same nodes are ready, and all without sources have the same types."""
        ready = list(compress(found, self._ready))
        if None in map(_buffer_of, ready):
            for node in ready:
                settle_pieces(node, set())
            if None in map(_buffer_of, ready):
                return False
        if list(map(_op_of, pending)) != self._ops:
            return False
        # Settling a ready piece may have settled one that is pending: it has no source then.
        if list(map(_buffer_of, pending)).count(None) != len(pending):
            return False
        if any(piece_of(found[place]) is not None for place in self._strided):
            return False
        scalar = leaves.SCALAR
        bare = list(compress(found, self._bare))
        return (
            list(map(_shape_of, bare)) == self._shapes
            and list(map(_dtype_of, bare)) == self._dtypes
            and [op is scalar for op in map(_op_of, ready)] == self._scalars
            and _written(compress(found, self._constants)) == self._values
        )

    def _same_nodes(self, found: list[Node]) -> bool:
        """Whether all are different nodes, with the same attributes, connected in the same way."""
        if len(set(map(id, found))) != len(found):
            return False
        pending = list(compress(found, self._pending))
        attrs = list(map(_attrs_of, pending))
        if attrs != self._attrs:
            return False
        # Those of the latest graph: the next one has the very same where it was repeated.
        self._attrs = attrs
        sources = list(map(_sources_of, pending))
        if list(map(len, sources)) != self._arities:
            return False
        connected = chain(found[:1], found[:1], chain.from_iterable(sources))
        return tuple(connected) == self._sources(found)


def _written(constants: Iterable[Node]) -> list[Any]:
    """Constants as a key has them: 0 and -0, or 1 and True, are equal but not the same."""
    return [repr(node.attrs[0]) for node in constants]


class Memory:
    """The graphs that are recognized: a few for each signature, the latest first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, list[Recollection]] = OrderedDict()
        self._attempts: dict[Any, int] = {}
        self._keys: dict[GraphKey, GraphKey] = {}

    def number(self, roots: Sequence[Node]) -> Numbering:
        """The numbering of what is pending below ``roots``: recalled, or made."""
        # Two tensors may wait for one node, as the gradients of an LSTM's two biases do.
        roots = list(dict.fromkeys(roots))
        depth = max([root.depth for root in roots])
        if depth + len(roots) < choices.RECALLED_DEPTH:
            return number_graph(roots)
        thresholds = (choices.DONATE, choices.RECOMPUTE_COST)
        signature = (len(roots), depth, roots[0].op, roots[0].shape, thresholds)
        known = self._known.get(signature, [])
        for position, recollection in enumerate(known):
            numbering = recollection.recognize(roots)
            if numbering is not None:
                self._attempts[signature] = 0
                if position:
                    known.insert(0, known.pop(position))
                return numbering
        numbering = number_graph(roots)
        if not numbering.copies:
            self._remember(signature, roots, numbering)
        return numbering

    def forget(self) -> None:
        """Know nothing."""
        self._known.clear()
        self._attempts.clear()
        self._keys.clear()

    def _remember(self, signature: Any, roots: Sequence[Node], numbering: Numbering) -> None:
        """Keep a graph, unless graphs of its signature were kept in vain too often."""
        known = self._known.setdefault(signature, [])
        self._known.move_to_end(signature)
        attempts = self._attempts[signature] = self._attempts.get(signature, 0) + 1
        if attempts <= choices.RECALL_ATTEMPTS:
            # One object for equal keys: finding a plan by the key it has costs no comparison.
            numbering.key = self._keys.setdefault(numbering.key, numbering.key)
            known.insert(0, Recollection(roots, numbering))
            del known[choices.RECALLED_ALIKE :]
        if len(self._known) > choices.RECALLED_SIGNATURES:
            forgotten, _ = self._known.popitem(last=False)
            del self._attempts[forgotten]
            self._keys.clear()


__all__ = ["Memory", "Recollection"]
