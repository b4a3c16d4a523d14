"""The stages of a row: loops that reduce, store and stash.

Neighbouring stages over the same inner axes, of which none needs another's result, share one
loop. A reduction along the vector axis keeps several vector accumulators, so that additions
do not wait for each other, and combines them once at the end.
"""

from __future__ import annotations

from lazytorch.codegen import ctypes, lanes
from lazytorch.codegen.choice import wished
from lazytorch.codegen.emitter import Emitter, bind_rows
from lazytorch.codegen.scalar_steps import scalar_step
from lazytorch.codegen.stores import store_all
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Reduce, RowBody, Stage, Stash, Store, extent
from lazytorch.ops import reduction

# Vector accumulators of one reduction: enough to hide the latency of an addition.
ACCUMULATORS = 4
# In OpenCL 3.0 a feature of the language, before that an extension.
SUBGROUPS = """#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#elif defined(cl_intel_subgroups)
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#endif"""


def group_stages(stages: tuple[Stage, ...]) -> list[list[Stage]]:
    """Neighbouring stages that may share a loop."""
    groups: list[list[Stage]] = []
    for stage in stages:
        if groups and groups[-1][0].axes == stage.axes and not _depends(stage, groups[-1]):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _depends(stage: Stage, earlier: list[Stage]) -> bool:
    results = {other.number for other in earlier if isinstance(other, Reduce)}
    stashes = {other.number for other in earlier if isinstance(other, Stash)}
    for expression in ex.walk([stage.value]):
        if expression.kind == ex.RESULT and expression.data in results:
            return True
        if expression.kind == ex.STASHED and expression.data[0] in stashes:
            return True
    return False


def render_stages(
    body: RowBody,
    emitter: Emitter,
    values: dict[int, DType],
    vector_axis: Axis | None,
    width: int,
) -> None:
    """Write the stages of one row in the open block.

    With ``vector_axis`` an inner axis, loops over it are vectorized. With ``vector_axis``
    ``None`` and ``width`` > 1 the row itself is ``width`` lanes: accumulators are vectors.
    """
    for stage in body.stages:
        if isinstance(stage, Stash):
            type_name = ctypes.value_type(stage.value.dtype)
            emitter.line(f"{type_name} stash{stage.number}[{stage.size}];")
            emitter.define(("stash", stage.number), f"stash{stage.number}")
    lanes = width if vector_axis is None else 1
    wish = wished(body)
    most = wish.vectors if wish is not None and wish.vectors else ACCUMULATORS
    for group in group_stages(body.stages):
        axes = group[0].axes
        if not axes:
            row_level(group, emitter, values, lanes)
            continue
        vectorized = vector_axis is not None and axes[-1] is vector_axis
        step = width if vectorized else lanes
        accumulators = 1
        if vectorized and axes[-1].size >= 2 * most * width:
            accumulators = most
        names = _declare(group, emitter, step, accumulators)
        _nest(group, emitter, values, axes, step if vectorized else 1, lanes, accumulators, names)
        _finish(group, emitter, names, step, lanes)


def row_level(group: list[Stage], emitter: Emitter, values: dict[int, DType], lanes: int) -> None:
    """Stages without inner axes: reductions over nothing, then all stores together."""
    for stage in group:
        if isinstance(stage, Reduce):
            name, width = emitter.value(stage.value)
            emitter.define(ex.result(stage.number, stage.value.dtype), name, width)
        elif not isinstance(stage, Store):
            raise TypeError("a stash has inner axes")
    stores = (stage for stage in group if isinstance(stage, Store))
    store_all(stores, emitter, lanes, values)


def store_stage(stage: Store, emitter: Emitter, values: dict[int, DType], lanes: int) -> None:
    """Write one store for the position at hand."""
    emitter.store(
        emitter.names(stage.target), stage.index, stage.value, values[stage.target], lanes
    )


def _declare(
    group: list[Stage], emitter: Emitter, width: int, accumulators: int
) -> dict[int, list[str]]:
    """Declare the accumulators of the group's reductions."""
    names: dict[int, list[str]] = {}
    for stage in group:
        if not isinstance(stage, Reduce):
            continue
        dtype = stage.value.dtype
        assert stage.op.identity is not None
        start = ctypes.literal(stage.op.identity(dtype), dtype)
        type_name = ctypes.value_type(dtype)
        count = accumulators if width > 1 else 1
        names[stage.number] = []
        for _ in range(count):
            name = emitter.fresh("acc")
            typed = ctypes.vector(type_name, width)
            emitter.line(f"{typed} {name} = {ctypes.broadcast(start, type_name, width)};")
            names[stage.number].append(name)
    return names


