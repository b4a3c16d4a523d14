"""Pooling against PyTorch: values, positions, gradients of the first two orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random, strided

torch = pytest.importorskip("torch")
TF = torch.nn.functional

WINDOWS: list[tuple[int, dict[str, Any]]] = [
    (1, {"kernel_size": 3}), (1, {"kernel_size": 12, "stride": 1}),
    (2, {"kernel_size": 2}), (2, {"kernel_size": 3, "stride": 2, "padding": 1}),
    (2, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    (2, {"kernel_size": (3, 2), "stride": (1, 3)}), (2, {"kernel_size": 2, "stride": 3}),
    (2, {"kernel_size": 5, "stride": 2, "padding": 2}), (3, {"kernel_size": 2, "stride": 1}),
]  # fmt: skip


def image(dims: int) -> np.ndarray:
    return random(2, 3, *((17,), (11, 13), (4, 5, 6))[dims - 1])


@pytest.mark.parametrize(("dims", "arguments"), WINDOWS)
def test_max(dims: int, arguments: dict[str, Any]) -> None:
    name = f"max_pool{dims}d"
    x = image(dims)
    compare(
        lambda t: getattr(F, name)(t, **arguments), lambda t: getattr(TF, name)(t, **arguments), x
    )
    ours = getattr(F, name)(lazytorch.tensor(x), return_indices=True, **arguments)
    theirs = getattr(TF, name)(torch.tensor(x), return_indices=True, **arguments)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1].numpy())


@pytest.mark.parametrize("dilation", [2, (1, 2)])
def test_dilated_max(dilation: Any) -> None:
    compare(
        lambda t: F.max_pool2d(t, 3, 2, 1, dilation),
        lambda t: TF.max_pool2d(t, 3, 2, 1, dilation),
        image(2),
    )


def test_the_first_of_equals_gets_the_gradient() -> None:
    x = np.zeros((1, 1, 6, 6))
    compare(lambda t: F.max_pool2d(t, 2), lambda t: TF.max_pool2d(t, 2), x)
    compare(lambda t: F.max_pool2d(t, 3, 1), lambda t: TF.max_pool2d(t, 3, 1), x)


def test_max_of_nan_and_infinities() -> None:
    x = random(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 2:, :2], x[0, 0, 3, 3] = np.nan, -np.inf, np.inf
    compare(lambda t: F.max_pool2d(t, 2), lambda t: TF.max_pool2d(t, 2), x, second=False)
    ours = F.max_pool2d(lazytorch.tensor(x), 2, 2, 1, return_indices=True)[1].numpy()
    assert ours.min() >= 0 and ours.max() < 16


@pytest.mark.parametrize(("dims", "arguments"), WINDOWS)
@pytest.mark.parametrize("include", [True, False])
def test_average(dims: int, arguments: dict[str, Any], include: bool) -> None:
    name = f"avg_pool{dims}d"
    compare(
        lambda t: getattr(F, name)(t, count_include_pad=include, **arguments),
        lambda t: getattr(TF, name)(t, count_include_pad=include, **arguments),
        image(dims),
    )


def test_divisor_override() -> None:
    compare(
        lambda t: F.avg_pool2d(t, 3, divisor_override=4),
        lambda t: TF.avg_pool2d(t, 3, divisor_override=4),
        image(2),
    )


@pytest.mark.parametrize("size", [1, (11, 13), (3, 4), (None, 5), (1, 13), (20, 2)])
def test_adaptive(size: Any) -> None:
    compare(
        lambda t: F.adaptive_avg_pool2d(t, size), lambda t: TF.adaptive_avg_pool2d(t, size),
        image(2),
    )  # fmt: skip
    compare(
        lambda t: F.adaptive_max_pool2d(t, size), lambda t: TF.adaptive_max_pool2d(t, size),
        image(2),
    )  # fmt: skip
    ours = F.adaptive_max_pool2d(lazytorch.tensor(image(2)), size, return_indices=True)
    theirs = TF.adaptive_max_pool2d(torch.tensor(image(2)), size, return_indices=True)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1].numpy())


def test_adaptive_in_other_dimensions() -> None:
    compare(lambda t: F.adaptive_avg_pool1d(t, 5), lambda t: TF.adaptive_avg_pool1d(t, 5), image(1))
    compare(
        lambda t: F.adaptive_avg_pool3d(t, (2, 3, 4)),
        lambda t: TF.adaptive_avg_pool3d(t, (2, 3, 4)),
        image(3),
    )
    compare(lambda t: F.adaptive_max_pool3d(t, 2), lambda t: TF.adaptive_max_pool3d(t, 2), image(3))


def test_unbatched_and_strided() -> None:
    compare(lambda t: F.max_pool2d(t, 2), lambda t: TF.max_pool2d(t, 2), random(3, 6, 7))
    compare(lambda t: F.avg_pool2d(t, 2), lambda t: TF.avg_pool2d(t, 2), strided(2, 3, 6, 7))
    compare(
        lambda t: F.adaptive_avg_pool2d(t, 2), lambda t: TF.adaptive_avg_pool2d(t, 2),
        random(3, 6, 7),
    )  # fmt: skip


@pytest.mark.parametrize("norm", [1, 2, 3])
def test_lp(norm: float) -> None:
    compare(
        lambda t: F.lp_pool2d(t, norm, 2), lambda t: TF.lp_pool2d(t, norm, 2), np.abs(image(2)),
        second=False,
    )  # fmt: skip
    compare(
        lambda t: F.lp_pool1d(t, norm, 3, 2), lambda t: TF.lp_pool1d(t, norm, 3, 2),
        np.abs(image(1)), second=False,
    )  # fmt: skip
