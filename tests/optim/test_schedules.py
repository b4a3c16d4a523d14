"""Learning-rate schedules against PyTorch, step by step."""

from __future__ import annotations

import pytest

import lazytorch as torch
from lazytorch import nn

SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, 3),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.9),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 3, 5]),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 5),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 1.0, 20),
    "OneCycleLR three": lambda s, o: s.OneCycleLR(
        o, 1.0, epochs=2, steps_per_epoch=10, three_phase=True, anneal_strategy="linear"
    ),
    "ReduceLROnPlateau": lambda s, o: s.ReduceLROnPlateau(o, patience=1, cooldown=1),
    "LinearLR": lambda s, o: s.LinearLR(o),
    "ConstantLR": lambda s, o: s.ConstantLR(o),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 3, mode="triangular2"),
    "CyclicLR exp": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 3, 2, mode="exp_range", gamma=0.99),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 6), s.StepLR(o, 2)], [4, 8]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 4), s.ExponentialLR(o, 0.9)]
    ),
}


def make(library, name: str):
    parameter = library.nn.Parameter(library.ones(2))
    optimizer = library.optim.SGD([parameter], lr=0.1, momentum=0.9)
    return optimizer, SCHEDULES[name](library.optim.lr_scheduler, optimizer)


def advance(optimizer, schedule, steps: int) -> list[tuple[float, float]]:
    seen = []
    for step in range(steps):
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["momentum"]))
        optimizer.step()
        if type(schedule).__name__ == "ReduceLROnPlateau":
            schedule.step(1.0 + step % 5)
        else:
            schedule.step()
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_and_state_are_pytorchs(name: str) -> None:
    reference = pytest.importorskip("torch")
    mine, theirs = make(torch, name), make(reference, name)
    for (a, b), (c, d) in zip(advance(*mine, 14), advance(*theirs, 14)):
        assert a == pytest.approx(c, rel=1e-12) and b == pytest.approx(d, rel=1e-12)
    assert set(mine[1].state_dict()) == set(theirs[1].state_dict())
    assert mine[1].get_last_lr() == pytest.approx(theirs[1].get_last_lr())


@pytest.mark.parametrize("name", SCHEDULES)
def test_going_on_from_a_saved_state(name: str) -> None:
    optimizer, schedule = make(torch, name)
    advance(optimizer, schedule, 5)
    again, other = make(torch, name)
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(schedule.state_dict())
    assert advance(again, other, 5) == advance(optimizer, schedule, 5)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda s, o: s.OneCycleLR(o, 1.0), ValueError, "define either total_steps"),
        (lambda s, o: s.OneCycleLR(o, 1.0, -1), ValueError, "positive integer total_steps"),
        (lambda s, o: s.OneCycleLR(o, 1.0, 5, pct_start=2), ValueError, "pct_start"),
        (lambda s, o: s.LinearLR(o, 0.0), ValueError, "Starting multiplicative factor"),
        (lambda s, o: s.ReduceLROnPlateau(o, factor=1.0), ValueError, "Factor should be < 1.0"),
        (lambda s, o: s.StepLR(3, 4), TypeError, "int is not an Optimizer"),
        (lambda s, o: s.LambdaLR(o, [1, 2]), ValueError, "Expected 1 lr_lambdas, but got 2"),
        (lambda s, o: s.SequentialLR(o, [], []), ValueError, "at least one scheduler"),
        (lambda s, o: s.StepLR(o, 4, last_epoch=3), KeyError, "initial_lr"),
    ],
)
def test_mistakes(wrong, error, text) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(error, match=text):
        wrong(torch.optim.lr_scheduler, optimizer)


def test_too_many_steps_and_wrong_order() -> None:
    optimizer, _ = make(torch, "StepLR")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 2)
    with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step"):
        schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="Tried to step 3 times"):
        schedule.step()