def _nest(
    group: list[Stage],
    emitter: Emitter,
    values: dict[int, DType],
    axes: tuple[Axis, ...],
    width: int,
    lanes: int,
    accumulators: int,
    names: dict[int, list[str]],
) -> None:
    """The loops over the inner axes: serial ones outside, the vectorized one innermost."""
    if width == 1:
        with emitter.loops(axes):
            _body(group, emitter, values, lanes, {n: held[0] for n, held in names.items()})
    else:
        with emitter.loops(axes[:-1]):
            _vector_loops(group, emitter, values, axes[-1], width, accumulators, names)


def _vector_loops(
    group: list[Stage],
    emitter: Emitter,
    values: dict[int, DType],
    axis: Axis,
    width: int,
    accumulators: int,
    names: dict[int, list[str]],
) -> None:
    name = emitter.fresh("k")
    emitter.open()
    emitter.line(f"int {name} = 0;")
    for count in (accumulators, 1) if accumulators > 1 else (1,):
        step = count * width
        if count == 1 and accumulators > 1 and axis.size % (accumulators * width) < width:
            continue
        emitter.open()
        for lane_block in range(count):
            emitter.open(axis, width, aligned=True).first = "0"
            emitter.name_axis(axis, f"({name} + {lane_block * width})" if lane_block else name)
            _body(group, emitter, values, width, {n: held[lane_block] for n, held in names.items()})
            emitter.close("{")
        emitter.close(f"for (; {name} + {step} <= {axis.size}; {name} += {step}) {{")
    if axis.size % width:
        _tail(group, emitter, values, axis, width, name, names)
    emitter.close("{")


def _tail(
    group: list[Stage],
    emitter: Emitter,
    values: dict[int, DType],
    axis: Axis,
    width: int,
    name: str,
    names: dict[int, list[str]],
) -> None:
    """The elements after the last whole vector: narrower vectors, then one by one into lane 0."""
    for part in lanes.widths_below(axis.size, width):
        below = "".join("0123456789abcdef"[:part])
        emitter.open(axis, part, aligned=True)
        emitter.name_axis(axis, name)
        _body(group, emitter, values, part, {n: f"{held[0]}.s{below}" for n, held in names.items()})
        emitter.line(f"{name} += {part};")
        emitter.close("{")
    if not lanes.has_singles(axis.size, width):
        return
    emitter.open()
    emitter.name_axis(axis, name)
    _body(group, emitter, values, 1, {n: f"{held[0]}.s0" for n, held in names.items()})
    emitter.close(f"for (; {name} < {axis.size}; {name}++) {{")


def _body(
    group: list[Stage],
    emitter: Emitter,
    values: dict[int, DType],
    width: int,
    accumulators: dict[int, str],
) -> None:
    """One step of the shared loop."""
    for stage in group:
        if isinstance(stage, Store):
            store_stage(stage, emitter, values, width)
        elif isinstance(stage, Stash):
            _fill_stash(stage, emitter, width)
        else:
            _step(stage, emitter, accumulators[stage.number], width)


def _step(stage: Reduce, emitter: Emitter, held: str, width: int) -> None:
    """Join the value at hand with what an accumulator holds."""

    def join(text: str) -> str:
        return combine(stage, emitter, held, text, width)

    text = emitter.wide(stage.value, width)
    joined = scalar_step(stage, held, text, join) if width == 1 else join(text)
    emitter.line(f"{held} = {joined};")


def _fill_stash(stage: Stash, emitter: Emitter, width: int) -> None:
    text = emitter.wide(stage.value, width)
    index = emitter.index(stage.index)
    if width == 1:
        emitter.line(f"stash{stage.number}[{index}] = {text};")
    else:
        emitter.line(f"vstore{width}({text}, 0, stash{stage.number} + {index});")


def combine(stage: Reduce, emitter: Emitter, first: str, second: str, width: int) -> str:
    """C text of two partial results of a reduction combined."""
    dtype = stage.value.dtype.compute
    return emitter.operation(stage.op.combine, [first, second], dtype, dtype, width)


def _finish(
    group: list[Stage], emitter: Emitter, names: dict[int, list[str]], width: int, lanes: int
) -> None:
    """Combine a reduction's accumulators and lanes into its result."""
    for stage in group:
        if not isinstance(stage, Reduce):
            continue
        held = names[stage.number]
        text = held[0]
        for other in held[1:]:
            text = combine(stage, emitter, text, other, width)
        type_name = ctypes.value_type(stage.value.dtype)
        current = width
        while current > lanes:
            name = emitter.fresh("h")
            emitter.line(f"const {ctypes.vector(type_name, current)} {name} = {text};")
            current //= 2
            text = combine(stage, emitter, f"{name}.lo", f"{name}.hi", current)
        result_name = emitter.fresh("result")
        text = emitter.rounded(text, stage.value.dtype, lanes)
        emitter.line(f"const {ctypes.vector(type_name, lanes)} {result_name} = {text};")
        emitter.define(ex.result(stage.number, stage.value.dtype), result_name, lanes)


