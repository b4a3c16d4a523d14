"""Every elementwise record, on every device, against its NumPy meaning.

One graph an operation and device: all dtypes the record has C text for, for the first dtype of
each category also broadcast operands, and for the very first 0-d, empty and non-contiguous ones.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir import registry
from lazytorch.ir.definition import OpDef
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, ordering
from lazytorch.runtime import get_device
from lazytorch.runtime.discovery import discover
from tests.graphs import DEVICES, Builder, assert_close, expected

FLOATS = (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)
INTEGERS = (dtypes.int32, dtypes.int64, dtypes.int8, dtypes.int16)
UNSIGNED = (dtypes.uint8, dtypes.uint32)
BY_CATEGORY = {
    "f": FLOATS, "i": INTEGERS, "u": UNSIGNED, "b": (dtypes.bool_,), "c": (dtypes.complex64,),
}  # fmt: skip
# '*' in a record's C text means every category, except where the operation is one of integers.
ONLY_INTEGERS = ("bitwise_left_shift", "bitwise_right_shift")
ONLY_BITS = ("bitwise_and", "bitwise_or", "bitwise_xor")
# Taking complex numbers apart is checked with what is made of it, in test_complex.
PARTS = (elementwise.REAL, elementwise.IMAGINARY, elementwise.COMPLEX)
MAPS = [op for op in registry.all_records() if op.kind == "map" and op not in PARTS]
SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-3)
# Relative errors that OpenCL allows beyond a few units in the last place.
LOOSE = {"lgamma": (2e-5, 2e-6), "erfc": (2e-5, 1e-37), "pow": (4e-6, 1e-37)}
SHAPE = (5, 37)
# PoCL 3.1 computes these wrongly in the lanes beside an infinity, NaN or (pow) zero.
DISTURBED_ON_POCL = ("sin", "cos", "tan", "pow")


def categories(op: OpDef) -> list[DType]:
    if op is ordering.FLOAT_ORDER:
        return [dtypes.int32, dtypes.int64]
    if op.name in ONLY_INTEGERS:
        keys = "iu"
    elif op.name in ONLY_BITS:
        keys = "iub"
    elif "*" in op.c or op is elementwise.WHERE:
        keys = "fiub"
    else:
        keys = "".join(op.c)
    return [dtype for key in keys for dtype in BY_CATEGORY[key]]


def operand(
    dtype: DType, shape: tuple[int, ...], rng: np.random.Generator, op: OpDef, position: int
) -> np.ndarray:
    count = int(np.prod(shape))
    if dtype.kind == "c":
        values = rng.standard_normal(count) * 3 + 1j * rng.standard_normal(count)
    elif dtype.kind == "f":
        values = rng.standard_normal(count) * 3
        special = rng.permutation(np.array(SPECIAL))
        values[: min(count, len(special))] = special[: min(count, len(special))]
    elif dtype.kind == "b":
        values = rng.integers(0, 2, count)
    else:
        bounds = np.iinfo(dtype.numpy)
        values = rng.integers(bounds.min, bounds.max, count, dtype=dtype.numpy, endpoint=True)
        edges = np.array([bounds.min, bounds.max, 0, 1], dtype.numpy)
        values[: min(count, 4)] = edges[: min(count, 4)]
        if op.name == "pow" and position == 1:
            values = rng.integers(-3 if dtype.kind == "i" else 0, 9, count)
        if "shift" in op.name and position == 1:
            values = rng.integers(-2 if dtype.kind == "i" else 0, 70, count)
    return np.asarray(values).astype(dtype.numpy).reshape(shape)


def on_pocl(build: Builder) -> bool:
    names = {f"opencl:{item.index}": item.platform_name for item in discover().candidates}
    return "Portable" in names.get(build.device, "")


def operands(
    build: Builder, op: OpDef, dtype: DType, rng: np.random.Generator, layout: str
) -> list[Node]:
    result = []
    for position in range(op.arity):
        kind = dtypes.bool_ if op is elementwise.WHERE and position == 0 else dtype
        shape = {
            "plain": SHAPE, "scalar": (), "empty": (0, 3), "permuted": SHAPE[::-1],
            "reversed": SHAPE, "broadcast": ((5, 1), (37,), (1, 37))[position],
        }[layout]  # fmt: skip
        values = operand(kind, shape, rng, op, position)
        if op.name in DISTURBED_ON_POCL and kind.kind == "f" and on_pocl(build):
            values = np.where(np.isfinite(values) & (values != 0), values, values.dtype.type(1))
        node = build.leaf(values)
        if layout == "permuted":
            node = build.permute(node, (1, 0))
        elif layout == "reversed":
            node = build.slice(node, (4, 1), (3, 12), (-2, 3))
        result.append(node)
    return result


def compare(op: OpDef, named: dict[str, Node], build: Builder) -> None:
    nodes = list(named.values())
    wanted = expected(*nodes)
    got = build.compute(*nodes)
    rtol, atol = LOOSE.get(op.name, (2.5e-6, 1e-37))
    for name, mine, right in zip(named, got, wanted):
        # A part of a product may cancel: what counts is the error beside the whole number.
        size = 2e-6 * float(np.abs(right).max(initial=0)) if right.dtype.kind == "c" else atol
        assert_close(mine, right, name, rtol, size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("op", [op for op in MAPS if op.c], ids=lambda op: op.name)
def test_map(op: OpDef, device: str) -> None:
    build = Builder(device)
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    facts = get_device(build.device).capabilities
    named: dict[str, Node] = {}
    first: dict[str, DType] = {}
    for dtype in categories(op):
        if dtype is dtypes.float64 and not facts.fp64:
            continue
        sources = operands(build, op, dtype, rng, "plain")
        named[f"{op.name} {dtype.name}"] = build.apply(op, *sources)
        first.setdefault(dtype.kind, dtype)
    for number, dtype in enumerate(first.values()):
        # How elements are found is the same for every dtype; scalars beside vectors are not.
        others = () if number else ("scalar", "empty", "permuted", "reversed")
        for layout in ("broadcast", *others):
            sources = operands(build, op, dtype, rng, layout)
            named[f"{op.name} {dtype.name} {layout}"] = build.apply(op, *sources)
    assert named
    compare(op, named, build)


@pytest.mark.parametrize("device", DEVICES)
def test_signed_zeros(device: str) -> None:
    build = Builder(device)
    op = elementwise
    x = build.leaf(np.array([0.0, -0.0, 0.25, -0.25, -3.0, 2.0], "f4"))
    y = build.leaf(np.array([-0.0, -0.0, 0.0, -0.0, 0.0, -0.0], "f4"))
    named = {
        record.name: build.apply(record, x)
        for record in (op.NEG, op.ABS, op.FLOOR, op.CEIL, op.TRUNC, op.ROUND, op.SIN, op.TANH)
    }
    named |= {record.name: build.apply(record, x, y) for record in (op.ADD, op.SUB, op.MUL)}
    named["remainder"] = build.apply(op.REMAINDER, x, build.leaf(np.full(6, 3, "f4")))
    named["where"] = build.apply(op.WHERE, build.apply(op.LT, x, y), x, y)
    named["choose constant"] = build.apply(op.ADD, y, build.constant(-0.0))
    wanted = expected(*named.values())
    for name, got, right in zip(named, build.compute(*named.values()), wanted):
        np.testing.assert_array_equal(got, right, err_msg=name)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(right), err_msg=name)


CASTS = (
    dtypes.bool_, dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64,
    dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64,
)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("source", CASTS, ids=lambda dtype: dtype.name)
def test_cast(source: DType, device: str) -> None:
    build = Builder(device)
    rng = np.random.default_rng(7)
    if source.kind == "f":
        # What fits the narrowest integer; beyond it PyTorch promises nothing.
        values = np.concatenate([rng.uniform(0, 100, 33), [0.0, -0.0, 0.5, 1.5, 0.999, 100.25]])
    else:
        values = operand(source, (39,), rng, elementwise.CAST, 0)
    x = build.leaf(values.astype(source.numpy))
    targets = [t for t in CASTS if t is not source]
    if not get_device(build.device).capabilities.fp64:
        targets.remove(dtypes.float64)
    compare(elementwise.CAST, {t.name: build.cast(x, t) for t in targets}, build)


@pytest.mark.parametrize("device", DEVICES)
def test_bitcast(device: str) -> None:
    build = Builder(device)
    x = build.leaf(np.array(SPECIAL, "f4"))
    y = build.leaf(np.arange(-5, 5, dtype="i4"))
    cases = {
        "float as int": build.apply(elementwise.BITCAST, x, attrs=(dtypes.int32,)),
        "int as float": build.apply(elementwise.BITCAST, y, attrs=(dtypes.float32,)),
    }
    compare(elementwise.BITCAST, cases, build)
