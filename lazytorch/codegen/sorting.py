"""Sorting rows of pairs: runs in order, and runs merged.

On a CPU target a work-item sorts a run by its digits, the least significant first (LSD radix
sort): four passes over 32 bits, whatever the values. Few elements are inserted one by one; the
first few of many are kept in order while vectors of the others are compared with the last of
them. On a GPU target a work-group sorts a run in local memory by Batcher's bitonic network. Two
sorted runs are merged by work-items that each make a piece of the result, and find where it
begins by bisection (merge path: Odeh, Green, Mwassi, Shmueli, Birk, 2012).
"""

from __future__ import annotations

from lazytorch.codegen.emitter import Emitter, bind_rows
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import SortBody, extent
from lazytorch.ops.ordering import MERGED_RUNS

# Elements that are inserted one by one rather than sorted by digits.
INSERTED = 48
# Elements that make a work-item worth starting.
ITEM_ELEMENTS = 4096
# Elements of the piece that a work-item merges.
PIECE_CPU = 8192
PIECE_GPU = 16
WORK_ITEMS_GPU = 256
MERGE_ITEMS_GPU = 64
LAST = "LONG_MAX"


def local_size(body: SortBody, target: Target) -> int:
    """Work-items in a work-group."""
    if target.family == "cpu":
        return 1
    if body.op is MERGED_RUNS:
        return min(MERGE_ITEMS_GPU, target.max_work_group_size)
    half = _power_of_two(min(body.axis.size, body.attrs[0])) // 2
    return max(1, min(WORK_ITEMS_GPU, half, target.max_work_group_size))


def render_sort(body: SortBody, emitter: Emitter, target: Target, local: int, group: str) -> int:
    """Write the body's statements; the number of work-groups it wants."""
    writer = _Writer(body, emitter, target, local)
    if body.op is MERGED_RUNS:
        return writer.merge(group)
    return writer.bitonic(group) if target.family == "gpu" else writer.runs(group)


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


