"""Where things stand on the page: boxes of operations in boxes of kernels, in layers.

A picture is first cut down to what a person can look at: operations while there are few,
kernels when there are many, and runs of either drawn as one box when there are more still.
Layers are the topological generations that networkx finds; within a layer, boxes stand near
the middle of what they are connected with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from lazytorch.viz.model import KernelInfo, Operation, Picture

# Boxes that are drawn with their operations, boxes that are drawn at all.
DETAILED = 1500
DRAWN = 1200

# Numbers are parts of operations to the eye: boxes for them would be most of a picture.
NUMBERS = ("constant", "scalar")

BOX_HEIGHT = 34.0
GAP_X, GAP_Y = 18.0, 26.0
MARGIN = 14.0
TITLE = 22.0
LAYER_GAP = 46.0
CHARACTER = 6.4


@dataclass
class Box:
    """One rectangle: an operation, a leaf, a kernel, or a run of several (``count``)."""

    key: str
    lines: tuple[str, ...]
    kind: str
    kernel: int | None = None
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = BOX_HEIGHT
    count: int = 1
    children: list[Box] = field(default_factory=list)


@dataclass
class Drawing:
    """Boxes with coordinates, edges between their keys, and the size of it all."""

    boxes: list[Box]
    edges: list[tuple[str, str]]
    width: float
    height: float
    note: str = ""


def draw(picture: Picture) -> Drawing:
    """The drawing of a picture."""
    if picture.kernels:
        shown = sum(len(kernel.operations) for kernel in picture.kernels)
        if shown <= DETAILED:
            boxes, edges = _detailed(picture)
            note = ""
        else:
            boxes, edges = _by_kernel(picture)
            note = f"{shown} operations: kernels are drawn without their insides"
    else:
        boxes, edges = _by_operation(picture)
        note = "" if picture.planned else "too many values to plan kernels"
    if len(boxes) > DRAWN:
        boxes, edges = _summarised(boxes, edges)
        note = f"{note}; runs are drawn as one box".lstrip("; ")
    width, height = _place(boxes, edges)
    return Drawing(boxes, edges, width, height, note)


# What is drawn --------------------------------------------------------------------------------


def _text_of(operation: Operation) -> tuple[str, ...]:
    shape = "×".join(map(str, operation.shape)) or "scalar"
    return operation.name, f"{operation.dtype} {shape}"


def _box(key: str, lines: tuple[str, ...], kind: str, kernel: int | None = None) -> Box:
    width = max(len(line) for line in lines) * CHARACTER + 2 * 8
    return Box(key, lines, kind, kernel, width=max(width, 48.0))


def _detailed(picture: Picture) -> tuple[list[Box], list[tuple[str, str]]]:
    """A box for each kernel with its operations inside; operations made twice stand twice."""
    boxes: list[Box] = []
    edges: list[tuple[str, str]] = []
    home: dict[int, str] = {}
    for position, kernel in enumerate(picture.kernels):
        for operation in kernel.operations:
            if operation.number in kernel.stored:
                home[operation.number] = f"{operation.number}@{position}"
    used: set[int] = set()
    for position, kernel in enumerate(picture.kernels):
        inside = {operation.number for operation in kernel.operations}
        outer = _box(f"k{position}", (f"{position}: {kernel.name}",), "kernel", position)
        inner_edges = []
        for operation in kernel.operations:
            key = f"{operation.number}@{position}"
            outer.children.append(_box(key, _text_of(operation), operation.kind, position))
            for source in operation.sources:
                if source in inside:
                    inner_edges.append((f"{source}@{position}", key))
                elif picture.operations[source].name not in NUMBERS:
                    edges.append((home.get(source, f"leaf{source}"), key))
                    used.add(source)
        edges += inner_edges
        _place_inside(outer, inner_edges)
        boxes.append(outer)
    boxes = _leaf_boxes(picture, used - set(home)) + boxes
    return boxes, edges


def _leaf_boxes(picture: Picture, numbers: Iterable[int]) -> list[Box]:
    return [
        _box(f"leaf{number}", _text_of(picture.operations[number]), "leaf")
        for number in sorted(numbers)
    ]


def _by_kernel(picture: Picture) -> tuple[list[Box], list[tuple[str, str]]]:
    boxes = []
    edges: dict[tuple[str, str], None] = {}
    home = {
        number: f"k{position}"
        for position, kernel in enumerate(picture.kernels)
        for number in kernel.stored
    }
    for position, kernel in enumerate(picture.kernels):
        boxes.append(_box(f"k{position}", _kernel_lines(position, kernel), "kernel", position))
        inside = {operation.number for operation in kernel.operations}
        for operation in kernel.operations:
            for source in operation.sources:
                start = home.get(source)
                if source not in inside and start is not None and start != f"k{position}":
                    edges[start, f"k{position}"] = None
    return boxes, list(edges)


def _kernel_lines(position: int, kernel: KernelInfo) -> tuple[str, ...]:
    count = len(kernel.operations)
    return f"{position}: {kernel.name}", f"{count} operation{'s' if count != 1 else ''}"


def _by_operation(picture: Picture) -> tuple[list[Box], list[tuple[str, str]]]:
    boxes = []
    edges = []
    for operation in picture.operations.values():
        key = str(operation.number)
        boxes.append(_box(key, _text_of(operation), operation.kind))
        edges += [(str(source), key) for source in operation.sources]
    return boxes, edges


def _summarised(
    boxes: Sequence[Box], edges: Sequence[tuple[str, str]]
) -> tuple[list[Box], list[tuple[str, str]]]:
    """Straight runs become one box each; of what is still too much, consecutive boxes do."""
    sources: dict[str, list[str]] = {}
    users: dict[str, list[str]] = {}
    for start, end in edges:
        sources.setdefault(end, []).append(start)
        users.setdefault(start, []).append(end)
    run_of: dict[str, int] = {}
    runs: list[list[Box]] = []
    for box in boxes:  # sources come first
        before = [key for key in dict.fromkeys(sources.get(box.key, ())) if key in run_of]
        single = before[0] if len(before) == 1 else None
        if single is not None and len(set(users.get(single, ()))) == 1:
            run = run_of[single]
            if runs[run][-1].key == single:
                runs[run].append(box)
                run_of[box.key] = run
                continue
        run_of[box.key] = len(runs)
        runs.append([box])
    if len(runs) > DRAWN:
        # Boxes are in topological order, so neighbours never form a cycle.
        size = -(-len(boxes) // DRAWN)
        runs = [list(boxes[start : start + size]) for start in range(0, len(boxes), size)]
        run_of = {box.key: number for number, run in enumerate(runs) for box in run}
    made = [_run_box(number, run) for number, run in enumerate(runs)]
    joined = dict.fromkeys(
        (made[run_of[a]].key, made[run_of[b]].key) for a, b in edges if run_of[a] != run_of[b]
    )
    return made, list(joined)


def _run_box(number: int, run: Sequence[Box]) -> Box:
    if len(run) == 1:
        return run[0]
    names = list(dict.fromkeys(box.lines[0].split(": ")[-1] for box in run))
    listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    kernel = run[0].kernel
    box = _box(f"run{number}", (f"{len(run)} in a row", listed), "run", kernel)
    box.count = len(run)
    return box


# Where it stands ------------------------------------------------------------------------------


def _layers(keys: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    graph = nx.DiGraph()
    graph.add_nodes_from(keys)
    graph.add_edges_from(edge for edge in edges if edge[0] != edge[1])
    return [list(layer) for layer in nx.topological_generations(graph)]


def _place_inside(outer: Box, edges: Sequence[tuple[str, str]]) -> None:
    """Stand a kernel's operations in layers inside its box."""
    by_key = {box.key: box for box in outer.children}
    y = TITLE + MARGIN
    widest = outer.width
    rows = [[by_key[key] for key in layer] for layer in _layers(list(by_key), edges)]
    for row in rows:
        widest = max(widest, sum(box.width for box in row) + GAP_X * (len(row) - 1) + 2 * MARGIN)
    for row in rows:
        x = (widest - sum(box.width for box in row) - GAP_X * (len(row) - 1)) / 2
        for box in row:
            box.x, box.y = x, y
            x += box.width + GAP_X
        y += BOX_HEIGHT + GAP_Y
    outer.width = widest
    outer.height = y - GAP_Y + MARGIN


