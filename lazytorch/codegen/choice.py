"""Schedules as data: the choices a tuner may make for one body, and where they are attached.

Every field is a number or a word, so a schedule can be kept in a file and read by another
process. Whatever a schedule says, a kernel computes the same: it is a wish, and code generation
falls back to its own rules where the wish cannot be met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Union, get_args

from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir.kernel import Body, RowBody, ScanBody, ScatterBody


@dataclass(frozen=True)
class ContractSchedule:
    """A contraction on a CPU device: the register tile, the blocks, a work-item's share.

    ``rows`` by ``vectors`` sums are held in registers, ``block`` positions of the sum are staged
    at a time, a work-item takes ``column_groups`` vectors and ``row_panels`` panels of rows, and
    ``splits`` work-items share one sum. ``lines`` counts output lines of a sliding window, 0
    without one; ``pitch`` tells how columns are enumerated, 0 where the vector operand is read
    where it lies and nothing is staged. ``pack`` says how the scalar operand is
    read: '' as the rule has it, 'place' where it is, 'panels' or 'rows' after packing.
    """

    rows: int
    vectors: int
    block: int
    column_groups: int
    row_panels: int
    splits: int
    lines: int = 0
    pitch: int = 0
    pack: str = ""


@dataclass(frozen=True)
class PixelSchedule:
    """A convolution with vectors along its output channels: the numbers of
    ``contract_pixels.PixelTiling``."""

    vectors: int
    lines: int
    depth: int
    chunk: int
    run: int
    per_tile: int
    height: int
    column_groups: int
    shares: int


@dataclass(frozen=True)
class TapSchedule:
    """A weight's gradient, one kernel position at a time: the numbers of
    ``contract_taps.TapTiling``."""

    rows: int
    vectors: int
    channels: int
    column_groups: int
    height: int
    per_block: int
    together: int
    splits: int


@dataclass(frozen=True)
class AttentionSchedule:
    """An attention or its gradient on a CPU: tiles of ``queries`` by ``keys`` scores, made of
    register tiles of ``rows`` by ``vectors`` of ``width`` lanes.

    Forwards a work-item has ``chunk`` queries of a head; backwards every ``splits``-th block of
    its keys.
    """

    width: int
    rows: int
    vectors: int
    queries: int
    keys: int
    chunk: int
    splits: int


@dataclass(frozen=True)
class RecurrentSchedule:
    """A recurrent layer on a CPU: rows of a work-item, of a register tile, vectors of a tile."""

    rows: int
    tile: int
    vectors: int


@dataclass(frozen=True)
class ItemSchedule:
    """A kernel of a GPU whose work-items are each on their own: the size of a work-group."""

    local: int


@dataclass(frozen=True)
class RowSchedule:
    """A map or a reduction with what surrounds it.

    ``style`` is one of ``rows.choose_style``'s. ``share`` is what a work-item takes (rows of style
    'inner', columns of style 'columns'), ``vectors`` the accumulators it works on at once (of
    columns: the steps of a panel, 1 for sums in registers), ``local`` the size of a work-group; 0
    leaves each to the rule. ``stash`` allows values of a row to be kept on chip.
    """

    style: str
    share: int = 0
    vectors: int = 0
    local: int = 0
    stash: bool = True


@dataclass(frozen=True)
class WalkSchedule:
    """A scan or a scatter, which walk an axis in order: how in vectors (a style of
    ``scans.possible_styles``, '' where there is one way only), and the columns that a work-item
    takes or the size of a work-group; 0 leaves each to the rule."""

    style: str
    share: int = 0
    local: int = 0


@dataclass(frozen=True)
class GroupSchedule:
    """A contraction on a GPU: the fields of ``group_tiling.GroupTiling``."""

    rows: int
    columns: int
    row_each: int
    column_each: int
    depth: int
    splits: int
    buffers: int
    subgroup: int = 0


Schedule = Union[
    ContractSchedule, PixelSchedule, TapSchedule, GroupSchedule, AttentionSchedule,
    RecurrentSchedule, ItemSchedule, RowSchedule, WalkSchedule,
]  # fmt: skip
#: The schedule somebody wants for a scheduled body over values of these types, or None.
Chooser = Callable[[Body, Mapping[int, DType]], Union[Schedule, None]]
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Schedule)}


def by_rule(body: Body, values: Mapping[int, DType]) -> Schedule | None:
    """The chooser that leaves everything to the rules."""
    return None


def to_data(schedule: Schedule) -> dict[str, Any]:
    """A schedule as a dictionary of numbers and words.

    >>> to_data(RowSchedule("inner", share=4))["share"]
    4
    """
    return {"kind": type(schedule).__name__, **asdict(schedule)}


def from_data(data: Any) -> Schedule:
    """The schedule that ``to_data`` gave; ``ValueError`` for anything else.

    >>> from_data(to_data(RowSchedule("columns", share=512))).share
    512
    """
    kind = _KINDS.get(data.get("kind", "")) if isinstance(data, dict) else None
    if kind is None:
        raise ValueError(f"expected a schedule, got {data!r}")
    wanted = {field.name: field.type for field in fields(kind)}
    given = {name: value for name, value in data.items() if name != "kind"}
    if wanted.keys() != given.keys():
        raise ValueError(f"{kind.__name__} has fields {sorted(wanted)}, got {sorted(given)}")
    for name, value in given.items():
        if type(value).__name__ != wanted[name] or (type(value) is int and value < 0):
            raise ValueError(f"{kind.__name__}.{name} is {wanted[name]}, got {value!r}")
    return kind(**given)  # type: ignore[no-any-return]


def items_of(rule: int, target: Target, schedule: Schedule | None) -> int:
    """Work-items in a group: the wished number, or the rule's, as far as the device has them."""
    wanted = schedule.local if isinstance(schedule, ItemSchedule) and schedule.local else rule
    return min(wanted, target.max_work_group_size)


# Bodies that are rendered as the scheduler made them carry what somebody wants of them.


@dataclass(frozen=True)
class TunedRowBody(RowBody):
    """A row body whose schedule somebody chose."""

    schedule: RowSchedule


@dataclass(frozen=True)
class TunedScanBody(ScanBody):
    """A scan whose schedule somebody chose."""

    schedule: WalkSchedule


@dataclass(frozen=True)
class TunedScatterBody(ScatterBody):
    """A scatter whose schedule somebody chose."""

    schedule: WalkSchedule = field(kw_only=True)


def wished(body: object) -> RowSchedule | None:
    """The schedule that was chosen for a row body, if one was."""
    return body.schedule if isinstance(body, TunedRowBody) else None


def wished_walk(body: object) -> WalkSchedule | None:
    """The schedule that was chosen for a scan or a scatter, if one was."""
    return body.schedule if isinstance(body, (TunedScanBody, TunedScatterBody)) else None


def with_wish(body: RowBody, schedule: Schedule | None) -> RowBody:
    """The body with the schedule attached, where it is one for row bodies."""
    if not isinstance(schedule, RowSchedule):
        return body
    return TunedRowBody(body.rows, body.stages, schedule)


def with_wished_walk(
    body: ScanBody | ScatterBody, schedule: Schedule | None
) -> ScanBody | ScatterBody:
    """The body with the schedule attached, where it is one for scans and scatters."""
    if not isinstance(schedule, WalkSchedule):
        return body
    kind = TunedScanBody if isinstance(body, ScanBody) else TunedScatterBody
    return kind(**body.__dict__, schedule=schedule)
