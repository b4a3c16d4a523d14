"""Lowering attention: from a scheduled nest to kernels with explicit tiles.

On a CPU one kernel computes all results of a nest: the scores of one tile of queries and keys
at a time, in the core's own cache. On a GPU each work-item has a query, or a key, of its own.
Knows bodies and targets; must not know C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from lazytorch.codegen.choice import AttentionSchedule, Schedule, items_of
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir import index as ix
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index
from lazytorch.ir.kernel import (
    AttentionBody,
    AttentionResult,
    Kernel,
    Reduce,
    RowBody,
    Store,
    extent,
)
from lazytorch.ops import elementwise, reduction

NewValue = Callable[[DType, int], int]
# Rows of scores that are computed before their softmax: at least two register tiles, so that
# the columns they are multiplied with are read from the first-level cache twice.
QUERY_ROWS = 16
GRADIENT_ROWS = 32
MOST_KEYS = 128
# Queries of one work-item: each of its blocks of keys is turned around once for all of them.
CHUNK = 256
# Work-items for each core, so that none waits long for the last one.
ITEMS_PER_CORE = 4
# Work-items in a group of a GPU.
ITEMS = 64
# (rows, vectors) of register tiles, queries and keys of a tile, and queries of a work-item, that
# are worth trying.
TILES = ((8, 2), (4, 4), (6, 4), (12, 2), (4, 2), (8, 1), (2, 4))
POSSIBLE_QUERIES, POSSIBLE_KEYS = (16, 32, 64, 8), (128, 64, 256, 32)
POSSIBLE_CHUNKS = (128, 64, 256, 512, 32)


@dataclass(frozen=True)
class TiledAttentionBody:
    """An attention with its schedule for a CPU.

    ``partial`` is where the gradient of the queries is added up, in tiles of whole vectors.
    """

    form: AttentionBody
    tiling: AttentionSchedule
    partial: Store | None = None

    def expressions(self) -> list[Expression]:
        return self.form.expressions()

    def stores(self) -> list[Store]:
        own = [] if self.partial is None else [self.partial]
        return [*own, *self.form.stores()]


@dataclass(frozen=True)
class ItemAttentionBody:
    """An attention whose work-items, ``items`` in a group, have one position of ``along`` (queries
    or keys) each."""

    form: AttentionBody
    along: Axis
    items: int

    def expressions(self) -> list[Expression]:
        return self.form.expressions()

    def stores(self) -> list[Store]:
        return self.form.stores()


def lower_attention(
    body: AttentionBody,
    values: dict[int, DType],
    new_value: NewValue,
    target: Target,
    schedule: Schedule | None = None,
) -> list[Kernel]:
    """The kernels that compute ``body``, in launch order.

    ``new_value(dtype, count)`` gives the number of a new temporary array; ``schedule`` is what
    somebody wants instead of the rules' choice.
    """
    known = dict(values)

    def kernel(part: Any, note: str = "") -> Kernel:
        return Kernel((part,), dict(known), notes=(note,) if note else ())

    tiling = None
    if target.family == "cpu":
        wanted = schedule if isinstance(schedule, AttentionSchedule) else None
        tiling = wished_tiling(body, target, wanted) or choose_tiling(body, target)
    if tiling is None:
        return [kernel(part) for part in _by_item(body, items_of(ITEMS, target, schedule))]
    query = body.result("query")
    if query is None:
        return [kernel(TiledAttentionBody(body, tiling))]
    heads, pitch = extent(body.batch), padded(body.inner.size, tiling.width)
    size = heads * padded(body.queries.size, tiling.queries) * pitch
    number = new_value(body.accumulate, tiling.splits * size)
    known[number] = body.accumulate
    split = Axis(tiling.splits, "p")
    place = _partial_place(body, tiling, pitch) + ix.of_atom(split) * size
    partial = Store(number, place, ex.result(query.number, body.accumulate))
    if tiling.splits == 1:
        return [kernel(TiledAttentionBody(body, tiling, partial))]
    others = tuple(result for result in body.results if result is not query)
    tiled = TiledAttentionBody(replace(body, results=others), tiling, partial)
    final = _added_up(body, query, split, ex.load(number, place, (), body.accumulate))
    return [kernel(tiled), kernel(final, "attention: keys split over work-items")]


def _partial_place(body: AttentionBody, tiling: AttentionSchedule, pitch: int) -> Index:
    head = ix.flatten(
        tuple(ix.of_atom(axis) for axis in body.batch), tuple(axis.size for axis in body.batch)
    )
    rows = padded(body.queries.size, tiling.queries)
    return head * (rows * pitch) + ix.of_atom(body.queries) * pitch + ix.of_atom(body.inner)


def _added_up(
    body: AttentionBody, query: AttentionResult, split: Axis, loaded: Expression
) -> RowBody:
    scaled = ex.apply(elementwise.MUL, (), (loaded, body.scale), body.accumulate)
    reduce = Reduce(query.number, reduction.SUM, scaled, (split,))
    return RowBody(query.axes, (reduce, *query.epilogue))


def _by_item(body: AttentionBody, items: int) -> list[ItemAttentionBody]:
    """Forwards, and for the gradient of the queries, an item a query; for the others a key."""
    parts = []
    for along, names in (
        (body.queries, ("output", "logsumexp", "query")), (body.keys, ("key", "value")),
    ):  # fmt: skip
        results = tuple(result for result in body.results if result.name in names)
        if results:
            parts.append(ItemAttentionBody(replace(body, results=results), along, items))
    return parts


def padded(count: int, step: int) -> int:
    """``count`` rounded up to a multiple of ``step``."""
    return -(-count // step) * step


def choose_tiling(body: AttentionBody, target: Target) -> AttentionSchedule | None:
    """The tiling for a CPU, or ``None`` when no tile fits in local memory."""
    itemsize = body.accumulate.itemsize
    width = max(2, target.vector_width * 4 // itemsize)
    # 32 vector registers hold 8 by 2 sums and what they are made of, 16 hold 4 by 2. A power of
    # two, since backwards the keys of a tile are rows of register tiles as well.
    most_rows = 8 if target.vector_width >= 16 else 4
    rows = min(most_rows, 1 << (body.queries.size - 1).bit_length())
    least = max(width, rows)
    backward = body.gradient is not None
    wanted = GRADIENT_ROWS if backward else QUERY_ROWS
    queries = min(wanted, padded(body.queries.size, rows))
    queries = padded(queries, rows)
    heads = extent(body.batch)
    keys = min(MOST_KEYS, padded(body.keys.size, least))
    wide = padded(body.inner.size, width) + padded(body.columns.size, width)
    # Forwards they are read in order, so L2 keeps up: 128 keys of 64, beside 256 queries, are 8 %
    # quicker than 64 beside 128.
    room = target.l1_bytes * 2 // 3 if backward else target.l2_bytes // 8
    while keys > least and keys * wide * itemsize > room:
        keys = padded(keys // 2, least)
    chunk = max(padded(min(CHUNK, body.queries.size), queries), queries)
    while chunk > queries and heads * -(-body.queries.size // chunk) < (
        ITEMS_PER_CORE * target.compute_units
    ):
        chunk = padded(chunk // 2, queries)
    blocks = -(-body.keys.size // keys)
    splits = min(blocks, max(1, -(-ITEMS_PER_CORE * target.compute_units // heads)))
    if heads >= 2 * target.compute_units:
        splits = 1
    tiling = AttentionSchedule(width, rows, min(2, keys // width), queries, keys, chunk, splits)
    return _fitting(body, tiling, target)


def possible_tilings(body: AttentionBody, target: Target) -> list[AttentionSchedule]:
    """Every tiling that could be tried, those nearest to the rules' choice first."""
    rule = choose_tiling(body, target)
    if rule is None:
        return []
    registers = 32 if target.vector_width >= 16 else 16
    backward = body.gradient is not None
    found: dict[AttentionSchedule, int] = {}
    tiles = [tile for tile in TILES if tile[0] * tile[1] + tile[1] < registers]
    for (rows, vectors), queries, keys in product(
        dict.fromkeys(((rule.rows, rule.vectors), *tiles)),
        dict.fromkeys((rule.queries, *POSSIBLE_QUERIES)),
        dict.fromkeys((rule.keys, *POSSIBLE_KEYS)),
    ):
        # Backwards the keys of a tile are rows of register tiles as well.
        if keys % rule.width or keys < vectors * rule.width or (backward and keys % rows):
            continue
        tile = replace(
            rule, rows=rows, vectors=vectors, queries=padded(queries, rows), keys=keys
        )  # fmt: skip
        if tile.queries >= 2 * body.queries.size or keys >= 2 * body.keys.size:
            continue
        for tiling in _shared_out(body, tile):
            if _local_bytes(body, tiling) <= target.local_memory:
                found.setdefault(tiling, _steps_from(tiling, rule))
    return sorted(found, key=lambda tiling: found[tiling])