class _Writer:
    def __init__(self, body: SortBody, emitter: Emitter, target: Target, local: int) -> None:
        self.body = body
        self.emitter = emitter
        self.target = target
        self.local = local
        self.line = emitter.line
        self.index = emitter.index_type
        self.out = emitter.names(body.target)

    # Runs ---------------------------------------------------------------------------------------

    def _enter_run(self, unit: str) -> tuple[str, str, str]:
        """Names of the first place, the element count and the result of run number ``unit``."""
        body, emitter = self.body, self.emitter
        run, kept, _ = body.attrs
        size = body.axis.size
        count = -(-size // run)
        row, first, length, out = (emitter.fresh(s) for s in ("row", "first", "count", "out"))
        self.line(f"const {self.index} {row} = {unit} / {count};")
        self.line(f"const {self.index} {first} = ({unit} % {count}) * {run};")
        self.line(f"const int {length} = (int)min(({self.index}){run}, {size} - {first});")
        # Runs of a whole sort lie where their elements came from.
        place = first if kept == run else f"({unit} % {count}) * {kept}"
        self.line(f"__global long *{out} = {self.out} + {row} * {body.kept} + {place};")
        bind_rows(emitter, body.rows, row)
        return first, length, out

    def _value(self, place: str, width: int = 1) -> str:
        self.emitter.name_axis(self.body.axis, place)
        return self.emitter.wide(self.body.value, width)

    def runs(self, group: str) -> int:
        """A work-item takes some runs, one after the other."""
        body, emitter = self.body, self.emitter
        run, kept, _ = body.attrs
        units = extent(body.rows) * -(-body.axis.size // run)
        block = max(1, ITEM_ELEMENTS // min(run, body.axis.size))
        block = min(block, max(1, units // (4 * self.target.compute_units)))
        unit = emitter.fresh("unit")
        emitter.open()
        names = self._enter_run(unit)
        if kept < run:
            self._first_few(*names)
        elif min(run, body.axis.size) <= INSERTED:
            self._insert(*names)
        else:
            self._by_digits(*names)
        start = f"({self.index}){group} * {block}"
        stop = f"min(({self.index}){units}, {start} + {block})"
        emitter.close(f"for ({self.index} {unit} = {start}; {unit} < {stop}; {unit}++) {{")
        return -(-units // block)

    def _insert(self, first: str, count: str, out: str) -> None:
        emitter = self.emitter
        k, place, pair = (emitter.fresh(stem) for stem in ("k", "place", "pair"))
        emitter.open()
        self.line(f"const {self.index} {place} = {first} + {k};")
        self.line(f"const long {pair} = {self._value(place)};")
        self.line(f"int j = {k};")
        self.line(f"for (; j > 0 && {out}[j - 1] > {pair}; j--) {out}[j] = {out}[j - 1];")
        self.line(f"{out}[j] = {pair};")
        emitter.close(f"for (int {k} = 0; {k} < {count}; {k}++) {{")

    def _in_vectors(self, first: str, count: str, statement: str) -> None:
        """``statement`` of the values ``{v}`` from ``{k}`` on, ``{w}`` at a time, then singly."""
        emitter, axis = self.emitter, self.body.axis
        k, place = emitter.fresh("k"), emitter.fresh("place")
        self.line(f"int {k} = 0;")
        width = self.target.vector_width
        for part in (width, 1) if 1 < width <= axis.size else (1,):
            emitter.open(axis if part > 1 else None, part)
            self.line(f"const {self.index} {place} = {first} + {k};")
            text = self._value(place, part)
            for line in self._filled(statement, text, k, part):
                self.line(line)
            emitter.close(f"for (; {k} + {part} <= {count}; {k} += {part}) {{")

    @staticmethod
    def _filled(statement: str, value: str, k: str, width: int) -> list[str]:
        if statement.startswith("store "):
            array = statement.removeprefix("store ")
            if width == 1:
                return [f"{array}[{k}] = {value};"]
            return [f"vstore{width}({value}, 0, {array} + {k});"]
        # Insert into ``best``, whose last element is ``worst``.
        insert = (
            "for (int j = {kept} - 1; ; j--) {{ "
            "if (j > 0 && best[j - 1] > pair) best[j] = best[j - 1]; "
            "else {{ best[j] = pair; break; }} }} worst = best[{kept} - 1];"
        ).format(kept=statement.removeprefix("insert "))
        if width == 1:
            return [f"const long pair = {value};", f"if (pair < worst) {{ {insert} }}"]
        return [
            f"if (any({value} < (long{width})worst)) {{",
            f"  long lanes[{width}];",
            f"  vstore{width}({value}, 0, lanes);",
            f"  for (int l = 0; l < {width}; l++) {{",
            "    const long pair = lanes[l];",
            f"    if (pair < worst) {{ {insert} }}",
            "  }",
            "}",
        ]

    def _first_few(self, first: str, count: str, out: str) -> None:
        _, kept, _ = self.body.attrs
        self.line(f"long best[{kept}];")
        self.line(f"for (int j = 0; j < {kept}; j++) best[j] = {LAST};")
        self.line(f"long worst = {LAST};")
        self._in_vectors(first, count, f"insert {kept}")
        self.line(f"for (int j = 0; j < {kept}; j++) {out}[j] = best[j];")

    def _by_digits(self, first: str, count: str, out: str) -> None:
        """Counts of all digits in one pass, then a stable pass for each, to and fro."""
        emitter = self.emitter
        run, _, bits = self.body.attrs
        digits = -(-bits // 8)
        spare, sums = emitter.fresh("spare"), emitter.fresh("sums")
        size = min(run, self.body.axis.size)
        emitter.declarations.append(f"__local long {spare}[{size}] __attribute__((aligned(64)));")
        arrays = (out, spare) if digits % 2 == 0 else (spare, out)
        self._in_vectors(first, count, f"store {arrays[0]}")
        self.line(f"int {sums}[{digits * 256}];")
        self.line(f"for (int d = 0; d < {digits * 256}; d++) {sums}[d] = 0;")
        # The sign's digit counts from the lowest number.
        signs = ["^ 128" if digit == digits - 1 else "" for digit in range(digits)]
        texts = [f"(((int)(pair >> {32 + 8 * d}) & 255) {signs[d]})" for d in range(digits)]
        self.line(f"for (int k = 0; k < {count}; k++) {{")
        self.line(f"  const long pair = {arrays[0]}[k];")
        for digit, text in enumerate(texts):
            self.line(f"  {sums}[{digit * 256} + {text}]++;")
        self.line("}")
        self.line(f"for (int d = 0; d < {digits}; d++) {{")
        self.line("  int before = 0;")
        self.line("  for (int v = 0; v < 256; v++) {")
        self.line(f"    const int own = {sums}[d * 256 + v];")
        self.line(f"    {sums}[d * 256 + v] = before;")
        self.line("    before += own;")
        self.line("  }")
        self.line("}")
        for digit, text in enumerate(texts):
            source, goal = arrays[digit % 2], arrays[1 - digit % 2]
            self.line(f"for (int k = 0; k < {count}; k++) {{")
            self.line(f"  const long pair = {source}[k];")
            self.line(f"  {goal}[{sums}[{digit * 256} + {text}]++] = pair;")
            self.line("}")

    def bitonic(self, group: str) -> int:
        """A work-group takes a run; missing elements are above all others."""
        body, emitter, local = self.body, self.emitter, self.local
        run, kept, _ = body.attrs
        count = -(-body.axis.size // run)
        size = _power_of_two(min(run, body.axis.size))
        shared, k, place = (emitter.fresh(stem) for stem in ("shared", "k", "place"))
        emitter.declarations.append(f"__local long {shared}[{size}];")
        emitter.open()
        self.line("const int item = (int)get_local_id(0);")
        first, length, out = self._enter_run(f"(({self.index}){group})")
        emitter.open()
        self.line(f"{shared}[{k}] = {LAST};")
        emitter.open()
        self.line(f"const {self.index} {place} = {first} + {k};")
        self.line(f"{shared}[{k}] = {self._value(place)};")
        emitter.close(f"if ({k} < {length}) {{")
        emitter.close(f"for (int {k} = item; {k} < {size}; {k} += {local}) {{")
        for text in (
            f"for (int size = 2; size <= {size}; size *= 2) {{",
            "  for (int step = size / 2; step > 0; step /= 2) {",
            "    barrier(CLK_LOCAL_MEM_FENCE);",
            f"    for (int i = item; i < {size // 2}; i += {local}) {{",
            "      const int low = 2 * i - (i & (step - 1));",
            f"      const long x = {shared}[low], y = {shared}[low + step];",
            "      if ((x > y) == ((low & size) == 0)) {",
            f"        {shared}[low] = y;",
            f"        {shared}[low + step] = x;",
            "      }",
            "    }",
            "  }",
            "}",
            "barrier(CLK_LOCAL_MEM_FENCE);",
        ):
            self.line(text)
        stop = length if kept == run else str(kept)
        held = f"k < {size} ? {shared}[k] : {LAST}" if kept > size else f"{shared}[k]"
        self.line(f"for (int k = item; k < {stop}; k += {local}) {out}[k] = {held};")
        emitter.close("{")
        return extent(body.rows) * count

    # Merging ------------------------------------------------------------------------------------

    def merge(self, group: str) -> int:
        """A work-item makes a piece of two merged runs."""
        body, emitter, local, index = self.body, self.emitter, self.local, self.index
        (run,) = body.attrs
        assert body.value.kind == ex.LOAD
        given = emitter.names(body.value.data[0])
        size = body.axis.size
        piece = min(PIECE_CPU if self.target.family == "cpu" else PIECE_GPU, 2 * run)
        count = -(-size // piece)
        units = extent(body.rows) * count
        item = f"(({index}){group} * {local} + (int)get_local_id(0))"
        for text in (
            f"const {index} unit = {item};",
            f"if (unit < {units}) {{",
            f"  const {index} from = (unit / {count}) * {size};",
            f"  const {index} start = (unit % {count}) * {piece};",
            f"  const {index} both = start - start % {2 * run};",
            f"  __global const long *a = {given} + from + both, *b = a + {run};",
            f"  __global long *out = {self.out} + from + start;",
            f"  const {index} ahead = start - both;",
            f"  const {index} in_a = min(({index}){run}, {size} - both);",
            f"  const {index} in_b = clamp({size} - both - {run}, ({index})0, ({index}){run});",
            f"  {index} i = max(({index})0, ahead - in_b), high = min(ahead, in_a);",
            "  while (i < high) {",
            f"    const {index} middle = (i + high) / 2;",
            "    if (a[middle] < b[ahead - 1 - middle]) i = middle + 1; else high = middle;",
            "  }",
            f"  {index} j = ahead - i;",
            f"  const int stop = (int)min(({index}){piece}, in_a + in_b - ahead);",
            "  int k = 0;",
            "  while (k < stop && i < in_a && j < in_b) {",
            "    const long x = a[i], y = b[j];",
            "    const int first = x < y;",
            "    out[k++] = first ? x : y;",
            "    i += first;",
            "    j += 1 - first;",
            "  }",
            "  while (k < stop && i < in_a) out[k++] = a[i++];",
            "  while (k < stop && j < in_b) out[k++] = b[j++];",
            "}",
        ):
            self.line(text)
        return -(-units // local)
