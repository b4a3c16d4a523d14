"""Compiled calls beside ordinary ones: the same numbers, nothing recorded, nothing stale."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import compiler, nn
from lazytorch.errors import LazytorchWarning
from lazytorch.nn import functional as F
from lazytorch.runtime import available_devices

CALLS = 6


@pytest.fixture(params=available_devices())
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    """A function that is not repeated warns, and a test that did not expect it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LazytorchWarning)
        yield


def recorded(function: Callable[[], Any]) -> tuple[Any, int]:
    """The result, and how many operations were recorded for it."""
    before = torch.stats()["nodes_recorded"]
    result = function()
    return result, torch.stats()["nodes_recorded"] - before


def arrays(value: Any) -> list[np.ndarray]:
    """Every tensor of a nested result, copied to the host."""
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu().clone().numpy()]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return []
    return [array for item in value for array in arrays(item)]


def same(first: Any, second: Any) -> bool:
    pairs = list(zip(arrays(first), arrays(second), strict=True))
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


# Training steps ---------------------------------------------------------------------------------


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1)


def momentum(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def nesterov(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=0.02)


def amsgrad(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=0.02, amsgrad=True, weight_decay=0.1)


def adamw(parameters: Any) -> Any:
    return torch.optim.AdamW(parameters, lr=0.02)


def rmsprop(parameters: Any) -> Any:
    return torch.optim.RMSprop(parameters, lr=0.02, momentum=0.5, centered=True)


def adagrad(parameters: Any) -> Any:
    return torch.optim.Adagrad(parameters, lr=0.1, lr_decay=0.1)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def dropped() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 3))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.norm = nn.BatchNorm2d(2)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.conv(x.reshape(-1, 1, 2, 3))))
        return self.out(torch.flatten(x, 1))


TRAININGS = [
    (dense, sgd), (dense, momentum), (dense, nesterov), (dense, adam), (dense, amsgrad),
    (dense, adamw), (dense, rmsprop), (dense, adagrad), (normalized, adam), (normalized, momentum),
    (dropped, adamw), (dropped, sgd), (Convolutional, adam),
]  # fmt: skip


class Run:
    """A model in training, its step compiled or not."""

    def __init__(self, device: str, model: Any, optimizer: Any, compiled: bool) -> None:
        torch.manual_seed(3)
        self.model = model().to(device)
        self.optimizer = optimizer(self.model.parameters())
        rng = np.random.default_rng(0)
        self.batches = [
            (
                torch.tensor(rng.standard_normal((5, 6), np.float32), device=device),
                torch.tensor(rng.integers(0, 3, 5), device=device),
            )
            for _ in range(CALLS)
        ]
        torch.manual_seed(7)

        def step(x: Any, y: Any) -> Any:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss

        self.step = torch.compile(step) if compiled else step

    def state(self) -> Any:
        return [
            self.model.state_dict(), [p.grad for p in self.model.parameters()],
            [list(s.values()) for s in self.optimizer.state_dict()["state"].values()],
        ]  # fmt: skip


@pytest.mark.parametrize(("model", "optimizer"), TRAININGS)
def test_a_training_step(device: str, model: Any, optimizer: Any) -> None:
    plain = Run(device, model, optimizer, False)
    expected = []
    for x, y in plain.batches:
        expected.append(plain.step(x, y).item())
    fast = Run(device, model, optimizer, True)
    losses, counts = [], []
    for x, y in fast.batches:
        loss, count = recorded(functools.partial(fast.step, x, y))
        losses.append(loss.item())
        counts.append(count)
    assert losses == expected
    assert same(fast.state(), plain.state())
    assert counts[-1] == 0


def test_a_schedule_outside_and_a_ragged_batch(device: str) -> None:
    results = []
    for compiled in (False, True):
        run = Run(device, dense, adam, compiled)
        schedule = torch.optim.lr_scheduler.StepLR(run.optimizer, 2, gamma=0.3)
        losses = []
        for _ in range(3):
            for number, (x, y) in enumerate(run.batches):
                last = number == len(run.batches) - 1
                batch = (x[:3], y[:3]) if last else (x, y)
                loss, count = recorded(functools.partial(run.step, *batch))
                losses.append(loss.item())
            schedule.step()
        results.append((losses, run.state()))
        # The small batch is traced in the first two rounds, then repeated like the others.
        assert not compiled or count == 0
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])


