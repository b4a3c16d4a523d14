"""Integer index algebra: sums of atoms with integer coefficients, floor division and remainder.

An :class:`Index` is ``constant + sum(coefficient * atom)``. An atom is a loop axis, a floor
division or remainder that could not be simplified away, or a loaded value (a gather's index).
Every atom and so every Index carries bounds, which is what most simplifications rest on:
``(4 * i + j) // 4`` is ``i`` because ``0 <= j < 4``.

Sizes are plain integers everywhere: shapes are static.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd
from typing import Any, Union


class Axis:
    """A loop variable running from 0 to ``size`` - 1. Compared by identity."""

    __slots__ = ("name", "order", "size")
    _count = 0

    def __init__(self, size: int, name: str = "i") -> None:
        Axis._count += 1
        self.order = Axis._count
        self.size = size
        self.name = name

    @property
    def low(self) -> int:
        return 0

    @property
    def high(self) -> int:
        return max(self.size - 1, 0)

    def __repr__(self) -> str:
        return f"{self.name}{self.order}"


class Quotient:
    """``dividend // divisor``, rounded towards minus infinity."""

    __slots__ = ("dividend", "divisor", "high", "key", "low", "order")

    def __init__(self, dividend: Index, divisor: int) -> None:
        self.dividend = dividend
        self.divisor = divisor
        self.low: int = dividend.low // divisor
        self.high: int = dividend.high // divisor
        self.order = 0
        self.key = ("//", dividend, divisor)

    def __repr__(self) -> str:
        return f"({self.dividend} // {self.divisor})"


class Remainder:
    """``dividend % divisor``, never negative."""

    __slots__ = ("dividend", "divisor", "high", "key", "low", "order")

    def __init__(self, dividend: Index, divisor: int) -> None:
        self.dividend = dividend
        self.divisor = divisor
        self.low = 0
        self.high = divisor - 1
        self.order = 0
        self.key = ("%", dividend, divisor)

    def __repr__(self) -> str:
        return f"({self.dividend} % {self.divisor})"


class Loaded:
    """An index read from memory or computed: the scalar expression ``value`` in [low, high]."""

    __slots__ = ("high", "key", "low", "order", "value")

    def __init__(self, value: Any, low: int, high: int) -> None:
        self.value = value
        self.low = low
        self.high = high
        self.order = 0
        self.key = ("load", value, low, high)

    def __repr__(self) -> str:
        return f"[{self.value}]"


Atom = Union[Axis, Quotient, Remainder, Loaded]
_atoms: dict[Any, Atom] = {}
_ATOM_LIMIT = 1 << 16


def _intern(atom: Quotient | Remainder | Loaded) -> Any:
    known = _atoms.get(atom.key)
    if known is None:
        if len(_atoms) > _ATOM_LIMIT:
            _atoms.clear()
        Axis._count += 1
        atom.order = Axis._count
        known = _atoms[atom.key] = atom
    return known


