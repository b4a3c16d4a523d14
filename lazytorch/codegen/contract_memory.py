"""Tilings that were chosen before: equal contractions of a model are cut once.

Two forms are equal for this purpose when their axes have the same sizes in the same roles and
their operands' indices, guards and operations agree axis for axis; which arrays they read makes
no difference. Knows forms and tilings; must not know how one is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lazytorch.codegen.choice import ContractSchedule
from lazytorch.codegen.contract_form import Form, Window
from lazytorch.codegen.contract_pixels import PixelTiling, pixel_form
from lazytorch.codegen.contract_pixels_choice import choose_pixels
from lazytorch.codegen.contract_schedule import choose_tiling, wish_for
from lazytorch.codegen.contract_taps import TapTiling, choose_taps, tap_form
from lazytorch.codegen.contract_tiling import Blocks, Panels, Tiling
from lazytorch.codegen.contract_turn import lies_along_rows
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis, Index, Quotient, Remainder

_LIMIT = 1024
_chosen: dict[Any, tuple[tuple[Axis, ...], Tiling]] = {}
_pixels: dict[Any, dict[str, Any] | None] = {}
_taps: dict[Any, dict[str, Any] | None] = {}


class _Unknown(Exception):
    """The form holds something that has no description here."""


def remembered_tiling(form: Form, target: Target, wanted: ContractSchedule | None = None) -> Tiling:
    """The tiling for a form on a CPU target, from an equal form where there was one."""
    axes = (*form.batch, *form.rows, *form.columns, *form.summed)
    try:
        key = (_description(form, axes), target, wanted)
    except _Unknown:
        return choose_tiling(form, target, wanted)
    known = _chosen.get(key)
    if known is not None:
        return _carried(known[1], dict(zip(known[0], axes)))
    if len(_chosen) >= _LIMIT:
        _chosen.clear()
    tiling = choose_tiling(form, target, wanted)
    _chosen[key] = (axes, tiling)
    return tiling


def remembered_pixels(form: Form, target: Target) -> tuple[Form, PixelTiling] | None:
    """What ``choose_pixels`` answers for a form on a CPU target, or answered for an equal one."""
    start = pixel_form(form)
    if start is None:
        return None
    option, empty = start
    try:
        axes = (*option.batch, *option.rows, *option.columns, *option.summed)
        key = (_description(option, axes), target)
    except _Unknown:
        return choose_pixels(form, wish_for(form, target))
    if key not in _pixels:
        if len(_pixels) >= _LIMIT:
            _pixels.clear()
        chosen = choose_pixels(form, wish_for(form, target))
        _pixels[key] = None if chosen is None else chosen[1].sizes
    sizes = _pixels[key]
    return None if sizes is None else (option, replace(empty, **sizes))


def remembered_taps(form: Form, target: Target) -> TapTiling | None:
    """What ``choose_taps`` answers for a form on a CPU target, or answered for an equal one."""
    empty = tap_form(form)
    if empty is None:
        return None
    try:
        axes = (*form.batch, *form.rows, *form.columns, *form.summed)
        key = (_description(form, axes), target)
    except _Unknown:
        return choose_taps(form, wish_for(form, target))
    if key not in _taps:
        if len(_taps) >= _LIMIT:
            _taps.clear()
        chosen = choose_taps(form, wish_for(form, target))
        _taps[key] = None if chosen is None else chosen.sizes
    sizes = _taps[key]
    return None if sizes is None else replace(empty, **sizes)


def _description(form: Form, axes: tuple[Axis, ...]) -> tuple[Any, ...]:
    places = {axis: number for number, axis in enumerate(axes)}
    roles = (form.batch, form.rows, form.columns, form.summed)
    return (
        tuple(tuple(axis.size for axis in role) for role in roles),
        form.accumulate.name,
        lies_along_rows(form),
        _operand(form.scalar, places),
        _operand(form.vector, places),
    )


def _operand(operand: Expression, places: Mapping[Axis, int]) -> tuple[Any, ...]:
    """What the choice can depend on in an operand: all but array numbers and constants."""
    numbers: dict[Expression, int] = {}
    parts: list[Any] = []
    for value in ex.walk([operand]):
        numbers[value] = len(numbers)
    for value in numbers:
        conditions: ex.Guard = ()
        if value.kind == ex.LOAD:
            conditions = value.data[2]
        elif value.kind == ex.CHOOSE:
            conditions = value.data
        parts.append(
            (
                value.kind,
                value.dtype.name,
                value.data[0].name if value.kind == ex.APPLY else None,
                tuple((condition.low, condition.high) for condition in conditions),
                tuple(_index(index, places) for index in ex.indices_of(value)),
                tuple(numbers[part] for part in value.operands),
            )
        )
    return tuple(parts)


def _index(index: Index, places: Mapping[Axis, int]) -> tuple[Any, ...]:
    terms: list[Any] = []
    for atom, factor in index.terms:
        if isinstance(atom, Axis):
            if atom not in places:
                raise _Unknown
            terms.append((places[atom], factor))
        elif isinstance(atom, (Quotient, Remainder)):
            name = type(atom).__name__
            terms.append((name, _index(atom.dividend, places), atom.divisor, factor))
        else:
            raise _Unknown
    return (index.constant, *terms)


def _carried(tiling: Tiling, new: Mapping[Axis, Axis]) -> Tiling:
    """The tiling with its axes replaced by the ones of an equal form."""

    def all_of(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(new[axis] for axis in axes)

    def windows(found: tuple[Window, ...]) -> tuple[Window, ...]:
        return tuple(replace(w, free=new[w.free], tap=new[w.tap]) for w in found)

    def one(axis: Axis | None) -> Axis | None:
        return None if axis is None else new[axis]

    blocks, panels = tiling.blocks, tiling.panels
    return replace(
        tiling,
        blocks=Blocks(all_of(blocks.outer), one(blocks.axis), blocks.chunk, all_of(blocks.inner)),
        panels=Panels(all_of(panels.outer), one(panels.axis), panels.chunk, all_of(panels.inner)),
        vector_windows=windows(tiling.vector_windows),
        scalar_windows=windows(tiling.scalar_windows),
    )
