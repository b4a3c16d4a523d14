"""grid_sample, affine_grid, unpooling and fractional pooling against PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.nn import functional as F

peer = pytest.importorskip("torch")
P = peer.nn.functional
_generator = np.random.default_rng(3)


IMAGE = _generator.standard_normal((2, 3, 4, 5))
POINTS = _generator.uniform(-1.7, 1.7, (2, 3, 2, 2))
VOLUME = _generator.standard_normal((1, 2, 3, 4, 2))
SPOTS = _generator.uniform(-1.7, 1.7, (1, 2, 2, 3, 3))


def sampled(library: Any, functional: Any, image: np.ndarray, points: np.ndarray, *how: Any) -> Any:
    """The samples, and the gradients of a weighted sum of them."""
    x = library.tensor(image, requires_grad=True)
    grid = library.tensor(points, requires_grad=True)
    out = functional.grid_sample(x, grid, *how)
    weights = np.cos(np.arange(out.numel())).reshape(tuple(out.shape))
    (out * library.tensor(weights)).sum().backward()
    slopes = np.zeros_like(points) if grid.grad is None else grid.grad.cpu().numpy()
    return out.detach().cpu().numpy(), x.grad.cpu().numpy(), slopes


def agrees(image: np.ndarray, points: np.ndarray, *how: Any) -> None:
    ours, theirs = sampled(torch, F, image, points, *how), sampled(peer, P, image, points, *how)
    for mine, expected in zip(ours, theirs):
        np.testing.assert_allclose(mine, expected, rtol=1e-7, atol=1e-9, err_msg=str(how))


def test_grid_sample_in_every_mode() -> None:
    before = torch.get_default_device()
    torch.set_default_device("numpy")
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    for mode, padding, corners in itertools.product(modes, paddings, (True, False)):
        agrees(IMAGE, POINTS, mode, padding, corners)
        if mode == "bilinear" and padding != "zeros":
            agrees(VOLUME, SPOTS, mode, padding, corners)
    torch.set_default_device(before)


def test_grid_sample_on_each_device(each_device: str) -> None:
    agrees(IMAGE, POINTS, "bilinear", "reflection", False)
    agrees(VOLUME, SPOTS, "nearest", "zeros", True)


def test_affine_grid(each_device: str) -> None:
    for size, shape, corners in (
        ((2, 1, 3, 4), (2, 2, 3), True), ((1, 1, 2, 1, 3), (1, 3, 4), False)
    ):  # fmt: skip
        theta = _generator.standard_normal(shape)
        ours = F.affine_grid(torch.tensor(theta), size, corners).cpu().numpy()
        theirs = P.affine_grid(peer.tensor(theta), size, corners).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_grid_errors() -> None:
    x, grid = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match="expected mode"):
        F.grid_sample(x, grid, "cubic")
    with pytest.raises(RuntimeError, match="same dtype"):
        F.grid_sample(x, grid.double(), align_corners=False)
    with pytest.raises(RuntimeError, match="batch size"):
        F.grid_sample(x, torch.zeros(2, 2, 2, 2), align_corners=False)
    with pytest.raises(ValueError, match="affine matrices"):
        F.affine_grid(torch.zeros(1, 3, 3), (1, 1, 2, 2), False)


def test_unpooling_undoes_pooling(each_device: str) -> None:
    for dims in (1, 2, 3) if each_device == "numpy" else (2,):
        x = torch.randn(2, 3, *(5, 6, 4)[:dims], requires_grad=True)
        pool = getattr(F, f"max_pool{dims}d")
        values, places = pool(x, 2, return_indices=True)
        back = getattr(F, f"max_unpool{dims}d")(values, places, 2, output_size=x.shape)
        assert back.shape == x.shape
        again = pool(torch.where(back == 0, -9.0, back), 2)
        np.testing.assert_array_equal(again.detach().cpu().numpy(), values.detach().cpu().numpy())
        back.sum().backward()
        np.testing.assert_array_equal((x.grad != 0).cpu().numpy(), (back != 0).cpu().numpy())
    with pytest.raises(ValueError, match="invalid output_size"):
        F.max_unpool1d(torch.ones(1, 1, 2), torch.tensor([[[0, 1]]]), 2, output_size=(9,))
    with pytest.raises(RuntimeError, match="invalid max index: 7"):
        F.max_unpool1d(torch.ones(1, 1, 2), torch.tensor([[[0, 7]]]), 2)


def test_fractional_pooling(each_device: str) -> None:
    for dims, extents, wanted in ((2, (7, 9), (3, 4)), (3, (5, 6, 7), (2, 3, 1))):
        x = _generator.standard_normal((2, 3, *extents))
        samples = _generator.random((2, 3, dims))
        name = f"fractional_max_pool{dims}d"
        ours = getattr(F, name)(
            torch.tensor(x), 2, wanted, return_indices=True, _random_samples=torch.tensor(samples)
        )
        theirs = getattr(P, name)(
            peer.tensor(x), 2, wanted, return_indices=True, _random_samples=peer.tensor(samples)
        )
        for a, b in zip(ours, theirs):
            np.testing.assert_array_equal(a.cpu().numpy(), b.numpy())
    assert F.fractional_max_pool2d(torch.rand(1, 2, 8, 8), 2, output_ratio=0.5).shape[-1] == 4
    with pytest.raises(ValueError, match="output_size or an output_ratio"):
        F.fractional_max_pool2d(torch.rand(1, 2, 8, 8), 2)


def test_negative_widths_crop_after_the_edge_is_repeated() -> None:
    x = np.arange(4.0).reshape(1, 1, 4)
    for mode, widths in (
        ("replicate", (2, -4)), ("replicate", (-5, 4)), ("reflect", (2, -4)), ("reflect", (-4, 1)),
        ("circular", (1, -1)),
    ):  # fmt: skip
        ours = F.pad(torch.tensor(x), widths, mode).numpy()
        np.testing.assert_array_equal(ours, P.pad(peer.tensor(x), widths, mode).numpy())
