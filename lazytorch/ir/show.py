"""Kernels and expressions as text for people, and for tests that compare it.

Axes are named anew in order of appearance, so equal kernels have equal text in any process.
A value that is used more than once is named (``t0 = ...``) before its first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression, Guard
from lazytorch.ir.index import Atom, Axis, Index, Loaded, Quotient
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RecurrentBody,
    Reduce,
    RowBody,
    ScanBody,
    ScatterBody,
    SortBody,
    Stage,
    Stash,
)

ValueName = Callable[[int], str]


def plain_name(number: int) -> str:
    """``v7``: how values are called when nobody gives better names."""
    return f"v{number}"


def show_kernel(kernel: Kernel, name: ValueName = plain_name) -> str:
    """The text of a kernel.

    A row body reads: for each point of the rows, the stages one after the other; ``for`` after a
    stage names its inner loops, ``over`` the loops of a reduction.
    """
    lines = [f"kernel of {', '.join(map(name, kernel.covers)) or 'nothing of the graph'}"]
    lines += [f"  # {note}" for note in kernel.notes]
    for body in kernel.bodies:
        lines += ["  " + line for line in show_body(body, name)]
    return "\n".join(lines)


def show_body(body: Body, name: ValueName = plain_name) -> list[str]:
    """The lines of one body."""
    writer = _Writer(name)
    if isinstance(body, RowBody):
        return writer.rows(body)
    if isinstance(body, ContractBody):
        return writer.contraction(body)
    if isinstance(body, AttentionBody):
        return writer.attention(body)
    if isinstance(body, ScanBody):
        return writer.scan(body)
    if isinstance(body, RecurrentBody):
        return writer.recurrent(body)
    if isinstance(body, SortBody):
        return writer.sort(body)
    if isinstance(body, ScatterBody):
        return writer.scatter(body)
    return [f"{type(body).__name__} storing {[name(s.target) for s in body.stores()]}"]


class _Writer:
    """Writes one body; holds the names of its axes and shared values."""

    def __init__(self, name: ValueName) -> None:
        self.value_name = name
        self.axes: dict[Axis, str] = {}
        self.shared: set[Expression] = set()
        self.named: dict[Expression, str] = {}
        self.lines: list[str] = []

    # Bodies -----------------------------------------------------------------------------------

    def rows(self, body: RowBody) -> list[str]:
        self.lines.append(f"rows {self.loops(body.rows)}")
        self.find_shared(body.expressions())
        for stage in body.stages:
            self.stage(stage)
        return self.lines

    def stage(self, stage: Stage) -> None:
        loops = self.loops(stage.axes)
        value = self.text(stage.value)
        if isinstance(stage, Reduce):
            self.line(f"r{stage.number} = {stage.op.name} over {loops} of {value}")
        elif isinstance(stage, Stash):
            self.line(f"stash{stage.number}[{self.index(stage.index)}] = {value} for {loops}")
        else:
            target = f"{self.value_name(stage.target)}[{self.index(stage.index)}]"
            self.line(f"{target} = {value}" + (f" for {loops}" if stage.axes else ""))

    def contraction(self, body: ContractBody) -> list[str]:
        parts = [
            f"{label} {self.loops(axes)}"
            for label, axes in (
                ("batch", body.batch), ("rows", body.rows), ("columns", body.columns),
                ("summed", body.summed),
            )
            if axes
        ]  # fmt: skip
        self.lines.append(f"contract {', '.join(parts)} in {body.accumulate.name}")
        self.find_shared(body.expressions())
        self.line(f"first {self.text(body.first)}")
        self.line(f"second {self.text(body.second)}")
        for store in body.epilogue:
            value = self.text(store.value)
            self.line(f"{self.value_name(store.target)}[{self.index(store.index)}] = {value}")
        return self.lines

    def attention(self, body: AttentionBody) -> list[str]:
        parts = [
            f"{label} {self.loops(axes)}"
            for label, axes in (
                ("batch", body.batch), ("queries", (body.queries,)), ("keys", (body.keys,)),
                ("inner", (body.inner,)), ("columns", (body.columns,)),
            )
            if axes
        ]  # fmt: skip
        how = "causal attention" if body.causal else "attention"
        self.lines.append(f"{how} {', '.join(parts)} in {body.accumulate.name}")
        self.find_shared(body.expressions())
        for label in (
            "query", "key", "value", "scale", "bias", "factor", "gradient", "logsumexp", "delta",
        ):  # fmt: skip
            operand = getattr(body, label)
            if operand is not None:
                self.line(f"{label} {self.text(operand)}")
        for store in body.stores():
            value = self.text(store.value)
            self.line(f"{self.value_name(store.target)}[{self.index(store.index)}] = {value}")
        return self.lines

    def scan(self, body: ScanBody) -> list[str]:
        self.lines.append(f"rows {self.loops(body.rows)}")
        along = self.loops((body.axis,))
        target = f"{self.value_name(body.target)}[{self.index(body.index)}]"
        self.line(f"{target} = running {body.op.name} along {along} of {self.text(body.value)}")
        return self.lines

    def recurrent(self, body: RecurrentBody) -> list[str]:
        self.lines.append(f"rows {self.loops(body.rows)}")
        self.line(f"{self.value_name(body.target)} = {body.op.name} of {list(body.attrs)}")
        for operand, shape in zip(body.operands, body.shapes):
            self.line(f"with {self.text(operand)} of shape {list(shape)}")
        return self.lines

    def sort(self, body: SortBody) -> list[str]:
        self.lines.append(f"rows {self.loops(body.rows)}")
        along = self.loops((body.axis,))
        what = f"{body.op.name} {list(body.attrs)} along {along} of {self.text(body.value)}"
        self.line(f"{self.value_name(body.target)} = {what}")
        return self.lines

    def scatter(self, body: ScatterBody) -> list[str]:
        self.lines.append(f"rows {self.loops(body.rows)}")
        target = self.value_name(body.target)
        if body.base is not None:
            loops = self.loops((body.base_axis,))
            base = self.text(body.base)
            self.line(f"{target}[{self.index(body.base_index)}] = {base} for {loops}")
        along = self.loops((body.axis,))
        how = body.combine.name if body.combine is not None else "set"
        where = self.index(body.target_index)
        self.line(f"{how} {target}[{where}] with {self.text(body.value)} in order of {along}")
        return self.lines

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    # Axes and indices ---------------------------------------------------------------------------

    def axis(self, axis: Axis) -> str:
        known = self.axes.get(axis)
        if known is None:
            known = self.axes[axis] = f"i{len(self.axes)}"
        return known

    def loops(self, axes: Sequence[Axis]) -> str:
        return " ".join(f"{self.axis(axis)}:{axis.size}" for axis in axes) or "(one)"

    def index(self, index: Index) -> str:
        parts = [
            self.atom(atom) if factor == 1 else f"{factor}*{self.atom(atom)}"
            for atom, factor in index.terms
        ]
        if index.constant or not parts:
            parts.append(str(index.constant))
        return " + ".join(parts).replace("+ -", "- ")

    def atom(self, atom: Atom) -> str:
        if isinstance(atom, Axis):
            return self.axis(atom)
        if isinstance(atom, Loaded):
            return self.text(atom.value)
        sign = "//" if isinstance(atom, Quotient) else "%"
        return f"(({self.index(atom.dividend)}) {sign} {atom.divisor})"

    def guard(self, guard: Guard) -> str:
        return " and ".join(f"{c.low} <= {self.index(c.index)} <= {c.high}" for c in guard)

    # Expressions --------------------------------------------------------------------------------

    def find_shared(self, roots: Iterable[Expression]) -> None:
        roots = list(roots)
        uses: dict[Expression, int] = {}
        for expression in [*ex.walk(roots)]:
            for operand in expression.operands:
                uses[operand] = uses.get(operand, 0) + 1
        for root in roots:
            uses[root] = uses.get(root, 0) + 1
        self.shared = {e for e, count in uses.items() if count > 1 and e.kind == ex.APPLY}

    def text(self, root: Expression) -> str:
        """The expression, with names for what is shared; written without recursion."""
        done: dict[Expression, str] = {}
        for expression in ex.walk([root]):
            known = self.named.get(expression)
            if known is None:
                known = self.own_text(expression, [done[o] for o in expression.operands])
                if expression in self.shared:
                    name = f"t{len(self.named)}"
                    self.line(f"{name} = {known}")
                    self.named[expression] = known = name
            done[expression] = known
        return done[root]

    def own_text(self, expression: Expression, operands: list[str]) -> str:
        kind, data = expression.kind, expression.data
        if kind == ex.LOAD:
            number, index, guard = data
            text = f"{self.value_name(number)}[{self.index(index)}]"
            return f"({text} if {self.guard(guard)} else 0)" if guard else text
        if kind == ex.APPLY:
            op, attrs = data
            extra = [str(getattr(a, "name", a)) for a in attrs]
            return f"{op.name}({', '.join([*operands, *extra])})"
        if kind == ex.CHOOSE:
            return f"({operands[0]} if {self.guard(data)} else {operands[1]})"
        if kind == ex.ARGUMENT:
            return self.value_name(data)
        if kind == ex.RESULT:
            return f"r{data}"
        if kind == ex.STASHED:
            return f"stash{data[0]}[{self.index(data[1])}]"
        if kind == ex.POSITION:
            return f"({self.index(data)})"
        if kind == ex.RANDOM:
            return f"random({', '.join(operands)}, {self.index(data)})"
        return repr(data)


__all__ = ["plain_name", "show_body", "show_kernel"]
