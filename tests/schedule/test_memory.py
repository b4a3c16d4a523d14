"""Where values live: donation, the arena, and what must not share memory."""

from __future__ import annotations

import itertools

import numpy as np

from lazytorch import engine
from lazytorch.ops import elementwise as op
from lazytorch.ops import reduction
from lazytorch.schedule.memory import ARENA_ALIGNMENT, Access, plan_memory
from tests.graphs import Builder


def access(reads: tuple[int, ...], writes: tuple[int, ...], replaceable=None) -> Access:
    return Access(reads, writes, replaceable or {})


def test_an_output_takes_the_place_of_a_leaf_nobody_keeps() -> None:
    step = access((0,), (1,), {1: (0,)})
    layout = plan_memory([step], {0: 64, 1: 64}, [0], [1], [0])
    assert layout.donors == {0: 0}


def test_a_leaf_read_later_is_not_given_away() -> None:
    steps = [access((0,), (1,), {1: (0,)}), access((0, 1), (2,))]
    layout = plan_memory(steps, {0: 64, 1: 64, 2: 64}, [0], [1, 2], [0])
    assert 0 not in layout.donors


def test_nothing_is_written_over_before_a_step_that_may_fail() -> None:
    """After its exception the graph is computed again, from the same leaves."""
    update, host = access((0,), (1,), {1: (0,)}), Access((2,), (3,), {}, may_fail=True)
    sizes = dict.fromkeys(range(4), 64)
    assert plan_memory([update, host], sizes, [0, 2], [1, 3], [0]).donors == {}
    assert plan_memory([host, update], sizes, [0, 2], [1, 3], [0]).donors == {0: 0}


def test_a_leaf_somebody_keeps_is_not_given_away() -> None:
    layout = plan_memory([access((0,), (1,), {1: (0,)})], {0: 64, 1: 64}, [0], [1], [])
    assert layout.donors == {}


def test_sizes_must_agree() -> None:
    layout = plan_memory([access((0,), (1,), {1: (0,)})], {0: 64, 1: 128}, [0], [1], [0])
    assert layout.donors == {}


def test_temporaries_that_live_together_do_not_overlap() -> None:
    steps = [
        access((0,), (1,)), access((1,), (2,)), access((1, 2), (3,)), access((3,), (4,)),
        access((4, 2), (5,)),
    ]  # fmt: skip
    sizes = dict.fromkeys(range(6), 1000)
    layout = plan_memory(steps, sizes, [0], [5], [])
    places = layout.places
    assert all(places[n].position % ARENA_ALIGNMENT == 0 for n in (1, 2, 3, 4))

    def together(first: int, second: int) -> bool:
        a, b = places[first], places[second]
        return a.position < b.position + b.nbytes and b.position < a.position + a.nbytes

    assert not together(1, 2)
    assert not together(2, 3)
    assert not together(3, 4)
    assert not together(2, 4)
    # 1 is dead when 4 is made: its memory is used again.
    assert layout.arena_bytes < 4 * 1024


def test_an_update_happens_in_place() -> None:
    build = Builder("numpy")
    weight = build.leaf(np.ones((4, 4), "f4"))
    buffer = weight.buffer
    gradient = build.leaf(np.full((4, 4), 2, "f4"))
    updated = build.apply(op.SUB, weight, build.apply(op.MUL, gradient, build.scalar(0.25)))
    del weight
    held = id(buffer)
    del buffer
    engine.realize([updated])
    assert id(updated.buffer) == held
    np.testing.assert_array_equal(engine.to_array(updated), np.full((4, 4), 0.5))


def test_a_value_somebody_holds_keeps_its_memory() -> None:
    build = Builder("numpy")
    weight = build.leaf(np.ones((4, 4), "f4"))
    updated = build.apply(op.SUB, weight, build.constant(0.5))
    engine.realize([updated])
    np.testing.assert_array_equal(engine.to_array(weight), np.ones((4, 4)))


def test_a_store_does_not_overwrite_what_a_later_stage_reads() -> None:
    """Two outputs of one nest; the first must not take the memory of the second's operand."""
    build = Builder("numpy")
    x, y, z = (build.leaf(np.full(6, value, "f4")) for value in (2.0, 3.0, 5.0))
    product, quotient = build.apply(op.MUL, x, y), build.apply(op.DIV, x, z)
    del y, z
    got = build.compute(product, quotient)
    np.testing.assert_allclose(got[0], np.full(6, 6.0))
    np.testing.assert_allclose(got[1], np.full(6, 0.4), rtol=1e-6)


def test_a_chain_of_row_kernels_uses_little_memory() -> None:
    build = Builder("numpy")
    x = build.leaf(np.random.default_rng(0).standard_normal((64, 256)).astype("f4"))
    for _ in range(20):
        total = build.reduce(reduction.SUM, x, (0,), keep=True)
        x = build.apply(op.ADD, x, build.apply(op.EXP, total))
    plan = engine.plan_for([x]).plan
    assert plan.layout.arena_bytes <= 4 * 64 * 256 * 4


def test_the_largest_first_where_that_takes_less() -> None:
    """In order of time a small value lies in the middle of what a large one could have used."""
    steps = [
        Access((), (0,), {}),
        Access((0,), (1,), {}),
        Access((1,), (2,), {}),
        Access((1, 2), (3,), {}),
        Access((3, 2), (), {}),
    ]
    nbytes = {0: 1024, 1: 256, 2: 1280, 3: 1024}
    layout = plan_memory(steps, nbytes, (), (), ())
    alive = [{0}, {0, 1}, {1, 2}, {1, 2, 3}, {2, 3}]
    for together in alive:
        spans = sorted((layout.places[n].position, nbytes[n]) for n in together)
        for (start, size), (following, _) in itertools.pairwise(spans):
            assert start + size <= following
    assert layout.arena_bytes == 256 + 1280 + 1024


def test_a_temporary_takes_the_place_of_one_it_is_computed_from() -> None:
    steps = [
        access((0,), (1,)), access((1,), (2,), {2: (1,)}), access((2,), (3,), {3: (2,)}),
        access((2, 3), (4,), {4: (2, 3)}), access((4,), (5,)),
    ]  # fmt: skip
    sizes = dict.fromkeys(range(6), 1024)
    layout = plan_memory(steps, sizes, [0], [5], [])
    offsets = {number: layout.places[number].position for number in (1, 2, 3, 4)}
    # 2 is read once more after 3 is made.
    assert offsets[1] == offsets[2] != offsets[3]
    assert offsets[4] in (offsets[2], offsets[3])
    assert layout.arena_bytes == 2048