def test_random_numbers_go_on_as_they_would(device: str) -> None:
    def noise(x: Any) -> Any:
        return F.dropout(x, 0.5) + torch.rand(4, device=device)

    x = torch.ones(4, device=device)
    fast = torch.compile(noise)
    torch.manual_seed(1)
    expected = [noise(x) for _ in range(6)]
    after = torch.rand(3)
    torch.manual_seed(1)
    got = [fast(x) for _ in range(6)]
    assert same(expected, got)
    assert same(after, torch.rand(3))
    torch.manual_seed(1)
    assert same(expected[0], fast(x))


# Functions --------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "map": lambda x, y: (x * 2.5 + y).exp(),
    "tuple": lambda x, y: (x + y, {"sum": (x - y).sum(), "two": [x, 3]}),
    "reduce": lambda x, y: x.sum(0) * y.mean(),
    "matmul": lambda x, y: x @ y.T,
    "views": lambda x, y: (x.t() + y.t()).reshape(-1),
    "slices": lambda x, y: torch.cat([x[:1], y[1:]], 0),
    "softmax": lambda x, y: torch.softmax(x * y, -1),
    "integers": lambda x, y: (x > 0).sum() + (y * 4).long(),
    "sort": lambda x, y: torch.sort(x, 1).values + y,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(device: str, name: str) -> None:
    function = FUNCTIONS[name]
    fast = torch.compile(function)
    rng = np.random.default_rng(0)
    for call in range(CALLS):
        x, y = (torch.tensor(rng.standard_normal((3, 4), np.float32), device=device) for _ in "xy")
        got, count = recorded(lambda x=x, y=y: fast(x, y))
        assert same(got, function(x, y)), call
        assert call < 3 or count == 0


def test_results_are_new_each_time(device: str) -> None:
    fast = torch.compile(lambda x: x + 1)
    x = torch.zeros(3, device=device)
    first = [fast(x) for _ in range(5)]
    first[3].add_(10)
    assert first[4].tolist() == [1, 1, 1]
    assert fast(x).tolist() == [1, 1, 1]
    assert fast(x.add_(1)).tolist() == [2, 2, 2]


def test_writes_to_arguments_and_state(device: str) -> None:
    total = torch.zeros(3, device=device)

    def add(x: Any) -> None:
        total.add_(x)
        x.mul_(2)

    fast = torch.compile(add)
    x = torch.ones(3, device=device)
    pending = []
    for _ in range(6):
        pending.append(total * 1)
        fast(x)
    assert total.tolist() == [63, 63, 63] and x.tolist() == [64, 64, 64]
    assert [p[0].item() for p in pending] == [0, 1, 3, 7, 15, 31]


def test_memory_shared_with_numpy(device: str) -> None:
    fast = torch.compile(lambda x: x * 2)
    array = np.ones(3, np.float32)
    x = torch.from_numpy(array).to(device)
    for value in range(6):
        array[:] = value
        x = torch.from_numpy(array).to(device)
        assert fast(x).tolist() == [2 * value] * 3


def test_a_long_chain_of_tiny_operations(device: str) -> None:
    def chain(a: Any) -> Any:
        b = a
        for _ in range(100):
            b = b + a
        return b

    fast = torch.compile(chain)
    a = torch.arange(16, dtype=torch.float32, device=device)
    for _ in range(4):
        got, count = recorded(lambda: fast(a))
    assert count == 0 and same(got, chain(a))


# Staleness: each guard ---------------------------------------------------------------------------

SCALE = 2.0
OPTIONS = {"scale": 2.0, "shifts": [1.0, 2.0]}


def test_arguments_are_guarded(device: str) -> None:
    def scaled(x: Any, factor: Any = 1.0, *, mode: str = "add") -> Any:
        return x * factor if mode == "mul" else x + factor

    fast = torch.compile(scaled)
    x = torch.ones(3, device=device)
    for _ in range(4):
        for factor in (2.0, 3.0, True, 2, None):
            if factor is not None:
                assert same(fast(x, factor), scaled(x, factor))
        assert same(fast(x, mode="mul", factor=5.0), x * 5)
        assert same(fast(x.double(), 2.0), x.double() + 2)
        assert same(fast(torch.ones(2, 3, device=device)), torch.ones(2, 3, device=device) + 1)
        assert same(fast(torch.ones(3, 2, device=device).t()), torch.ones(2, 3, device=device) + 1)


