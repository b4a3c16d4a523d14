"""An update recorded once and repeated: the same bits, fewer calls, and never a stale update."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.optim.scalars import StepScalars
from lazytorch.runtime import available_devices
from lazytorch.tensor.site import format_site
from lazytorch.tensor.storage import node_of

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"weight_decay": 0.1, "amsgrad": True}),
    ("AdamW", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adamax", {}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"betas": (0.9, 0.8)}),
    ("ASGD", {"t0": 2, "lambd": 0.1}),
    ("Rprop", {}),
    ("Adafactor", {"weight_decay": 0.1}),
]
SHAPES = ((3, 4), (5,), ())
# The graph is repeated, not the kernels: one rule shows that it is the same on every device.
PLACES = [("numpy", *case) for case in CASES]
PLACES += [(device, *CASES[2]) for device in available_devices() if device != "numpy"]


def gradients(step: int) -> list[np.ndarray]:
    generator = np.random.default_rng(step)
    return [np.asarray(generator.standard_normal(shape), np.float32) for shape in SHAPES]


class Run:
    """Steps of one optimizer on parameters of three shapes; counts the updates it recorded."""

    def __init__(self, name: str, options: dict, repeats: bool, device: str = "numpy") -> None:
        start = [torch.tensor(value, device=device) for value in gradients(96)]
        self.parameters = [nn.Parameter(value) for value in start]
        self.optimizer = getattr(torch.optim, name)(self.parameters, **options)
        self.recorded = 0
        self._rule = self.optimizer._update_group
        self.optimizer._update_group = self._counted
        self._repeats = repeats

    def _counted(self, *arguments) -> None:
        self.recorded += 1
        self._rule(*arguments)

    def _plainly(self, optimizer, group, options, parameters) -> None:
        self._counted(group, parameters, StepScalars((optimizer, group)))

    def step(self, number: int, without: int | None = None) -> None:
        for place, (parameter, value) in enumerate(zip(self.parameters, gradients(number))):
            parameter.grad = torch.tensor(value, device=parameter.device)
            if place == without:
                parameter.grad = None
        if not self._repeats:
            self.optimizer._updates.record = self._plainly
        self.optimizer.step()

    def values(self) -> list[np.ndarray]:
        found = [p.detach().cpu().numpy().copy() for p in self.parameters]
        for parameter in self.parameters:
            state = self.optimizer.state.get(parameter, {})
            found += [
                np.array(v.cpu().numpy()) for v in state.values() if isinstance(v, torch.Tensor)
            ]
        return found


def assert_same(one: Run, other: Run) -> None:
    for a, b in zip(one.values(), other.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("device", "name", "options"), PLACES, ids=str)
def test_repeated_updates_have_the_same_bits(device: str, name: str, options: dict) -> None:
    repeating = Run(name, options, True, device)
    plain = Run(name, options, False, device)
    for number in range(5):
        repeating.step(number)
        plain.step(number)
    assert_same(repeating, plain)
    # The first step may make state; the second is kept.
    assert plain.recorded == 5 and repeating.recorded <= 2


@pytest.mark.parametrize(("device", "name", "options"), PLACES, ids=str)
def test_parameters_with_one_gradient_are_updated_as_apart(
    device: str, name: str, options: dict
) -> None:
    """The two biases of a recurrent layer: their gradients are one node of the graph."""

    def trained(repeats: bool) -> list[np.ndarray]:
        run = Run(name, options, repeats, device)
        first, second, last = (nn.Parameter(torch.ones(4, device=device)) for _ in range(3))
        run.optimizer.param_groups[0]["params"] = run.parameters = [first, second, last]
        for number in range(5):
            run.optimizer.zero_grad()
            x = torch.tensor(np.arange(4, dtype=np.float32) + number, device=device)
            ((first + second) * x * last).sum().backward()
            assert node_of(first.grad) is node_of(second.grad)
            if not repeats:
                run.optimizer._updates.record = run._plainly
            run.optimizer.step()
        assert run.recorded <= 2 if repeats else run.recorded == 5
        return run.values()

    for a, b in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_changes_between_steps_is_seen() -> None:
    runs = Run("Adam", {"lr": 0.1}, True), Run("Adam", {"lr": 0.1}, False)
    for run in runs:
        group = run.optimizer.param_groups[0]
        for number in range(12):
            if number == 3:
                group["lr"] = 1.0
            elif number == 4:
                group["weight_decay"] = 0.1
            elif number == 5:
                group["maximize"] = True
            elif number == 6:
                group["betas"] = (0.5, 0.6)
            elif number == 9:
                saved = run.optimizer.state_dict()
                saved["state"][1]["step"] = torch.tensor(30.0)
                run.optimizer.load_state_dict(saved)
            run.step(number, without=1 if number in (7, 8) else None)
    assert_same(*runs)
    assert runs[0].recorded < 12


def test_learning_rate_as_a_tensor() -> None:
    rates = [torch.tensor(0.1, device="numpy") for _ in range(2)]
    runs = [Run("Adam", {"lr": rate}, repeats) for rate, repeats in zip(rates, (True, False))]
    for run, rate in zip(runs, rates):
        for number in range(4):
            run.step(number)
            rate.mul_(0.5)
    assert_same(*runs)


def test_parameters_that_share_memory_or_a_gradient() -> None:
    def steps(repeats: bool) -> list[np.ndarray]:
        memory = torch.arange(6, dtype=torch.float32)
        windows = [memory[0:4], memory[2:6]]
        for window in windows:
            window.requires_grad_()
        alone = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))]
        optimizer = torch.optim.SGD([*windows, *alone], lr=0.5, momentum=0.9)
        if not repeats:
            optimizer._updates._failures = 1000
        for number in range(4):
            gradient = torch.full((4,), 1.0 + number) * alone[0].detach()
            for parameter in (*windows, *alone):
                parameter.grad = gradient
            optimizer.step()
        return [memory.numpy().copy(), *(p.detach().numpy().copy() for p in alone)]

    for a, b in zip(steps(True), steps(False)):
        np.testing.assert_array_equal(a, b)


def test_memory_that_numpy_sees_is_written() -> None:
    run, plain = Run("SGD", {"lr": 0.1}, True), Run("SGD", {"lr": 0.1}, False)
    for number in range(2):
        run.step(number)
        plain.step(number)
    seen = run.parameters[0].detach().numpy()
    for number in range(2, 4):
        run.step(number)
        plain.step(number)
    assert_same(run, plain)
    np.testing.assert_array_equal(seen, plain.parameters[0].detach().numpy())


def test_a_gradient_known_when_recording_is_not_kept() -> None:
    """A constant may be baked into what is recorded from it."""
    weight = nn.Parameter(torch.zeros((), dtype=torch.float32))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for factor in (1.0, 2.0, 3.0):
        optimizer.zero_grad()
        (weight * factor).backward()
        optimizer.step()
    assert weight.item() == -3.0


def test_a_repeated_update_names_the_present_line() -> None:
    run = Run("SGD", {"lr": 0.1}, True)
    run.step(0)
    parameter = run.parameters[0]
    sites = []
    run.optimizer._host.end_step = lambda: sites.append(parameter._storage.node.site)
    run.step(1)
    assert run.recorded == 1 and __file__ in format_site(sites[0])
