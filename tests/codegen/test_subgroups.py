"""Sums of a GPU's work-groups by sub-groups, on the processors' drivers that have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazytorch import config, dtypes
from lazytorch.codegen.render import program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Kernel, Reduce, RowBody, Store
from lazytorch.ops import reduction
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


def test_only_sums_and_only_where_the_device_has_them() -> None:
    sums = row_sums(dtypes.float32, 5, 1000)
    largest = row_sums(dtypes.float32, 5, 1000, reduction.MAX)
    assert "sub_group" not in render(sums, replace(GPU, subgroups=False), "k").text
    assert "sub_group" not in render(largest, GPU, "k").text
