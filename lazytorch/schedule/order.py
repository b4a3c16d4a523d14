"""In which order kernels run, where their dependencies leave a choice.

Values are numbered as they were recorded, and kernels run in the order of their last values,
except for two rules that keep memory low:

* a kernel that lets go of at least as much memory as it takes goes first: the gradient of a weight
  as soon as that of the layer's result is there, so that the layer's input need not wait. Of what
  several kernels have still to read, each lets go of its share. Among such kernels the one that
  takes least goes first: what it frees is there for the others;
* a kernel that may update a leaf in place waits until nobody else is to read the leaf.

This is list scheduling; it looks at no more than what could run next.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazytorch.schedule.graph import Graph

# Readers of one value up to which each of them is looked at again when another one has run.
FEW_READERS = 8


@dataclass(frozen=True)
class Item:
    """What a kernel reads and writes; ``place`` is where it comes when nothing else decides."""

    place: int
    reads: frozenset[int]
    writes: frozenset[int]


def in_order(items: Mapping[int, Item], graph: Graph) -> list[int]:
    """The keys of ``items`` in an order that respects their dependencies."""
    return _Scheduler(items, graph).run()


class _Scheduler:
    def __init__(self, items: Mapping[int, Item], graph: Graph) -> None:
        self.items = items
        self.graph = graph
        self.outputs = frozenset(graph.outputs)
        self.readers: dict[int, set[int]] = {}
        producer: dict[int, int] = {}
        for key, item in items.items():
            for number in item.reads:
                self.readers.setdefault(number, set()).add(key)
            producer.update(dict.fromkeys(item.writes, key))
        self.made = frozenset(producer)
        self.updated = {key: self._updated_leaves(item) for key, item in items.items()}
        self.waiting: dict[int, int] = {}
        self.consumers: dict[int, set[int]] = {key: set() for key in items}
        for key, item in items.items():
            before = {producer[n] for n in item.reads if n in producer} - {key}
            self.waiting[key] = len(before)
            for other in before:
                self.consumers[other].add(key)
        # Kernels that could run next: those that free memory, others, those that had better wait.
        self.ready: tuple[list[tuple[int, int, int]], ...] = ([], [], [])
        self.done: set[int] = set()

    def run(self) -> list[int]:
        for key, count in self.waiting.items():
            if not count:
                self._offer(key)
        order: list[int] = []
        while any(self.ready):
            *_, key = heapq.heappop(next(heap for heap in self.ready if heap))
            if key in self.done:
                continue
            self.done.add(key)
            order.append(key)
            self._has_run(key)
        if len(order) != len(self.items):
            raise AssertionError("fusion made a cycle")
        return order

    def _offer(self, key: int) -> None:
        item = self.items[key]
        taken = sum(self.graph.nbytes(number) for number in item.writes - self.outputs)
        if any(self.readers[leaf] != {key} for leaf in self.updated[key]):
            rank = 2
        else:
            rank = 0 if taken <= self._freed(item) else 1
        heapq.heappush(self.ready[rank], (taken if rank == 0 else 0, item.place, key))

    def _has_run(self, key: int) -> None:
        changed: set[int] = set()
        for number in self.items[key].reads:
            left = self.readers[number]
            left.discard(key)
            if len(left) <= FEW_READERS:
                changed |= left
        for following in self.consumers[key]:
            self.waiting[following] -= 1
            changed.add(following)
        for other in changed:
            if not self.waiting[other] and other not in self.done:
                self._offer(other)

    def _freed(self, item: Item) -> float:
        """Bytes of temporaries that a kernel lets go of: its share of those that it reads."""
        temporary = (item.reads & self.made) - self.outputs
        return sum(self.graph.nbytes(n) / len(self.readers[n]) for n in temporary)

    def _updated_leaves(self, item: Item) -> Sequence[int]:
        """The leaves that an output of the kernel could be written over."""
        sizes = {self.graph.nbytes(number) for number in item.writes & self.outputs}
        return [
            number
            for number in item.reads
            if sizes and number not in self.made and self.graph.nbytes(number) in sizes
        ]