def _place(boxes: Sequence[Box], edges: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Stand the outer boxes in layers; the size of the drawing."""
    if not boxes:
        return 2 * MARGIN, 2 * MARGIN
    owner = {child.key: box.key for box in boxes for child in box.children}
    owner.update((box.key, box.key) for box in boxes)
    outer = [(owner[a], owner[b]) for a, b in edges if a in owner and b in owner]
    by_key = {box.key: box for box in boxes}
    layers = _layers(list(by_key), outer)
    neighbours: dict[str, list[str]] = {}
    for start, end in outer:
        neighbours.setdefault(end, []).append(start)
    _lower_leaves(layers, outer)
    middle: dict[str, float] = {}
    y = MARGIN
    rows = [[by_key[key] for key in layer] for layer in layers if layer]
    widest = max(sum(box.width + GAP_X for box in row) for row in rows) + 2 * MARGIN
    for row in rows:
        row.sort(key=lambda box: _wanted(box, neighbours, middle))
        x = (widest - sum(box.width + GAP_X for box in row) + GAP_X) / 2
        tallest = max(box.height for box in row)
        for box in row:
            box.x, box.y = x, y
            middle[box.key] = x + box.width / 2
            x += box.width + GAP_X
        y += tallest + LAYER_GAP
    for box in boxes:
        for child in box.children:
            child.x += box.x
            child.y += box.y
    return widest, y - LAYER_GAP + MARGIN


def _lower_leaves(layers: list[list[str]], edges: Sequence[tuple[str, str]]) -> None:
    """A leaf stands just above its first user, not all of them at the top."""
    level = {key: number for number, layer in enumerate(layers) for key in layer}
    first_user: dict[str, int] = {}
    for start, end in edges:
        first_user[start] = min(first_user.get(start, len(layers)), level[end])
    kept = []
    for key in layers[0]:
        wanted = first_user.get(key, 1) - 1
        if key.startswith("leaf") and wanted > 0:
            layers[wanted].append(key)
        else:
            kept.append(key)
    layers[0] = kept


def _wanted(
    box: Box, neighbours: Mapping[str, list[str]], middle: Mapping[str, float]
) -> float:
    places = [middle[key] for key in neighbours.get(box.key, ()) if key in middle]
    return sum(places) / len(places) if places else 0.0
