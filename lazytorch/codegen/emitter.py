"""Expressions to OpenCL C statements, scalar or in explicit vectors.

An :class:`Emitter` holds a stack of scopes, one for each open block. A value is emitted once,
into the outermost scope in which everything it depends on is known: shared subexpressions
are computed once and what does not depend on an inner loop leaves it.

One axis may be the *vector axis*: its C variable then stands for the first of ``width``
consecutive positions, and values that depend on it are vectors. Values that do not stay
scalars until an operation needs both.
"""

from __future__ import annotations

import re

from lazytorch import dtypes
from lazytorch.codegen import ctypes, lanes
from lazytorch.codegen.blocks import Blocks
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression, Guard
from lazytorch.ir.index import Axis, Index
from lazytorch.ir.kernel import extent
from lazytorch.ops import elementwise

_HELPER = re.compile(r"\blt_(\w+)\(")


class Emitter(Blocks):
    """Emits values, each once, into the blocks of one kernel body."""

    # Values -----------------------------------------------------------------------------------

    def value(self, expression: Expression) -> tuple[str, int]:
        """(C name, width) of a value; emits what is not there yet."""
        name, width, _ = self._emitted(expression)
        return name, width

    def _emitted(self, expression: Expression) -> tuple[str, int, int]:
        """(C name, width, number of the block that holds it) of a value."""
        for number in range(len(self.scopes) - 1, -1, -1):
            known = self.scopes[number].values.get(expression)
            if known is not None:
                return (*known, number)
        if expression.kind == ex.CONSTANT:
            return ctypes.literal(expression.data, expression.dtype), 1, 0
        if expression.kind == ex.ARGUMENT:
            return self.names(expression.data), 1, 0
        level = self._level(expression)
        vector_axis, width = self._vector_axis()
        if not self._is_wide(expression, vector_axis):
            width = 1
        inner = self.scopes[level + 1 :]
        vector = next((s for s in inner if s.vector_axis is vector_axis), None)
        assert width == 1 or vector is None
        del self.scopes[level + 1 :]
        try:
            text = self._compute(expression, width)
            name = self.fresh("x")
            type_name = ctypes.vector(ctypes.value_type(expression.dtype), width)
            self.line(f"const {type_name} {name} = {text};")
            self.scopes[-1].values[expression] = (name, width)
        finally:
            self.scopes.extend(inner)
        return name, width, level

    def _is_wide(self, expression: Expression, vector_axis: Axis | None) -> bool:
        """Whether lanes differ: by the value's own positions, or because an operand's do.

        Results of a reduction have no axes; how wide they are was said when they were defined.
        """
        if vector_axis is None:
            return False
        if any(self._varies(index, vector_axis) for index in ex.indices_of(expression)):
            return True
        return any(self._emitted(operand)[1] > 1 for operand in expression.operands)

    def _varies(self, index: Index, vector_axis: Axis) -> bool:
        """Whether an index differs between lanes: by itself, or by a value it is read from."""
        if vector_axis in index.axes():
            return True
        return self._reads_lanes(index)

    def _differs(self, guard: Guard, vector_axis: Axis) -> bool:
        """Whether conditions may hold in one lane and not in another."""
        for condition in guard:
            if self._varies(condition.index, vector_axis):
                offsets = self._offsets(condition.index)
                if offsets is None or any(offsets):
                    return True
        return False

    def _level(self, expression: Expression) -> int:
        """The outermost block in which everything the value needs is known; emits operands."""
        level = 0
        for operand in expression.operands:
            level = max(level, self._emitted(operand)[2])
        for index in ex.indices_of(expression):
            for value in ex.loaded_values(index):
                level = max(level, self._emitted(value)[2])
            for axis in index.axes():
                level = max(level, self._axis_level(axis))
        if expression.kind == ex.STASHED:
            level = max(level, self._stash_level(expression.data[0]))
        return level

    def _stash_level(self, number: int) -> int:
        for level in range(len(self.scopes) - 1, -1, -1):
            if ("stash", number) in self.scopes[level].values:
                return level
        raise KeyError(f"stash {number} is read before it is filled")

    def wide(self, expression: Expression, width: int) -> str:
        """C text of the value with at least ``width`` lanes."""
        name, known = self.value(expression)
        if known == width:
            return name
        return ctypes.broadcast(name, ctypes.value_type(expression.dtype), width)

    def _compute(self, expression: Expression, width: int) -> str:
        kind = expression.kind
        if kind == ex.LOAD:
            return self._load(expression, width)
        if kind == ex.APPLY:
            return self._apply(expression, width)
        if kind == ex.POSITION:
            return self._position(expression, width)
        if kind == ex.CHOOSE:
            return self._choose(expression, width)
        if kind == ex.RANDOM:
            return self._random(expression, width)
        if kind == ex.STASHED:
            number, index = expression.data
            return self._array(f"stash{number}", index, (), expression.dtype, width, private=True)
        raise KeyError(f"{expression!r} is used before it is computed")

    def _load(self, expression: Expression, width: int) -> str:
        number, index, guard = expression.data
        return self._array(self.names(number), index, guard, expression.dtype, width)

    def _array(
        self, name: str, index: Index, guard: Guard, dtype: DType, width: int, private: bool = False
    ) -> str:
        zero = ctypes.literal(0, dtype)
        if width == 1:
            element = self._element(name, self.index(index), dtype, private)
            return f"({self.guard(guard)} ? {element} : {zero})" if guard else element
        vector_axis, _ = self._vector_axis()
        assert vector_axis is not None
        type_name = ctypes.value_type(dtype)
        varying = self._differs(guard, vector_axis)
        together = self._together(name, index, dtype, width, private)
        if together is not None and not varying:
            if guard:
                return f"({self.guard(guard)} ? {together} : ({type_name}{width})({zero}))"
            return together
        parts = []
        for lane in range(width):
            element = self._element(name, self.index(index, lane), dtype, private)
            if guard:
                element = f"({self.guard(guard, lane)} ? {element} : {zero})"
            parts.append(element)
        apart = f"({type_name}{width})({', '.join(parts)})"
        whole = self._whole(guard) if together is not None else None
        return apart if whole is None else f"(({whole}) ? {together} : {apart})"

    def _together(
        self, name: str, index: Index, dtype: DType, width: int, private: bool
    ) -> str | None:
        """C text that reads all lanes by loads of neighbours, where they are near each other."""
        offsets = self._offsets(index)
        if offsets is None:
            return None
        if offsets == tuple(range(width)):
            return self._vector_load(name, self.index(index), dtype, width, private)
        type_name = ctypes.value_type(dtype)
        if not any(offsets):
            element = self._element(name, self.index(index), dtype, private)
            return ctypes.broadcast(element, type_name, width)
        if private or len(lanes.pieces(offsets)) > lanes.MAX_PIECES:
            return None
        element = ctypes.storage_type(dtype)
        reader = lanes.reader_name(element, offsets)
        if dtype is dtypes.bfloat16:
            reader += "_bfloat"
        if reader not in self.helpers:

            def load(size: int, place: int) -> str:
                if size == 1:
                    return self._element("p", str(place), dtype, private)
                return self._vector_load("p", str(place), dtype, size, private)

            self.helpers[reader] = lanes.reader_source(reader, element, type_name, offsets, load)
        low = min(offsets)
        text = self.index(index)
        if name in self.limits:
            span = max(offsets) - low + 1
            text = f"{self._checked(name, f'({text} + {low})', span)} - ({low})"
        return f"{reader}({name} + {text})"

    def _whole(self, guard: Guard) -> str | None:
        """C text that tells whether the guard holds in all lanes, from its ends alone."""
        parts = []
        for condition in guard:
            offsets = self._offsets(condition.index)
            if offsets is None:
                return None
            text = self.index(condition.index)
            if condition.index.low < condition.low:
                parts.append(f"{text} >= {self._integer(condition.low - min(offsets))}")
            if condition.index.high > condition.high:
                parts.append(f"{text} <= {self._integer(condition.high - max(offsets))}")
        return " && ".join(parts) or "1"

    def _checked(self, name: str, index: str, width: int) -> str:
        """The index, made to report when it is outside its array (LAZYTORCH_BOUNDS)."""
        found = self.limits.get(name)
        if found is None:
            return index
        count, code = found
        self.helpers.setdefault("lt_bound", ctypes.BOUND)
        return f"lt_bound({index}, {count - width + 1}, {code}, bounds)"

    def _element(self, name: str, index: str, dtype: DType, private: bool) -> str:
        index = self._checked(name, index, 1)
        if not private:
            if dtype is dtypes.float16:
                return f"vload_half({index}, {name})"
            if dtype is dtypes.bfloat16:
                return f"as_float((uint){name}[{index}] << 16)"
        return f"{name}[{index}]"

    def _vector_load(self, name: str, index: str, dtype: DType, width: int, private: bool) -> str:
        index = self._checked(name, index, width)
        if not private:
            if dtype is dtypes.float16:
                return f"vload_half{width}(0, {name} + {index})"
            if dtype is dtypes.bfloat16:
                raw = f"convert_uint{width}(vload{width}(0, {name} + {index}))"
                return f"as_float{width}({raw} << 16)"
        return f"vload{width}(0, {name} + {index})"

    def store(self, name: str, index: Index, value: Expression, dtype: DType, width: int) -> None:
        """Emit ``name[index] = value`` for one element or for ``width`` lanes."""
        text = self.wide(value, width)
        if width == 1:
            self._store_element(name, self.index(index), text, dtype)
            return
        vector_axis, _ = self._vector_axis()
        assert vector_axis is not None
        if index.coefficient(vector_axis) == 1 and not self._reads_lanes(index):
            self._store_vector(name, self.index(index), text, dtype, width)
            return
        held = self.fresh("s")
        self.line(f"const {ctypes.value_type(dtype)}{width} {held} = {text};")
        for lane in range(width):
            element = f"{held}.s{lanes.LANES[lane]}"
            self._store_element(name, self.index(index, lane), element, dtype)

    def store_text(self, name: str, index: Index, text: str, dtype: DType, width: int = 1) -> None:
        """Emit ``name[index] = text`` for one element, or for ``width`` side by side."""
        if width > 1:
            self._store_vector(name, self.index(index), text, dtype, width)
        else:
            self._store_element(name, self.index(index), text, dtype)

    def element(self, name: str, index: Index, dtype: DType, width: int = 1) -> str:
        """C text that reads one element, or ``width`` side by side."""
        if width > 1:
            return self._vector_load(name, self.index(index), dtype, width, private=False)
        return self._element(name, self.index(index), dtype, private=False)

    def _store_element(self, name: str, index: str, text: str, dtype: DType) -> None:
        index = self._checked(name, index, 1)
        if dtype is dtypes.float16:
            self.line(f"vstore_half({text}, {index}, {name});")
        elif dtype is dtypes.bfloat16:
            rounded = self._helper("round_bfloat", "float", 1)
            self.line(f"{name}[{index}] = (ushort)(as_uint({rounded}({text})) >> 16);")
        else:
            self.line(f"{name}[{index}] = {text};")

    def _store_vector(self, name: str, index: str, text: str, dtype: DType, width: int) -> None:
        index = self._checked(name, index, width)
        if dtype is dtypes.float16:
            self.line(f"vstore_half{width}({text}, 0, {name} + {index});")
        elif dtype is dtypes.bfloat16:
            rounded = self._helper("round_bfloat", "float", width)
            bits = f"convert_ushort{width}(as_uint{width}({rounded}({text})) >> 16)"
            self.line(f"vstore{width}({bits}, 0, {name} + {index});")
        elif name in self.streamed and width * dtype.itemsize >= ctypes.LINE_BYTES:
            helper = f"lt_stream_{ctypes.value_type(dtype)}{width}"
            if helper not in self.helpers:
                self.helpers[helper] = ctypes.stream_source(ctypes.value_type(dtype), width)
            self.has_streamed = True
            self.line(f"{helper}({text}, {name} + {index});")
        else:
            self.line(f"vstore{width}({text}, 0, {name} + {index});")

    # Operations -------------------------------------------------------------------------------

    def _apply(self, expression: Expression, width: int) -> str:
        op, _ = expression.data
        if op is elementwise.CAST:
            return self._cast(expression, width)
        if op is elementwise.BITCAST:
            return self._bitcast(expression, width)
        operands = [self.wide(operand, width) for operand in expression.operands]
        # A predicate's own type is bool; its text works on the operands' type.
        worked = expression.operands[-1].dtype if op.predicate else expression.dtype
        return self.operation(op, operands, worked, expression.dtype, width)

    def operation(
        self, op: object, operands: list[str], worked: DType, result: DType, width: int
    ) -> str:
        """C text of a map operation on operand texts."""
        texts = op.c_vector if width > 1 and op.c_vector else op.c  # type: ignore[attr-defined]
        template = texts.get(worked.kind) or texts.get("*")
        if template is None:
            raise KeyError(f"operation {op!r} has no OpenCL text for {worked!r}")
        type_name = ctypes.value_type(worked)
        # Before the operands are filled in: their texts may hold helpers of other types.
        template = _HELPER.sub(
            lambda match: self._helper(match.group(1), type_name, width) + "(", template
        )
        text = template.format(*operands, **ctypes.placeholders(worked, width))
        if op.predicate:  # type: ignore[attr-defined]
            if width == 1:
                return f"(uchar){text}"
            return f"(convert_uchar{width}({text}) & (uchar{width})1)"
        if worked.itemsize < 4 and worked.kind in "iu" and width == 1:
            text = f"({type_name}){text}"
        return self.rounded(text, result, width)

    def rounded(self, text: str, dtype: DType, width: int) -> str:
        """16-bit floats are rounded after every operation, as PyTorch does."""
        if dtype is dtypes.float16:
            return f"{self._helper('round_half', 'float', width)}({text})"
        if dtype is dtypes.bfloat16:
            return f"{self._helper('round_bfloat', 'float', width)}({text})"
        return text

    def _helper(self, name: str, type_name: str, width: int) -> str:
        full = f"lt_{name}_{ctypes.vector(type_name, width)}"
        if full not in self.helpers:
            self.helpers[full] = ctypes.helper_source(name, type_name, width)
        return full

    def _bitcast(self, expression: Expression, width: int) -> str:
        operand = expression.operands[0]
        text = self.wide(operand, width)
        # Floats of 16 bits are worked on as float32: their bits are taken and made here.
        given = operand.dtype
        if given in ctypes.SHORT_FLOATS:
            name, source = ctypes.short_float_bits(given, width)
            self.helpers.setdefault(name, source)
            text = f"{name}({text})"
        if expression.dtype in ctypes.SHORT_FLOATS:
            name, source = ctypes.short_float_value(expression.dtype, width)
            self.helpers.setdefault(name, source)
            return f"{name}(as_{ctypes.vector('ushort', width)}({text}))"
        return f"as_{ctypes.vector(ctypes.value_type(expression.dtype), width)}({text})"

    def _cast(self, expression: Expression, width: int) -> str:
        (operand,) = expression.operands
        text = self.wide(operand, width)
        source, target = operand.dtype, expression.dtype
        if source.kind == "c" and target.kind in "fiu":
            text, source = f"({text}).x", source.real
        if "c" in (source.kind, target.kind):
            return ctypes.complex_conversion(text, source, target)
        if target.kind == "b":
            return self.operation(
                elementwise.NE, [text, f"({ctypes.value_type(source)})0"], source, target, width
            )
        if source.kind == "f" and target.kind in "iu" and target.itemsize < 4:
            # Through int, as x86 converts: narrow types keep the low bits.
            text = f"{ctypes.conversion('int', width)}({text})"
        text = f"{ctypes.conversion(ctypes.value_type(target), width)}({text})"
        return self.rounded(text, target, width)

    def _position(self, expression: Expression, width: int) -> str:
        type_name = ctypes.value_type(expression.dtype)
        if width == 1:
            return f"({type_name})({self.index(expression.data)})"
        offsets = self._offsets(expression.data)
        if offsets is not None:
            places = self._lane_places(expression.data, offsets)
            if type_name == self.index_type:
                return places
            return f"{ctypes.conversion(type_name, width)}({places})"
        numbers = ", ".join(
            f"({type_name})({self.index(expression.data, lane)})" for lane in range(width)
        )
        return f"({type_name}{width})({numbers})"

    def _lane_places(self, index: Index, offsets: lanes.Offsets) -> str:
        """C text of a vector with the index in every lane."""
        typed = ctypes.vector(self.index_type, len(offsets))
        first = f"({typed})({self.index(index)})"
        if not any(offsets):
            return first
        return f"({first} + ({typed})({', '.join(map(str, offsets))}))"

    def _choose(self, expression: Expression, width: int) -> str:
        then, otherwise = (self.wide(operand, width) for operand in expression.operands)
        vector_axis, _ = self._vector_axis()
        if width == 1 or vector_axis is None or not self._differs(expression.data, vector_axis):
            return f"(({self.guard(expression.data)}) ? {then} : {otherwise})"
        mask = ctypes.mask_type(expression.dtype)
        together = self._lane_mask(expression.data, width)
        if together is not None:
            if mask != self.index_type:
                together = f"convert_{mask}{width}({together})"
            return f"select({otherwise}, {then}, {together})"
        holds = ", ".join(
            f"({self.guard(expression.data, lane)}) ? -1 : 0" for lane in range(width)
        )
        return f"select({otherwise}, {then}, ({mask}{width})({holds}))"

    def _lane_mask(self, guard: Guard, width: int) -> str | None:
        """A vector of -1 in the lanes where the guard holds, by comparing vectors."""
        typed = ctypes.vector(self.index_type, width)
        parts = []
        for condition in guard:
            offsets = self._offsets(condition.index)
            if offsets is None:
                return None
            index = self._lane_places(condition.index, offsets)
            if condition.index.low < condition.low:
                parts.append(f"({index} >= ({typed})({self._integer(condition.low)}))")
            if condition.index.high > condition.high:
                parts.append(f"({index} <= ({typed})({self._integer(condition.high)}))")
        return " & ".join(parts) or None

    def _random(self, expression: Expression, width: int) -> str:
        seed, offset = (self.value(operand)[0] for operand in expression.operands)
        if width in (8, 16) and self._in_blocks(expression.data):
            return self._shared_words(expression, f"(ulong){seed}", f"(ulong){offset}", width)
        suffix = "" if width == 1 else str(width)
        name = f"lt_philox{suffix}"
        if name not in self.helpers:
            self.helpers[name] = ctypes.philox_source(width)
        if width == 1:
            index = f"(ulong)({self.index(expression.data)})"
        else:
            places = ", ".join(self.index(expression.data, lane) for lane in range(width))
            index = f"(ulong{width})({places})"
        return f"{name}((ulong){seed}, (ulong){offset}, {index})"

    def _in_blocks(self, index: Index) -> bool:
        """Whether the loop's first vector begins with a generator's block, of four words."""
        scope = self.scopes[-1]
        axis = scope.vector_axis
        if axis is None or scope.first is None or not scope.aligned:
            return False
        others = [factor for atom, factor in index.terms if atom is not axis]
        return index.coefficient(axis) == 1 and all(n % 4 == 0 for n in (index.constant, *others))

    def _shared_words(self, expression: Expression, seed: str, offset: str, width: int) -> str:
        """The next vector of the words that every second turn of the loop draws."""
        helper = f"lt_philox_words{width}"
        if helper not in self.helpers:
            self.helpers[helper] = ctypes.philox_words_source(width)
        scope = self.scopes[-1]
        words = self._words.get(expression)
        if words is None:
            words = self._words[expression] = self.fresh("words")
            self.scopes[0].lines.insert(0, f"uint {words}[{2 * width}];")
        assert scope.vector_axis is not None
        column = self._axis_name(scope.vector_axis)
        turn = column if scope.first == "0" else f"({column} - {scope.first})"
        block = f"{offset} + (ulong)({self.index(expression.data)} >> 2)"
        self.line(f"if (({turn} & {width}) == 0) {helper}({seed}, {block}, {words});")
        return f"vload{width}(0, {words} + ({turn} & {width}))"


def bind_rows(emitter: Emitter, axes: tuple[Axis, ...], linear: str) -> None:
    """Name the row axes from the flat row number."""
    count = extent(axes)
    for axis in axes:
        count //= max(axis.size, 1)
        if axis.size == 1:
            emitter.name_axis(axis, "0")
            continue
        text = linear if count == 1 else f"{linear} / {count}"
        if extent(axes[: axes.index(axis)]) > 1:
            text = f"({text}) % {axis.size}"
        name = emitter.fresh("r")
        emitter.line(f"const {emitter.index_type} {name} = {text};")
        emitter.name_axis(axis, name)
