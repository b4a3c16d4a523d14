"""What sub-groups do in kernels for GPUs, on the processors' drivers that have them: sums of a
work-group, and factors of a product."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazytorch import config, dtypes
from lazytorch.codegen.choice import GroupSchedule
from lazytorch.codegen.contract_form import canonical
from lazytorch.codegen.finish import finish
from lazytorch.codegen.group_tiling import GroupTiling, fits
from lazytorch.codegen.render import Source, program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import ContractBody, Kernel, Reduce, RowBody, Store
from lazytorch.ops import elementwise, reduction
from lazytorch.runtime import available_devices, get_device

GPU = Target(family="gpu", subgroups=True)
OPENCL = [name for name in available_devices() if name.startswith("opencl")]


def row_sums(dtype: DType, rows: int, columns: int, op: object = reduction.SUM) -> Kernel:
    row, column = Axis(rows), Axis(columns)
    value = ex.load(1, of_atom(row) * columns + of_atom(column), (), dtype)
    store = Store(2, of_atom(row), ex.result(3, dtype))
    body = RowBody((row,), (Reduce(3, op, value, (column,)), store))  # type: ignore[arg-type]
    return Kernel((body,), {1: dtype, 2: dtype})


@pytest.mark.parametrize("device", OPENCL)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32, dtypes.int64], ids=repr)
def test_sums_by_sub_groups(device: str, dtype: DType) -> None:
    place = get_device(device)
    if not place.capabilities.subgroups:
        pytest.skip("the device has no sub-groups")
    for rows, columns in ((5, 1000), (3, 64), (70, 129)):
        source = render(row_sums(dtype, rows, columns), GPU, "k")
        assert "sub_group_reduce_add" in source.text
        x = np.random.default_rng(3).integers(-50, 50, (rows, columns)).astype(dtype.numpy)
        out = place.upload(np.full(rows, 77, dtype.numpy))
        with config.override(CACHE=False):
            launcher = place.build(program([source]), ["k"], ["-cl-std=CL3.0"])["k"]
        arrays = {1: place.upload(x), 2: out}
        arguments = [arrays[number] for number in source.arrays]
        launcher(arguments, (source.global_size,), (source.local,))
        np.testing.assert_array_equal(out.as_numpy(dtype.numpy, (rows,)), x.sum(1))


def product(dtype: DType, rows: int, columns: int, depth: int) -> Kernel:
    """``a @ b`` plus one, so that there is an epilogue."""
    i, j, k = Axis(rows), Axis(columns), Axis(depth)
    first = ex.load(1, of_atom(i) * depth + of_atom(k), (), dtype)
    second = ex.load(2, of_atom(k) * columns + of_atom(j), (), dtype)
    one = ex.constant(1, dtype)
    value = ex.apply(elementwise.ADD, (), (ex.result(4, dtype), one), dtype)
    store = Store(3, of_atom(i) * columns + of_atom(j), value)
    body = ContractBody((), (i,), (j,), (k,), first, second, 4, dtype, (store,))
    return Kernel((body,), {1: dtype, 2: dtype, 3: dtype})


SIXTEEN = replace(GPU, subgroup_size=16, local_memory=64 << 10)


def rendered(kernel: Kernel, target: Target, chosen: GroupSchedule | None = None) -> list[Source]:
    """The sources of a kernel, and of what has to run behind it."""
    temporary = iter(range(10, 20))
    kernels = finish(kernel, target, lambda dtype, count: next(temporary), lambda b, v: chosen)
    return [render(part, target, f"k{number}") for number, part in enumerate(kernels)]


@pytest.mark.parametrize("device", OPENCL)
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32, dtypes.float64], ids=repr)
def test_sub_groups_share_the_factors_of_a_product(device: str, dtype: DType) -> None:
    place = get_device(device)
    if not place.capabilities.subgroup_size:
        pytest.skip("no kernel may require a size of its sub-groups")
    each = 8 if dtype.itemsize == 4 else 4
    cases = [
        (200, 150, 70, GroupSchedule(16, 16, each, each, 16, 1, 2, 16)),
        (33, 129, 64, GroupSchedule(8, 16, 8, 4, 32, 1, 1, 16)),
        (3, 260, 40, GroupSchedule(1, 64, 1, 4, 16, 1, 2, 16)),
    ]
    rng = np.random.default_rng(4)
    # Each takes seconds to compile.
    for rows, columns, depth, schedule in cases if dtype is dtypes.float32 else cases[2:]:
        (source,) = rendered(product(dtype, rows, columns, depth), SIXTEEN, schedule)
        assert "sub_group_broadcast" in source.text
        assert "intel_reqd_sub_group_size(16)" in source.text
        a = rng.integers(-9, 9, (rows, depth)).astype(dtype.numpy)
        b = rng.integers(-9, 9, (depth, columns)).astype(dtype.numpy)
        out = place.upload(np.full((rows, columns), 77, dtype.numpy))
        with config.override(CACHE=False):
            launcher = place.build(program([source]), ["k0"], ["-cl-std=CL3.0"])["k0"]
        arrays = {1: place.upload(a), 2: place.upload(b), 3: out}
        arguments = [arrays[number] for number in source.arrays]
        launcher(arguments, (source.global_size,), (source.local,))
        np.testing.assert_array_equal(out.as_numpy(dtype.numpy, (rows, columns)), a @ b + 1)


def test_products_take_sub_groups_where_their_size_is_known() -> None:
    large = product(dtypes.float32, 1024, 1024, 1024)
    assert "sub_group_broadcast" in rendered(large, SIXTEEN)[0].text
    for target in (GPU, replace(SIXTEEN, subgroups=False), replace(SIXTEEN, family="cpu")):
        assert "sub_group" not in rendered(large, target)[-1].text
    # A sub-group has to lie in one row of items, and whole in the block of the sum.
    for schedule in (
        GroupSchedule(64, 2, 4, 2, 16, 1, 2, 16), GroupSchedule(16, 16, 4, 4, 8, 1, 2, 16),
        GroupSchedule(16, 16, 4, 4, 16, 1, 2, 32),
    ):  # fmt: skip
        form = canonical(large.bodies[0])  # type: ignore[arg-type]
        assert not fits(GroupTiling(**schedule.__dict__), form, SIXTEEN)


def test_only_sums_and_only_where_the_device_has_them() -> None:
    sums = row_sums(dtypes.float32, 5, 1000)
    largest = row_sums(dtypes.float32, 5, 1000, reduction.MAX)
    assert "sub_group" not in render(sums, replace(GPU, subgroups=False), "k").text
    assert "sub_group" not in render(largest, GPU, "k").text
