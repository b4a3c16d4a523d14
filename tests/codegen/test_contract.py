"""Contractions from body to result, on every OpenCL device found, against NumPy.

Bodies are built by hand, lowered, rendered and launched; nothing of the scheduler is used.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lazytorch import dtypes
from lazytorch.codegen.contract import lower_contract
from lazytorch.codegen.render import program, render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.expression import Condition, Expression
from lazytorch.ir.index import Axis, Index, of_atom
from lazytorch.ir.kernel import ContractBody, Store
from lazytorch.ops import elementwise
from lazytorch.runtime import Device, get_device
from lazytorch.runtime.discovery import discover

FIRST, SECOND, BIAS, RESIDUAL, OUT, OUT_TOO, SUM = range(1, 8)
CPU = Target(local_memory=256 << 10, l1_bytes=48 << 10, l2_bytes=2 << 20)
TARGETS = {
    "cpu": CPU,
    "avx2": replace(CPU, vector_width=8, compute_units=16, l1_bytes=32 << 10, l2_bytes=1 << 19),
    "neon": replace(CPU, vector_width=4, compute_units=4),
    "small": replace(CPU, local_memory=16 << 10, l1_bytes=16 << 10, l2_bytes=64 << 10),
    "gpu": Target(family="gpu", compute_units=8),
}


def is_first(device: Device) -> bool:
    """Whether everything is checked here; another driver compiles the same texts, slowly, and
    what it does to them shows in fewer."""
    return device is get_device("opencl:0")


def only_on_first(device: Device, target: str = "small") -> None:
    """The cuts for other processors need checking once, not on every driver."""
    if target in ("avx2", "neon", "small") and not is_first(device):
        pytest.skip("checked on the first device")


NAMES = [f"opencl:{item.index}" for item in discover().candidates]


@pytest.fixture(params=NAMES or [None], scope="module")
def device(request: pytest.FixtureRequest) -> Device:
    if request.param is None:
        pytest.skip("no OpenCL device")
    return get_device(request.param)


def run(
    body: ContractBody,
    arrays: dict[int, np.ndarray[Any, Any]],
    outputs: dict[int, tuple[tuple[int, ...], DType]],
    target: Target,
    device: Device,
) -> list[np.ndarray[Any, Any]]:
    """Lower, build and launch a body; the output arrays."""
    values = {number: dtypes.from_numpy(array.dtype) for number, array in arrays.items()}
    values.update({number: dtype for number, (_, dtype) in outputs.items()})
    if not device.capabilities.fp64 and dtypes.float64 in values.values():
        pytest.skip("the device has no float64")
    buffers = {number: device.upload(array) for number, array in arrays.items()}
    for number, (shape, dtype) in outputs.items():
        buffers[number] = device.upload(np.full(shape, 77, dtype.numpy))
    count = [100]

    def new_value(dtype: DType, size: int) -> int:
        count[0] += 1
        # What nobody writes must not matter: fill with a value that would show.
        garbage = np.nan if dtype.kind == "f" else 123456789
        buffers[count[0]] = device.upload(np.full(size, garbage, dtype.numpy))
        return count[0]

    kernels = lower_contract(body, values, new_value, target)
    sources = [render(kernel, target, f"k{number}") for number, kernel in enumerate(kernels)]
    launchers = device.build(program(sources), [source.name for source in sources])
    for source in sources:
        assert not source.scalars
        arguments = [buffers[number] for number in source.arrays]
        launchers[source.name](arguments, (source.global_size,), (source.local,))
    return [buffers[n].as_numpy(dtype.numpy, shape) for n, (shape, dtype) in outputs.items()]


def numbers(shape: tuple[int, ...], dtype: DType, seed: int) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(seed)
    if dtype.kind in "iu":
        high = np.iinfo(dtype.numpy).max
        return generator.integers(-high, high, shape).astype(dtype.numpy)
    return generator.standard_normal(shape).astype(dtype.numpy)


def close(
    got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], dtype: DType, length: int
) -> None:
    if dtype.kind in "iu":
        np.testing.assert_array_equal(got, wanted)
        return
    # Roundings of a running sum add up like a random walk.
    walk = (length + 1) ** 0.5
    step = {2: 1e-2, 4: 1.2e-7 * walk, 8: 2.3e-16 * walk}[dtype.itemsize]
    scale = float(np.abs(wanted).max()) if wanted.size else 0.0
    error = np.abs(got.astype(np.float64) - wanted).max() if wanted.size else 0.0
    assert error <= step * (scale + 1), f"off by {error}"


def cast(value: Expression, dtype: DType) -> Expression:
    if value.dtype is dtype:
        return value
    return ex.apply(elementwise.CAST, (dtype,), (value,), dtype)


def add(first: Expression, second: Expression) -> Expression:
    return ex.apply(elementwise.ADD, (), (first, second), first.dtype)


def matmul(
    device: Device,
    target: Target,
    m: int,
    n: int,
    k: int,
    *,
    batch: int = 0,
    transposed: tuple[bool, bool] = (False, False),
    dtype: DType = dtypes.float32,
    epilogue: bool = False,
    prologue: bool = False,
    out_transposed: bool = False,
) -> None:
    """Compare one (batched) matrix product."""
    rows, columns, summed, lead = Axis(m, "m"), Axis(n, "n"), Axis(k, "k"), Axis(batch or 1, "g")
    i, j, l, b = (of_atom(axis) for axis in (rows, columns, summed, lead))
    first_index = (l * m + i if transposed[0] else i * k + l) + b * (m * k)
    second_index = (j * k + l if transposed[1] else l * n + j) + b * (n * k)
    first: Expression = ex.load(FIRST, first_index, (), dtype)
    second: Expression = ex.load(SECOND, second_index, (), dtype)
    count = batch or 1
    x = numbers((count, k, m) if transposed[0] else (count, m, k), dtype, 1)
    y = numbers((count, n, k) if transposed[1] else (count, k, n), dtype, 2)
    a = x.transpose(0, 2, 1) if transposed[0] else x
    c = y.transpose(0, 2, 1) if transposed[1] else y
    if dtype.kind == "f":
        a, c = a.astype(np.float64), c.astype(np.float64)
    if prologue:
        first = add(first, ex.constant(2, dtype))
        second = ex.apply(elementwise.NEG, (), (second,), dtype)
        a, c = a + 2, -c
    with np.errstate(over="ignore"):
        wanted = np.matmul(a, c)
    accumulate = dtype.compute
    value = cast(ex.result(SUM, accumulate), dtype)
    index = (j * m + i if out_transposed else i * n + j) + b * (m * n)
    arrays = {FIRST: x, SECOND: y}
    outputs: dict[int, Any] = {OUT: ((count, n, m) if out_transposed else (count, m, n), dtype)}
    stores = [Store(OUT, index, value)]
    if epilogue:
        arrays[BIAS], arrays[RESIDUAL] = numbers((n,), dtype, 3), numbers((count, m, n), dtype, 4)
        residual = ex.load(RESIDUAL, i * n + j + b * (m * n), (), dtype)
        biased = add(add(value, ex.load(BIAS, j, (), dtype)), residual)
        stores = [
            Store(
                OUT,
                index,
                ex.apply(elementwise.MAXIMUM, (), (biased, ex.constant(0, dtype)), dtype),
            ),
            Store(OUT_TOO, index, value),
        ]
        outputs[OUT_TOO] = outputs[OUT]
    body = ContractBody(
        (lead,) if batch else (), (rows,), (columns,), (summed,), first, second, SUM, accumulate,
        tuple(stores),
    )  # fmt: skip
    got = run(body, arrays, outputs, target, device)
    expected = [wanted]
    if epilogue:
        biased_too = (
            wanted + arrays[BIAS].astype(wanted.dtype) + arrays[RESIDUAL].astype(wanted.dtype)
        )
        expected.insert(0, np.maximum(biased_too, 0))
    for array, right in zip(got, expected):
        close(array, right.transpose(0, 2, 1) if out_transposed else right, dtype, k)


SHAPES = [
    (1, 1, 1), (1, 7, 5), (7, 1, 5), (1, 40, 100), (40, 1, 100), (1, 1, 1000), (2, 3, 700),
    (16, 16, 16), (17, 33, 19), (64, 64, 64), (100, 99, 101), (5, 300, 64), (300, 5, 64),
    (33, 47, 600), (130, 270, 40), (3, 16, 1), (16, 257, 300), (4, 300, 513), (260, 10, 1024),
]  # fmt: skip
BOTH = [(False, False), (True, False), (False, True), (True, True)]
# Between them, each operand lies both ways: enough where other cases have the other pair.
PAIRS = [(BOTH[0], BOTH[3]), (BOTH[1], BOTH[2])]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(1, 40, 100), (33, 47, 600), (100, 99, 101)], ids=str)
def test_every_target(device: Device, target: str, shape: tuple[int, int, int]) -> None:
    only_on_first(device, target)
    for transposed in PAIRS[(list(TARGETS).index(target) + shape[0]) % 2]:
        matmul(device, TARGETS[target], *shape, transposed=transposed, epilogue=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_layouts(device: Device, shape: tuple[int, int, int]) -> None:
    for transposed in PAIRS[SHAPES.index(shape) % 2]:
        matmul(device, CPU, *shape, transposed=transposed)


@pytest.mark.parametrize("target", ["cpu", "avx2", "neon", "small"])
def test_few_rows(device: Device, target: str) -> None:
    """The matrix is read where it lies: in batches, past a ragged end, with split sums."""
    only_on_first(device)
    chosen = TARGETS[target]
    for transposed in BOTH if target == "cpu" else PAIRS[target == "neon"]:
        matmul(device, chosen, 5, 203, 77, batch=3, transposed=transposed, epilogue=True)
    matmul(device, chosen, 7, 50, 3000, epilogue=True)
    matmul(device, chosen, 2, 90, 2000, transposed=(False, True), epilogue=True)
    # Rows that fall on one set of L1 are packed.
    matmul(device, chosen, 12, 300, 4096, batch=2)


@pytest.mark.parametrize("target", ["cpu", "avx2", "small"])
def test_results_across_the_vectors(device: Device, target: str) -> None:
    """The wider operand of a weight's gradient supplies the vectors, the result's rows are
    columns: panels moved back at the end, batches, split sums, and packing of what is left."""
    only_on_first(device, target)
    chosen = TARGETS[target]
    turned = (True, False)
    matmul(device, chosen, 401, 70, 150, batch=2, transposed=turned, epilogue=True)
    matmul(device, chosen, 803, 400, 810, transposed=turned)
    if device.capabilities.fp64:
        matmul(device, chosen, 197, 64, 1100, transposed=turned, dtype=dtypes.float64)
    matmul(device, chosen, 390, 67, 140, transposed=turned, dtype=dtypes.int32, epilogue=True)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_nothing_to_sum(device: Device, target: str) -> None:
    matmul(device, TARGETS[target], 3, 4, 0, epilogue=True)


@pytest.mark.parametrize("target", ["cpu", "small", "gpu"])
@pytest.mark.parametrize("transposed", BOTH, ids=str)
def test_batches_prologues_and_transposed_outputs(
    device: Device, target: str, transposed: tuple[bool, bool]
) -> None:
    only_on_first(device, target)
    if transposed not in PAIRS[0]:
        only_on_first(device)
    chosen = TARGETS[target]
    # Of a target, half of the layouts with each case; of each case, both pairs of layouts.
    if (transposed in PAIRS[0]) == (target != "small"):
        matmul(device, chosen, 20, 35, 30, batch=3, transposed=transposed, epilogue=True)
        matmul(device, chosen, 45, 70, 90, transposed=transposed, prologue=True)
    else:
        out = {"out_transposed": True, "epilogue": True}
        matmul(device, chosen, 45, 70, 90, transposed=transposed, **out)
        matmul(device, chosen, 20, 500, 400, transposed=transposed, prologue=True, batch=2)


@pytest.mark.parametrize(
    "dtype",
    [dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int32, dtypes.int64],
    ids=repr,
)
@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_dtypes(device: Device, target: str, dtype: DType) -> None:
    for transposed in PAIRS[(dtype.itemsize == 4) ^ (target == "gpu")]:
        matmul(device, TARGETS[target], 37, 50, 300, transposed=transposed, dtype=dtype)


def test_large(device: Device) -> None:
    only_on_first(device)
    matmul(device, CPU, 520, 380, 700, transposed=(True, True), epilogue=True)
    matmul(device, CPU, 520, 380, 700)
    # Few outputs and long sums: split over work-items.
    matmul(device, CPU, 30, 40, 20000, transposed=(True, False), epilogue=True)


@pytest.mark.parametrize("terms", [64, 131])
def test_the_epilogue_is_fetched_for(
    device: Device, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum runs in as many parts as a tile has rows, whatever divides it."""
    only_on_first(device)
    texts: list[str] = []
    joined = program

    def kept(sources: Any) -> str:
        texts.append(joined(sources))
        return texts[-1]

    monkeypatch.setattr(sys.modules[__name__], "program", kept)
    for transposed in BOTH[:2]:
        matmul(device, CPU, 515, 391, terms, transposed=transposed, epilogue=True)
    assert len(texts) == 2 and all("(start + part)" in text for text in texts)
    matmul(device, CPU, 515, 391, terms)
    assert "part" not in texts[-1]


