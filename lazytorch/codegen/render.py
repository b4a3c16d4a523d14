"""Kernel to OpenCL C: the function around the bodies, and the two styles of row bodies.

A kernel's bodies share one launch with a one-dimensional grid; each takes a range of the
work-groups. This page knows the layout of the launch; how a body's own loops look is in
``rows`` (maps, reductions, scans, scatters), ``contract`` (sums of products) and ``attention``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lazytorch.codegen import (
    attention_gpu,
    contract_render,
    ctypes,
    guards,
    recurrent_render,
    rows,
    sorting,
)
from lazytorch.codegen.attention import ItemAttentionBody, TiledAttentionBody
from lazytorch.codegen.attention_cpu import render_attention_cpu
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.recurrent import TiledRecurrentBody
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.kernel import Body, Kernel, RowBody, ScanBody, ScatterBody, SortBody
from lazytorch.schedule import choices

PRELUDE = """#pragma OPENCL FP_CONTRACT OFF
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
"""
_INT_LIMIT = 1 << 31


@dataclass(frozen=True)
class Source:
    """One rendered kernel.

    ``arrays`` and ``scalars`` list value numbers in the order of the C parameters (arrays
    first). ``groups`` work-groups of ``local`` work-items are launched.
    """

    name: str
    text: str
    helpers: dict[str, str]
    arrays: tuple[int, ...]
    scalars: tuple[int, ...]
    groups: int
    local: int

    @property
    def global_size(self) -> int:
        return self.groups * self.local


@dataclass(frozen=True)
class Bounds:
    """Checks of every index: the array that reports go to, element counts, and the first code.

    A report is (code, index), where the code counts a kernel's arrays from ``first_code``; arrays
    in local memory are reported as ``guards`` says.
    """

    number: int
    counts: Mapping[int, int]
    first_code: int


def render(kernel: Kernel, target: Target, name: str, bounds: Bounds | None = None) -> Source:
    """The OpenCL C of a kernel, without the prelude and the helpers it lists."""
    written = kernel.writes()
    arrays = tuple(dict.fromkeys((*written, *kernel.reads())))
    scalars = kernel.scalars()
    names = {number: f"a{position}" for position, number in enumerate(arrays)}
    names.update({number: f"scalar{position}" for position, number in enumerate(scalars)})
    helpers: dict[str, str] = {}
    local = max(_local_size(body, target) for body in kernel.bodies)
    if bounds is not None and target.family == "cpu":
        # Intel's runtime, vectorizing across work-items, reports also for masked-out ones.
        local = 1
    lines: list[str] = []
    declarations: list[str] = []
    start = 0
    for body in kernel.bodies:
        emitter = Emitter(names.__getitem__, helpers, _index_type(body))
        if bounds is not None:
            emitter.limits = {
                names[number]: (bounds.counts[number], bounds.first_code + position)
                for position, number in enumerate(arrays)
            }
        if isinstance(body, RowBody) and target.family == "cpu":
            emitter.streamed = {names[number] for number in _streamed(body, kernel.values)}
        group = "group" if start == 0 else f"(group - {start})"
        groups = _render_body(body, emitter, kernel.values, target, local, group)
        block = emitter.text()
        if emitter.has_streamed:
            block = [*block, "mem_fence(CLK_GLOBAL_MEM_FENCE);"]
        declarations.extend(emitter.declarations)
        if len(kernel.bodies) > 1:
            block = ["{", *("  " + line for line in block), "}"]
            if start:
                block[0] = f"else if (group < {start + groups}) {{"
            else:
                block[0] = f"if (group < {groups}) {{"
        lines.extend(block)
        start += groups
    if bounds is not None:
        arrays = (*arrays, bounds.number)
        declarations, opening, closing = guards.guarded(declarations, bounds.first_code, local)
        lines = [*opening, *lines, *closing]
    subgroup = max(contract_render.subgroup_size(body) for body in kernel.bodies)
    text = _function(
        name, kernel.values, arrays, scalars, set(written), (local, subgroup), declarations + lines
    )
    return Source(name, text, helpers, arrays, scalars, start, local)


def program(sources: list[Source]) -> str:
    """One program text of several rendered kernels."""
    helpers: dict[str, str] = {}
    for source in sources:
        helpers.update(source.helpers)
    return "\n".join([PRELUDE, *helpers.values(), *(source.text for source in sources)])


def _local_size(body: Body, target: Target) -> int:
    if isinstance(body, (RowBody, ScanBody, ScatterBody)):
        return rows.local_size(body, _lanes_for(body, target))
    if isinstance(body, SortBody):
        return sorting.local_size(body, target)
    if isinstance(body, TiledRecurrentBody):
        return recurrent_render.local_size(body)
    if isinstance(body, TiledAttentionBody):
        return 1
    if isinstance(body, ItemAttentionBody):
        return body.items
    return contract_render.local_size(body)


def _render_body(
    body: Body, emitter: Emitter, values: dict[int, DType], target: Target, local: int, group: str
) -> int:
    if isinstance(body, (RowBody, ScanBody, ScatterBody)):
        return rows.render_rows(body, emitter, values, _lanes_for(body, target), local, group)
    if isinstance(body, SortBody):
        return sorting.render_sort(body, emitter, target, local, group)
    if isinstance(body, TiledRecurrentBody):
        return recurrent_render.render_recurrent(body, emitter, local, group)
    if isinstance(body, TiledAttentionBody):
        return render_attention_cpu(body, emitter, group)
    if isinstance(body, ItemAttentionBody):
        return attention_gpu.render_attention_gpu(body, emitter, group)
    return contract_render.render_contract(body, emitter, group)


def _lanes_for(body: Body, target: Target) -> Target:
    """The target without vectors for bodies of complex numbers, which are vectors themselves."""
    if any(expression.dtype.kind == "c" for expression in ex.walk(body.expressions())):
        return replace(target, vector_width=1)
    return target


def _streamed(body: RowBody, values: dict[int, DType]) -> set[int]:
    """The stored arrays that the caches could not hold until somebody reads them."""
    return {
        store.target
        for store in body.stores()
        if (store.index.high + 1) * values[store.target].itemsize >= choices.STREAM_BYTES
    }


def _index_type(body: Body) -> str:
    """int unless some position needs more than 31 bits."""
    highest = max((abs(store.index.high) for store in body.stores()), default=0)
    for expression in ex.walk(body.expressions()):
        for index in ex.indices_of(expression):
            highest = max(highest, abs(index.high), abs(index.low))
    return "long" if highest >= _INT_LIMIT else "int"


def _function(
    name: str,
    values: dict[int, DType],
    arrays: tuple[int, ...],
    scalars: tuple[int, ...],
    written: set[int],
    sizes: tuple[int, int],
    lines: list[str],
) -> str:
    """The function; ``sizes`` are those of a work-group and of a sub-group (0: any)."""
    local, subgroup = sizes
    parameters = []
    for position, number in enumerate(arrays):
        if number not in values:
            parameters.append("__global int* bounds")
            continue
        constness = "" if number in written else "const "
        parameters.append(f"__global {constness}{ctypes.storage_type(values[number])}* a{position}")
    for position, number in enumerate(scalars):
        parameters.append(f"const {ctypes.value_type(values[number])} scalar{position}")
    head = f"__kernel __attribute__((reqd_work_group_size({local}, 1, 1)))"
    if subgroup:
        head += f" __attribute__((intel_reqd_sub_group_size({subgroup})))"
    body = "\n".join("  " + line for line in lines)
    return (
        f"{head}\nvoid {name}({', '.join(parameters)}) {{\n"
        f"  const int group = (int)get_group_id(0);\n{body}\n}}\n"
    )