def render_group(
    body: RowBody,
    emitter: Emitter,
    values: dict[int, DType],
    local: int,
    group: str,
    subgroups: bool = False,
) -> int:
    """A work-group a row: strided loops over the inner axes, then reductions over its items:
    sums by ``subgroups`` where the device has them, trees in local memory elsewhere."""
    from_rows = extent(body.rows)
    bind_rows(emitter, body.rows, group)
    for stages in group_stages(body.stages):
        axes = stages[0].axes
        if not axes:
            _once(stages, emitter, values)
            continue
        names = _declare(stages, emitter, 1, 1)
        count = extent(axes)
        item = emitter.fresh("t")
        emitter.open()
        bind_rows(emitter, axes, item)
        _body(stages, emitter, values, 1, {number: held[0] for number, held in names.items()})
        emitter.close(
            f"for (int {item} = (int)get_local_id(0); {item} < {count}; {item} += {local}) {{"
        )
        for stage in stages:
            if isinstance(stage, Reduce):
                if subgroups and _sums_in_subgroups(stage):
                    _by_subgroups(stage, emitter, names[stage.number][0], local)
                    continue
                _tree(stage, emitter, names[stage.number][0], local)
    return from_rows


def _once(stages: list[Stage], emitter: Emitter, values: dict[int, DType]) -> None:
    emitter.open()
    row_level(stages, emitter, values, 1)
    emitter.close("if (get_local_id(0) == 0) {")


def _sums_in_subgroups(stage: Reduce) -> bool:
    """Sums of 4 bytes at least; what a maximum does to NaN is left open by OpenCL."""
    dtype = stage.value.dtype.compute
    return (
        stage.op is reduction.SUM
        and (dtype.kind in "iu" or dtype.name == "float32")
        and (dtype.itemsize >= 4)
    )


def _by_subgroups(stage: Reduce, emitter: Emitter, held: str, local: int) -> None:
    """Sub-groups add up their items without local memory; then every item adds their totals."""
    dtype = stage.value.dtype
    type_name = ctypes.value_type(dtype)
    emitter.helpers.setdefault("subgroups", SUBGROUPS)
    shared, total, each = (emitter.fresh(stem) for stem in ("shared", "total", "s"))
    # A sub-group may be a single item.
    emitter.declarations.append(f"__local {type_name} {shared}[{local}];")
    emitter.line(f"{type_name} {total} = sub_group_reduce_add({held});")
    first = "if (get_sub_group_local_id() == 0)"
    emitter.line(f"{first} {shared}[get_sub_group_id()] = {total};")
    emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
    emitter.line(f"{total} = {shared}[0];")
    loop = f"for (uint {each} = 1; {each} < get_num_sub_groups(); {each}++)"
    emitter.line(f"{loop} {total} += {shared}[{each}];")
    emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
    name = emitter.fresh("result")
    emitter.line(f"const {type_name} {name} = {emitter.rounded(total, dtype, 1)};")
    emitter.define(ex.result(stage.number, dtype), name, 1)


def _tree(stage: Reduce, emitter: Emitter, held: str, local: int) -> None:
    dtype = stage.value.dtype
    type_name = ctypes.value_type(dtype)
    shared = emitter.fresh("shared")
    emitter.declarations.append(f"__local {type_name} {shared}[{local}];")
    item = "(int)get_local_id(0)"
    emitter.line(f"{shared}[{item}] = {held};")
    emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
    step = 1
    while step < local:
        step *= 2
    stride = emitter.fresh("d")
    emitter.open()
    combined = combine(stage, emitter, f"{shared}[{item}]", f"{shared}[{item} + {stride}]", 1)
    emitter.line(
        f"if ({item} < {stride} && {item} + {stride} < {local}) {shared}[{item}] = {combined};"
    )
    emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
    emitter.close(f"for (int {stride} = {step // 2}; {stride} > 0; {stride} /= 2) {{")
    result_name = emitter.fresh("result")
    text = emitter.rounded(f"{shared}[0]", dtype, 1)
    emitter.line(f"const {type_name} {result_name} = {text};")
    emitter.line("barrier(CLK_LOCAL_MEM_FENCE);")
    emitter.define(ex.result(stage.number, dtype), result_name, 1)
