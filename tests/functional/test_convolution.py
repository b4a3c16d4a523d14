"""Convolutions against PyTorch: random geometries, gradients of the first two orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random, strided

torch = pytest.importorskip("torch")
TF = torch.nn.functional

GEOMETRIES: list[tuple[int, dict[str, Any]]] = [
    (1, {}), (1, {"stride": 2, "padding": 1}), (1, {"padding": "same", "dilation": 2}),
    (2, {}), (2, {"stride": 2, "padding": 1}), (2, {"padding": "same"}),
    (2, {"stride": (2, 3), "padding": (2, 1), "dilation": (1, 2)}), (2, {"padding": "valid"}),
    (2, {"stride": 3, "padding": 4}), (2, {"groups": 2}),
    (2, {"groups": 4, "stride": 2, "padding": 1}), (3, {"stride": (1, 2, 1), "padding": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "arguments"), GEOMETRIES)
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(dims: int, arguments: dict[str, Any], bias: bool) -> None:
    name = f"conv{dims}d"
    groups = arguments.get("groups", 1)
    extents = (7, 8, 6)[:dims] if dims < 3 else (4, 5, 4)
    kernel = (3, 2, 3)[:dims]
    x = random(2, 4, *extents)
    w = random(4, 4 // groups, *kernel)
    arrays = [x, w, random(4, seed=3)] if bias else [x, w]
    compare(
        lambda *t: getattr(F, name)(*t, **arguments),
        lambda *t: getattr(TF, name)(*t, **arguments),
        *arrays, second=bias,
    )  # fmt: skip


TRANSPOSED: list[tuple[int, dict[str, Any]]] = [
    (1, {}), (1, {"stride": 3, "output_padding": 2}),
    (2, {"stride": 2, "padding": 1, "output_padding": 1}), (2, {"groups": 2, "stride": 2}),
    (2, {"dilation": (2, 1), "padding": (3, 0)}), (3, {"stride": 2}),
    # Longer by two strides: the convolution that is the gradient has room for more positions.
    (1, {"dilation": 3, "output_padding": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "arguments"), TRANSPOSED)
def test_transposed(dims: int, arguments: dict[str, Any]) -> None:
    name = f"conv_transpose{dims}d"
    groups = arguments.get("groups", 1)
    extents = (5, 4, 3)[:dims] if dims < 3 else (2, 3, 2)
    compare(
        lambda *t: getattr(F, name)(*t, **arguments),
        lambda *t: getattr(TF, name)(*t, **arguments),
        random(2, 4, *extents), random(4, 6 // groups, *(3, 2, 3)[:dims]), random(6, seed=3),
    )  # fmt: skip


def test_unbatched_and_strided_inputs() -> None:
    compare(F.conv2d, TF.conv2d, random(3, 5, 6), random(2, 3, 3, 3), random(2))
    compare(F.conv2d, TF.conv2d, strided(2, 3, 5, 6), strided(2, 3, 3, 3), random(2))
    compare(F.conv_transpose2d, TF.conv_transpose2d, random(3, 5, 6), random(3, 2, 3, 3))


def test_kernel_as_large_as_the_input_and_of_one() -> None:
    compare(F.conv2d, TF.conv2d, random(2, 3, 4, 5), random(2, 3, 4, 5))
    compare(
        lambda *t: F.conv2d(*t, stride=2), lambda *t: TF.conv2d(*t, stride=2),
        random(2, 3, 5, 5), random(4, 3, 1, 1),
    )  # fmt: skip


def test_float32_is_close() -> None:
    compare(
        lambda *t: F.conv2d(*t, padding=1), lambda *t: TF.conv2d(*t, padding=1),
        random(2, 8, 9, 9).astype(np.float32), random(8, 8, 3, 3).astype(np.float32),
        tolerance=1e-4, second=False,
    )  # fmt: skip


def test_empty_batch() -> None:
    compare(F.conv2d, TF.conv2d, random(0, 3, 5, 5), random(2, 3, 3, 3), random(2), second=False)


# Geometries whose kernels have vectors along the output channels: runs of channels that are not
# full, phases of a stride, short and odd lines, one and three dimensions; numbers of images that
# the weight's gradient interleaves; single pixels.
WIDE: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 16, 9, 7), (33, 16, 3, 3), {"padding": 1}),
    ((3, 40, 4, 4), (40, 40, 3, 3), {"padding": 1}),
    ((2, 32, 8, 6), (48, 32, 3, 3), {"padding": 1, "stride": 2}),
    ((2, 17, 11, 13), (35, 17, 3, 2), {"padding": (2, 1), "stride": (2, 3)}),
    ((2, 16, 10, 9), (32, 16, 3, 3), {"padding": 2, "dilation": 2}),
    ((2, 64, 6, 6), (64, 32, 3, 3), {"padding": 1, "groups": 2}),
    ((2, 32, 40), (32, 32, 5), {"padding": 2}),
    ((1, 16, 4, 5, 6), (32, 16, 3, 3, 3), {"padding": 1}),
    ((8, 17, 4, 4), (24, 17, 3, 3), {"padding": 1}),
    ((4, 20, 3, 7), (21, 20, 2, 3), {"padding": (0, 3), "stride": (1, 2), "dilation": (2, 1)}),
    ((3, 18, 7, 7), (33, 18, 1, 1), {}),
    ((2, 130, 5, 6), (40, 130, 1, 1), {"stride": 2}),
]


@pytest.mark.parametrize(("data", "kernel", "arguments"), WIDE)
def test_many_channels(
    data: tuple[int, ...], kernel: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    name = f"conv{len(data) - 2}d"
    for dtype, tolerance in ((np.float32, 2e-4), (np.float64, 1e-9)):
        compare(
            lambda *t: getattr(F, name)(*t, **arguments),
            lambda *t: getattr(TF, name)(*t, **arguments),
            random(*data).astype(dtype), random(*kernel).astype(dtype),
            random(kernel[0], seed=3).astype(dtype), tolerance=tolerance, second=False,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "kernel"), [((4, 8, 512), (16, 8, 3)), ((1, 3, 9, 401), (8, 3, 3, 5))]
)
def test_lines_longer_than_a_block_of_the_sum(
    data: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    """The weight's gradient sums along lines that a work-item stages whole."""
    name = f"conv{len(data) - 2}d"
    compare(
        lambda *t: getattr(F, name)(*t, padding=1), lambda *t: getattr(TF, name)(*t, padding=1),
        random(*data).astype(np.float32), random(*kernel).astype(np.float32),
        tolerance=1e-3, second=False,
    )  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2])
def test_many_channels_transposed(stride: int) -> None:
    compare(
        lambda *t: F.conv_transpose2d(*t, stride=stride, padding=1),
        lambda *t: TF.conv_transpose2d(*t, stride=stride, padding=1),
        random(2, 32, 5, 6), random(32, 33, 4, 4), random(33, seed=3), second=False,
    )  # fmt: skip


@pytest.mark.parametrize(("channels", "size"), [((33, 19), 5), ((64, 48), 17)])
def test_weight_gradient_with_an_update(channels: tuple[int, int], size: int) -> None:
    """The update is part of the gradient's kernel, which stores along the weight's rows."""
    x, w = random(3, channels[1], size, size + 1), random(*channels, 3, 3)

    def updated(library: Any, functions: Any) -> Any:
        weight = library.tensor(w).requires_grad_()
        optimizer = library.optim.SGD([weight], lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            functions.conv2d(library.tensor(x), weight, padding=1).sin().sum().backward()
            optimizer.step()
        return weight.detach().numpy()

    np.testing.assert_allclose(
        updated(lazytorch, F), updated(torch, TF), rtol=1e-3, atol=2e-3 * size
    )
