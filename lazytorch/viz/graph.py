"""``lazytorch.graph(*tensors)``: the pending graph as text, networkx graph, dot file or page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazytorch.viz.model import KernelInfo, Operation, Picture, picture_of

if TYPE_CHECKING:
    import networkx

# Lines of text before the middle of a long graph is left out.
TEXT_LINES = 400


class GraphView:
    """The pending operations behind some tensors, grouped into the kernels they would become."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations, sources before users."""
        return tuple(self.picture.operations.values())

    @property
    def kernels(self) -> tuple[KernelInfo, ...]:
        """The launches, in order."""
        return tuple(self.picture.kernels)

    def __len__(self) -> int:
        return len(self.picture.operations)

    def __str__(self) -> str:
        lines = list(self._lines())
        if len(lines) > TEXT_LINES:
            half = TEXT_LINES // 2
            left_out = f"... {len(lines) - 2 * half} lines ..."
            lines = [*lines[:half], left_out, *lines[-half:]]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<graph of {len(self)} values in {len(self.kernels)} kernels>"

    def _lines(self) -> Iterator[str]:
        picture = self.picture
        if not picture.operations:
            yield "nothing is pending"
            return
        if not picture.planned:
            yield f"{len(picture.operations)} values, too many to plan kernels for a picture"
        made_in: dict[int, list[str]] = {}
        for position, kernel in enumerate(picture.kernels):
            for operation in kernel.operations:
                made_in.setdefault(operation.number, []).append(str(position))
        outputs = set(picture.outputs)
        for operation in picture.operations.values():
            notes = []
            if operation.number in made_in:
                notes.append(f"kernel {', '.join(made_in[operation.number])}")
            if operation.number in outputs:
                notes.append("output")
            suffix = f"  [{', '.join(notes)}]" if notes else ""
            yield f"{operation}{suffix}  {operation.site}"
        for position, kernel in enumerate(picture.kernels):
            yield f"kernel {position}: {kernel.name} on {kernel.device}"

    def to_networkx(self) -> networkx.DiGraph:
        """A directed graph: a node for each value number, an edge from source to user.

        Nodes have the attributes ``label``, ``op``, ``kind``, ``shape``, ``dtype``, ``site``,
        ``kernels`` (positions of the kernels that compute the value) and ``output``.
        """
        import networkx as nx

        made: networkx.DiGraph = nx.DiGraph()
        kernels: dict[int, list[int]] = {}
        for position, kernel in enumerate(self.picture.kernels):
            for operation in kernel.operations:
                kernels.setdefault(operation.number, []).append(position)
        outputs = set(self.picture.outputs)
        for operation in self.picture.operations.values():
            made.add_node(
                operation.number, label=str(operation), op=operation.name, kind=operation.kind,
                shape=operation.shape, dtype=operation.dtype, site=operation.site,
                kernels=tuple(kernels.get(operation.number, ())),
                output=operation.number in outputs,
            )  # fmt: skip
        for operation in self.picture.operations.values():
            made.add_edges_from((source, operation.number) for source in operation.sources)
        return made

    def to_dot(self) -> str:
        """The graph for Graphviz: a cluster for each kernel."""
        lines = ["digraph lazytorch {", '  node [shape=box, fontname="sans-serif", fontsize=10];']
        drawn: dict[int, str] = {}
        for position, kernel in enumerate(self.picture.kernels):
            lines.append(f"  subgraph cluster_{position} {{")
            lines.append(f"    label={_quoted(f'{position}: {kernel.name}')};")
            for operation in kernel.operations:
                name = f"v{operation.number}_{position}"
                if operation.number in kernel.stored or operation.number not in drawn:
                    drawn[operation.number] = name
                lines.append(f"    {name} [label={_quoted(_short(operation))}];")
            lines.append("  }")
        for operation in self.picture.operations.values():
            if operation.number not in drawn:
                drawn[operation.number] = name = f"v{operation.number}"
                shape = ", shape=ellipse" if operation.kind == "leaf" else ""
                lines.append(f"  {name} [label={_quoted(_short(operation))}{shape}];")
        for position, kernel in enumerate(self.picture.kernels):
            inside = {operation.number for operation in kernel.operations}
            for operation in kernel.operations:
                for source in operation.sources:
                    start = f"v{source}_{position}" if source in inside else drawn[source]
                    lines.append(f"  {start} -> v{operation.number}_{position};")
        if not self.picture.kernels:
            for operation in self.picture.operations.values():
                lines += [f"  {drawn[s]} -> {drawn[operation.number]};" for s in operation.sources]
        return "\n".join([*lines, "}"])

    def to_html(self) -> str:
        """One self-contained page; works without a network."""
        # The drawing needs networkx, which takes a while to import: only when asked for.
        from lazytorch.viz.page import page_of

        return page_of(self.picture)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the graph to a file: ``.html`` (the page), ``.dot``, or ``.txt``.

        >>> lazytorch.graph(torch.ones(2) + 1).save("graph.html")  # doctest: +SKIP
        PosixPath('graph.html')
        """
        target = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".html": self.to_html, ".htm": self.to_html, ".dot": self.to_dot, ".gv": self.to_dot,
            ".txt": lambda: "\n".join(self._lines()),
        }  # fmt: skip
        writer = writers.get(target.suffix.lower())
        if writer is None:
            raise ValueError(
                f"cannot tell the format of {str(path)!r}: its ending is {target.suffix!r}, "
                f"expected one of {', '.join(writers)}"
            )
        target.write_text(writer(), encoding="utf-8")
        return target


def graph(*tensors: Any) -> GraphView:
    """The pending graph behind ``tensors``; nothing is computed.

    >>> print(lazytorch.graph((torch.ones(2) + 1).exp()))
    v0 = constant(1.0) float32[]...
    kernel 0: k0_exp on ...
    """
    return GraphView(picture_of(tensors))


def _short(operation: Operation) -> str:
    shape = "×".join(map(str, operation.shape)) or "scalar"
    return f"{operation.name}\n{operation.dtype} {shape}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