# Convolutions ---------------------------------------------------------------------------------


class Convolution:
    """Axes, operands and reference of one convolution with ``groups``."""

    def __init__(
        self, n: int, c: int, o: int, size: tuple[int, int], kernel: tuple[int, int],
        stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
    ) -> None:  # fmt: skip
        (h, w), (kh, kw) = size, kernel
        oh = (h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
        ow = (w + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
        cg, og = c // groups, o // groups
        sizes = (n, groups, og, cg, oh, ow, kh, kw)
        self.axes = [Axis(size, name) for size, name in zip(sizes, "ngochwyx")]
        image, group, out, channel, down, across, ky, kx = (of_atom(axis) for axis in self.axes)
        at_h = down * stride + ky * dilation - padding
        at_w = across * stride + kx * dilation - padding
        guard = ex.simplify_guard((Condition(at_h, 0, h - 1), Condition(at_w, 0, w - 1)))
        assert guard is not None
        place = image * (c * h * w) + (group * cg + channel) * (h * w) + at_h * w + at_w
        self.input = ex.load(FIRST, place, guard, dtypes.float32)
        self.out_index: Index = (
            image * (o * oh * ow) + (group * og + out) * (oh * ow) + down * ow + across
        )
        self.weight_index: Index = (
            (group * og + out) * (cg * kh * kw) + channel * (kh * kw) + ky * kw + kx
        )
        self.x = numbers((n, c, h, w), dtypes.float32, 5)
        self.weight = numbers((o, cg, kh, kw), dtypes.float32, 6)
        self.grad = numbers((n, o, oh, ow), dtypes.float32, 7)
        padded = np.pad(
            self.x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding))
        )
        # [n, g, c, oh, ow, kh, kw]
        self.columns = np.stack([
            np.stack([
                padded[:, :, y * dilation :: stride, x * dilation :: stride][:, :, :oh, :ow]
                for x in range(kw)
            ], -1) for y in range(kh)
        ], -2).reshape(n, groups, cg, oh, ow, kh, kw)  # fmt: skip
        self.groups = groups

    def forward(self, device: Device, target: Target, epilogue: bool = False) -> None:
        n, g, o, c, oh, ow, kh, kw = self.axes
        second = ex.load(SECOND, self.weight_index, (), dtypes.float32)
        value: Expression = ex.result(SUM, dtypes.float32)
        arrays = {FIRST: self.x, SECOND: self.weight}
        grouped = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        wanted = np.einsum("ngchwyx,gocyx->ngohw", self.columns, grouped).reshape(self.grad.shape)
        if epilogue:
            arrays[BIAS], arrays[RESIDUAL] = (
                numbers((self.grad.shape[1],), dtypes.float32, 8),
                self.grad,
            )
            bias = ex.load(BIAS, of_atom(g) * o.size + of_atom(o), (), dtypes.float32)
            value = add(add(value, bias), ex.load(RESIDUAL, self.out_index, (), dtypes.float32))
            wanted = wanted + arrays[BIAS][None, :, None, None] + self.grad
        body = ContractBody(
            (g,), (n, oh, ow), (o,), (c, kh, kw), self.input, second, SUM, dtypes.float32,
            (Store(OUT, self.out_index, value),),
        )  # fmt: skip
        (got,) = run(body, arrays, {OUT: (wanted.shape, dtypes.float32)}, target, device)
        close(got, wanted, dtypes.float32, c.size * kh.size * kw.size)

    def weight_gradient(self, device: Device, target: Target) -> None:
        n, g, o, c, oh, ow, kh, kw = self.axes
        second = ex.load(SECOND, self.out_index, (), dtypes.float32)
        shape = self.grad.shape
        grad = self.grad.reshape(shape[0], self.groups, -1, *shape[2:])
        wanted = np.einsum("ngchwyx,ngohw->gocyx", self.columns, grad).reshape(self.weight.shape)
        body = ContractBody(
            (g,), (c, kh, kw), (o,), (n, oh, ow), self.input, second, SUM, dtypes.float32,
            (Store(OUT, self.weight_index, ex.result(SUM, dtypes.float32)),),
        )  # fmt: skip
        outputs = {OUT: (wanted.shape, dtypes.float32)}
        (got,) = run(body, {FIRST: self.x, SECOND: self.grad}, outputs, target, device)
        close(got, wanted, dtypes.float32, n.size * oh.size * ow.size)


CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "padded": (2, 3, 5, (12, 20), (3, 3), 1, 1),
    "odd": (2, 5, 9, (17, 19), (3, 3)),
    "strided": (2, 6, 9, (24, 22), (3, 3), 2, 1),
    "stride 3": (2, 4, 6, (25, 31), (5, 4), 3, 2),
    "dilated": (2, 4, 6, (20, 20), (3, 3), 1, 2, 2),
    "strided and dilated": (2, 4, 6, (21, 23), (3, 3), 2, 2, 2),
    "pointwise": (2, 7, 10, (11, 13), (1, 1)),
    "pointwise strided": (2, 7, 10, (12, 14), (1, 1), 2),
    "patches": (2, 3, 8, (32, 32), (4, 4), 4),
    "grouped": (2, 8, 12, (14, 14), (3, 3), 1, 1, 1, 4),
    "depthwise": (2, 8, 8, (14, 18), (3, 3), 1, 1, 1, 8),
    "small images": (5, 16, 20, (4, 4), (3, 3), 1, 1),
    "7x7 images": (3, 16, 32, (7, 7), (3, 3), 1, 1),
    "one channel": (3, 1, 8, (28, 28), (3, 3), 1, 1),
    "large kernel": (2, 3, 8, (30, 30), (7, 7), 2, 3),
    "one line": (3, 6, 10, (1, 200), (1, 5), 1, 0),
    "one column": (3, 6, 10, (50, 1), (5, 1), 1, 0),
    "many channels": (2, 96, 40, (10, 10), (3, 3), 1, 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("target", ["cpu", "avx2", "small", "gpu"])
def test_convolution(device: Device, name: str, target: str) -> None:
    only_on_first(device, target)
    convolution = Convolution(*CONVOLUTIONS[name])
    # The default target does everything, each of the others one half, the next one the other.
    number = list(CONVOLUTIONS).index(name) + list(TARGETS).index(target)
    everything = target == "cpu" and is_first(device)
    if everything or number % 2:
        convolution.forward(device, TARGETS[target], epilogue=target != "avx2")
    if everything or not number % 2:
        convolution.weight_gradient(device, TARGETS[target])


def test_wider_convolution(device: Device) -> None:
    only_on_first(device)
    convolution = Convolution(4, 32, 48, (28, 28), (3, 3), 1, 1)
    convolution.forward(device, CPU)
    convolution.weight_gradient(device, CPU)
