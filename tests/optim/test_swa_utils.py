"""Averages of weights against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.optim import swa_utils


def model_of(library, seed: int):
    model = library.nn.Sequential(library.nn.Linear(3, 4), library.nn.BatchNorm1d(4))
    generator = np.random.default_rng(seed)
    for parameter in model.parameters():
        values = generator.standard_normal(tuple(parameter.shape)).astype(np.float32)
        parameter.data.copy_(library.tensor(values))
    model(library.tensor(generator.standard_normal((5, 3)).astype(np.float32)))
    return model


def averaged(library, options) -> dict[str, np.ndarray]:
    utils = library.optim.swa_utils
    average = utils.AveragedModel(model_of(library, 0), **options(utils))
    for seed in range(1, 4):
        average.update_parameters(model_of(library, seed))
    return {name: value.numpy() for name, value in average.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        lambda utils: {},
        lambda utils: {"use_buffers": True},
        lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.9)},
        lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7), "use_buffers": True},
        lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    ],
)
def test_averages_are_pytorchs(options) -> None:
    reference = pytest.importorskip("torch")
    mine, theirs = averaged(torch, options), averaged(reference, options)
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_statistics_of_batch_normalization() -> None:
    reference = pytest.importorskip("torch")

    def statistics(library):
        generator = np.random.default_rng(7)
        batches = [generator.standard_normal((6, 3)).astype(np.float32) for _ in range(3)]
        model = model_of(library, 0).eval()
        library.optim.swa_utils.update_bn([(library.tensor(b), 0) for b in batches], model)
        assert not model.training and model[1].momentum == 0.1
        return model[1].running_mean.numpy(), model[1].running_var.numpy()

    for a, b in zip(statistics(torch), statistics(reference)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 4])
def test_rates_are_pytorchs(strategy: str, epochs: int) -> None:
    reference = pytest.importorskip("torch")

    def rates(library) -> list[float]:
        optimizer = library.optim.SGD([library.nn.Parameter(library.ones(1))], lr=0.5)
        schedule = library.optim.swa_utils.SWALR(optimizer, 0.05, epochs, strategy)
        seen = []
        for _ in range(7):
            optimizer.step()
            schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    assert rates(torch) == pytest.approx(rates(reference), rel=1e-9)


def test_mistakes() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"Invalid decay value 1\.5"):
        swa_utils.get_ema_avg_fn(1.5)
    with pytest.raises(AssertionError, match="Only one of avg_fn"):
        swa_utils.AveragedModel(nn.Linear(1, 1), avg_fn=len, multi_avg_fn=len)
    with pytest.raises(ValueError, match="'cos' or 'linear', instead got sin"):
        swa_utils.SWALR(optimizer, 0.1, anneal_strategy="sin")
    with pytest.raises(ValueError, match="equal or greater than 0, got -1"):
        swa_utils.SWALR(optimizer, 0.1, anneal_epochs=-1)
