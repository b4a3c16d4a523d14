"""How many kernels a graph becomes: the fusion rules, as numbers that may not grow."""

from __future__ import annotations

import numpy as np
import pytest

from lazytorch import dtypes, engine
from lazytorch.ir.kernel import ContractBody, Kernel
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise as op
from lazytorch.ops import leaves, movement, reduction
from lazytorch.schedule.fuse import Fuser
from lazytorch.schedule.graph import build_graph, number_graph
from lazytorch.schedule.regions import choose_stored
from lazytorch.schedule.simplify import simplify
from tests.graphs import DEVICES, Builder

COUNTED = [name for name in DEVICES if name in ("opencl:0", "numpy")]


def values(*shape: int) -> np.ndarray:
    return np.zeros(shape, "f4")


@pytest.fixture(params=COUNTED)
def build(request: pytest.FixtureRequest) -> Builder:
    return Builder(request.param)


def test_a_chain_of_maps_is_one_kernel(build: Builder) -> None:
    assert build.launches(build.gelu(build.leaf(values(64, 100)))) == 1


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("shape", [(64, 100), (8, 16, 96)])
def test_softmax_is_one_kernel(build: Builder, shape: tuple[int, ...], axis: int) -> None:
    assert build.launches(build.softmax(build.leaf(values(*shape)), axis)) == 1
    assert build.launches(build.log_softmax(build.leaf(values(*shape)), axis)) == 1


def test_softmax_of_large_rows_and_columns(build: Builder) -> None:
    x = build.leaf(values(512, 1000))
    assert build.launches(build.softmax(x)) == 1
    # Few columns groups: both reductions are cut in two to keep every core busy.
    assert build.launches(build.softmax(x, 0)) <= 4


@pytest.mark.parametrize("shape", [(64, 100), (8, 64, 128), (4096, 1024)])
def test_layer_norm_is_one_kernel(build: Builder, shape: tuple[int, ...]) -> None:
    x = build.leaf(values(*shape))
    assert build.launches(build.normalize(x, (len(shape) - 1,))) == 1
    scale, shift = build.leaf(values(shape[-1])), build.leaf(values(shape[-1]))
    y = build.apply(op.ADD, build.apply(op.MUL, build.normalize(x, (-1,)), scale), shift)
    assert build.launches(y) == 1


def test_batch_norm_is_few_kernels(build: Builder) -> None:
    x = build.leaf(values(32, 16, 14, 14))
    assert build.launches(build.normalize(x, (0, 2, 3))) <= 4


@pytest.mark.parametrize("record", [reduction.SUM, reduction.MAX])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(7, 300, 1000), (64, 64, 64), (2000, 3, 5)])
def test_a_reduction_is_at_most_two_kernels(
    build: Builder, shape: tuple[int, ...], axes: tuple[int, ...], record
) -> None:
    assert build.launches(build.reduce(record, build.leaf(values(*shape)), axes)) <= 2


def linear(build: Builder, *, shapes=((128, 784), (784, 512), (512,))) -> Node:
    x, w, b = (build.leaf(values(*shape)) for shape in shapes)
    return build.apply(op.ADD, build.matmul(x, w), b)


def contractions(node: Node) -> list[Kernel]:
    return [
        step
        for step in engine.plan_for([node]).steps
        if isinstance(step, Kernel) and any(isinstance(b, ContractBody) for b in step.bodies)
    ]


def test_bias_and_activation_join_the_contraction(build: Builder) -> None:
    y = build.relu(linear(build))
    scheduled = engine.plan_for([y])
    assert len(scheduled.steps) == 1
    assert len(contractions(y)) == 1
    # Packing of an operand and joining of partial sums may come beside it.
    assert build.launches(y) <= 3


def test_a_cast_and_a_scale_join_the_operands(build: Builder) -> None:
    x = build.cast(build.leaf(np.zeros((64, 96), "i4")), dtypes.float32)
    w = build.apply(op.MUL, build.leaf(values(96, 32)), build.scalar(0.125))
    assert len(engine.plan_for([build.matmul(x, w)]).steps) == 1


def test_a_convolution_with_padding_and_bias_is_one_contraction(build: Builder) -> None:
    x, w = build.leaf(values(8, 3, 20, 20)), build.leaf(values(16, 3, 3, 3))
    bias = build.reshape(build.leaf(values(16)), (16, 1, 1))
    y = build.relu(build.apply(op.ADD, build.conv2d(x, w, padding=1), bias))
    kernels = engine.plan_for([y]).steps
    assert len(contractions(y)) == 1
    assert len(kernels) <= 2


