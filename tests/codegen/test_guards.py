"""LAZYTORCH_BOUNDS looks behind and before the arrays in local memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import config
from lazytorch.codegen import attention_tile, guards
from lazytorch.nn import functional
from tests.graphs import DEVICES

OPENCL = [name for name in DEVICES if name.startswith("opencl")]


def test_every_array_gets_a_guard_on_both_sides() -> None:
    declared, before, behind = guards.guarded(
        ["__local float box[40] __attribute__((aligned(64)));", "int other;"], 7, 1
    )
    assert declared == [
        "__local float box_guarded[72] __attribute__((aligned(64)));",
        "__local float *box = box_guarded + 16;",
        "int other;",
    ]
    assert len(before) == len(behind) == 3
    assert "box_guarded[g] != " in behind[1] and "box_guarded[56 + g] != " in behind[1]
    assert "bounds[0] = -7; bounds[1] = 0;" in behind[1]
    assert guards.guarded(["int other;"], 7, 64) == (["int other;"], [], [])
    assert guards.guarded(declared[:1], 7, 64)[1][-1].startswith("barrier")


def operands(device: str, *shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(2)
    made = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return [torch.tensor(array, device=device) for array in made]


@pytest.mark.parametrize("name", [name for name in OPENCL if name.startswith("opencl:0")])
def test_kernels_stay_within_their_arrays(name: str) -> None:
    device, _, family = name.partition("/")
    a, b, c = operands(device, (33, 70), (70, 45), (6, 300))
    with config.override(SCHEDULE_FAMILY=family, BOUNDS=True, PLAN_CACHE=0):
        got, rows = (a @ b).cpu().numpy(), c.softmax(1).cpu().numpy()
    np.testing.assert_allclose(got, a.cpu().numpy() @ b.cpu().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-5)


@pytest.mark.skipif(not OPENCL, reason="no OpenCL device")
def test_convolutions_and_their_gradients_do() -> None:
    x, w, g = operands(OPENCL[0], (3, 20, 9, 9), (40, 20, 3, 3), (3, 40, 9, 9))
    x.requires_grad_(), w.requires_grad_()
    with config.override(BOUNDS=True, PLAN_CACHE=0):
        y = functional.conv2d(x, w, padding=1)
        found = [t.cpu().numpy() for t in torch.autograd.grad(y, (x, w), g)]
    y = functional.conv2d(x, w, padding=1)
    for got, wanted in zip(found, torch.autograd.grad(y, (x, w), g)):
        np.testing.assert_array_equal(got, wanted.cpu().numpy())


@pytest.mark.skipif(not OPENCL, reason="no OpenCL device")
def test_a_write_behind_a_local_array_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = attention_tile.local_arrays

    def too_small(form: Any, tiling: Any) -> dict[str, int]:
        made = sizes(form, tiling)
        return {**made, "scores": made["scores"] - 16}

    monkeypatch.setattr(attention_tile, "local_arrays", too_small)
    q, k, v = operands(OPENCL[0], (1, 40, 16), (1, 64, 16), (1, 64, 16))
    with (
        config.override(BOUNDS=True, PLAN_CACHE=0),
        pytest.raises(IndexError, match="array number 3 in local memory"),
    ):
        functional.scaled_dot_product_attention(q, k, v).cpu().numpy()
