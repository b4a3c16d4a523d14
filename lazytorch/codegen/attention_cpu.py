"""Tiled attention for CPU devices, as OpenCL C.

Forwards a work-item has some queries of one head and walks the keys in blocks, keeping for each
query the highest score so far, the sum of exponentials (one for each lane) and the sum of
weighted values. Backwards it has some blocks of keys of one head and walks the queries: the
scores are computed again, exponentials taken with the known logarithm of their sum, and five
products give the gradients. Blocks that no query of a tile may look at are left out.

Source: T. Dao et al., "FlashAttention", 2022, algorithms 1 and 4, with the loops of each
direction ordered so that what is turned around in memory is used most often.
"""

from __future__ import annotations

from lazytorch.codegen.attention import TiledAttentionBody, padded
from lazytorch.codegen.attention_tile import TileWriter
from lazytorch.codegen.emitter import Emitter
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import extent


def render_attention_cpu(body: TiledAttentionBody, emitter: Emitter, group: str) -> int:
    """Write the statements and declare the local arrays; the number of work-groups.

    ``group`` is the C text of the body's linear group number.
    """
    direction = _Forward if body.form.gradient is None else _Backward
    return direction(body, emitter).render(group)


class _Direction:
    def __init__(self, body: TiledAttentionBody, emitter: Emitter) -> None:
        self.body = body
        self.form = body.form
        self.tiling = body.tiling
        self.emitter = emitter
        self.tile = TileWriter(body.form, body.tiling, emitter)
        self.names = self.tile.names
        self.line = emitter.line
        self.inner = padded(body.form.inner.size, body.tiling.width)
        self.columns = padded(body.form.columns.size, body.tiling.width)
        self.scale = emitter.value(body.form.scale)[0]
        emitter.declarations.extend(self.tile.declarations())

    def decompose(self, group: str, parts: str, count: int) -> int:
        """Name the head and the part of it that the work-item has; the number of groups."""
        self.line(f"const int head = {group} / {count};")
        self.line(f"const int {parts} = {count - 1} - {group} % {count};")
        self.tile.bind_batch("head")
        return extent(self.form.batch) * count

    def visible(self, first: str) -> None:
        """Name ``last``, the row's last key counted from ``k0``; ``first`` is the row's query."""
        keys = self.form.keys.size
        end = f"{keys - 1} - k0"
        self.line(f"const int last = {f'min({end}, {first} - k0)' if self.form.causal else end};")


