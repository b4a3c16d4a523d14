"""The engine on hand-made graphs: what is kept, what is shared, what is computed in place."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazytorch import config, dtypes, engine
from lazytorch.errors import BuildError, OutOfMemoryError, UnsupportedDtypeError
from lazytorch.ir.node import Node
from lazytorch.ops import contraction, elementwise, leaves, movement, reduction
from lazytorch.runtime import available_devices, get_device

DEVICES = [name for name in available_devices()]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def leaf(array: Any, device: str) -> Node:
    return engine.leaf_from_array(np.ascontiguousarray(array), device)


def scalar(value: float, device: str) -> Node:
    return Node(leaves.SCALAR, (), (), (), dtypes.float32, device, None, value)


def op(record: Any, *sources: Node, attrs: tuple[Any, ...] = ()) -> Node:
    shape, dtype = record.infer([s.shape for s in sources], [s.dtype for s in sources], attrs)
    return Node(record, sources, attrs, shape, dtype, sources[0].device)


def matmul(a: Node, b: Node) -> Node:
    (m, k), (_, n) = a.shape, b.shape
    attrs = (
        (m, n, k), (0, 1), (((0, 1),), ((2, 1),)), (((2, 1),), ((1, 1),)),
    )  # fmt: skip
    return op(contraction.CONTRACT, a, b, attrs=attrs)


def launched(nodes: Sequence[Node]) -> int:
    before = engine.stats()["kernels_launched"]
    engine.realize(nodes)
    return engine.stats()["kernels_launched"] - before


def test_scalars_are_no_part_of_the_key(device: str) -> None:
    x = leaf(np.ones(8, np.float32), device)
    engine.realize([op(elementwise.MUL, x, scalar(0.3, device))])
    missed = engine.stats()["plans_missed"]
    values = []
    for rate in (0.7, 0.9, 1.0, 123.0):
        values.append(engine.to_array(op(elementwise.MUL, x, scalar(rate, device)))[0])
    assert engine.stats()["plans_missed"] == missed
    assert np.allclose(values, [0.7, 0.9, 1.0, 123.0])


def test_equal_computations_are_one(device: str) -> None:
    x = leaf(np.arange(8, dtype=np.float32), device)
    first, second = op(elementwise.EXP, x), op(elementwise.EXP, x)
    engine.realize([first, second])
    assert first.buffer is second.buffer


def test_commuted_operands_are_not_confused(device: str) -> None:
    x, y = leaf(np.float32([5, 6]), device), leaf(np.float32([1, 2]), device)
    assert engine.to_array(op(elementwise.SUB, x, y)).tolist() == [4, 4]
    assert engine.to_array(op(elementwise.SUB, y, x)).tolist() == [-4, -4]


def test_a_live_contraction_is_kept_and_not_computed_again(device: str) -> None:
    a, b = leaf(np.ones((32, 16), np.float32), device), leaf(np.ones((16, 24), np.float32), device)
    product = matmul(a, b)
    total = op(reduction.SUM, product, attrs=((0, 1),))
    engine.realize([total])
    assert product.buffer is not None
    assert np.allclose(engine.to_array(product), 16)


def test_a_dead_intermediate_is_not_kept(device: str) -> None:
    a, b = leaf(np.ones((32, 16), np.float32), device), leaf(np.ones((16, 24), np.float32), device)
    total = op(reduction.SUM, matmul(a, b), attrs=((0, 1),))
    scheduled = engine.plan_for([total])
    assert len(scheduled.plan.outputs) == 1


def test_an_update_nobody_else_sees_is_done_in_place(device: str) -> None:
    x = leaf(np.ones(4096, np.float32), device)
    engine.realize([x])
    memory = id(x.buffer)
    y = op(elementwise.ADD, x, scalar(2.5, device))
    del x
    gc.collect()
    engine.realize([y])
    assert id(y.buffer) == memory
    assert (engine.to_array(y) == 3.5).all()


def test_a_pending_reader_keeps_the_old_value(device: str) -> None:
    x = leaf(np.ones(4096, np.float32), device)
    reader = op(elementwise.ADD, x, scalar(10.0, device))
    y = op(elementwise.ADD, x, scalar(2.5, device))
    del x
    engine.realize([y])
    assert (engine.to_array(y) == 3.5).all()
    assert (engine.to_array(reader) == 11).all()


def test_a_permuted_update_is_not_done_in_place(device: str) -> None:
    values = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    x = leaf(values, device)
    y = op(elementwise.ADD, op(movement.PERMUTE, x, attrs=((1, 0),)), x)
    del x
    assert (engine.to_array(y) == values + values.T).all()


def test_host_functions_take_part(device: str) -> None:
    x = leaf(np.arange(6, dtype=np.float32), device)
    doubled = op(elementwise.ADD, x, x)
    function = leaves.HostFunction("reverse", lambda a: a[::-1].copy(), (6,), dtypes.float32)
    node = op(elementwise.NEG, op(leaves.HOST, doubled, attrs=(function,)))
    assert engine.to_array(node).tolist() == [-10, -8, -6, -4, -2, 0]


def test_values_cross_devices(device: str) -> None:
    x = leaf(np.arange(6, dtype=np.float32), device)
    moved = Node(leaves.COPY, (op(elementwise.ADD, x, x),), (), (6,), dtypes.float32, "numpy")
    assert engine.to_array(op(elementwise.NEG, moved)).tolist() == [0, -2, -4, -6, -8, -10]


def test_a_chain_of_100_000_operations(device: str) -> None:
    x = leaf(np.zeros(4, np.float32), device)
    one = leaf(np.ones(4, np.float32), device)
    node = x
    for _ in range(100_000):
        node = Node(elementwise.ADD, (node, one), (), (4,), dtypes.float32, device)
        engine.recorded(node)
    assert engine.to_array(node).tolist() == [100_000.0] * 4


def test_empty_arrays_need_no_kernel(device: str) -> None:
    x = leaf(np.zeros((0, 3), np.float32), device)
    assert launched([op(elementwise.ADD, x, x)]) == 0


def test_sum_over_nothing(device: str) -> None:
    x = leaf(np.zeros((4, 0), np.float32), device)
    assert engine.to_array(op(reduction.SUM, x, attrs=((1,),))).tolist() == [0.0] * 4
    a, b = leaf(np.zeros((4, 0), np.float32), device), leaf(np.zeros((0, 5), np.float32), device)
    assert (engine.to_array(matmul(a, b)) == np.zeros((4, 5))).all()


def test_out_of_memory_names_the_operation_and_the_process_goes_on(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = get_device(device)
    x = leaf(np.ones((1 << 12, 1), np.float32), device)
    y = leaf(np.ones((1, 1 << 12), np.float32), device)
    # What earlier tests have left in the pool would be room enough.
    place.empty_cache()
    monkeypatch.setattr(place.pool, "limit", place.memory_reserved() + (1 << 20))
    with pytest.raises(OutOfMemoryError, match="while computing add"):
        engine.realize([op(elementwise.ADD, x, y)])
    monkeypatch.undo()
    assert engine.to_array(op(elementwise.ADD, x, y)).sum() == 2 * (1 << 24)


@pytest.mark.skipif(len(DEVICES) < 2, reason="only kernels in OpenCL C can fail to build")
def test_a_kernel_that_does_not_build_names_operation_and_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = next(name for name in DEVICES if name != "numpy")
    x = leaf(np.ones(77, np.float32), device)
    monkeypatch.setitem(elementwise.TAN.c, "f", "no_such_function({0})")
    with pytest.raises(BuildError, match=r"tan of shape \[77\]") as caught:
        engine.realize([op(elementwise.TAN, x)])
    assert caught.value.source_path and "no_such_function" in caught.value.log


@pytest.mark.parametrize(
    ("feature", "dtype", "why"),
    [("fp64", "f8", "lacks it"), ("int64", "i8", "computes it wrongly")],
)
def test_what_a_driver_cannot_compute_is_refused(
    device: str, feature: str, dtype: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = () if why == "lacks it" else (feature,)
    lesser = dataclasses.replace(get_device(device).capabilities, masked=masked, **{feature: False})
    monkeypatch.setattr(get_device(device), "capabilities", lesser)
    x = leaf(np.ones((3, 1, 7), dtype), device)
    with pytest.raises(UnsupportedDtypeError, match=rf"shape \[3, 1, 7\].* {why} \({feature}\)"):
        engine.realize([op(elementwise.NEG, x)])
    narrow = leaf(np.ones((3, 1, 7), "f4"), device)
    assert (engine.to_array(op(elementwise.NEG, narrow)) == -1).all()


@pytest.mark.skipif(len(DEVICES) < 2, reason="checks are generated into OpenCL C")
def test_bounds_mode_finds_a_position_outside_its_array() -> None:
    from lazytorch.ops import indexing

    device = next(name for name in DEVICES if name != "numpy")
    data = leaf(np.arange(12, dtype=np.float32).reshape(4, 3), device)
    good = leaf(np.int64([[3], [0]]), device)
    bad = leaf(np.int64([[7], [0]]), device)
    with config.override(BOUNDS=True):
        fine = engine.to_array(op(indexing.GATHER, data, good, attrs=(0,)))
        assert fine.tolist() == [[9, 10, 11], [0, 1, 2]]
        with pytest.raises(IndexError, match="gather"):
            engine.to_array(op(indexing.GATHER, data, bad, attrs=(0,)))


def test_where_a_batch_is_cut_is_no_part_of_the_key(device: str) -> None:
    data = np.random.default_rng(0).standard_normal((103, 7)).astype(np.float32)
    x = leaf(data, device)
    missed = []
    for start in (0, 10, 33, 93):
        batch = op(movement.SLICE, x, attrs=((start, 0), (10, 7), (1, 1)))
        doubled = engine.to_array(op(elementwise.ADD, batch, batch))
        assert (doubled == 2 * data[start : start + 10]).all()
        missed.append(engine.stats()["plans_missed"])
    assert len(set(missed)) == 1


def test_a_batch_keeps_the_data_from_being_overwritten(device: str) -> None:
    x = leaf(np.ones((64, 64), np.float32), device)
    batch = op(movement.SLICE, x, attrs=((8, 0), (4, 64), (1, 1)))
    engine.realize([batch])
    y = op(elementwise.ADD, x, scalar(2.5, device))
    del x
    assert (engine.to_array(y) == 3.5).all()
    assert (engine.to_array(batch) == 1).all()


def test_columns_of_a_matrix_are_no_piece(device: str) -> None:
    data = np.arange(60, dtype=np.float32).reshape(6, 10)
    x = leaf(data, device)
    part = op(movement.SLICE, x, attrs=((1, 2), (3, 4), (1, 1)))
    assert (engine.to_array(part) == data[1:4, 2:6]).all()
    strided = op(movement.SLICE, x, attrs=((0, 0), (3, 10), (2, 1)))
    assert (engine.to_array(strided) == data[::2]).all()
    one = op(movement.SLICE, x, attrs=((4, 3), (1, 5), (1, 1)))
    assert (engine.to_array(one) == data[4:5, 3:8]).all()


def test_a_piece_of_a_piece_begins_where_the_first_does(device: str) -> None:
    x = leaf(np.arange(6, dtype=np.float32), device)
    part = op(movement.SLICE, x, attrs=((3,), (2,), (1,)))
    inner = op(movement.SLICE, part, attrs=((0,), (1,), (-1,)))
    total = op(elementwise.ADD, inner, op(movement.SLICE, x, attrs=((0,), (1,), (1,))))
    assert engine.to_array(total).tolist() == [3]


def test_an_empty_value_written_into_another_changes_nothing(device: str) -> None:
    base = leaf(np.arange(6, dtype=np.float32), device)
    nothing = op(elementwise.EXP, leaf(np.zeros((0,), np.float32), device))
    total = op(elementwise.ADD, nothing, op(elementwise.EXP, nothing))
    joined = op(movement.CONCATENATE, total, base, attrs=(0,))
    written = op(movement.INSERT, joined, total, attrs=((1,), 2))
    engine.realize([written, total])
    assert engine.to_array(written).tolist() == [0, 1, 2, 3, 4, 5]


def test_which_row_is_taken_is_no_part_of_the_key(device: str) -> None:
    data = np.random.default_rng(0).standard_normal((9, 7)).astype(np.float32)
    x = leaf(data, device)
    missed = []
    for row in range(9):
        one = op(movement.AS_STRIDED, x, attrs=((7,), (1,), 7 * row))
        assert (engine.to_array(op(elementwise.ADD, one, one)) == 2 * data[row]).all()
        missed.append(engine.stats()["plans_missed"])
    assert len(set(missed)) == 1
    column = op(movement.AS_STRIDED, x, attrs=((9,), (7,), 3))
    assert (engine.to_array(column) == data[:, 3]).all()


def test_a_larger_arena_sets_the_smaller_one_free(device: str) -> None:
    """Plans that ran in the old arena must not keep its memory, and must still run."""

    def chain(size: int) -> Any:
        a = leaf(np.ones((size, size), np.float32), device)
        return engine.to_array(matmul(matmul(a, a), a))[0, 0]

    place = get_device(device)
    assert chain(32) == 32 * 32
    gc.collect()
    small = place._arena
    for size in (96, 192):
        assert chain(size) == size * size
        assert chain(32) == 32 * 32
    gc.collect()
    if small is not None and place._arena is not small:
        assert sys.getrefcount(small) <= 2


@pytest.mark.skipif(len(DEVICES) < 2, reason="NumPy compiles nothing")
@pytest.mark.parametrize("trial", [True, False])
def test_long_code_for_little_work_is_optimized_when_it_runs_again(
    trial: bool, tmp_path: Path
) -> None:
    device = next(name for name in DEVICES if name != "numpy")
    rng = np.random.default_rng(3)
    # Of other sizes each, so that neither finds the other's programs.
    a = rng.standard_normal((5 + trial, 37)).astype(np.float32)
    b = rng.standard_normal((37, 21)).astype(np.float32)
    built, results = [], []
    with config.override(TRIAL_BUILDS=trial, CACHE_DIR=str(tmp_path)):
        for _ in range(3):
            before = engine.stats()["programs_built"]
            results.append(engine.to_array(matmul(leaf(a, device), leaf(b, device))))
            built.append(engine.stats()["programs_built"] - before)
    assert built == ([1, 1, 0] if trial else [1, 0, 0])
    for result in results:
        np.testing.assert_allclose(result, a @ b, rtol=1e-5, atol=1e-5)
