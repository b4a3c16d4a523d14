"""Sorting on every device, against PyTorch's stable sort."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices, get_device
from lazytorch.schedule import choices

torch = pytest.importorskip("torch")
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "uint8", "bool")


def values(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Ties, extremes and, of floats, both zeros, infinities and NaN."""
    rng = np.random.default_rng(len(dtype))
    wanted = getattr(torch, dtype)
    if wanted.is_floating_point:
        special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.5, -1.5, 1e-3])
        some = rng.choice(special, shape)
        array = np.where(rng.random(shape) < 0.5, rng.standard_normal(shape), some)
        return torch.from_numpy(array).to(wanted)
    if wanted is torch.bool:
        return torch.from_numpy(rng.random(shape) < 0.5)
    limits = torch.iinfo(wanted)
    wide = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    near = rng.integers(0, 3, shape).astype(dtype)
    return torch.from_numpy(np.where(rng.random(shape) < 0.5, wide, near))


def on_device(tensor: torch.Tensor, device: str) -> lazytorch.Tensor:
    if tensor.dtype is torch.bfloat16:
        return lazytorch.tensor(tensor.float().numpy(), device=device).bfloat16()
    return lazytorch.tensor(tensor.numpy(), device=device)


def assert_same(mine: lazytorch.Tensor, right: torch.Tensor, what: str) -> None:
    if right.dtype is torch.bfloat16:
        mine, right = mine.float(), right.float()
    got, wanted = mine.cpu().numpy(), right.numpy()
    np.testing.assert_array_equal(got, wanted, what)
    if got.dtype.kind == "f":
        numbers = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(wanted)[numbers], what)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, device: str) -> None:
    if dtype == "float64" and not get_device(device).capabilities.fp64:
        pytest.skip("the device has no float64")
    if device == "opencl:1" and dtype not in ("float32", "int64", "bool"):
        pytest.skip("the kernels of the first device in another compiler")
    data = values(dtype, (3, 90))
    x = on_device(data, device)
    mine = lazytorch.sort(x, dim=1, stable=True)
    assert_same(mine.indices, torch.sort(data, dim=1, stable=True).indices, f"places of {dtype}")
    down = torch.sort(data, dim=1, descending=True, stable=True)
    few = lazytorch.topk(x, 4, 1)
    assert_same(few.indices, down.indices[:, :4], f"places of the largest of {dtype}")
    assert_same(few.values, down.values[:, :4], f"the largest of {dtype}")


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 7), 0), ((60, 3), 0), ((2, 0), 1), ((0, 2), 1), ((9,), 0)]
)
def test_short_rows_and_other_axes(shape: tuple[int, ...], axis: int, device: str) -> None:
    data = values("float32", shape)
    mine = lazytorch.sort(on_device(data, device), axis)
    right = torch.sort(data, dim=axis, stable=True)
    assert mine.indices.is_contiguous()
    assert_same(mine[1], right[1], "places")
    assert_same(mine[0], right[0], "values")


@pytest.mark.parametrize("device", available_devices())
def test_long_rows_are_merged(device: str) -> None:
    size = 2 * choices.SORTED_RUN + 77
    data = values("float32", (2, size))
    x = on_device(data, device)
    mine, right = lazytorch.sort(x, 1), torch.sort(data, dim=1, stable=True)
    assert_same(mine[1], right[1], "places")
    assert_same(mine[0], right[0], "values")
    down = torch.sort(data, dim=1, descending=True, stable=True)
    for count in (choices.FIRST_FEW, choices.FIRST_FEW + 1):
        few = lazytorch.topk(x, count)
        assert_same(few[1], down[1][:, :count], f"places of the first {count}")


@pytest.mark.parametrize("device", available_devices())
def test_views_scalars_and_gradients(device: str) -> None:
    data = values("int32", (8, 12))
    view = on_device(data, device).t()[:, ::2]
    assert_same(view.argsort(0), data.t()[:, ::2].sort(dim=0, stable=True)[1], "places in a view")
    value, place = lazytorch.tensor(3.0, device=device).sort()
    assert (value.item(), place.item()) == (3.0, 0)
    x = lazytorch.tensor([3.0, 1.0, 2.0], device=device, requires_grad=True)
    (x.sort().values * lazytorch.tensor([1.0, 10.0, 100.0], device=device)).sum().backward()
    assert x.grad.tolist() == [100.0, 1.0, 10.0]
    (x.topk(1).values * 5).backward()
    assert x.grad.tolist() == [105.0, 1.0, 10.0]


def test_complex_numbers_have_no_order() -> None:
    with pytest.raises(RuntimeError, match="complex"):
        lazytorch.sort(lazytorch.ones(2, dtype=lazytorch.complex64))