class _Forward(_Direction):
    def render(self, group: str) -> int:
        form, tiling, emitter = self.form, self.tiling, self.emitter
        chunk, queries, width = tiling.chunk, form.queries.size, tiling.width
        chunks = -(-queries // chunk)
        # The last queries see most keys: their chunk comes first.
        groups = self.decompose(group, "part", chunks)
        self.line(f"const int q0 = part * {chunk};")
        self.line(f"const int rows = min({chunk}, {queries} - q0);")
        names = self.names
        self.tile.stage_rows("queries", form.query, form.queries, form.inner, "q0", chunk)
        self.tile.clear(names["sums"], str(chunk * self.columns))
        self.tile.clear(names["totals"], str(chunk * width))
        self.line(f"for (int i = 0; i < {chunk}; i++) {names['highest']}[i] = {self.tile.low};")
        end = f"min({form.keys.size}, q0 + rows)" if form.causal else str(form.keys.size)
        self.line(f"const int end = {end};")
        emitter.open()
        self._block_of_keys()
        emitter.close(f"for (int k0 = 0; k0 < end; k0 += {tiling.keys}) {{")
        self._finish()
        return groups

    def _block_of_keys(self) -> None:
        form, tiling, emitter, names = self.form, self.tiling, self.emitter, self.names
        self.tile.stage_turned("turned_keys", form.key, form.keys, form.inner)
        self.tile.stage_rows("values", form.value, form.keys, form.columns, "k0", tiling.keys)
        shared = form.bias is not None and form.queries not in form.bias.axes()
        if shared:
            self.line(f"const int count = min({tiling.keys}, {form.keys.size} - k0);")
            self.tile.stage_bias()
        emitter.open()
        self.line("const int row0 = q0 + block;")
        seen = f"min({tiling.keys}, {form.keys.size} - k0)"
        if form.causal:
            seen = f"min({seen}, row0 + {tiling.queries} - k0)"
        self.line(f"const int seen = {seen};")
        self.tile.product(
            names["scores"], tiling.keys,
            (f"{names['queries']} + block * {self.inner}", self.inner, 1),
            (names["turned_keys"], tiling.keys),
            (tiling.queries, "seen", str(form.inner.size)), add=False,
        )  # fmt: skip
        emitter.open()
        self._row(shared)
        emitter.close(f"for (int i = 0; i < min({tiling.queries}, rows - block); i++) {{")
        self.tile.product(
            f"{names['sums']} + block * {self.columns}", self.columns,
            (names["scores"], tiling.keys, 1), (names["values"], self.columns),
            (tiling.queries, str(self.columns), "seen"), add=True,
        )  # fmt: skip
        first = f"max(k0 - q0, 0) / {tiling.queries} * {tiling.queries}" if form.causal else "0"
        emitter.close(f"for (int block = {first}; block < rows; block += {tiling.queries}) {{")

    def _row(self, shared: bool) -> None:
        """Scores to weights, under the highest score so far."""
        form, tile, emitter, names = self.form, self.tile, self.emitter, self.names
        width, vector = self.tiling.width, self.tile.vector
        emitter.name_axis(form.queries, "row")
        self.line("const int row = row0 + i, at = block + i;")
        self.visible("row")
        self.line(f"__local {tile.type} *s = {names['scores']} + i * {self.tiling.keys};")
        if form.bias is not None and not shared:
            self.line(f"const int count = min({self.tiling.keys}, {form.keys.size} - k0);")
            tile.stage_bias()
        self.line(f"{vector} top = {tile.low};")
        emitter.open()
        self.line(f"{vector} x = vload{width}(0, s + j) * {self.scale};")
        if form.bias is not None:
            self.line(f"x += vload{width}(0, {names['bias']} + j);")
        self.line(
            f"if (j + {width - 1} > last) x = select(x, ({vector}){tile.low}, "
            f"{tile.lanes('j')} > ({tile.mask})last);"
        )
        self.line(f"vstore{width}(x, 0, s + j);")
        self.line("top = fmax(top, x);")
        emitter.close(f"for (int j = 0; j < seen; j += {width}) {{")
        self.line(f"const {tile.type} before = {names['highest']}[at];")
        self.line(f"const {tile.type} after = fmax(before, {tile.across('fmax', 'top')});")
        self.line(f"const {tile.type} base = after == {tile.low} ? 0 : after;")
        self.line(f"__local {tile.type} *o = {names['sums']} + at * {self.columns};")
        self.line(f"{vector} total = vload{width}(at, {names['totals']});")
        emitter.open()
        self.line(f"const {tile.type} shrink = {tile.exp('before - base', 1)};")
        self.line("total *= shrink;")
        self.line(
            f"for (int c = 0; c < {self.columns}; c += {width}) "
            f"vstore{width}(vload{width}(0, o + c) * shrink, 0, o + c);"
        )
        self.line(f"{names['highest']}[at] = after;")
        emitter.close("if (after > before) {")
        emitter.open(form.keys, width)
        emitter.name_axis(form.keys, "(k0 + j)")
        self.line(f"{vector} x = {tile.exp(f'vload{width}(0, s + j) - base', width)};")
        self.line("total += x;")
        if form.factor is not None:
            self.line(f"x *= {tile.factors()};")
        self.line(f"vstore{width}(x, 0, s + j);")
        emitter.close(f"for (int j = 0; j < seen; j += {width}) {{")
        self.line(f"vstore{width}(total, at, {names['totals']});")

    def _finish(self) -> None:
        """The results of every query."""
        form, emitter, tile, names = self.form, self.emitter, self.tile, self.names
        width = self.tiling.width
        emitter.open()
        emitter.name_axis(form.queries, "(q0 + i)")
        total = tile.across("sum", f"vload{width}(i, {names['totals']})")
        self.line(f"const {tile.type} total = {total};")
        output, logsumexp = form.result("output"), form.result("logsumexp")
        if output is not None:
            # A query that may look at nothing has no sum; its output is 0.
            self.line(f"const {tile.type} by = total == 0 ? 0 : 1 / total;")
            place = f"{names['sums']} + i * {self.columns}"
            tile.store_row(output, form.columns, place, "by")
        if logsumexp is not None:
            self.line(
                f"const {tile.type} logsumexp = total == 0 ? -{tile.low} : "
                f"{names['highest']}[i] + log(total);"
            )
            emitter.define(ex.result(logsumexp.number, form.accumulate), "logsumexp")
            tile.store(logsumexp, 1)
        emitter.close("for (int i = 0; i < rows; i++) {")


class _Backward(_Direction):
    def render(self, group: str) -> int:
        form, tiling, emitter, names = self.form, self.tiling, self.emitter, self.names
        groups = self.decompose(group, "part", tiling.splits)
        self.rows = padded(form.queries.size, tiling.queries)
        if self.body.partial is not None:
            self._clear_partial()
        emitter.open()
        self.line(f"const int k0 = place * {tiling.keys};")
        self.tile.stage_turned("turned_keys", form.key, form.keys, form.inner)
        self.tile.stage_turned("turned_values", form.value, form.keys, form.columns)
        if self.body.partial is not None:
            self.tile.stage_rows("keys", form.key, form.keys, form.inner, "k0", tiling.keys)
        self.tile.clear(names["key_sums"], str(tiling.keys * self.inner))
        self.tile.clear(names["value_sums"], str(tiling.keys * self.columns))
        emitter.open()
        self._block_of_queries()
        first = f"k0 / {tiling.queries} * {tiling.queries}" if form.causal else "0"
        emitter.close(
            f"for (int row0 = {first}; row0 < {form.queries.size}; row0 += {tiling.queries}) {{"
        )
        self._finish_keys()
        blocks = -(-form.keys.size // tiling.keys)
        emitter.close(f"for (int place = part; place < {blocks}; place += {tiling.splits}) {{")
        self._finish_queries()
        return groups

    def _clear_partial(self) -> None:
        partial, tile = self.body.partial, self.tile
        assert partial is not None
        size = self.rows * self.inner
        heads = extent(self.form.batch)
        self.line(
            f"__global {tile.type} *partial = {self.emitter.names(partial.target)} + "
            f"((long)part * {heads} + head) * {size};"
        )
        tile.clear("partial", str(size))

    def _block_of_queries(self) -> None:
        form, tiling, tile, names = self.form, self.tiling, self.tile, self.names
        assert form.gradient is not None
        keys, queries = tiling.keys, tiling.queries
        tile.stage_rows("queries", form.query, form.queries, form.inner, "row0", queries)
        tile.stage_rows("gradients", form.gradient, form.queries, form.columns, "row0", queries)
        for name, scalars, pitch, other, depth in (
            ("scores", "queries", self.inner, "turned_keys", form.inner.size),
            ("changes", "gradients", self.columns, "turned_values", form.columns.size),
        ):
            tile.product(
                names[name], keys, (names[scalars], pitch, 1), (names[other], keys),
                (queries, str(keys), str(depth)), add=False,
            )  # fmt: skip
        self.emitter.open()
        self._row()
        self.emitter.close(f"for (int i = 0; i < {queries}; i++) {{")
        self._products()

    def _products(self) -> None:
        form, tiling, tile, names = self.form, self.tiling, self.tile, self.names
        keys, queries = tiling.keys, tiling.queries
        for wanted, sums, scores, other, pitch in (
            ("value", "value_sums", "scores", "gradients", self.columns),
            ("key", "key_sums", "changes", "queries", self.inner),
        ):
            if form.result(wanted) is not None:
                self._turned_product(sums, scores, other, pitch)
        if self.body.partial is not None:
            tile.product(
                f"partial + row0 * {self.inner}", self.inner, (names["changes"], keys, 1),
                (names["keys"], self.inner), (queries, str(self.inner), str(keys)), add=True,
                space="__global",
            )  # fmt: skip

    def _turned_product(self, sums: str, scores: str, other: str, pitch: int) -> None:
        """A sum over queries for each key: the scores are read down their columns."""
        tiling, names = self.tiling, self.names
        self.tile.product(
            names[sums], pitch, (names[scores], 1, tiling.keys), (names[other], pitch),
            (tiling.keys, str(pitch), str(tiling.queries)), add=True,
        )  # fmt: skip

    def _row(self) -> None:
        """Scores to weights, and the weights' gradient to that of the scores."""
        form, tile, emitter, names = self.form, self.tile, self.emitter, self.names
        width, vector, keys = self.tiling.width, self.tile.vector, self.tiling.keys
        assert form.logsumexp is not None and form.delta is not None
        self.line("const int row = row0 + i;")
        self.line(f"__local {tile.type} *s = {names['scores']} + i * {keys};")
        self.line(f"__local {tile.type} *d = {names['changes']} + i * {keys};")
        emitter.open()
        # Named inside: what is read for the row is read only where there is one.
        emitter.name_axis(form.queries, "row")
        self.visible("row")
        if form.bias is not None:
            self.line(f"const int count = min({keys}, {form.keys.size} - k0);")
            tile.stage_bias()
        logsumexp, delta = emitter.value(form.logsumexp)[0], emitter.value(form.delta)[0]
        emitter.open(form.keys, width)
        emitter.name_axis(form.keys, "(k0 + j)")
        bias = f" + vload{width}(0, {names['bias']} + j)" if form.bias is not None else ""
        score = f"vload{width}(0, s + j) * {self.scale}{bias} - {logsumexp}"
        self.line(f"{vector} p = {tile.exp(score, width)};")
        self.line(f"{vector} x = vload{width}(0, d + j);")
        self.line(f"{vector} kept = p;")
        if form.factor is not None:
            name = tile.factors()
            self.line(f"kept *= {name}; x *= {name};")
        self.line(f"x = p * (x - {delta});")
        emitter.open()
        self.line(f"const {self.tile.mask} hidden = {tile.lanes('j')} > ({tile.mask})last;")
        self.line(f"x = select(x, ({vector})0, hidden); kept = select(kept, ({vector})0, hidden);")
        emitter.close(f"if (j + {width - 1} > last) {{")
        self.line(f"vstore{width}(kept, 0, s + j); vstore{width}(x, 0, d + j);")
        emitter.close(f"for (int j = 0; j < {keys}; j += {width}) {{")
        emitter.close(f"if (row < {form.queries.size}) {{")
        emitter.open()
        tile.clear("s", str(keys))
        tile.clear("d", str(keys))
        emitter.close("else {")

    def _finish_keys(self) -> None:
        form, emitter = self.form, self.emitter
        for name, sums, axis, by in (
            ("key", "key_sums", form.inner, self.scale), ("value", "value_sums", form.columns, "1"),
        ):  # fmt: skip
            result = form.result(name)
            if result is None:
                continue
            emitter.open()
            emitter.name_axis(form.keys, "(k0 + i)")
            pitch = padded(axis.size, self.tiling.width)
            place = f"{self.names[sums]} + i * {pitch}"
            self.tile.store_row(result, axis, place, by)
            emitter.close(
                f"for (int i = 0; i < min({self.tiling.keys}, {form.keys.size} - k0); i++) {{"
            )

    def _finish_queries(self) -> None:
        form, emitter = self.form, self.emitter
        result = form.result("query")
        if result is None:
            return
        emitter.open()
        emitter.name_axis(form.queries, "i")
        place = f"partial + i * {self.inner}"
        self.tile.store_row(result, form.inner, place, self.scale)
        emitter.close(f"for (int i = 0; i < {form.queries.size}; i++) {{")
