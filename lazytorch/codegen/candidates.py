"""The schedules worth trying for a body: what a tuner measures, the most promising first.

Every kind of body that has choices is a :class:`Family` here, and this is all that a tuner knows
of it. Must not know how long anything takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lazytorch.codegen import attention, recurrent
from lazytorch.codegen.candidates_contract import contractions
from lazytorch.codegen.candidates_rows import row_schedules, scan_schedules, scatter_schedules
from lazytorch.codegen.choice import ItemSchedule, Schedule
from lazytorch.codegen.target import Target
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    RecurrentBody,
    RowBody,
    ScanBody,
    ScatterBody,
    extent,
)
from lazytorch.ops.recurrence import Recurrence

# Schedules that are tried of one body.
COUNT = 36
ITEM_COUNTS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Family:
    """Bodies of one type.

    ``schedules(body, target, count)`` lists at most ``count`` schedules worth trying, none where
    there is no choice. ``terms(body)`` is the length of the longest sum whose order a schedule may
    change: 1 where every schedule computes the same bits. ``name(body)`` is for people.
    """

    schedules: Callable[[Any, Target, int], Sequence[Schedule]]
    terms: Callable[[Any], int]
    name: Callable[[Any], str]


def family_of(body: Body) -> Family | None:
    """The family of a body as the scheduler made it; None where there is nothing to choose."""
    return _FAMILIES.get(type(body))


def candidates(body: Body, target: Target, count: int = COUNT) -> Sequence[Schedule]:
    """At most ``count`` schedules for a body as the scheduler made it; none where there is no
    choice."""
    family = family_of(body)
    return () if family is None else family.schedules(body, target, count)


# Schedules of layers ------------------------------------------------------------------------------


def _attentions(body: AttentionBody, target: Target, count: int) -> list[Schedule]:
    tilings = attention.possible_tilings(body, target) if target.family == "cpu" else []
    if not tilings:
        return _items(target)[:count]
    return [*tilings[1 : count + 1]]


def _recurrences(body: RecurrentBody, target: Target, count: int) -> list[Schedule]:
    if target.family == "gpu":
        return _items(target)[:count]
    return [*recurrent.possible_cuts(body, target)[1 : count + 1]]


def _items(target: Target) -> list[Schedule]:
    return [ItemSchedule(n) for n in ITEM_COUNTS if n <= target.max_work_group_size]


# Sums --------------------------------------------------------------------------------------------


def _row_terms(body: RowBody) -> int:
    return max((extent(stage.axes) for stage in body.stages), default=1)


def _attention_terms(body: AttentionBody) -> int:
    axes = (body.queries, body.keys, body.inner, body.columns)
    return max(axis.size for axis in axes)


def _recurrent_terms(body: RecurrentBody) -> int:
    of = Recurrence(*body.attrs)
    return max(of.gates, of.width, of.hidden) * of.steps


# Names -------------------------------------------------------------------------------------------


def _sizes(*sizes: int) -> str:
    return "x".join(map(str, sizes))


def _contract_name(body: ContractBody) -> str:
    sizes = [extent(axes) for axes in (body.batch, body.rows, body.columns, body.summed)]
    return f"contract {_sizes(*sizes[0 if sizes[0] > 1 else 1 :])}"


def _row_name(body: RowBody) -> str:
    inner = [stage.axes for stage in body.stages if stage.axes]
    names = [stage.op.name for stage in body.stages if hasattr(stage, "op")]
    shape = _sizes(*(axis.size for axis in body.rows)) or "1"
    if inner:
        shape += f" of {extent(max(inner, key=extent))}"
    return f"{'+'.join(dict.fromkeys(names)) or 'map'} {shape}"


def _attention_name(body: AttentionBody) -> str:
    kind = "attention" if body.gradient is None else "attention gradient"
    sizes = (extent(body.batch), body.queries.size, body.keys.size, body.inner.size)
    return f"{'causal ' if body.causal else ''}{kind} {_sizes(*sizes)}"


def _recurrent_name(body: RecurrentBody) -> str:
    of = Recurrence(*body.attrs)
    return f"{body.op.name} {_sizes(of.steps, of.batch, of.width)}"


def _scan_name(body: ScanBody) -> str:
    return f"running {body.op.name} {extent(body.rows)} of {body.axis.size}"


def _scatter_name(body: ScatterBody) -> str:
    how = "set" if body.combine is None else body.combine.name
    return f"scatter {how} {extent(body.rows)} of {body.axis.size}"


_FAMILIES: dict[type, Family] = {
    ContractBody: Family(contractions, lambda body: extent(body.summed), _contract_name),
    RowBody: Family(row_schedules, _row_terms, _row_name),
    AttentionBody: Family(_attentions, _attention_terms, _attention_name),
    RecurrentBody: Family(_recurrences, _recurrent_terms, _recurrent_name),
    ScanBody: Family(scan_schedules, lambda body: 1, _scan_name),
    ScatterBody: Family(scatter_schedules, lambda body: 1, _scatter_name),
}

__all__ = ["COUNT", "Family", "candidates", "family_of"]
