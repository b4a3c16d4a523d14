"""The product of some rows with a packed weight inside a recurrent kernel, as OpenCL C.

Register tiles of rows by vectors of columns: each element of a row is broadcast, each vector of
the weight used for all rows of the tile. Knows products and their panels; must not know what the
rows are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.recurrent import Panels, Product, TiledRecurrentBody

# Steps of the sum written out in a row.
UNROLLED = 4
_FETCH = """#if defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
#define lt_fetch_to_write(place) __builtin_prefetch(place, 1)
#endif
#endif
#ifndef lt_fetch_to_write
#define lt_fetch_to_write(place)
#endif"""


@dataclass(frozen=True)
class Rows:
    """Rows in memory: C text of the first row of the batch, and elements from row to row."""

    place: str
    stride: int


def write_product(
    body: TiledRecurrentBody,
    emitter: Emitter,
    type_name: str,
    left: Rows,
    product: Product,
    to: Rows,
    depth: str,
    add: bool = False,
) -> None:
    """``to = left @ weight`` for the work-item's rows ``first`` to ``end``.

    ``depth`` is C text: the product's depth, or 0 when there is nothing to multiply yet. ``add``
    adds to what ``to`` holds.
    """
    writer = _Writer(body, emitter, type_name, left, product, to, depth, add)
    if not product.panels:
        writer.plain()
        return
    emitter.helpers.setdefault("lt_fetch_to_write", _FETCH)
    tail = product.columns % body.width
    for number, panels in enumerate(product.panels):
        if not tail or number < len(product.panels) - 1:
            writer.panels(panels, 0)
            continue
        lanes = panels.vectors * body.width
        if panels.count > 1:
            writer.panels(replace(panels, count=panels.count - 1), 0)
        last = panels.count - 1
        writer.panels(
            Panels(
                panels.first + last * lanes, 1, panels.vectors,
                panels.offset + last * lanes * product.depth,
            ),
            tail,
        )  # fmt: skip


@dataclass(frozen=True)
class _Writer:
    body: TiledRecurrentBody
    emitter: Emitter
    type_name: str
    left: Rows
    product: Product
    to: Rows
    depth: str
    add: bool

    def plain(self) -> None:
        """One column after the other, the weight read where it lies."""
        emitter, product = self.emitter, self.product
        along, across = product.steps
        weight = emitter.names(product.packed)
        emitter.open()
        emitter.open()
        start = f"({self.to.place})[row * {self.to.stride} + n]" if self.add else "0"
        emitter.line(f"{self.type_name} sum = {start};")
        left = f"({self.left.place})[row * {self.left.stride} + k]"
        emitter.line(
            f"for (int k = 0; k < {self.depth}; k++) "
            f"sum = fma({left}, {weight}[k * {along} + n * {across}], sum);"
        )
        emitter.line(f"({self.to.place})[row * {self.to.stride} + n] = sum;")
        emitter.close(f"for (int n = 0; n < {product.columns}; n++) {{")
        emitter.close("for (int row = first; row < end; row++) {")

    def panels(self, panels: Panels, tail: int) -> None:
        """All tiles of some panels; the last vector has only ``tail`` columns unless that is 0."""
        emitter, body, product = self.emitter, self.body, self.product
        lanes = panels.vectors * body.width
        emitter.open()
        emitter.open()
        weight = (
            f"{emitter.names(product.packed)} + ({panels.offset} + panel * {lanes * product.depth})"
        )
        emitter.line(f"__global const {self.type_name} *restrict w = {weight};")
        column = f"{panels.first} + panel * {lanes}"
        self._declare_rows(column)
        for row in range(body.tile):
            for vector in range(panels.vectors):
                self._start(row, vector, tail if vector == panels.vectors - 1 else 0)
        self._sum(panels.vectors)
        for row in range(body.tile):
            for vector in range(panels.vectors):
                self._store(row, vector, tail if vector == panels.vectors - 1 else 0)
        emitter.close(f"for (int row = first; row < end; row += {body.tile}) {{")
        emitter.close(f"for (int panel = 0; panel < {panels.count}; panel++) {{")

    def _declare_rows(self, column: str) -> None:
        """Pointers ``l<row>`` and ``t<row>``; rows beyond the end repeat the last one."""
        body = self.body
        exact = body.of.batch % body.rows == 0 and body.rows % body.tile == 0
        for row in range(body.tile):
            number = f"(row + {row})" if exact else f"min(row + {row}, end - 1)"
            self.emitter.line(
                f"__global const {self.type_name} *l{row} = {self.left.place} + "
                f"{number} * {self.left.stride};"
            )
            self.emitter.line(
                f"__global {self.type_name} *t{row} = {self.to.place} + "
                f"({number} * {self.to.stride} + {column});"
            )

    def _start(self, row: int, vector: int, tail: int) -> None:
        width = self.body.width
        vector_type = f"{self.type_name}{width}"
        place = f"t{row} + {vector * width}"
        start = "0"
        if self.add and tail:
            lanes = [f"({place})[{n}]" if n < tail else "0" for n in range(width)]
            start = f"({vector_type})({', '.join(lanes)})"
        elif self.add:
            start = f"vload{width}(0, {place})"
        else:
            # The result goes to lines not in the caches: they come while the sum is computed.
            self.emitter.line(f"lt_fetch_to_write({place});")
        self.emitter.line(f"{vector_type} c{row}_{vector} = {start};")

    def _sum(self, vectors: int) -> None:
        emitter, depth = self.emitter, self.product.depth
        step = vectors * self.body.width
        emitter.line("int k = 0;")
        if depth >= UNROLLED:
            emitter.open()
            for number in range(UNROLLED):
                self._multiply(number, vectors)
            emitter.line(f"w += {UNROLLED * step};")
            emitter.close(f"for (; k + {UNROLLED} <= {self.depth}; k += {UNROLLED}) {{")
        if depth % UNROLLED:
            emitter.open()
            self._multiply(0, vectors)
            emitter.line(f"w += {step};")
            emitter.close(f"for (; k < {self.depth}; k++) {{")

    def _multiply(self, number: int, vectors: int) -> None:
        width, line = self.body.width, self.emitter.line
        vector_type = f"{self.type_name}{width}"
        line("{")
        for vector in range(vectors):
            place = (number * vectors + vector) * width
            line(f"  const {vector_type} w{vector} = vload{width}(0, w + {place});")
        for row in range(self.body.tile):
            terms = [f"const {vector_type} s = ({vector_type})(l{row}[k + {number}]);"]
            for vector in range(vectors):
                c = f"c{row}_{vector}"
                terms.append(f"{c} = fma(s, w{vector}, {c});")
            line(f"  {{ {' '.join(terms)} }}")
        line("}")

    def _store(self, row: int, vector: int, tail: int) -> None:
        width = self.body.width
        if not tail:
            self.emitter.line(f"vstore{width}(c{row}_{vector}, 0, t{row} + {vector * width});")
            return
        for lane in range(tail):
            place = vector * width + lane
            self.emitter.line(f"t{row}[{place}] = c{row}_{vector}.s{lane:x};")
