"""Expressions are shared, rewritten as wholes, and keep what equal numbers hide."""

from __future__ import annotations

from lazytorch import dtypes
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom, of_int
from lazytorch.ops import elementwise


def load(axis: Axis, number: int = 0) -> ex.Expression:
    return ex.load(number, of_atom(axis), (), dtypes.float32)


def add(a: ex.Expression, b: ex.Expression) -> ex.Expression:
    return ex.apply(elementwise.ADD, (), (a, b), dtypes.float32)


def test_equal_expressions_are_one_object() -> None:
    i = Axis(4)
    assert add(load(i), load(i)) is add(load(i), load(i))
    assert load(i) is not load(Axis(4))


def test_constants_that_compare_equal_stay_apart() -> None:
    made = [ex.constant(v, dtypes.float32) for v in (0.0, -0.0, 0, False)]
    assert len(set(made)) == 4
    nan = float("nan")
    assert ex.constant(nan, dtypes.float32) is ex.constant(nan, dtypes.float32)


def test_substituting_axes_reaches_guards_and_computed_positions() -> None:
    i, j = Axis(8), Axis(8)
    where = ex.load(1, of_atom(i), (), dtypes.int64)
    from lazytorch.ir.index import loaded

    guard = (ex.Condition(of_atom(i), 2, 5),)
    value = ex.load(0, loaded(where, 0, 9), guard, dtypes.float32)
    moved = value.substitute_axes({i: of_atom(j)})
    assert moved.axes() == {j}
    assert {e.data[0] for e in ex.loads_of([moved])} == {0, 1}


def test_a_guard_that_cannot_hold_is_zero() -> None:
    i = Axis(8)
    value = ex.load(0, of_atom(i), (ex.Condition(of_atom(i), 6, 7),), dtypes.float32)
    assert value.substitute_axes({i: of_int(2)}) is ex.constant(0, dtypes.float32)
    inside = value.substitute_axes({i: of_int(6)})
    assert inside.data[2] == ()


def test_choose_takes_a_side_when_it_is_decided() -> None:
    i = Axis(8)
    one, two = ex.constant(1, dtypes.float32), ex.constant(2, dtypes.float32)
    guard = (ex.Condition(of_atom(i), 0, 3),)
    chosen = ex.choose(guard, one, two)
    assert chosen.substitute_axes({i: of_int(1)}) is one
    assert chosen.substitute_axes({i: of_int(5)}) is two
    assert ex.choose(guard, one, one) is one


def test_loads_can_be_answered() -> None:
    i = Axis(4)
    value = add(load(i, 0), load(i, 1))
    half = ex.constant(0.5, dtypes.float32)
    answered = ex.rewrite(value, {}, lambda e: half if e is load(i, 1) else None)
    assert answered is add(load(i, 0), half)


def test_walk_lists_operands_first_and_once() -> None:
    i = Axis(4)
    x = load(i)
    order = ex.walk([add(x, add(x, x))])
    assert order[0] is x
    assert len(order) == 3