def test_updates_of_many_parameters_share_launches(build: Builder) -> None:
    """Adam over twenty parameters of different shapes."""
    outputs = []
    one = build.constant(1.0)
    rate, first, second = build.scalar(1e-3), build.scalar(0.9), build.scalar(0.999)
    for number in range(20):
        shape = (number + 3, 2 * number + 1)
        weight, gradient, mean, square = (build.leaf(values(*shape)) for _ in range(4))
        mean = build.apply(
            op.ADD, build.apply(op.MUL, mean, first),
            build.apply(op.MUL, gradient, build.apply(op.SUB, one, first)),
        )  # fmt: skip
        square = build.apply(
            op.ADD, build.apply(op.MUL, square, second),
            build.apply(
                op.MUL, build.apply(op.MUL, gradient, gradient), build.apply(op.SUB, one, second)
            ),
        )  # fmt: skip
        step = build.apply(
            op.DIV, mean, build.apply(op.ADD, build.apply(op.SQRT, square), build.scalar(1e-8))
        )
        weight = build.apply(op.SUB, weight, build.apply(op.MUL, step, rate))
        outputs += [weight, mean, square]
    assert build.launches(*outputs) <= 4


def test_moves_cost_nothing(build: Builder) -> None:
    x = build.leaf(values(6, 8, 10))
    y = build.permute(x, (2, 0, 1))
    y = build.slice(y, (9, 0, 0), (5, 6, 8), (-2, 1, 1))
    y = build.reshape(build.apply(op.EXP, y), (30, 8))
    pads = ((1, 1), (0, 2))
    y = build.apply(movement.PAD, y, build.constant(0.0), attrs=(pads,))
    assert build.launches(build.reduce(reduction.SUM, y, (1,))) == 1


def test_random_bits_are_made_where_they_are_used(build: Builder) -> None:
    x = build.leaf(values(40, 50))
    seed, offset = build.scalar(1, dtypes.int64), build.scalar(0, dtypes.int64)
    bits = build.apply(leaves.RANDOM, seed, offset, attrs=((40, 50),))
    keep = build.apply(op.LT, bits, build.constant(1 << 31, dtypes.uint32))
    dropped = build.apply(op.WHERE, keep, x, build.constant(0.0))
    assert build.launches(dropped) == 1


def test_every_boundary_has_a_reason(build: Builder) -> None:
    x = build.softmax(linear(build))
    for step in engine.plan_for([build.reduce(reduction.SUM, x, (0,))]).steps:
        assert step.notes
        assert all(note and note == note.strip() for note in step.notes)


def test_without_fusion_every_operation_is_a_kernel(build: Builder) -> None:
    from lazytorch import config

    with config.override(FUSION=False):
        assert build.launches(build.gelu(build.leaf(values(64, 100)))) == 9


def test_a_scalar_is_no_part_of_the_plan(build: Builder) -> None:
    x = build.leaf(values(4, 4))
    results = []
    missed = []
    for rate in (0.25, 0.125, 3.5):
        before = engine.stats()["plans_missed"]
        (got,) = build.compute(build.apply(op.ADD, x, build.scalar(rate)))
        results.append(float(got[0, 0]))
        missed.append(engine.stats()["plans_missed"] - before)
    assert results == [0.25, 0.125, 3.5]
    assert missed[1:] == [0, 0]


@pytest.mark.parametrize(
    ("most", "wanted"), [(1024, [120]), (256, [30] * 4), (100, [12] * 10), (8, [3] * 40)]
)
def test_launches_keep_within_what_a_device_takes(most: int, wanted: list[int]) -> None:
    """An array read, one written and a scalar: three arguments a nest, of 8 bytes."""
    build = Builder("numpy")
    arrays = [build.leaf(np.ones(size, "f4")) for size in range(5, 45)]
    roots = [build.apply(op.MUL, x, build.scalar(1.5 + n)) for n, x in enumerate(arrays)]
    graph = simplify(build_graph(number_graph(roots)))
    counts = []
    for step in Fuser(graph, choose_stored(graph, True), most).run():
        assert isinstance(step, Kernel)
        counts.append(len({*step.reads(), *step.writes(), *step.scalars()}))
    assert counts == wanted
