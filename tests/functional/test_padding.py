"""pad, pixel rearrangements, unfold, fold and interpolate against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch.nn.functional as F
from tests.functional.checks import compare, random

torch = pytest.importorskip("torch")
TF = torch.nn.functional


@pytest.mark.parametrize("widths", [(1, 2), (0, 0), (1, 0, 2, 3), (-1, 2), (-1, -1, 1, 1)])
@pytest.mark.parametrize("value", [None, 1.5])
def test_constant(widths: tuple[int, ...], value: float | None) -> None:
    compare(
        lambda x: F.pad(x, widths, value=value), lambda x: TF.pad(x, widths, value=value),
        random(3, 4, 5),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("shape", "widths"), [((2, 3, 5), (2, 1)), ((2, 3, 4, 5), (1, 2, 3, 0)), ((3, 5), (1, 1)),
                          ((1, 2, 3, 4, 5), (1, 2, 1, 0, 2, 1))]
)  # fmt: skip
def test_modes(mode: str, shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    compare(
        lambda x: F.pad(x, widths, mode), lambda x: TF.pad(x, widths, mode), random(*shape),
        second=False,
    )  # fmt: skip


def test_pixels() -> None:
    compare(lambda x: F.pixel_shuffle(x, 2), lambda x: TF.pixel_shuffle(x, 2), random(2, 8, 3, 4))
    compare(lambda x: F.pixel_unshuffle(x, 3), lambda x: TF.pixel_unshuffle(x, 3), random(2, 6, 6))
    compare(
        lambda x: F.channel_shuffle(x, 3), lambda x: TF.channel_shuffle(x, 3), random(2, 6, 2, 2)
    )


BLOCKS: list[dict[str, Any]] = [
    {"kernel_size": 2}, {"kernel_size": (3, 2), "stride": (1, 2), "padding": 1},
    {"kernel_size": 2, "dilation": 2, "stride": 2}, {"kernel_size": 2, "stride": 2},
]  # fmt: skip


@pytest.mark.parametrize("arguments", BLOCKS)
def test_unfold_and_fold(arguments: dict[str, Any]) -> None:
    x = random(2, 3, 6, 8)
    compare(lambda t: F.unfold(t, **arguments), lambda t: TF.unfold(t, **arguments), x)
    columns = TF.unfold(torch.tensor(x), **arguments).numpy()
    compare(
        lambda t: F.fold(t, (6, 8), **arguments), lambda t: TF.fold(t, (6, 8), **arguments), columns
    )


NEAREST: list[dict[str, Any]] = [
    {"scale_factor": 2}, {"size": (7, 5)}, {"scale_factor": 0.6}, {"scale_factor": (1.5, 2.3)},
    {"mode": "nearest-exact", "size": (7, 3)}, {"mode": "area", "size": (2, 3)},
]  # fmt: skip
SMOOTH: list[dict[str, Any]] = [
    {"scale_factor": 2}, {"size": (7, 9)}, {"scale_factor": 0.6}, {"size": (3, 2)},
    {"size": (7, 9), "align_corners": True}, {"scale_factor": 1.7, "recompute_scale_factor": True},
]  # fmt: skip


@pytest.mark.parametrize("arguments", NEAREST)
def test_nearest(arguments: dict[str, Any]) -> None:
    compare(
        lambda x: F.interpolate(x, **arguments), lambda x: TF.interpolate(x, **arguments),
        random(2, 3, 4, 6),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("arguments", SMOOTH)
def test_smooth(mode: str, arguments: dict[str, Any]) -> None:
    compare(
        lambda x: F.interpolate(x, mode=mode, **arguments),
        lambda x: TF.interpolate(x, mode=mode, **arguments), random(2, 3, 4, 6), second=False,
    )  # fmt: skip


def test_other_dimensions() -> None:
    compare(
        lambda x: F.interpolate(x, 7, mode="linear"), lambda x: TF.interpolate(x, 7, mode="linear"),
        random(2, 3, 5), second=False,
    )  # fmt: skip
    compare(
        lambda x: F.interpolate(x, (3, 4, 5), mode="trilinear"),
        lambda x: TF.interpolate(x, (3, 4, 5), mode="trilinear"), random(1, 2, 2, 3, 4),
        second=False,
    )  # fmt: skip
    assert np.isfinite(TF.interpolate(torch.ones(1, 1, 2), scale_factor=2).numpy()).all()
