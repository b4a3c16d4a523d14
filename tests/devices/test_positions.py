"""Gathers lane by lane and scatters in rows and columns, where vectors end evenly and where not."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices

SHAPES = [(37, 48), (9, 53), (5, 6, 35), (70,), (0, 40)]


def arrays(shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Small whole numbers, whose sums are exact in any order, and positions along the axis."""
    generator = np.random.default_rng(sum(shape))
    data = generator.integers(-9, 9, shape).astype("float32")
    return data, generator.integers(0, max(shape[axis], 1), shape)


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gather_and_scatter_along_each_axis(shape: tuple[int, ...], device: str) -> None:
    slow = device == "opencl:1"
    for axis in range(len(shape))[-1 if slow else 0 :]:
        data, positions = arrays(shape, axis)
        tensor = lazytorch.tensor(data, device=device)
        where = lazytorch.tensor(positions, device=device)
        found = (tensor * 2).gather(axis, where) + 1
        np.testing.assert_array_equal(
            found.cpu().numpy(), np.take_along_axis(data * 2, positions, axis) + 1
        )
        wanted = data.copy()
        grid = list(np.indices(shape, sparse=True))
        grid[axis] = positions
        np.add.at(wanted, tuple(grid), data)
        added = tensor.scatter_add(axis, where, tensor)
        np.testing.assert_array_equal(added.cpu().numpy(), wanted)
        if slow:
            continue
        largest = tensor.scatter_reduce(axis, where, tensor, "amax")
        wanted = data.copy()
        np.maximum.at(wanted, tuple(grid), data)
        np.testing.assert_array_equal(largest.cpu().numpy(), wanted)


@pytest.mark.parametrize("device", available_devices())
def test_gathers_of_views_and_what_follows_them(device: str) -> None:
    data, _ = arrays((40, 52), 0)
    tensor = lazytorch.tensor(data, device=device)
    picks = np.random.default_rng(1).integers(-20, 20, 33)
    where = lazytorch.tensor(picks, device=device)
    np.testing.assert_array_equal(tensor.t()[:, where].cpu().numpy(), data.T[:, picks])
    np.testing.assert_array_equal(tensor[where, where].cpu().numpy(), data[picks, picks])
    np.testing.assert_array_equal(tensor[:, where].sum(1).cpu().numpy(), data[:, picks].sum(1))
    spread = lazytorch.tensor(picks % 40, device=device)[:, None].expand(33, 52)
    added = tensor.t().contiguous().t().scatter_add(0, spread, tensor[:33])
    wanted = data.copy()
    np.add.at(wanted, picks % 40, data[:33])
    np.testing.assert_array_equal(added.cpu().numpy(), wanted)


@pytest.mark.parametrize("device", available_devices())
def test_repeated_writes_to_one_place_keep_their_order(device: str) -> None:
    """Of several values for one place the last stays; sums of floats are the same every time."""
    values = np.random.default_rng(2).standard_normal((20, 600)).astype("float32")
    where = np.random.default_rng(3).integers(0, 7, (20, 600))
    tensor = lazytorch.tensor(values, device=device)
    positions = lazytorch.tensor(where, device=device)
    base = lazytorch.zeros(20, 600, device=device)
    wanted = np.zeros((20, 600), "float32")
    total = np.zeros((20, 600), "float32")
    for row, column in np.ndindex(20, 600):
        wanted[row, where[row, column]] = values[row, column]
        total[row, where[row, column]] += values[row, column]
    np.testing.assert_array_equal(base.scatter(1, positions, tensor).cpu().numpy(), wanted)
    np.testing.assert_array_equal(base.scatter_add(1, positions, tensor).cpu().numpy(), total)