def test_closures_globals_and_containers_are_guarded(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 1.0

    def helper(x: Any) -> Any:
        return x * SCALE

    def function(x: Any) -> Any:
        return helper(x) * rate + OPTIONS["scale"] + OPTIONS["shifts"][1]  # type: ignore[index]

    fast = torch.compile(function)
    x = torch.ones(2, device=device)

    def check() -> None:
        for _ in range(4):
            assert same(fast(x), function(x))

    check()
    rate = 5.0
    check()
    monkeypatch.setitem(globals(), "SCALE", 7.0)
    check()
    monkeypatch.setitem(OPTIONS, "scale", -1.0)
    check()
    monkeypatch.setitem(OPTIONS, "shifts", [4.0, 8.0])
    check()
    OPTIONS["shifts"][1] = 3.5  # type: ignore[index]
    check()


def test_modules_are_guarded(device: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).to(device)
    x = torch.tensor(np.random.default_rng(0).standard_normal((4, 3), np.float32), device=device)
    fast = torch.compile(lambda x: model(x))

    def check() -> None:
        for _ in range(4):
            state = {k: v.clone() for k, v in model.state_dict().items()}
            torch.manual_seed(5)
            expected = arrays(model(x))
            model.load_state_dict(state)
            torch.manual_seed(5)
            with torch.no_grad():
                got = arrays(fast(x))
            assert all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True))

    check()
    model.eval()
    check()
    model.train()
    model[1].p = 0.25
    check()
    model[2].eps = 0.5
    check()
    model[0].weight = nn.Parameter(torch.ones(3, 3, device=device))
    check()
    with torch.no_grad():
        model[0].bias.fill_(2.0)
    check()
    model[0].bias.data = torch.ones(3, device=device)
    check()
    handle = model[0].register_forward_hook(lambda module, inputs, output: output * 3)
    check()
    handle.remove()
    check()
    model[0] = nn.Linear(3, 3).to(device)
    check()


def test_optimizer_options_are_live_or_guarded(device: str) -> None:
    results = []
    for compiled in (False, True):
        run = Run(device, dense, momentum, compiled)
        losses = []
        for number, (x, y) in enumerate(run.batches * 4):
            group = run.optimizer.param_groups[0]
            group["lr"] = 0.1 / (1 + number)
            group["weight_decay"] = 0.0 if 12 <= number < 16 else 0.01 + 0.001 * number
            group["momentum"] = 0.9 if number < 20 else 0.5
            group["maximize"] = number > 26
            losses.append(run.step(x, y).item())
        results.append((losses, run.state()))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])


def test_loaded_state_is_used(device: str) -> None:
    results = []
    for compiled in (False, True):
        run = Run(device, normalized, adam, compiled)
        losses = []
        saved: Any = None
        for round_number in range(3):
            for number, (x, y) in enumerate(run.batches):
                losses.append(run.step(x, y).item())
                if round_number == 0 and number == 1:
                    saved = (
                        {k: v.clone() for k, v in run.model.state_dict().items()},
                        run.optimizer.state_dict(),
                    )
                    saved = (saved[0], _copied(saved[1]))
            run.model.load_state_dict(saved[0])
            run.optimizer.load_state_dict(_copied(saved[1]))
        results.append((losses, run.state()))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(item) for item in state] if isinstance(state, list) else state


def test_targets_out_of_range_are_noticed(device: str) -> None:
    run = Run(device, dense, sgd, True)
    for x, y in run.batches:
        run.step(x, y)
    x, y = run.batches[0]
    before = arrays(run.model.state_dict())
    with pytest.raises(IndexError, match="out of bounds"):
        run.step(x, y + 5)
    run.optimizer.zero_grad()
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays(run.model.state_dict())))
    run.step(x, y)


# What is not repeated ---------------------------------------------------------------------------


