"""Index algebra: whatever is simplified, the value stays, and the bounds hold."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from lazytorch.ir.index import (
    Axis,
    Index,
    Quotient,
    Remainder,
    flatten,
    of_atom,
    of_int,
    row_major_strides,
    unflatten,
)


def evaluate(index: Index, point: dict[Axis, int]) -> int:
    """The plain meaning of an index, atom by atom."""
    result = index.constant
    for atom, factor in index.terms:
        if isinstance(atom, Axis):
            value = point[atom]
        elif isinstance(atom, Quotient):
            value = evaluate(atom.dividend, point) // atom.divisor
        else:
            assert isinstance(atom, Remainder)
            value = evaluate(atom.dividend, point) % atom.divisor
        result += factor * value
    return result


def points(axes: list[Axis], limit: int = 200) -> list[dict[Axis, int]]:
    everything = [dict(zip(axes, p)) for p in itertools.product(*(range(a.size) for a in axes))]
    if len(everything) > limit:
        everything = random.Random(0).sample(everything, limit)
    return everything


# A recipe is a tree of operations on axes, small integers and itself.
leaf = st.one_of(
    st.tuples(st.just("axis"), st.integers(0, 2)),
    st.tuples(st.just("int"), st.integers(-20, 20)),
)
recipes = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(st.just("add"), inner, inner),
        st.tuples(st.just("sub"), inner, inner),
        st.tuples(st.just("mul"), inner, st.integers(-6, 6)),
        st.tuples(st.just("div"), inner, st.integers(1, 12)),
        st.tuples(st.just("mod"), inner, st.integers(1, 12)),
    ),
    max_leaves=8,
)


def build(recipe: tuple, axes: list[Axis]) -> Index:
    kind, *rest = recipe
    if kind == "axis":
        return of_atom(axes[rest[0]])
    if kind == "int":
        return of_int(rest[0])
    first = build(rest[0], axes)
    if kind == "add":
        return first + build(rest[1], axes)
    if kind == "sub":
        return first - build(rest[1], axes)
    if kind == "mul":
        return first * rest[1]
    return first // rest[1] if kind == "div" else first % rest[1]


def plain(recipe: tuple, axes: list[Axis], point: dict[Axis, int]) -> int:
    kind, *rest = recipe
    if kind == "axis":
        return point[axes[rest[0]]]
    if kind == "int":
        return rest[0]
    first = plain(rest[0], axes, point)
    if kind == "add":
        return first + plain(rest[1], axes, point)
    if kind == "sub":
        return first - plain(rest[1], axes, point)
    if kind == "mul":
        return first * rest[1]
    return first // rest[1] if kind == "div" else first % rest[1]


sizes = st.tuples(*(st.sampled_from((1, 2, 3, 4, 5, 6, 8, 12)) for _ in range(3)))


@given(recipes, sizes)
def test_simplification_keeps_values_and_bounds(recipe: tuple, extents: tuple[int, ...]) -> None:
    axes = [Axis(extent) for extent in extents]
    index = build(recipe, axes)
    for point in points(axes):
        value = evaluate(index, point)
        assert value == plain(recipe, axes, point)
        assert index.low <= value <= index.high


@given(recipes, recipes, recipes, sizes)
def test_substitution(
    recipe: tuple, first: tuple, second: tuple, extents: tuple[int, ...]
) -> None:
    axes = [Axis(extent) for extent in extents]
    index = build(recipe, axes)
    replacements = {
        axis: build(inner, axes) % axis.size for axis, inner in zip(axes[:2], (first, second))
    }
    replaced = index.substitute(replacements)
    for point in points(axes, 60):
        inside = {**point, **{a: evaluate(r, point) for a, r in replacements.items()}}
        assert evaluate(replaced, point) == evaluate(index, inside)


@given(st.lists(st.integers(1, 5), min_size=0, max_size=4))
def test_flatten_and_unflatten_are_inverse(shape: list[int]) -> None:
    extents = tuple(shape)
    axes = [Axis(extent) for extent in extents]
    index = tuple(map(of_atom, axes))
    position = flatten(index, extents)
    assert unflatten(position, extents) == index
    if not axes or 0 in extents:
        return
    strides = row_major_strides(extents)
    for point in points(axes, 50):
        expected = sum(point[axis] * stride for axis, stride in zip(axes, strides))
        assert evaluate(position, point) == expected


@given(st.permutations([2, 3, 4]), st.permutations([2, 3, 4]))
def test_reshape_and_back_is_the_identity(first: list[int], second: list[int]) -> None:
    shape, other = tuple(first), (second[0] * second[1], second[2])
    index = tuple(of_atom(Axis(extent)) for extent in shape)
    there = unflatten(flatten(index, shape), other)
    assert unflatten(flatten(there, other), shape) == index


def test_bounds_decide_divisions() -> None:
    i, j = of_atom(Axis(6)), of_atom(Axis(4))
    assert (i * 4 + j) // 4 == i
    assert (i * 4 + j) % 4 == j
    assert (i * 4 + j + 8) // 4 == i + 2
    assert ((i * 4 + j) // 2) // 2 == i
    assert (i * 8 + j) % 8 == j
    assert (i % 3) + (i // 3) * 3 == i
    assert of_atom(Axis(1)) == of_int(0)


def test_coefficients() -> None:
    i, j = Axis(6), Axis(4)
    index = of_atom(i) * 8 + of_atom(j) // 2
    assert index.coefficient(i) == 8
    assert index.coefficient(j) is None
    assert index.coefficient(Axis(3)) == 0
    assert index.axes() == {i, j}