class Index:
    """``constant + sum(coefficient * atom)`` with bounds; immutable, compared by value."""

    __slots__ = ("_hash", "constant", "high", "low", "terms")

    def __init__(self, terms: tuple[tuple[Atom, int], ...], constant: int) -> None:
        self.terms = terms
        self.constant = constant
        self._hash = hash((tuple((id(atom), factor) for atom, factor in terms), constant))
        low = high = constant
        for atom, factor in terms:
            if factor > 0:
                low += factor * atom.low
                high += factor * atom.high
            else:
                low += factor * atom.high
                high += factor * atom.low
        self.low = low
        self.high = high

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Index) or self._hash != other._hash:
            return False
        return (
            self.constant == other.constant
            and len(self.terms) == len(other.terms)
            and all(
                first[0] is second[0] and first[1] == second[1]
                for first, second in zip(self.terms, other.terms)
            )
        )

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.constant + other) if other else self
        if not other.terms:
            return self + other.constant
        if not self.terms:
            return other + self.constant
        factors = dict(self.terms)
        for atom, factor in other.terms:
            factors[atom] = factors.get(atom, 0) + factor
        return _build(factors, self.constant + other.constant)

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other if isinstance(other, int) else other * -1)

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        if factor == 0:
            return ZERO
        return Index(
            tuple((atom, value * factor) for atom, value in self.terms), self.constant * factor
        )

    def __floordiv__(self, divisor: int) -> Index:
        if divisor == 1:
            return self
        quotient, rest = self._split(divisor)
        if rest.low >= 0 and rest.high < divisor:
            return quotient
        digits = _digits(rest, divisor)
        if digits is not None:
            unit, upper, _ = digits
            return quotient + upper // (divisor // unit)
        return quotient + _quotient(rest, divisor)

    def __mod__(self, divisor: int) -> Index:
        if divisor == 1:
            return ZERO
        _, rest = self._split(divisor)
        if rest.low >= 0 and rest.high < divisor:
            return rest
        common = _common_factor(rest, divisor)
        if common > 1:
            return (_divide_exactly(rest, common) % (divisor // common)) * common
        digits = _digits(rest, divisor)
        if digits is not None:
            unit, upper, lower = digits
            return (upper % (divisor // unit)) * unit + lower
        if len(rest.terms) == 1 and rest.constant == 0:
            atom, factor = rest.terms[0]
            if factor == 1 and isinstance(atom, Remainder) and atom.divisor % divisor == 0:
                return atom.dividend % divisor
        return of_atom(_intern(Remainder(rest, divisor)))

    def _split(self, divisor: int) -> tuple[Index, Index]:
        """(quotient, rest) with self = divisor * quotient + rest, rest made of what is left."""
        whole: dict[Atom, int] = {}
        left: dict[Atom, int] = {}
        for atom, factor in self.terms:
            share, remainder = divmod(factor, divisor)
            if factor < 0 and remainder:
                share, remainder = 0, factor
            if share:
                whole[atom] = share
            if remainder:
                left[atom] = remainder
        share, remainder = divmod(self.constant, divisor)
        return _build(whole, share), _build(left, remainder)

    def substitute(self, replacements: Mapping[Axis, Index]) -> Index:
        """The same index with axes replaced."""
        result = of_int(self.constant)
        for atom, factor in self.terms:
            if isinstance(atom, Axis):
                replaced = replacements.get(atom)
                part = of_atom(atom) if replaced is None else replaced
            elif isinstance(atom, Quotient):
                part = atom.dividend.substitute(replacements) // atom.divisor
            elif isinstance(atom, Remainder):
                part = atom.dividend.substitute(replacements) % atom.divisor
            else:
                value = atom.value.substitute_axes(replacements)
                part = loaded(value, atom.low, atom.high)
            result = result + part * factor
        return result

    def axes(self) -> set[Axis]:
        """Every axis the index depends on."""
        found: set[Axis] = set()
        for atom, _ in self.terms:
            if isinstance(atom, Axis):
                found.add(atom)
            elif isinstance(atom, Loaded):
                found |= atom.value.axes()
            else:
                found |= atom.dividend.axes()
        return found

    def coefficient(self, axis: Axis) -> int | None:
        """The factor of ``axis`` when the index is linear in it, ``None`` otherwise."""
        result = 0
        for atom, factor in self.terms:
            if atom is axis:
                result = factor
            elif not isinstance(atom, Axis) and axis in of_atom(atom).axes():
                return None
        return result

    def __repr__(self) -> str:
        parts = [repr(atom) if factor == 1 else f"{factor}*{atom!r}" for atom, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)


def _build(factors: dict[Atom, int], constant: int) -> Index:
    """Drop zero terms, order the rest, and join ``c * (x // d) + e * (x % d)`` when c = d * e."""
    for atom in list(factors):
        if isinstance(atom, Remainder) and factors.get(atom):
            partner = _atoms.get(_partner_key(atom))
            factor = factors[atom]
            if partner is not None and factors.get(partner) == factor * atom.divisor:
                del factors[atom], factors[partner]
                joined = Index(_ordered(factors), constant) + atom.dividend * factor
                return joined
    return Index(_ordered(factors), constant)


def _partner_key(remainder: Remainder) -> tuple[str, Index, int]:
    """The key of ``dividend // divisor`` in the form in which :func:`_quotient` leaves it."""
    dividend = remainder.dividend
    if len(dividend.terms) == 1 and dividend.constant == 0:
        atom, factor = dividend.terms[0]
        if factor == 1 and isinstance(atom, Quotient):
            return ("//", atom.dividend, atom.divisor * remainder.divisor)
    return ("//", dividend, remainder.divisor)


def _ordered(factors: dict[Atom, int]) -> tuple[tuple[Atom, int], ...]:
    return tuple(sorted(((a, f) for a, f in factors.items() if f), key=lambda term: term[0].order))


def _common_factor(index: Index, divisor: int) -> int:
    common = gcd(divisor, index.constant)
    for _, factor in index.terms:
        common = gcd(common, factor)
    return common


def _divide_exactly(index: Index, divisor: int) -> Index:
    return Index(
        tuple((atom, factor // divisor) for atom, factor in index.terms), index.constant // divisor
    )


def _digits(rest: Index, divisor: int) -> tuple[int, Index, Index] | None:
    """(unit, upper, lower) with rest = unit * upper + lower, 0 <= lower < unit, and unit a
    divisor of ``divisor``: a position whose lower digits neither quotient nor remainder mix with
    the upper ones. ``None`` when there is no such unit.

    >>> x, y = of_atom(Axis(8)), of_atom(Axis(28))
    >>> (x * 28 + y + 28) // 56 == (x + 1) // 2
    True
    """
    units = {gcd(factor, divisor) for _, factor in rest.terms}
    for unit in sorted(units, reverse=True):
        if unit in (1, divisor):
            continue
        low = high = 0
        for atom, factor in rest.terms:
            if factor % unit:
                low += factor * (atom.low if factor > 0 else atom.high)
                high += factor * (atom.high if factor > 0 else atom.low)
        carry = (low + rest.constant) // unit
        offset = rest.constant - carry * unit
        if high + offset < unit:
            upper = Index(
                tuple((a, factor // unit) for a, factor in rest.terms if factor % unit == 0), carry
            )
            lower = Index(tuple((a, factor) for a, factor in rest.terms if factor % unit), offset)
            return unit, upper, lower
    return None


def _quotient(rest: Index, divisor: int) -> Index:
    common = divisor
    for _, factor in rest.terms:
        common = gcd(common, factor)
    if common > 1:
        # floor((c*x + k) / (c*d)) = floor((x + floor(k / c)) / d) for integer x.
        smaller = Index(
            tuple((atom, factor // common) for atom, factor in rest.terms), rest.constant // common
        )
        return smaller // (divisor // common)
    if len(rest.terms) == 1 and rest.constant == 0:
        atom, factor = rest.terms[0]
        if factor == 1 and isinstance(atom, Quotient):
            return atom.dividend // (atom.divisor * divisor)
    return of_atom(_intern(Quotient(rest, divisor)))


def of_int(value: int) -> Index:
    """The constant index ``value``."""
    return ZERO if value == 0 else Index((), value)


def of_atom(atom: Atom) -> Index:
    """The index that is just ``atom``; an axis of size 1 is the constant 0."""
    if isinstance(atom, Axis) and atom.size == 1:
        return ZERO
    return Index(((atom, 1),), 0)


def loaded(value: Any, low: int, high: int) -> Index:
    """An index computed by the scalar expression ``value``, known to lie in [low, high]."""
    return of_atom(_intern(Loaded(value, low, high)))


ZERO = Index((), 0)


def total(parts: Iterable[Index]) -> Index:
    """The sum of indices."""
    result = ZERO
    for part in parts:
        result = result + part
    return result


def row_major_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous array, in elements.

    >>> row_major_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def flatten(index: tuple[Index, ...], shape: tuple[int, ...]) -> Index:
    """The flat position of a multi-index in a contiguous array of ``shape``."""
    return total(
        position * stride
        for position, stride, extent in zip(index, row_major_strides(shape), shape)
        if extent != 1
    )


def unflatten(position: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """The multi-index of a flat position."""
    result: list[Index] = []
    for extent, stride in zip(shape, row_major_strides(shape)):
        result.append(ZERO if extent <= 1 else (position // stride) % extent)
    if shape and shape[0] > 1:
        # The leading coordinate needs no remainder: the position lies inside the array.
        result[0] = position // row_major_strides(shape)[0]
    return tuple(result)