def number() -> Any:
    number.value += 1.25  # type: ignore[attr-defined]
    return number.value  # type: ignore[attr-defined]


number.value = 0.0  # type: ignore[attr-defined]


def test_a_value_looked_at_is_never_stale(device: str) -> None:
    def branching(x: Any) -> Any:
        return x + 1 if x.sum().item() > 0 else x - 1

    fast = torch.compile(branching)
    with pytest.warns(LazytorchWarning, match="LT006.*looked at"):
        for value in (1.0, -1.0, 1.0, -1.0, 1.0, -1.0):
            x = torch.full((2,), value, device=device)
            assert same(fast(x), branching(x))
    with pytest.raises(compiler.Unsupported, match="looked at"):
        torch.compile(branching, fullgraph=True)(x)
    assert same(fast(x), branching(x))


def test_numbers_from_nowhere_are_never_stale(device: str) -> None:
    fast = torch.compile(lambda x: x * number())
    x = torch.ones(2, device=device)
    number.value = 0.0  # type: ignore[attr-defined]
    with pytest.warns(LazytorchWarning, match="LT006"):
        got = [fast(x)[0].item() for _ in range(8)]
    assert got == [1.25 * n for n in range(1, 9)]


def test_changes_of_python_state_are_not_lost(device: str) -> None:
    seen: list[Any] = []

    def keeping(x: Any) -> Any:
        seen.append(x.shape)
        return x + 1

    fast = torch.compile(keeping)
    with pytest.warns(LazytorchWarning, match="LT006.*changes"):
        for _ in range(8):
            fast(torch.ones(2, device=device))
    assert len(seen) == 8


def test_an_error_midway_leaves_everything_usable(device: str) -> None:
    total = torch.zeros(2, device=device)

    def failing(x: Any, fail: bool) -> Any:
        total.add_(x)
        if fail:
            raise ValueError("midway")
        return total * 2

    fast = torch.compile(failing)
    x = torch.ones(2, device=device)
    for _ in range(3):
        fast(x, False)
        with pytest.raises(ValueError, match="midway"):
            fast(x, True)
    assert total.tolist() == [6, 6]
    assert not compiler.is_compiling()
    assert fast(x, False).tolist() == [14, 14]


def test_gradients_through_a_compiled_model(device: str) -> None:
    model = nn.Linear(3, 2).to(device)
    fast = torch.compile(model)
    x = torch.ones(4, 3, device=device)
    for _ in range(5):
        model.zero_grad()
        fast(x).sum().backward()
        assert model.bias.grad.tolist() == [4, 4]
    with torch.no_grad():
        for _ in range(4):
            got, count = recorded(lambda: fast(x))
        assert count == 0 and same(got, model(x))


# The interface ----------------------------------------------------------------------------------


def test_compiled_modules_are_modules(device: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).to(device)
    fast = torch.compile(model, mode="max-autotune", dynamic=False, backend="inductor")
    assert isinstance(fast, nn.Module) and fast._orig_mod is model
    assert list(fast.state_dict()) == [f"_orig_mod.{k}" for k in model.state_dict()]
    fast.eval()
    assert not model.training and not model[1].training
    assert torch.compile(fast) is fast


def test_the_decorator(device: str) -> None:
    @torch.compile
    def one(x: Any) -> Any:
        """Add one."""
        return x + 1

    @torch.compile(fullgraph=True, dynamic=True)
    def two(x: Any) -> Any:
        return one(x) + 1

    class Thing:
        scale = 3.0

        @torch.compile
        def method(self, x: Any) -> Any:
            return x * self.scale

    x = torch.ones(2, device=device)
    thing = Thing()
    for _ in range(4):
        assert one(x).tolist() == [2, 2] and two(x).tolist() == [3, 3]
        assert thing.method(x).tolist() == [3, 3]
    thing.scale = 4.0
    assert thing.method(x).tolist() == [4, 4]
    assert one.__doc__ == "Add one." and one.__name__ == "one"
    assert torch.compile(len, disable=True) is len
    with pytest.raises(TypeError, match="function or a Module"):
        torch.compile(3)
    compiler.reset()
    assert one(x).tolist() == [2, 2]
