"""Row bodies to loops: maps, reductions with what surrounds them, scans and scatters.

Four styles (numbers in docs/architecture.md):

* ``inner``: a work-item takes whole rows and vectorizes along the innermost reduced axis; the
  style of softmax and norms on CPU devices.
* ``columns``: a work-item takes a block of the innermost row axis in explicit vectors; the
  style of elementwise kernels and column sums on CPU devices.
* ``elements``: a work-item takes one row in scalar code and the driver vectorizes across
  work-items; for irregular indices, and for elementwise kernels on GPUs.
* ``groups``: a work-group takes a row and reduces through local memory; GPUs only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lazytorch.codegen import lanes, panels, reduce_loops, scans, sequential, tiles
from lazytorch.codegen.choice import wished, wished_walk
from lazytorch.codegen.emitter import Emitter, bind_rows
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Reduce, RowBody, ScanBody, ScatterBody, extent

# Elements that one work-item of an elementwise kernel should have at least: a launch of fewer
# spends more on starting work-items than on work.
CHUNK_MINIMUM = 2048
# The same where a work-item takes whole rows, as the tuner found it (softmax and layer norm of
# 4096 x 1024 gained 5 to 20 % over 8192); blocks of columns lose half their speed with that.
ROWS_MINIMUM = 1 << 16
CHUNK_MAXIMUM = 16384
# Elements reduced into one column from which panels pay; shorter sums stay in registers.
PANEL_WORK = 16
# Elements from which even a few columns are spread over all cores.
SPREAD_WORK = 1 << 15
# Loads at positions that are data, lane by lane, in explicit vectors; of more the code is long.
MAX_GATHERS = 4
# Work-items a core should get, so that cores finish together.
SHARES = 8


@dataclass(frozen=True)
class Style:
    """How a body's loops are laid out; ``axis`` is the vector axis of the explicit styles."""

    kind: str
    axis: Axis | None = None


def choose_style(body: RowBody, target: Target) -> Style:
    """The style of a body on a target."""
    wish = wished(body)
    if wish is not None and wish.style in possible_styles(body, target):
        axis = {"inner": _inner_axis(body), "columns": (body.rows or (None,))[-1]}
        return Style(wish.style, axis.get(wish.style))
    if target.family == "gpu":
        longest = max((extent(stage.axes) for stage in body.stages), default=1)
        return Style("elements" if longest < 64 else "groups")
    inner = _inner_axis(body)
    column = body.rows[-1] if body.rows else None
    inner_score = _score(body, inner, target)
    column_score = _score(body, column, target)
    if inner_score < 0 and column_score < 0:
        return Style("elements")
    if inner_score >= column_score:
        return Style("inner", inner)
    return Style("columns", column)


def possible_styles(body: RowBody, target: Target) -> list[str]:
    """The styles in which a body can be written for a target."""
    if target.family == "gpu":
        return ["elements", "groups"] if any(stage.axes for stage in body.stages) else ["elements"]
    found = ["elements"]
    for kind, axis in (("inner", _inner_axis(body)), ("columns", (body.rows or (None,))[-1])):
        if _score(body, axis, target) >= 0:
            found.append(kind)
    return found


def _inner_axis(body: RowBody) -> Axis | None:
    """The innermost axis of the longest stage with inner axes."""
    stages = [stage for stage in body.stages if stage.axes]
    if not stages:
        return None
    return max(stages, key=lambda stage: extent(stage.axes)).axes[-1]


def style_score(body: RowBody, target: Target, kind: str) -> float:
    """How well a body can be written in style ``inner`` or ``columns``; negative if it cannot."""
    axis = _inner_axis(body) if kind == "inner" else body.rows[-1] if body.rows else None
    return _score(body, axis, target)


