"""What is stored of the elementwise values behind a contraction.

The kernel of a contraction computes what depends on its result element by element before it is
stored. What later kernels read of all this, the *frontier*, is often smaller than the result and
the intermediate values that are dear to compute again. Behind ``a = x @ w`` and ``y = gelu(a)``
the next layer reads ``y``, and the gradient of ``a`` is a product with ``gelu'(a)``: these two are
stored, neither ``a`` nor the tanh that both are made of, and each is computed once.
"""

from __future__ import annotations

import heapq

from lazytorch.schedule.graph import Graph


def store_frontiers(graph: Graph, stored: dict[int, str]) -> None:
    """Store the frontier behind a contraction where that is less than what is stored."""
    contractions = [
        number for number, op in enumerate(graph.ops) if op.kind == "contract" and number in stored
    ]
    if not contractions:
        return
    outputs = set(graph.outputs)
    users: list[list[int]] = [[] for _ in graph.ops]
    for number, sources in enumerate(graph.sources):
        for source in set(sources):
            users[source].append(number)
    behind = _contractions_behind(graph, contractions)
    for result in contractions:
        region = _elementwise(graph, result, users, behind)
        frontier = {
            number
            for number in region
            if number in outputs or any(user not in region for user in users[number])
        }
        if _nbytes(graph, frontier) >= _nbytes(graph, _read(region, frontier, stored, graph)):
            continue
        # The contraction is a nest of its own in any case; it stores what somebody reads.
        for number in region - frontier - {result}:
            if number not in graph.reasons:
                stored.pop(number, None)
        for number in frontier:
            stored.setdefault(number, "later kernels read it, and none what it is made of")


def _contractions_behind(graph: Graph, contractions: list[int]) -> list[int]:
    """For each value, a bit for each contraction on which it depends."""
    behind = [0] * len(graph)
    for bit, number in enumerate(contractions):
        behind[number] = 1 << bit
    for number, sources in enumerate(graph.sources):
        for source in sources:
            behind[number] |= behind[source]
    return behind


def _elementwise(graph: Graph, result: int, users: list[list[int]], behind: list[int]) -> set[int]:
    """The result and the values of its shape made of it and of what is there before it is.

    What needs another contraction besides those that this one needs is computed behind that one.
    """
    region = {result}
    before = 0
    for source in graph.sources[result]:
        before |= behind[source]
    waiting = list(users[result])
    heapq.heapify(waiting)
    while waiting:
        number = heapq.heappop(waiting)
        if (
            number in region
            or graph.ops[number].kind != "map"
            or graph.shapes[number] != graph.shapes[result]
            or any(behind[s] & ~before and s not in region for s in graph.sources[number])
        ):
            continue
        region.add(number)
        for user in users[number]:
            heapq.heappush(waiting, user)
    return region


def _read(region: set[int], frontier: set[int], stored: dict[int, str], graph: Graph) -> set[int]:
    """The stored values of the region from which its frontier is read now."""
    found: set[int] = set()
    waiting = list(frontier)
    while waiting:
        number = waiting.pop()
        if number in stored:
            found.add(number)
        else:
            waiting.extend(s for s in graph.sources[number] if s in region and s not in found)
    return found


def _nbytes(graph: Graph, numbers: set[int]) -> int:
    return sum(graph.nbytes(number) for number in numbers)
