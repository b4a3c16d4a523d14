"""Open blocks of C text: lines, the variables that stand for axes, positions and conditions.

What is computed inside the blocks is the affair of :class:`~lazytorch.codegen.emitter.Emitter`,
which builds on this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lazytorch.codegen import lanes
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Condition, Expression, Guard
from lazytorch.ir.index import Axis, Index, Loaded, Quotient, Remainder


class Scope:
    """One open block: its lines so far, the names of its axes, the values known in it.

    ``aligned`` promises that the vector axis begins at a multiple of ``width`` here.
    """

    __slots__ = ("aligned", "axes", "first", "lines", "values", "vector_axis", "width")

    def __init__(
        self, vector_axis: Axis | None = None, width: int = 1, aligned: bool = False
    ) -> None:
        self.aligned = aligned
        self.lines: list[str] = []
        self.axes: dict[Axis, str] = {}
        self.values: dict[object, tuple[str, int]] = {}
        self.vector_axis = vector_axis
        self.width = width
        # Where the vector axis begins in the loop around this block, which goes through it vector
        # by vector; None where vectors are taken in another way.
        self.first: str | None = None


class Blocks:
    """The text of one kernel body while it grows: open blocks, names, positions.

    ``names`` gives the C name of an array or scalar by value number; ``helpers`` collects the
    definitions of helper functions that the text uses, shared by the kernels of a program.
    """

    def __init__(
        self, names: Callable[[int], str], helpers: dict[str, str], index_type: str = "int"
    ) -> None:
        self.names = names
        self.helpers = helpers
        self.index_type = index_type
        self.scopes: list[Scope] = [Scope()]
        # Element counts by C name when indices are to be checked, and the codes they report.
        self.limits: dict[str, tuple[int, int]] = {}
        # C names of arrays so large that their stores had better pass by the caches.
        self.streamed: set[str] = set()
        # Whether one did: a fence must follow it.
        self.has_streamed = False
        # Lines that must stand at the top of the kernel function (local memory).
        self.declarations: list[str] = []
        # C names of the random words of a draw that a loop over vectors has at hand.
        self._words: dict[Expression, str] = {}
        self._counter = 0

    # Blocks -----------------------------------------------------------------------------------

    def open(self, vector_axis: Axis | None = None, width: int = 1, aligned: bool = False) -> Scope:
        """Begin a block; lines go into it until :meth:`close`."""
        scope = Scope(vector_axis, width, aligned)
        self.scopes.append(scope)
        return scope

    def close(self, head: str, tail: str = "}") -> None:
        """End the block and add it to the one around it as ``head`` lines ``tail``."""
        scope = self.scopes.pop()
        outer = self.scopes[-1].lines
        outer.append(head)
        outer.extend("  " + line for line in scope.lines)
        if tail:
            outer.append(tail)

    def line(self, text: str) -> None:
        """Add a statement to the innermost block."""
        self.scopes[-1].lines.append(text)

    def name_axis(self, axis: Axis, name: str) -> None:
        """Say that ``axis`` is the C variable (or constant text) ``name`` in this block."""
        self.scopes[-1].axes[axis] = name

    def name_flat(self, flat: str, axes: tuple[Axis, ...]) -> None:
        """Name the axes whose positions ``flat`` enumerates, the last one fastest."""
        step = 1
        for number, axis in enumerate(reversed(axes)):
            text = f"{flat} / {step}" if step > 1 else flat
            if number < len(axes) - 1:
                text = f"({text}) % {axis.size}"
            name = self.fresh("at")
            self.line(f"const int {name} = {text};")
            self.name_axis(axis, name)
            step *= axis.size

    @contextmanager
    def loops(self, axes: tuple[Axis, ...]) -> Iterator[None]:
        """Loops over whole axes, the first one outermost, around what is written meanwhile."""
        heads = []
        for axis in axes:
            name = self.fresh("k")
            self.open()
            self.name_axis(axis, name)
            heads.append(f"for (int {name} = 0; {name} < {axis.size}; {name}++) {{")
        yield
        for head in reversed(heads):
            self.close(head)

    def define(self, key: object, name: str, width: int = 1) -> None:
        """Say that ``key`` (a RESULT or STASHED expression) is held in the C variable."""
        self.scopes[-1].values[key] = (name, width)

    def fresh(self, stem: str) -> str:
        self._counter += 1
        return f"{stem}{self._counter}"

    def text(self) -> list[str]:
        return self.scopes[0].lines

    def value(self, expression: Expression) -> tuple[str, int]:
        """(C name, width) of a value; emits what is not there yet."""
        raise NotImplementedError

    # Lookups ----------------------------------------------------------------------------------

    def _axis_name(self, axis: Axis) -> str:
        for scope in reversed(self.scopes):
            name = scope.axes.get(axis)
            if name is not None:
                return name
        raise KeyError(f"axis {axis!r} is not open here")

    def _vector_axis(self) -> tuple[Axis | None, int]:
        for scope in reversed(self.scopes):
            if scope.vector_axis is not None:
                return scope.vector_axis, scope.width
        return None, 1

    def _offsets(self, index: Index) -> lanes.Offsets | None:
        """The constant offsets of the lanes of an index, if it has such."""
        for scope in reversed(self.scopes):
            if scope.vector_axis is not None:
                if self._reads_lanes(index):
                    return None
                return lanes.lane_offsets(index, scope.vector_axis, scope.width, scope.aligned)
        return None

    def _axis_level(self, axis: Axis) -> int:
        """The number of the innermost open block that names the axis."""
        for number in range(len(self.scopes) - 1, -1, -1):
            if axis in self.scopes[number].axes:
                return number
        raise KeyError(f"axis {axis!r} is not open here")

    # Indices ----------------------------------------------------------------------------------

    def index(self, index: Index, lane: int | None = None) -> str:
        """C text of an index; ``lane`` picks one position of the vector axis."""
        parts: list[str] = []
        for atom, factor in index.terms:
            text = self._atom(atom, lane)
            if factor == 1:
                parts.append(text)
            elif factor == -1:
                parts.append(f"-{text}")
            else:
                parts.append(f"{text} * {self._integer(factor)}")
        if index.constant or not parts:
            parts.append(self._integer(index.constant))
        return parts[0] if len(parts) == 1 else "(" + " + ".join(parts) + ")"

    def _reads_lanes(self, index: Index) -> bool:
        return any(self.value(value)[1] > 1 for value in ex.loaded_values(index))

    def _integer(self, value: int) -> str:
        suffix = "L" if self.index_type == "long" or abs(value) >= 1 << 31 else ""
        return f"({value}{suffix})" if value < 0 else f"{value}{suffix}"

    def _atom(self, atom: object, lane: int | None) -> str:
        if isinstance(atom, Axis):
            name = self._axis_name(atom)
            vector_axis, _ = self._vector_axis()
            if lane and atom is vector_axis:
                return f"({name} + {lane})"
            return name
        if isinstance(atom, Loaded):
            name, width = self.value(atom.value)
            cast = f"({self.index_type})"
            if width == 1:
                return f"{cast}{name}"
            return f"{cast}{name}.s{lanes.LANES[lane or 0]}"
        assert isinstance(atom, (Quotient, Remainder))
        divisor = self._integer(atom.divisor)
        # C rounds towards zero: a dividend that may be negative is lifted by whole divisors.
        lifts = max(0, -(atom.dividend.low // atom.divisor))
        dividend = self.index(atom.dividend + lifts * atom.divisor, lane)
        if isinstance(atom, Remainder):
            return f"({dividend} % {divisor})"
        quotient = f"({dividend} / {divisor})"
        return f"({quotient} - {lifts})" if lifts else quotient

    def _condition(self, condition: Condition, lane: int | None) -> str:
        text = self.index(condition.index, lane)
        parts = []
        if condition.index.low < condition.low:
            parts.append(f"{text} >= {self._integer(condition.low)}")
        if condition.index.high > condition.high:
            parts.append(f"{text} <= {self._integer(condition.high)}")
        return " && ".join(parts) or "1"

    def guard(self, guard: Guard, lane: int | None = None) -> str:
        """C text of the conjunction of conditions."""
        return " && ".join(self._condition(condition, lane) for condition in guard)
