"""The order of kernels: what frees memory first, updates behind the last reader."""

from __future__ import annotations

from lazytorch.schedule.graph import Graph
from lazytorch.schedule.order import Item, in_order


class Sizes(Graph):
    """A graph of which only the sizes and outputs matter."""

    def __init__(self, nbytes: dict[int, int], outputs: list[int]) -> None:
        super().__init__(outputs=outputs)
        self.bytes = nbytes

    def nbytes(self, number: int) -> int:
        return self.bytes[number]


def item(place: int, reads: tuple[int, ...], writes: tuple[int, ...]) -> Item:
    return Item(place, frozenset(reads), frozenset(writes))


def test_what_lets_go_of_memory_goes_first() -> None:
    """1 goes on with the chain and takes as much again; 2 is all that still reads value 10."""
    graph = Sizes({0: 8, 10: 1000, 11: 1000, 12: 1000, 13: 8}, [12, 13])
    items = {0: item(0, (0,), (10, 11)), 1: item(1, (11,), (12,)), 2: item(2, (10,), (13,))}
    assert in_order(items, graph) == [0, 1, 2]
    graph = Sizes({0: 8, 10: 1000, 11: 500, 12: 1000, 13: 8, 14: 8}, [13, 14])
    items = {
        0: item(0, (0,), (10, 11)), 1: item(1, (11,), (12,)), 2: item(2, (10,), (13,)),
        3: item(3, (12,), (14,)),
    }  # fmt: skip
    assert in_order(items, graph) == [0, 2, 1, 3]


def test_an_update_waits_for_other_readers_of_the_leaf() -> None:
    graph = Sizes({0: 100, 1: 100, 2: 50, 3: 100, 4: 8}, [3, 4])
    items = {0: item(0, (1,), (2,)), 1: item(1, (0, 2), (3,)), 2: item(2, (0, 2), (4,))}
    assert in_order(items, graph) == [0, 2, 1]
