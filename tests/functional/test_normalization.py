"""Normalizations against PyTorch: values, running statistics, gradients of two orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random, strided

torch = pytest.importorskip("torch")
TF = torch.nn.functional


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(shape: tuple[int, ...], last: int, affine: bool) -> None:
    wanted = shape[len(shape) - last :]
    arrays = [random(*wanted, seed=1), random(*wanted, seed=2)] if affine else []
    compare(
        lambda x, *p: F.layer_norm(x, wanted, *p), lambda x, *p: TF.layer_norm(x, wanted, *p),
        strided(*shape), *arrays,
    )  # fmt: skip


def test_layer_norm_with_weight_only() -> None:
    compare(
        lambda x, w: F.layer_norm(x, (6,), w), lambda x, w: TF.layer_norm(x, (6,), w),
        random(3, 6), random(6),
    )  # fmt: skip


def test_variance_does_not_cancel() -> None:
    x = random(4, 64).astype(np.float32) + np.float32(1e4)
    ours = F.layer_norm(lazytorch.tensor(x), (64,)).numpy()
    wide = x.astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(ours, exact, atol=2e-3)


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norm(eps: float | None) -> None:
    compare(
        lambda x, w: F.rms_norm(x, (6,), w, eps), lambda x, w: TF.rms_norm(x, (6,), w, eps),
        random(3, 4, 6), random(6),
    )  # fmt: skip
    compare(
        lambda x: F.rms_norm(x, (4, 6), None, eps), lambda x: TF.rms_norm(x, (4, 6), None, eps),
        random(3, 4, 6),
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
def test_batch_norm_training(shape: tuple[int, ...]) -> None:
    compare(
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True, 0.1, 1e-3),
        lambda x, w, b: TF.batch_norm(x, None, None, w, b, True, 0.1, 1e-3),
        random(*shape), random(3, seed=1), random(3, seed=2),
    )  # fmt: skip


def test_running_statistics() -> None:
    def run(module: Any, functions: Any) -> list[np.ndarray]:
        mean, var = module.zeros(3).double(), module.ones(3).double()
        for step in range(3):
            x = module.from_numpy(random(4, 3, 5, seed=step))
            functions.batch_norm(x, mean, var, None, None, True, 0.3)
        out = functions.batch_norm(module.from_numpy(random(2, 3, 5)), mean, var)
        return [mean.numpy(), var.numpy(), out.numpy()]

    for ours, theirs in zip(run(lazytorch, F), run(torch, TF)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_batch_norm_evaluation_gradients() -> None:
    mean, var = random(3), np.abs(random(3, seed=1)) + 0.1

    def run(functions: Any, module: Any) -> Any:
        return lambda x, w, b: functions.batch_norm(
            x, module.from_numpy(mean), module.from_numpy(var), w, b
        )

    compare(
        run(F, lazytorch), run(TF, torch), random(2, 3, 4), random(3, seed=2), random(3, seed=3)
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(3, 6), (2, 6, 4), (2, 6, 3, 2)])
def test_group_norm(groups: int, shape: tuple[int, ...]) -> None:
    if len(shape) == 2 and groups == 6:
        return
    compare(
        lambda x, w, b: F.group_norm(x, groups, w, b),
        lambda x, w, b: TF.group_norm(x, groups, w, b),
        random(*shape), random(6, seed=1), random(6, seed=2),
    )  # fmt: skip


def test_instance_norm() -> None:
    compare(
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        lambda x, w, b: TF.instance_norm(x, weight=w, bias=b),
        random(2, 3, 4, 5), random(3, seed=1), random(3, seed=2),
    )  # fmt: skip
    compare(F.instance_norm, TF.instance_norm, random(2, 3, 4), second=False)


def test_instance_norm_running_statistics() -> None:
    def run(module: Any, functions: Any) -> list[np.ndarray]:
        mean, var = module.zeros(3).double(), module.ones(3).double()
        functions.instance_norm(module.from_numpy(random(2, 3, 5)), mean, var, momentum=0.3)
        out = functions.instance_norm(
            module.from_numpy(random(2, 3, 5, seed=4)), mean, var, use_input_stats=False
        )
        return [mean.numpy(), var.numpy(), out.numpy()]

    for ours, theirs in zip(run(lazytorch, F), run(torch, TF)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response(size: int) -> None:
    compare(
        lambda x: F.local_response_norm(x, size, 0.1, 0.6, 1.5),
        lambda x: TF.local_response_norm(x, size, 0.1, 0.6, 1.5),
        random(2, 5, 3, 2),
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_normalize(p: float) -> None:
    compare(lambda x: F.normalize(x, p), lambda x: TF.normalize(x, p), random(3, 4), second=False)
    compare(
        lambda x: F.normalize(x, p, dim=0), lambda x: TF.normalize(x, p, dim=0), random(3, 4),
        second=False,
    )  # fmt: skip


def test_half_precision() -> None:
    x = random(4, 64).astype(np.float32)
    ours = F.layer_norm(lazytorch.tensor(x).half(), (64,)).float().numpy()
    theirs = TF.layer_norm(torch.tensor(x).half(), (64,)).float().numpy()
    np.testing.assert_allclose(ours, theirs, atol=4e-3)
