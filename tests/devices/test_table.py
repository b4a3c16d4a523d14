"""Every record that is not elementwise, on every device, against its NumPy meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.ir import registry
from lazytorch.ir.node import Node
from lazytorch.ops import (
    contraction,
    elementwise,
    indexing,
    leaves,
    movement,
    ordering,
    recurrence,
    reduction,
)
from lazytorch.runtime import get_device
from tests.graphs import DEVICES, Builder, assert_close, expected

Cases = dict[str, Node]
TABLE: dict[str, Callable[[Builder, np.random.Generator], Cases]] = {}
# Records without a computation of their own, the elementwise ones with a test of their own, and
# attention, which tests/functional/test_attention.py compares on every device.
# The last is rewritten before anything is computed: tests/functional/test_vmap.py.
ELSEWHERE = {"buffer", "scalar", "copy", "attention", "example"}


def case(function: Callable[[Builder, np.random.Generator], Cases]):
    TABLE[function.__name__] = function
    return function


def floats(rng: np.random.Generator, *shape: int, dtype: str = "f4") -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def layouts(build: Builder, rng: np.random.Generator) -> Iterator[tuple[str, Node]]:
    """One (4, 6, 10) value that is contiguous, permuted, strided, repeated and computed."""
    yield "plain", build.leaf(floats(rng, 4, 6, 10))
    yield "permuted", build.permute(build.leaf(floats(rng, 10, 4, 6)), (1, 2, 0))
    x = build.leaf(floats(rng, 9, 6, 25))
    yield "strided", build.slice(x, (8, 0, 3), (4, 6, 10), (-2, 1, 2))
    yield "repeated", build.expand(build.leaf(floats(rng, 6, 1)), (4, 6, 10))
    yield "computed", build.apply(elementwise.EXP, build.leaf(floats(rng, 4, 6, 10)))


@case
def constant(build: Builder, rng: np.random.Generator) -> Cases:
    x = build.leaf(floats(rng, 3, 5))
    return {
        "value": build.constant(2.0),
        "added": build.apply(elementwise.ADD, x, build.constant(0.5)),
        "filled": build.expand(build.constant(-1.0), (4, 7)),
        "filled int": build.expand(build.constant(3, dtypes.int64), (4, 7)),
    }


RECURRENT = {
    "tanh": ("rnn_tanh", 3, 5, 4, 4, False, ()),
    "relu ended": ("rnn_relu", 3, 2, 17, 17, True, ("lengths",)),
    "lstm": ("lstm", 3, 17, 16, 16, False, ()),
    "lstm projected": ("lstm", 3, 3, 9, 5, False, ("hidden", "cell", "projection", "lengths")),
    "gru": ("gru", 3, 9, 19, 19, True, ("hidden", "bias", "lengths")),
}

# Without what only a gradient reads.
UNKEPT = {
    "lstm unkept": ("lstm", 3, 17, 16, 16, True, (), False),
    "lstm projected unkept": (
        "lstm", 3, 3, 9, 5, False, ("hidden", "cell", "projection", "lengths"), False,
    ),
    "gru unkept": ("gru", 3, 9, 19, 19, False, ("hidden", "bias", "lengths"), False),
}  # fmt: skip


def recurrent_sources(
    build: Builder, rng: np.random.Generator, of: recurrence.Recurrence
) -> list[Node]:
    """The weight and the optional sources of a recurrence."""
    shapes = {
        "hidden": (of.batch, of.width), "cell": (of.batch, of.hidden), "bias": (of.gates,),
        "projection": (of.width, of.hidden), "grad_output": (of.steps, of.batch, of.width),
        "grad_hidden": (of.batch, of.width), "grad_cell": (of.batch, of.hidden),
    }  # fmt: skip
    made = [build.leaf(floats(rng, of.gates, of.width) * 0.3)]
    for part in of.parts:
        if part == "lengths":
            made.append(build.leaf(rng.integers(1, of.steps + 1, of.batch)))
        else:
            made.append(build.leaf(floats(rng, *shapes[part])))
    return made


@case
def recurrent(build: Builder, rng: np.random.Generator) -> Cases:
    made = {}
    for name, attrs in (RECURRENT | UNKEPT).items():
        of = recurrence.Recurrence(*attrs)
        gates = build.leaf(floats(rng, of.steps, of.batch, of.gates))
        sources = recurrent_sources(build, rng, of)
        made[name] = build.apply(recurrence.RECURRENT, gates, *sources, attrs=attrs)
    return made


@case
def recurrent_gradient(build: Builder, rng: np.random.Generator) -> Cases:
    made = {}
    for name, attrs in RECURRENT.items():
        parts = [part for part in attrs[6] if part != "bias"]
        parts += ["grad_output", "grad_hidden"][: 1 + len(parts)]
        parts += ["grad_cell"] if "cell" in parts else []
        of = recurrence.Recurrence(*attrs)._replace(parts=tuple(parts))
        size = recurrence.total(recurrence.sections(of))
        states = build.leaf(rng.uniform(0, 1, size).astype("f4"))
        sources = recurrent_sources(build, rng, of)
        made[name] = build.apply(recurrence.RECURRENT_GRADIENT, states, *sources, attrs=tuple(of))
    return made


@case
def iota(build: Builder, rng: np.random.Generator) -> Cases:
    return {
        "plain": build.iota(11),
        "int32": build.iota(5, dtypes.int32),
        "empty": build.iota(0),
        "as float": build.cast(build.iota(70), dtypes.float32),
    }


@case
def random(build: Builder, rng: np.random.Generator) -> Cases:
    def bits(seed: int, offset: int, shape: tuple[int, ...]) -> Node:
        sources = build.scalar(seed, dtypes.int64), build.scalar(offset, dtypes.int64)
        return build.apply(leaves.RANDOM, *sources, attrs=(shape,))

    return {
        "plain": bits(1234, 0, (7, 13)),
        "offset": bits(1234, 56, (7, 13)),
        "large": bits((1 << 62) + 5, (1 << 40) + 3, (33,)),
        "empty": bits(1, 1, (0, 4)),
    }


@case
def reshape(build: Builder, rng: np.random.Generator) -> Cases:
    named = {
        f"{name} {shape}": build.reshape(x, shape)
        for name, x in layouts(build, rng)
        for shape in ((24, 10), (4, 60), (2, 2, 3, 20), (5, 48))
    }
    named["to 0-d"] = build.reshape(build.leaf(floats(rng, 1, 1)), ())
    named["from 0-d"] = build.reshape(build.leaf(floats(rng)), (1, 1))
    named["empty"] = build.reshape(build.leaf(floats(rng, 0, 3)), (2, 0))
    return named


@case
def permute(build: Builder, rng: np.random.Generator) -> Cases:
    return {
        f"{name} {order}": build.permute(x, order)
        for name, x in layouts(build, rng)
        for order in ((2, 0, 1), (0, 2, 1), (2, 1, 0))
    } | {"0-d": build.permute(build.leaf(floats(rng)), ())}


@case
def expand(build: Builder, rng: np.random.Generator) -> Cases:
    x = build.leaf(floats(rng, 3, 1))
    return {
        "column": build.expand(x, (3, 9)),
        "new axes": build.expand(x, (2, 5, 3, 9)),
        "0-d": build.expand(build.leaf(floats(rng)), (2, 3)),
        "to empty": build.expand(x, (0, 3, 1)),
    }


@case
def slice(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        named[f"{name} middle"] = build.slice(x, (1, 2, 3), (2, 3, 4), (1, 1, 1))
        named[f"{name} flipped"] = build.slice(x, (3, 5, 9), (4, 6, 10), (-1, -1, -1))
        named[f"{name} steps"] = build.slice(x, (0, 1, 9), (2, 2, 3), (2, 4, -3))
        named[f"{name} empty"] = build.slice(x, (0, 0, 0), (0, 6, 10), (1, 1, 1))
    return named


@case
def pad(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        pads = ((0, 0), (2, 1), (3, 0))
        named[name] = build.apply(movement.PAD, x, build.constant(0.0), attrs=(pads,))
        filled = build.apply(movement.PAD, x, build.scalar(1.25), attrs=(pads,))
        named[f"{name} filled"] = build.apply(elementwise.EXP, filled)
    empty = build.leaf(floats(rng, 0, 3))
    named["empty"] = build.apply(
        movement.PAD, empty, build.constant(2.0), attrs=(((1, 1), (0, 1)),)
    )
    return named


@case
def window(build: Builder, rng: np.random.Generator) -> Cases:
    return {
        f"{name} {attrs}": build.apply(movement.WINDOW, x, attrs=attrs)
        for name, x in layouts(build, rng)
        for attrs in ((2, 3, 2, 1), (1, 2, 1, 3), (0, 4, 1, 1))
    }


@case
def as_strided(build: Builder, rng: np.random.Generator) -> Cases:
    cases = {
        "overlapping": ((4, 5), (3, 2), 1),
        "diagonal": ((4,), (11,), 0),
        "repeated": ((3, 4), (0, 1), 2),
        "0-d": ((), (), 17),
        "empty": ((0, 4), (4, 1), 0),
    }
    named = {}
    for name, x in layouts(build, rng):
        for what, attrs in cases.items():
            named[f"{name} {what}"] = build.apply(movement.AS_STRIDED, x, attrs=attrs)
    return named


@case
def insert(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        for what, shape, strides, offset in (
            ("block", (2, 3), (60, 10), 23),
            ("flipped", (4, 5), (60, -2), 58),
            ("element", (), (), 100),
            ("rows", (6, 10), (10, 1), 120),
            ("empty", (0, 3), (1, 1), 0),
        ):
            value = build.leaf(floats(rng, *shape))
            named[f"{name} {what}"] = build.apply(
                movement.INSERT, x, value, attrs=(strides, offset)
            )
    return named


@case
def concatenate(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        other = build.leaf(floats(rng, 4, 2, 10))
        named[name] = build.apply(movement.CONCATENATE, x, other, x, attrs=(1,))
    pieces = [build.leaf(floats(rng, count % 4, 3)) for count in range(40)]
    named["many"] = build.apply(movement.CONCATENATE, *pieces, attrs=(0,))
    return named


def _reductions(op) -> None:
    def cases(build: Builder, rng: np.random.Generator) -> Cases:
        named = {}
        for name, x in layouts(build, rng):
            for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2)):
                named[f"{name} {axes}"] = build.reduce(op, x, axes)
        for dtype in (dtypes.int32, dtypes.int64, dtypes.int8, dtypes.uint8, dtypes.bool_):
            values = rng.integers(0, 2, (5, 40)).astype(dtype.numpy)
            named[f"{dtype.name}"] = build.reduce(op, build.leaf(values), (1,))
        for dtype in (dtypes.float16, dtypes.bfloat16):
            values = rng.uniform(0.9, 1.1, (5, 40)).astype(dtype.numpy)
            named[f"{dtype.name}"] = build.reduce(op, build.leaf(values), (1,))
        if get_device(build.device).capabilities.fp64:
            named["float64"] = build.reduce(op, build.leaf(rng.uniform(0.9, 1.1, (3, 50))), (1,))
        named["empty"] = build.reduce(op, build.leaf(floats(rng, 4, 0)), (1,))
        named["no rows"] = build.reduce(op, build.leaf(floats(rng, 0, 4)), (1,))
        values = floats(rng, 6, 33)
        values[2, 5] = np.nan
        values[3, 7] = -np.inf
        named["nan"] = build.reduce(op, build.leaf(values), (1,))
        return named

    TABLE[op.name] = cases


for record in (reduction.SUM, reduction.PROD, reduction.MAX, reduction.MIN):
    _reductions(record)


def _scans(op) -> None:
    def cases(build: Builder, rng: np.random.Generator) -> Cases:
        named = {}
        for name, x in layouts(build, rng):
            for axis in range(3):
                named[f"{name} {axis}"] = build.apply(op, x, attrs=(axis,))
        integers = build.leaf(rng.integers(-2, 3, (3, 30)))
        named["int64"] = build.apply(op, integers, attrs=(1,))
        named["empty"] = build.apply(op, build.leaf(floats(rng, 3, 0)), attrs=(1,))
        return named

    TABLE[op.name] = cases


for record in (reduction.CUMSUM, reduction.CUMPROD, reduction.CUMMAX, reduction.CUMMIN):
    _scans(record)


def pairs(build: Builder, rng: np.random.Generator, *shape: int) -> Node:
    """Keys with ties, each with its place in the row."""
    keys = build.leaf(rng.integers(-40, 40, shape).astype("i4") << 20)
    places = build.leaf(np.arange(shape[-1], dtype="i4"))
    return build.apply(ordering.PAIR, keys, places)


@case
def sorted_runs(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for shape in ((3, 20), (2, 170), (0, 5)):
        for run, kept in ((64, 64), (128, 20)):
            attrs = (run, kept, 32)
            rows = pairs(build, rng, *shape)
            named[f"{shape} {run} {kept}"] = build.apply(ordering.SORTED_RUNS, rows, attrs=attrs)
    return named


@case
def merged_runs(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for shape, run in (((2, 100), 64), ((3, 129), 32), ((0, 9), 4)):
        rows = build.apply(ordering.SORTED_RUNS, pairs(build, rng, *shape), attrs=(run, run, 32))
        named[f"{shape} {run}"] = build.apply(ordering.MERGED_RUNS, rows, attrs=(run,))
    return named


@case
def contract(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for rows, inner, columns in (
        (1, 1, 1), (5, 7, 3), (33, 65, 17), (1, 64, 40), (64, 1, 8), (3, 0, 4), (0, 3, 4),
        (70, 130, 96),
    ):  # fmt: skip
        a, b = build.leaf(floats(rng, rows, inner)), build.leaf(floats(rng, inner, columns))
        named[f"{rows}x{inner}x{columns}"] = build.matmul(a, b)
    a = build.permute(build.leaf(floats(rng, 48, 20)), (1, 0))
    b = build.permute(build.leaf(floats(rng, 24, 48)), (1, 0))
    named["transposed"] = build.matmul(a, b)
    for dtype in (dtypes.float16, dtypes.bfloat16):
        a = build.leaf(floats(rng, 9, 40).astype(dtype.numpy))
        b = build.leaf(floats(rng, 40, 12).astype(dtype.numpy))
        named[dtype.name] = build.matmul(a, b)
    integers = [build.leaf(rng.integers(-9, 9, shape)) for shape in ((6, 30), (30, 5))]
    named["int64"] = build.matmul(*integers)
    # batched, with the columns outermost: out[c, b, r] = sum_k x[b, r, k] * y[b, k, c]
    x, y = build.leaf(floats(rng, 3, 10, 16)), build.leaf(floats(rng, 3, 16, 21))
    attrs = (
        (21, 3, 10, 16), (0, 1, 2),
        (((1, 1),), ((2, 1),), ((3, 1),)), (((1, 1),), ((3, 1),), ((0, 1),)),
    )  # fmt: skip
    named["batched, turned"] = build.apply(contraction.CONTRACT, x, y, attrs=attrs)
    vector = build.leaf(floats(rng, 50))
    dot = ((50,), (), (((0, 1),),), (((0, 1),),))
    named["dot"] = build.apply(contraction.CONTRACT, vector, vector, attrs=dot)
    image, weights = build.leaf(floats(rng, 2, 3, 12, 11)), build.leaf(floats(rng, 5, 3, 3, 3))
    for padding, stride, dilation in ((0, 1, 1), (1, 1, 1), (1, 2, 1), (2, 1, 2)):
        named[f"conv {padding} {stride} {dilation}"] = build.conv2d(
            image, weights, padding, stride, dilation
        )
    return named


def _positions(build: Builder, rng: np.random.Generator, high: int, *shape: int) -> Node:
    return build.leaf(rng.integers(0, high, shape))


@case
def gather(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        for axis, extent in ((0, 4), (1, 6), (2, 10)):
            shape = [4, 6, 10]
            shape[axis] = 7
            where = _positions(build, rng, extent, *shape)
            named[f"{name} {axis}"] = build.apply(indexing.GATHER, x, where, attrs=(axis,))
        where = _positions(build, rng, 6, 1, 5, 1)
        named[f"{name} repeated"] = build.apply(indexing.GATHER, x, where, attrs=(1,))
    table = build.leaf(floats(rng, 20, 8))
    rows = build.reshape(_positions(build, rng, 20, 3, 4), (12, 1))
    named["embedding"] = build.apply(indexing.GATHER, table, rows, attrs=(0,))
    named["none"] = build.apply(
        indexing.GATHER, table, build.leaf(np.zeros((0, 1), "i8")), attrs=(0,)
    )
    return named


@case
def scatter(build: Builder, rng: np.random.Generator) -> Cases:
    named = {}
    for name, x in layouts(build, rng):
        for mode in indexing.SCATTER_MODES:
            where = _positions(build, rng, 6, 4, 9, 10)
            values = build.leaf(floats(rng, 4, 9, 10))
            named[f"{name} {mode}"] = build.apply(
                indexing.SCATTER, x, where, values, attrs=(1, mode)
            )
    zeros = build.expand(build.constant(0.0), (20, 8))
    rows = build.reshape(_positions(build, rng, 20, 50), (50, 1))
    values = build.leaf(floats(rng, 50, 8))
    named["embedding gradient"] = build.apply(
        indexing.SCATTER, zeros, rows, values, attrs=(0, "add")
    )
    nothing = build.leaf(np.zeros((0, 1), "i8"))
    named["nothing"] = build.apply(
        indexing.SCATTER, zeros, nothing, build.leaf(np.zeros((0, 8), "f4")), attrs=(0, "set")
    )
    return named


@case
def host(build: Builder, rng: np.random.Generator) -> Cases:
    function = leaves.HostFunction("reverse", lambda a: a[::-1], (6, 5), dtypes.float32)
    x = build.apply(elementwise.NEG, build.leaf(floats(rng, 6, 5)))
    made = build.apply(leaves.HOST, x, attrs=(function,))
    return {"alone": made, "with readers": build.apply(elementwise.EXP, made)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TABLE)
def test_record(name: str, device: str) -> None:
    build = Builder(device)
    named = TABLE[name](build, np.random.default_rng(11))
    wanted = expected(*named.values())
    for what, got, right in zip(named, build.compute(*named.values()), wanted):
        assert_close(got, right, f"{name} {what}", rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_copy_between_devices(device: str) -> None:
    build, there = Builder(device), Builder("numpy")
    x = build.leaf(np.arange(12, dtype="f4").reshape(3, 4))
    half = build.apply(elementwise.MUL, x, build.constant(0.5))
    moved = Node(leaves.COPY, (half,), (), half.shape, half.dtype, "numpy")
    result = there.apply(elementwise.ADD, moved, there.constant(1.0))
    (got,) = there.compute(result)
    np.testing.assert_array_equal(got, np.arange(12).reshape(3, 4) / 2 + 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16, dtypes.float64])
def test_softmax_in_other_dtypes(device: str, dtype: DType) -> None:
    build = Builder(device)
    if dtype is dtypes.float64 and not get_device(build.device).capabilities.fp64:
        pytest.skip("no double precision")
    x = build.leaf(np.random.default_rng(3).standard_normal((9, 50)).astype(dtype.numpy))
    y = build.softmax(x)
    (wanted,) = expected(y)
    (got,) = build.compute(y)
    assert_close(got, wanted, "softmax", rtol=1e-5, atol=1e-3 if dtype.itemsize == 2 else 1e-6)


def test_every_record_has_a_test() -> None:
    tested = {*TABLE, *ELSEWHERE}
    missing = [
        op.name for op in registry.all_records() if op.kind != "map" and op.name not in tested
    ]
    assert not missing, f"records without a case in this table: {missing}"
