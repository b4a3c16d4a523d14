"""Attention for GPU devices, as OpenCL C: correct and plain.

Each work-item has one query and walks the keys with an online softmax, or (for the gradients of
keys and values) one key and walks the queries; sums are kept in private memory. Neighbouring
items read the same keys at the same time, so caches serve them; tiles in local memory are what
is left to gain here.
"""

from __future__ import annotations

from collections.abc import Callable

from lazytorch.codegen import ctypes
from lazytorch.codegen.attention import ItemAttentionBody
from lazytorch.codegen.emitter import Emitter, bind_rows
from lazytorch.codegen.stores import store_all
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import AttentionResult, extent
from lazytorch.ops import elementwise


def render_attention_gpu(body: ItemAttentionBody, emitter: Emitter, group: str) -> int:
    """Write the statements; the number of work-groups of ``body.items``."""
    return _Renderer(body, emitter).render(group)


class _Renderer:
    def __init__(self, body: ItemAttentionBody, emitter: Emitter) -> None:
        self.body = body
        self.form = body.form
        self.emitter = emitter
        self.line = emitter.line
        self.type = ctypes.value_type(body.form.accumulate)
        self.low = f"(-{'INFINITY' if self.type == 'float' else '(double)INFINITY'})"

    def render(self, group: str) -> int:
        form, emitter = self.form, self.emitter
        axes = (*form.batch, self.body.along)
        count = extent(axes)
        item = f"{group} * {self.body.items} + (int)get_local_id(0)"
        self.line(f"const {emitter.index_type} item = {item};")
        emitter.open()
        bind_rows(emitter, axes, "item")
        if form.gradient is None:
            self._forward()
        else:
            self._backward()
        emitter.close(f"if (item < {count}) {{")
        return -(-count // self.body.items)

    # Pieces -------------------------------------------------------------------------------------

    def _each(self, axis: Axis, value: Expression, statement: Callable[[str], str]) -> None:
        """The statement made of the value's C text, for each position ``c`` of the axis."""
        emitter = self.emitter
        emitter.open()
        emitter.name_axis(axis, "c")
        emitter.line(statement(emitter.value(value)[0]))
        emitter.close(f"for (int c = 0; c < {axis.size}; c++) {{")

    def _own(self, name: str, value: Expression, axis: Axis) -> None:
        """The item's own row of an operand in a private array."""
        self.line(f"{self.type} {name}[{axis.size}];")
        self._each(axis, value, lambda x: f"{name}[c] = {x};")

    def _dot(self, name: str, own: str, value: Expression, axis: Axis) -> None:
        """``name``: the item's own row times the other side's row."""
        self.line(f"{self.type} {name} = 0;")
        self._each(axis, value, lambda x: f"{name} = fma({own}[c], {x}, {name});")

    def _add(self, sums: str, by: str, value: Expression, axis: Axis) -> None:
        """``sums`` += ``by`` times the other side's row."""
        self._each(axis, value, lambda x: f"{sums}[c] = fma({by}, {x}, {sums}[c]);")

    def _sums(self, name: str, size: int) -> None:
        self.line(f"{self.type} {name}[{size}];")
        self.line(f"for (int c = 0; c < {size}; c++) {name}[c] = 0;")

    def _score(self, own: str, other: Expression) -> None:
        """``x``: the score of the item's row and the other side's, bias included."""
        form, emitter = self.form, self.emitter
        self._dot("x", own, other, form.inner)
        self.line(f"x *= {emitter.value(form.scale)[0]};")
        if form.bias is not None:
            self.line(f"x += {emitter.value(form.bias)[0]};")

    def _exp(self, text: str) -> str:
        dtype = self.form.accumulate
        return self.emitter.operation(elementwise.EXP, [text], dtype, dtype, 1)

    def _store(self, result: AttentionResult | None, sums: str, by: str, axis: Axis) -> None:
        if result is None:
            return
        emitter = self.emitter
        emitter.open()
        emitter.name_axis(axis, "c")
        emitter.line(f"const {self.type} made = {sums}[c] * {by};")
        self._stores(result, "made")
        emitter.close(f"for (int c = 0; c < {axis.size}; c++) {{")

    def _stores(self, result: AttentionResult, name: str) -> None:
        emitter = self.emitter
        emitter.define(ex.result(result.number, self.form.accumulate), name)
        store_all(result.epilogue, emitter, 1)

    def _walk(self, axis: Axis) -> None:
        self.emitter.open()
        self.emitter.name_axis(axis, "other")

    def _walked(self, axis: Axis) -> None:
        """Close the loop over the other side: keys up to the item's, or queries from it on."""
        first, end = "0", str(axis.size)
        if self.form.causal:
            own = self.emitter.index(of_atom(self.body.along))
            if axis is self.form.keys:
                end = f"min({end}, {own} + 1)"
            else:
                first = own
        self.emitter.close(f"for (int other = {first}; other < {end}; other++) {{")

    # Directions ---------------------------------------------------------------------------------

    def _forward(self) -> None:
        form, emitter = self.form, self.emitter
        self._own("query", form.query, form.inner)
        self._sums("sums", form.columns.size)
        self.line(f"{self.type} top = {self.low}, total = 0;")
        self._walk(form.keys)
        self._score("query", form.key)
        emitter.open()
        self.line(f"const {self.type} shrink = {self._exp('top - x')};")
        self.line("top = x; total *= shrink;")
        self.line(f"for (int c = 0; c < {form.columns.size}; c++) sums[c] *= shrink;")
        emitter.close("if (x > top) {")
        weight = self._exp(f"x - (top == {self.low} ? 0 : top)")
        self.line(f"{self.type} weight = {weight};")
        self.line("total += weight;")
        if form.factor is not None:
            self.line(f"weight *= {emitter.value(form.factor)[0]};")
        self._add("sums", "weight", form.value, form.columns)
        self._walked(form.keys)
        # A query that may look at nothing has no sum; its output is 0.
        self.line(f"const {self.type} by = total == 0 ? 0 : 1 / total;")
        self._store(form.result("output"), "sums", "by", form.columns)
        logsumexp = form.result("logsumexp")
        if logsumexp is not None:
            self.line(
                f"const {self.type} logsumexp = total == 0 ? -{self.low} : top + log(total);"
            )
            self._stores(logsumexp, "logsumexp")

    def _backward(self) -> None:
        form, emitter = self.form, self.emitter
        assert form.gradient is not None and form.delta is not None
        assert form.logsumexp is not None
        by_query = self.body.along is form.queries
        rows = ("query", form.query, form.key) if by_query else ("key", form.key, form.query)
        ends = (form.gradient, form.value) if by_query else (form.value, form.gradient)
        self._own("row", rows[1], form.inner)
        self._own("end", ends[0], form.columns)
        self._sums("row_sums", form.inner.size)
        if not by_query:
            self._sums("end_sums", form.columns.size)
        walked = form.keys if by_query else form.queries
        self._walk(walked)
        self._score("row", rows[2])
        self.line(f"{self.type} weight = {self._exp('x - ' + emitter.value(form.logsumexp)[0])};")
        self._dot("through", "end", ends[1], form.columns)
        self.line(f"{self.type} kept = weight;")
        if form.factor is not None:
            factor = emitter.value(form.factor)[0]
            self.line(f"kept *= {factor}; through *= {factor};")
        delta = emitter.value(form.delta)[0]
        self.line(f"const {self.type} change = weight * (through - {delta});")
        self._add("row_sums", "change", rows[2], form.inner)
        if not by_query:
            self._add("end_sums", "kept", form.gradient, form.columns)
        self._walked(walked)
        self._store(form.result(rows[0]), "row_sums", emitter.value(form.scale)[0], form.inner)
        if not by_query:
            self._store(form.result("value"), "end_sums", "1", form.columns)
