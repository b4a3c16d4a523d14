"""What the lanes of a vector read: offsets, the readers made for them, and whole kernels."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.codegen import lanes
from lazytorch.codegen.joining import collapse, widen
from lazytorch.codegen.render import render
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Kernel, Reduce, RowBody, Store
from lazytorch.ops import reduction
from lazytorch.runtime import available_devices

F = torch.nn.functional
DEVICES = available_devices()


def test_offsets() -> None:
    x, y = Axis(48), Axis(9)
    place = of_atom(x)
    assert lanes.lane_offsets(place * 3 + of_atom(y), x, 4, False) == (0, 3, 6, 9)
    assert lanes.lane_offsets(place * -1 + 47, x, 4, False) == (0, -1, -2, -3)
    assert lanes.lane_offsets(of_atom(y), x, 4, False) == (0, 0, 0, 0)
    assert lanes.lane_offsets((place + 1) // 2, x, 4, True) == (0, 1, 1, 2)
    assert lanes.lane_offsets(place % 2, x, 4, True) == (0, 1, 0, 1)
    # Thirds do not begin with a vector, nor halves where a vector may begin anywhere.
    assert lanes.lane_offsets(place // 3, x, 4, True) is None
    assert lanes.lane_offsets(place // 2, x, 4, False) is None


@pytest.mark.parametrize("size", range(4, 80))
def test_widths_cover_an_axis(size: int) -> None:
    width = 16
    parts = lanes.widths_below(size, width)
    left = size % width - sum(parts)
    assert left >= 0 and (left > 0) == lanes.has_singles(size, width)
    assert left < lanes.NARROWEST or size >= 8 * width


def test_a_gradient_of_pooling_is_spread_over_cores_and_read_in_vectors() -> None:
    """64 channels, a sum of 64 x 24 x 24 in each: as many work-groups, no load lane by lane."""
    channel, image, line, column = Axis(64), Axis(64), Axis(24), Axis(24)
    at = of_atom(channel) * 144 + of_atom(image) * 9216
    pooled = at + of_atom(line) // 2 * 12 + of_atom(column) // 2
    value = ex.load(1, pooled, (), dtypes.float32)
    total = Reduce(3, reduction.SUM, value, (image, line, column))
    store = Store(2, of_atom(channel), ex.result(3, dtypes.float32))
    kernel = Kernel((RowBody((channel,), (total, store)),), {1: dtypes.float32, 2: dtypes.float32})
    source = render(kernel, Target(), "k")
    assert source.groups * source.local == 64
    assert source.text.count("a1[") == 0
    assert sum(name.startswith("lt_lanes_0_0_1_1") for name in source.helpers) == 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "uint8"])
def test_steps_repeats_and_flips(device: str, dtype: str) -> None:
    x = (np.arange(6 * 93) % 251).reshape(6, 93)
    t = torch.tensor(x).to(getattr(torch, dtype)).to(device)
    for step in (2, 3, 4, 7):
        found = (t[:, 1::step] + 1).cpu().to(torch.int64).numpy()
        expected = torch.tensor(x[:, 1::step] + 1).to(getattr(torch, dtype)).to(torch.int64)
        assert (found == expected.numpy()).all()
    kept = t.cpu().to(torch.int64).numpy()
    assert (t.flip(1).contiguous().cpu().to(torch.int64).numpy() == kept[:, ::-1]).all()
    for times in (2, 4, 5):
        found = t.repeat_interleave(times, 1).cpu().to(torch.int64).numpy()
        assert (found == kept.repeat(times, 1)).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [8, 11, 12, 13, 24, 28, 33, 57])
def test_max_pooling_of_odd_sizes(device: str, size: int) -> None:
    x = np.random.default_rng(size).standard_normal((3, 5, size, size)).astype(np.float32)
    t = torch.tensor(x, device=device, requires_grad=True)
    out = F.max_pool2d(t, 3, 2, 1)
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (2, 3))[:, :, ::2, ::2]
    assert (out.detach().cpu().numpy() == windows.max((4, 5))).all()
    out.sum().backward()
    chosen = np.zeros_like(wide)
    places = windows.reshape(*windows.shape[:4], 9).argmax(4)
    for n, c, i, j in np.ndindex(*places.shape):
        down, right = divmod(int(places[n, c, i, j]), 3)
        chosen[n, c, 2 * i + down, 2 * j + right] += 1
    assert t.grad is not None
    assert (t.grad.cpu().numpy() == chosen[:, :, 1:-1, 1:-1]).all()


def test_small_images_fill_vectors() -> None:
    """Windows of 2 x 2 over images of 8 x 8 and 4 x 4: a vector has several lines, or channels."""
    for size, name in ((8, "lt_lanes_0_2_4_6_16_18"), (4, "lt_lanes_0_2_8_10_16")):
        images, half = Axis(640), size // 2
        row, column, down, right = Axis(half), Axis(half), Axis(2), Axis(2)
        line = of_atom(row) * (2 * size) + of_atom(down) * size
        at = of_atom(images) * size**2 + line + of_atom(column) * 2 + of_atom(right)
        largest = Reduce(3, reduction.MAX, ex.load(1, at, (), dtypes.float32), (down, right))
        place = of_atom(images) * half**2 + of_atom(row) * half + of_atom(column)
        store = Store(2, place, ex.result(3, dtypes.float32))
        body = widen(collapse(RowBody((images, row, column), (largest, store))), Target())
        source = render(Kernel((body,), {1: dtypes.float32, 2: dtypes.float32}), Target(), "k")
        assert any(helper.startswith(name) for helper in source.helpers)
        assert "vstore16" in source.text and source.local == 1


@pytest.mark.parametrize("device", DEVICES)
def test_small_images(device: str) -> None:
    """A convolution of few channels, normalized and pooled, forwards and backwards."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((5, 1, 4, 4)).astype(np.float32)
    kernel = generator.standard_normal((33, 1, 3, 3)).astype(np.float32)
    found = []
    for place in ("numpy", device):
        t, w = (torch.tensor(v, device=place, requires_grad=True) for v in (x, kernel))
        y = F.batch_norm(F.conv2d(t, w, padding=1), None, None, training=True)
        out = F.max_pool2d(y.relu(), 2)
        (out * out).sum().backward()
        found.append([v.detach().cpu().numpy() for v in (out, t.grad, w.grad)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * abs(a).max())