def _score(body: RowBody, axis: Axis | None, target: Target) -> float:
    """The share of memory accesses that explicit vectors along the axis do in one piece; those
    that are put together from several pieces count half, and each as often as it is made in a row.

    Loads at positions that are data count nothing. Negative when the axis is too short, or some
    access would have to be taken apart lane by lane with divisions.
    """
    width = lanes.axis_width(axis, target.vector_width)
    if axis is None or width == 1:
        return -1.0
    score = 0.0
    count = 0
    gathers = 0
    inner = {other for stage in body.stages for other in stage.axes}
    accesses = [store.index for store in body.stores()]
    for expression in ex.walk(body.expressions()):
        guard: ex.Guard = ()
        if expression.kind == ex.CHOOSE:
            guard = expression.data
        elif expression.kind == ex.LOAD:
            _, index, guard = expression.data
            accesses.append(index)
        if lanes.guard_offsets(guard, axis, width, aligned=True) is None:
            return -1.0
    for index in accesses:
        times = prod(other.size for other in index.axes() if other in inner)
        offsets = lanes.lane_offsets(index, axis, width, aligned=True)
        if offsets is None:
            gathers += 1
            if gathers > MAX_GATHERS or not lanes.gathers(index, axis, width):
                return -1.0
            count += times
        elif any(offsets):
            count += times
            near = len(lanes.pieces(offsets)) <= lanes.MAX_PIECES
            score += times * (1.0 if offsets == tuple(range(width)) else 0.5 if near else 0.0)
    return score / count if count else 0.5


def local_size(body: RowBody | ScanBody | ScatterBody, target: Target) -> int:
    """Work-items in a work-group."""
    gpu = target.family == "gpu"
    if isinstance(body, RowBody):
        style = choose_style(body, target)
        if style.kind in ("inner", "columns"):
            return 1
        wish = wished(body)
        if wish is not None and wish.local:
            return min(wish.local, target.max_work_group_size)
        if style.kind == "groups":
            return min(128, target.max_work_group_size)
    if isinstance(body, ScatterBody) and not gpu:
        return 1
    if isinstance(body, ScanBody) and scans.scan_style(body, target) is not None:
        return 1
    walk = wished_walk(body)
    if walk is not None and walk.local:
        return min(walk.local, target.max_work_group_size)
    count = extent(body.rows)
    if gpu:
        return min(256 if count >= 4096 else 64, target.max_work_group_size)
    return 64 if count >= 4096 * target.compute_units else 16 if count >= 512 else 1


def render_rows(
    body: RowBody | ScanBody | ScatterBody,
    emitter: Emitter,
    values: dict[int, DType],
    target: Target,
    local: int,
    group: str,
) -> int:
    """Write the body's statements; the number of work-groups it wants."""
    if not isinstance(body, RowBody):
        if isinstance(body, ScatterBody) and target.family == "cpu" and local == 1:
            return _scatter(body, emitter, values, target, group)
        scan = scans.scan_style(body, target) if isinstance(body, ScanBody) else None
        if scan is not None and local == 1:
            assert isinstance(body, ScanBody)
            return scans.render_wide_scan(body, emitter, values, target, scan, group)
        return _elements(body, emitter, values, local, group)
    style = choose_style(body, target)
    if style.kind == "groups":
        return reduce_loops.render_group(body, emitter, values, local, group, target.subgroups)
    if style.kind == "elements":
        return _elements(body, emitter, values, local, group)
    if style.kind == "inner":
        assert style.axis is not None
        return _inner(body, emitter, values, target, group, style.axis)
    assert style.axis is not None
    return _columns(body, emitter, values, target, group, style.axis)


