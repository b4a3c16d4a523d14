"""Running sums, products and maxima in vectors: bit for bit what one after the other gives."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch
from lazytorch import dtypes, engine
from lazytorch.codegen.scans import scan_style
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import ScanBody
from lazytorch.ops import reduction
from lazytorch.runtime import available_devices
from lazytorch.tensor.storage import node_of

# Whole squares and ragged ones, both ways; rows on both sides of the scanned axis; short rows.
CASES = [((37, 50), 1), ((53, 41), 0), ((3, 20, 35), 1), ((2, 19, 33), 2), ((5, 9), 1), ((70,), 0)]
SCANS = {"cumsum": np.cumsum, "cumprod": np.cumprod, "cummax": np.maximum.accumulate}


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    generator = np.random.default_rng(len(shape))
    if dtype == "int32":
        return generator.integers(-9, 9, shape).astype(dtype)
    return (generator.standard_normal(shape) + 0.5).astype(dtype)


def scanned(name: str, tensor: lazytorch.Tensor, axis: int) -> np.ndarray:
    made = getattr(tensor, name)(axis)
    return (made[0] if name == "cummax" else made).cpu().numpy()


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_scans_in_order(shape: tuple[int, ...], axis: int, device: str) -> None:
    # Each scan in one dtype of two sizes; every dtype in one scan.
    of = {"float32": SCANS, "int32": ["cumsum", "cummax"], "float64": ["cumprod"]}
    for dtype, every in of.items():
        names = every if device != "opencl:1" else [name for name in every if name == "cumsum"]
        data = values(shape, dtype)
        tensor = lazytorch.tensor(data, device=device)
        for name in names:
            wanted = SCANS[name](data.astype("int64") if dtype == "int32" else data, axis=axis)
            np.testing.assert_array_equal(scanned(name, tensor, axis), wanted, f"{name} {dtype}")


@pytest.mark.parametrize("device", [name for name in available_devices() if name != "opencl:1"])
def test_scans_of_views_and_with_arithmetic_before(device: str) -> None:
    data = values((40, 52), "float32")
    tensor = lazytorch.tensor(data, device=device)
    for axis in (0, 1):
        wanted = np.cumsum(data.T[:, ::2] * np.float32(3), axis=axis)
        got = scanned("cumsum", tensor.t()[:, ::2] * 3, axis)
        np.testing.assert_array_equal(got, wanted)
    bits = lazytorch.tensor(data > 0, device=device)
    np.testing.assert_array_equal(scanned("cumsum", bits, 1), np.cumsum(data > 0, 1))
    half = tensor.bfloat16().cumsum(1).float().cpu().numpy()
    np.testing.assert_allclose(half, np.cumsum(data, 1), rtol=0.1, atol=0.5)


def test_which_scans_run_in_vectors() -> None:
    rows, columns = Axis(64), Axis(64)
    index = of_atom(rows) * 64 + of_atom(columns)
    value = ex.load(1, index, (), dtypes.float32)
    operation = reduction.SUM
    across = ScanBody((columns,), rows, operation, value, 2, index)
    along = ScanBody((rows,), columns, operation, value, 2, index)
    styles = [scan_style(body, Target()) for body in (across, along)]
    assert [style.kind for style in styles if style is not None] == ["columns", "squares"]
    assert scan_style(across, Target(family="gpu")) is None


@pytest.mark.parametrize("device", available_devices())
def test_a_long_value_is_written_once(device: str) -> None:
    """Whole squares and a rest of both rows and positions, made of random numbers."""
    lazytorch.manual_seed(3)
    numbers = lazytorch.randn(37, 50, device=device)
    lazytorch.manual_seed(3)
    got = scanned("cumsum", lazytorch.randn(37, 50, device=device), 1)
    np.testing.assert_array_equal(got, np.cumsum(numbers.cpu().numpy(), 1))
    pending = lazytorch.rand(37, 64, device=device).cumsum(1)
    text = engine.plan_for([node_of(pending)]).plan.source
    # Its definition, the loop, and the rows and positions outside whole squares.
    assert text.count("lt_philox") <= 4
