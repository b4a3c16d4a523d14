"""Muon against PyTorch, its kernels, its mistakes."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.runtime import available_devices


def trained(library, shapes, options: dict, steps: int = 4, device: str = "numpy"):
    generator = np.random.default_rng(0)

    def draw():
        arrays = [np.asarray(generator.standard_normal(s), np.float32) for s in shapes]
        mine = {"device": device} if library is torch else {}
        return [library.tensor(array, **mine) for array in arrays]

    parameters = [library.nn.Parameter(value) for value in draw()]
    optimizer = library.optim.Muon(parameters, **options)
    for _ in range(steps):
        for parameter, gradient in zip(parameters, draw()):
            parameter.grad = gradient
        optimizer.step()
    return [p.detach().cpu().numpy() for p in parameters], optimizer


OPTIONS = [
    {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "momentum": 0.4},
    {"nesterov": False, "weight_decay": 0.0, "lr": 0.1},
    {},
]


@pytest.mark.parametrize(
    ("device", "options"),
    [("numpy", options) for options in OPTIONS]
    + [(device, OPTIONS[0]) for device in available_devices() if device != "numpy"],
    ids=str,
)
def test_rule_is_pytorchs(device: str, options: dict) -> None:
    reference = pytest.importorskip("torch")
    shapes = [(3, 4), (4, 2), (3, 4)]
    mine, my_optimizer = trained(torch, shapes, options, device=device)
    theirs, their_optimizer = trained(reference, shapes, options)
    for a, b in zip(mine, theirs):
        # The direction, about 1 in size, is found in bfloat16.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-2 * options.get("lr", 1e-3))
    for a, b in zip(my_optimizer.state.values(), their_optimizer.state.values()):
        np.testing.assert_allclose(
            a["momentum_buffer"].cpu().numpy(), b["momentum_buffer"].numpy(), rtol=1e-5, atol=1e-6
        )
    my_options = my_optimizer.state_dict()["param_groups"]
    assert my_options == their_optimizer.state_dict()["param_groups"]


def test_matrices_of_one_shape_share_their_kernels() -> None:
    def launched(count: int) -> tuple[int, int]:
        _, optimizer = trained(torch, [(4, 6)] * count, {}, 3, "numpy")
        for _ in range(2):
            for parameter in optimizer.param_groups[0]["params"]:
                ones = np.ones((4, 6), np.float32)
                parameter.grad = torch.tensor(ones, device="numpy")
            before = torch.stats()
            optimizer.step()
            after = torch.stats()
        return tuple(after[key] - before[key] for key in ("kernels_launched", "plans_missed"))

    few, many = launched(2), launched(8)
    assert few[0] <= 32
    # Two kernels a matrix, which put it in and take it out; the iteration is common to all.
    assert many[0] <= few[0] + 2 * 6 and many[1] == few[1] == 0


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ((3,), {}, "only supports 2D parameters"),
        ((3, 4), {"lr": -0.5}, "Learning rate should be >= 0 but is: -0.5"),
        ((3, 4), {"weight_decay": -0.5}, "weight decay should be >= 0"),
        ((3, 4), {"adjust_lr_fn": "arbitrary"}, "function arbitrary is not supported"),
        ((3, 4), {"ns_steps": 100}, "must be less than 100"),
        ((3, 4), {"ns_coefficients": (1.0, 2.0)}, "exactly 3 values"),
    ],
)
def test_mistakes(shape, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        trained(torch, [shape], options)