def _elements(
    body: RowBody | ScanBody | ScatterBody,
    emitter: Emitter,
    values: dict[int, DType],
    local: int,
    group: str,
) -> int:
    count = extent(body.rows)
    emitter.open()
    row = emitter.fresh("row")
    type_name = emitter.index_type
    emitter.line(
        f"const {type_name} {row} = ({type_name}){group} * {local} + (int)get_local_id(0);"
    )
    emitter.open()
    bind_rows(emitter, body.rows, row)
    if isinstance(body, ScanBody):
        sequential.render_scan(body, emitter, values)
    elif isinstance(body, ScatterBody):
        sequential.render_scatter(body, emitter, values)
    else:
        reduce_loops.render_stages(body, emitter, values, None, 1)
    emitter.close(f"if ({row} < {count}) {{")
    emitter.close("{")
    return -(-count // local)


def _scatter(
    body: ScatterBody, emitter: Emitter, values: dict[int, DType], target: Target, group: str
) -> int:
    """A work-item takes some of the columns, which lie side by side, through all positions; where
    none do, some of the rows."""
    width = target.vector_width
    axis = sequential.scatter_axis(body, width)
    wish = wished_walk(body)
    share = 0 if wish is None else wish.share
    emitter.open()
    row = emitter.fresh("row")
    if axis is None:
        count = extent(body.rows)
        block = _rows_per_item(count, body.base_axis.size + body.axis.size, target)
        block = min(share, count) or block
        lies = body.base_index.coefficient(body.base_axis) == 1 and body.base_axis.size >= width
        bind_rows(emitter, body.rows, row)
        sequential.render_scatter(body, emitter, values, width=width if lies else 1)
        emitter.close(_block_loop(row, group, block, count, emitter.index_type))
        return -(-count // block)
    outer = body.rows[:-1]
    rows = extent(outer)
    wanted = max(1, target.compute_units * 2 // rows)
    chunk = -(-axis.size // (wanted * width)) * width
    chunk = -(-min(share, axis.size) // width) * width or chunk
    chunks = -(-axis.size // chunk)
    type_name = emitter.index_type
    start, stop = (emitter.fresh(stem) for stem in ("from", "to"))
    emitter.line(f"const {type_name} {row} = {group} / {chunks};")
    emitter.line(f"const {type_name} {start} = ({type_name})({group} % {chunks}) * {chunk};")
    emitter.line(f"const {type_name} {stop} = min(({type_name}){axis.size}, {start} + {chunk});")
    bind_rows(emitter, outer, row)
    share = sequential.share_positions(body, axis)
    columns = sequential.Columns(axis, width, start, stop, share)
    sequential.render_scatter(body, emitter, values, columns)
    emitter.close("{")
    return rows * chunks


def _inner(
    body: RowBody,
    emitter: Emitter,
    values: dict[int, DType],
    target: Target,
    group: str,
    axis: Axis,
) -> int:
    width = lanes.axis_width(axis, target.vector_width)
    count = extent(body.rows)
    work = max(extent(stage.axes) for stage in body.stages)
    wish = wished(body)
    block = wish.share if wish is not None and wish.share else 0
    block = min(block, count) or _rows_per_item(count, work, target, ROWS_MINIMUM)
    emitter.open()
    if block == 1:
        bind_rows(emitter, body.rows, group)
        reduce_loops.render_stages(body, emitter, values, axis, width)
        emitter.close("{")
        return count
    row = emitter.fresh("row")
    bind_rows(emitter, body.rows, row)
    reduce_loops.render_stages(body, emitter, values, axis, width)
    emitter.close(_block_loop(row, group, block, count, emitter.index_type))
    return -(-count // block)


def _block_loop(name: str, group: str, block: int, count: int, type_name: str) -> str:
    start = f"({type_name}){group} * {block}"
    stop = f"min(({type_name}){count}, {start} + {block})"
    return f"for ({type_name} {name} = {start}; {name} < {stop}; {name}++) {{"


def _rows_per_item(count: int, work: int, target: Target, minimum: int = CHUNK_MINIMUM) -> int:
    """Rows for one work-item: enough work each, and enough work-items for all cores."""
    wanted = max(1, minimum // max(work, 1))
    fair = max(1, count // (target.compute_units * SHARES))
    return min(wanted, fair)


def _columns(
    body: RowBody,
    emitter: Emitter,
    values: dict[int, DType],
    target: Target,
    group: str,
    axis: Axis,
) -> int:
    width = lanes.axis_width(axis, target.vector_width)
    tiling = tiles.find_tiling(body, axis, width)
    across = None if tiling is None else tiling.across
    outer = tuple(a for a in body.rows[:-1] if a is not across)
    rows = extent(outer)
    reduced = [extent(stage.axes) for stage in body.stages if isinstance(stage, Reduce)]
    work = max(1, sum(reduced))
    work = work if across is None else across.size
    wish = wished(body)
    steps = wish.vectors if wish is not None and wish.vectors else panels.STEPS
    in_panels = steps > 1 and max([1, *reduced]) >= PANEL_WORK and panels.has_panels(body)
    most = panels.panel_limit(body, width) if in_panels else CHUNK_MAXIMUM // min(work, 64)
    chunk = wish.share if wish is not None else 0
    chunk = min(chunk, axis.size, most) or _chunk(axis.size, rows, work, width, target, most)
    # Vectors of a chunk begin at multiples of the width.
    chunk = min(-(-chunk // width) * width, axis.size)
    chunks = -(-axis.size // chunk)
    block = 1
    if chunks == 1:
        block = _rows_per_item(rows, axis.size * work, target)
    emitter.open()
    row = emitter.fresh("row")
    type_name = emitter.index_type
    start, stop = "0", str(axis.size)
    if block == 1:
        text = group if chunks == 1 else f"{group} / {chunks}"
        emitter.line(f"const {type_name} {row} = {text};")
    if chunks > 1:
        start, stop = emitter.fresh("from"), emitter.fresh("to")
        share = f"{group} % {chunks}" if rows > 1 else group
        emitter.line(f"const {type_name} {start} = ({type_name})({share}) * {chunk};")
        emitter.line(
            f"const {type_name} {stop} = min(({type_name}){axis.size}, {start} + {chunk});"
        )
    bind_rows(emitter, outer, row)
    if tiling is not None:

        def one_row() -> None:
            _column_loops(body, emitter, values, axis, width, start, stop)

        ragged = bool(axis.size % width)
        tiles.render_tiles(body, emitter, values, tiling, start, stop, ragged, one_row)
    elif in_panels:
        panel = panels.Panel(axis, width, start, stop, chunk, steps)
        panels.render_panel(body, emitter, values, panel)
    else:
        _column_loops(body, emitter, values, axis, width, start, stop)
    if block == 1:
        emitter.close("{")
        return rows * chunks
    emitter.close(_block_loop(row, group, block, rows, type_name))
    return -(-rows // block)


def _chunk(size: int, rows: int, work: int, width: int, target: Target, most: int) -> int:
    """Columns for one work-item."""
    wanted = size * rows // (target.compute_units * SHARES)
    wanted = max(wanted, CHUNK_MINIMUM // work, width)
    wanted = min(wanted, most, size)
    step = 4 * width
    if rows * size // step < 2 * target.compute_units and rows * size * work >= SPREAD_WORK:
        step = width
    return size if wanted >= size else max(step, wanted // step * step)


def _column_loops(
    body: RowBody,
    emitter: Emitter,
    values: dict[int, DType],
    axis: Axis,
    width: int,
    start: str,
    stop: str,
) -> None:
    """Vector blocks over the columns, then what is left in narrower ones and one by one."""
    column = emitter.fresh("c")
    emitter.line(f"{emitter.index_type} {column} = {start};")
    for part in (width, *lanes.widths_below(axis.size, width)):
        scope = emitter.open(axis, part, aligned=True)
        if part == width:
            scope.first = start
        emitter.name_axis(axis, column)
        reduce_loops.render_stages(body, emitter, values, None, part)
        emitter.close(f"for (; {column} + {part} <= {stop}; {column} += {part}) {{")
    if lanes.has_singles(axis.size, width):
        emitter.open()
        emitter.name_axis(axis, column)
        reduce_loops.render_stages(body, emitter, values, None, 1)
        emitter.close(f"for (; {column} < {stop}; {column}++) {{")


__all__ = ["Style", "choose_style", "local_size", "render_rows", "style_score"]