def _shared_out(body: AttentionBody, tile: AttentionSchedule) -> Iterator[AttentionSchedule]:
    """The tiling with other work-items: chunks of queries forwards, splits backwards."""
    if body.gradient is None:
        for chunk in (tile.chunk, *POSSIBLE_CHUNKS):
            if chunk < 2 * body.queries.size:
                yield replace(tile, chunk=padded(max(chunk, tile.queries), tile.queries))
        return
    blocks = -(-body.keys.size // tile.keys)
    for splits in (tile.splits, 1, 2, 4, 8):
        if splits <= blocks:
            yield replace(tile, splits=splits, chunk=tile.queries)


def _steps_from(tiling: AttentionSchedule, rule: AttentionSchedule) -> int:
    """In how many choices a tiling differs from the rules'; the register tile is one."""
    same = (
        (tiling.rows, tiling.vectors) == (rule.rows, rule.vectors), tiling.keys == rule.keys,
        tiling.queries == rule.queries, tiling.chunk == rule.chunk, tiling.splits == rule.splits,
    )  # fmt: skip
    return same.count(False)


def wished_tiling(
    body: AttentionBody, target: Target, wanted: AttentionSchedule | None
) -> AttentionSchedule | None:
    """What is wanted, where it fits."""
    return wanted if wanted is not None and wanted in possible_tilings(body, target) else None


def _fitting(
    body: AttentionBody, tiling: AttentionSchedule, target: Target
) -> AttentionSchedule | None:
    """The tiling made smaller until its arrays fit in local memory."""
    while _local_bytes(body, tiling) > target.local_memory:
        if tiling.chunk > tiling.queries and body.gradient is None:
            tiling = replace(tiling, chunk=padded(tiling.chunk // 2, tiling.queries))
        elif tiling.keys > max(tiling.width, tiling.rows):
            keys = padded(tiling.keys // 2, max(tiling.width, tiling.rows))
            tiling = replace(tiling, keys=keys, vectors=min(2, keys // tiling.width))
        elif tiling.queries > tiling.rows:
            queries = padded(tiling.queries // 2, tiling.rows)
            tiling = replace(tiling, queries=queries, chunk=queries)
        else:
            return None
    return tiling


def _local_bytes(body: AttentionBody, tiling: AttentionSchedule) -> int:
    return sum(local_arrays(body, tiling).values()) * body.accumulate.itemsize


def local_arrays(body: AttentionBody, tiling: AttentionSchedule) -> dict[str, int]:
    """Elements of the arrays that a work-item keeps in its core's cache."""
    inner = padded(body.inner.size, tiling.width)
    columns = padded(body.columns.size, tiling.width)
    scores = tiling.queries * tiling.keys
    if body.gradient is None:
        sizes = {
            "queries": tiling.chunk * inner, "turned_keys": body.inner.size * tiling.keys,
            "values": tiling.keys * columns, "scores": scores, "sums": tiling.chunk * columns,
            "highest": tiling.chunk, "totals": tiling.chunk * tiling.width,
        }  # fmt: skip
    else:
        sizes = {
            "queries": tiling.queries * inner, "gradients": tiling.queries * columns,
            "turned_keys": body.inner.size * tiling.keys, "keys": tiling.keys * inner,
            "turned_values": body.columns.size * tiling.keys, "scores": scores,
            "changes": scores, "key_sums": tiling.keys * inner,
            "value_sums": tiling.keys * columns,
        }  # fmt: skip
    if body.bias is not None:
        sizes["bias"] = tiling.keys
    return sizes
