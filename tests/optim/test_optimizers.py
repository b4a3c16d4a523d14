"""Update rules against PyTorch, state that travels both ways, mistakes, and what is launched."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "lr": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("Adam", {"betas": (0.5, 0.9), "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True, "foreach": True}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adadelta", {"rho": 0.95, "weight_decay": 0.9, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"betas": (0.5, 0.7), "weight_decay": 0.9, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"momentum_decay": 6e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"betas": (0.9, 0.8), "eps": 0.0, "weight_decay": 0.1}),
    ("RAdam", {"betas": (0.9, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("ASGD", {}),
    ("ASGD", {"t0": 2, "weight_decay": 0.1, "lambd": 0.1, "alpha": 0.5}),
    ("Adafactor", {}),
    ("Adafactor", {"eps": (1e-3, 1e-2), "d": 1.5, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.4, 1.5), "step_sizes": (2e-3, 0.02), "maximize": True}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1}),
]
RULES = sorted({name for name, _ in CASES})
SHAPES = ((3, 4), (5,), ())


def run(library, name: str, options: dict, steps: int = 5, dtype: str = "float32"):
    generator = np.random.default_rng(0)
    draws = [[generator.standard_normal(s) for s in SHAPES] for _ in range(steps + 1)]
    kind = getattr(library, dtype)
    parameters = [library.nn.Parameter(library.tensor(d, dtype=kind)) for d in draws[0]]
    optimizer = getattr(library.optim, name)(parameters, **options)
    for step in draws[1:]:
        for parameter, gradient in zip(parameters, step):
            parameter.grad = library.tensor(gradient, dtype=kind)
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: str(v))
def test_rule_and_state_are_pytorchs(name: str, options: dict) -> None:
    reference = pytest.importorskip("torch")
    mine, my_optimizer = run(torch, name, options)
    theirs, their_optimizer = run(reference, name, options)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert repr(my_optimizer) == repr(their_optimizer)
    my_state, their_state = my_optimizer.state_dict(), their_optimizer.state_dict()
    assert my_state["param_groups"] == their_state["param_groups"]
    for number, entries in their_state["state"].items():
        assert list(entries) == list(my_state["state"][number])
        for key, value in entries.items():
            np.testing.assert_allclose(
                my_state["state"][number][key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_going_on_from_pytorchs_state(name: str) -> None:
    reference = pytest.importorskip("torch")
    options = {"lr": 0.05, "momentum": 0.9} if name == "SGD" else {"lr": 0.05}
    theirs, their_optimizer = run(reference, name, options)
    mine, my_optimizer = run(torch, name, {"lr": 0.5}, steps=0)
    saved = their_optimizer.state_dict()
    saved["state"] = {
        number: {key: torch.tensor(value.numpy()) for key, value in entries.items()}
        for number, entries in saved["state"].items()
    }
    my_optimizer.load_state_dict(saved)
    for a, b in zip(mine, theirs):
        a.data.copy_(torch.tensor(b.detach().numpy()))
        a.grad, b.grad = torch.ones(tuple(b.shape)), reference.ones(b.shape)
    my_optimizer.step()
    their_optimizer.step()
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_double_precision_is_not_lost_in_the_numbers() -> None:
    reference = pytest.importorskip("torch")
    mine, _ = run(torch, "Adam", {"lr": 0.1}, dtype="float64")
    theirs, _ = run(reference, "Adam", {"lr": 0.1}, dtype="float64")
    np.testing.assert_allclose(mine[0].detach().numpy(), theirs[0].detach().numpy(), rtol=1e-13)


def test_sixteen_bit_parameters_stay_sixteen_bit() -> None:
    parameters, optimizer = run(torch, "AdamW", {}, dtype="bfloat16")
    assert all(p.dtype is torch.bfloat16 for p in parameters)
    assert all(s["exp_avg"].dtype is torch.bfloat16 for s in optimizer.state.values())


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda p: torch.optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda p: torch.optim.SGD([p], momentum=-1), ValueError, "Invalid momentum value: -1"),
        (lambda p: torch.optim.SGD([p], nesterov=True), ValueError, "Nesterov momentum requires"),
        (lambda p: torch.optim.Adam([p], betas=(0.9, 1)), ValueError, "beta parameter at index 1"),
        (lambda p: torch.optim.Adam([p], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda p: torch.optim.Adam([p], foreach=True, fused=True), RuntimeError, "cannot be"),
        (
            lambda p: torch.optim.Adam([p], differentiable=True, fused=True),
            RuntimeError,
            "`fused` does not support `differentiable`",
        ),
        (lambda p: torch.optim.NAdam([p], momentum_decay=-1), ValueError, "Invalid momentum_decay"),
        (lambda p: torch.optim.Adadelta([p], rho=1.1), ValueError, "Invalid rho value: 1.1"),
        (lambda p: torch.optim.Rprop([p], etas=(1.0, 0.5)), ValueError, "eta values: 1.0, 0.5"),
        (lambda p: torch.optim.ASGD([p], weight_decay=-0.5), ValueError, "weight_decay value: -"),
        (lambda p: torch.optim.Adafactor([p], beta2_decay=0.8), ValueError, "should be <= 0"),
        (lambda p: torch.optim.Adam([p], betas=(0.9, 0)), ValueError, "either both floats or both"),
        (lambda p: torch.optim.Adam([p], lr=p), ValueError, "Tensor lr must be 1-element"),
        (
            lambda p: torch.optim.Adam([p], lr=torch.tensor(0.1), foreach=True),
            ValueError,
            "lr as a Tensor is not supported for capturable=False and foreach=True",
        ),
        (lambda p: torch.optim.SparseAdam([p]), NotImplementedError, "use torch.optim.Adam"),
        (lambda p: torch.optim.RMSprop([p], alpha=-1), ValueError, "Invalid alpha value: -1"),
        (lambda p: torch.optim.Adagrad([p], lr_decay=-1), ValueError, "Invalid lr_decay value"),
        (lambda p: torch.optim.SGD([]), ValueError, "empty parameter list"),
        (lambda p: torch.optim.SGD(p), TypeError, "iterable of Tensors or dicts, but got torch."),
        (lambda p: torch.optim.SGD([3.0]), TypeError, "one of the params is float"),
        (lambda p: torch.optim.SGD([p * 2]), ValueError, "can't optimize a non-leaf Tensor"),
        (lambda p: torch.optim.SGD([{"params": {p}}]), TypeError, "ordered collections"),
        (
            lambda p: torch.optim.SGD([{"params": [p]}, {"params": [p]}]),
            ValueError,
            "more than one",
        ),
    ],
)
def test_mistakes(wrong, error, text) -> None:
    with pytest.raises(error, match=text):
        wrong(nn.Parameter(torch.ones(2)))


def test_groups_closures_hooks_and_copies() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 1.0}], lr=0.1)
    calls = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (first + second - 1).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == -2.0
    assert first.tolist() == pytest.approx([-0.1, -0.1]) and second.tolist() == [-1.0, -1.0]
    assert calls == ["before", "after"]
    twin = copy.deepcopy(optimizer)
    assert twin.param_groups[1]["lr"] == 1.0 and twin.param_groups[0]["params"][0] is not first
    optimizer.zero_grad(set_to_none=False)
    assert first.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert first.grad is None
    optimizer.add_param_group({"params": nn.Parameter(torch.ones(1))})
    assert optimizer.param_groups[2]["lr"] == 0.1


def test_loading_a_state_of_other_sizes() -> None:
    one = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    two = torch.optim.SGD([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="doesn't match the size"):
        one.load_state_dict(two.state_dict())


def test_named_parameters() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).named_parameters())
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_parameters_without_gradient_are_left_alone() -> None:
    used, unused = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([used, unused], lr=0.1)
    used.grad = torch.ones(1)
    optimizer.step()
    assert unused.item() == 1.0 and used.item() != 1.0 and len(optimizer.state) == 1


def test_saved_step_counters_are_not_shared() -> None:
    _, optimizer = run(torch, "Adam", {}, steps=2)
    steps = [entry["step"] for entry in optimizer.state_dict()["state"].values()]
    assert [step.item() for step in steps] == [2.0] * 3
    steps[0].add_(1)
    assert steps[1].item() == 2.0


@pytest.mark.parametrize("name", RULES)
def test_every_step_is_the_same_plan(name: str) -> None:
    """Neither a schedule nor the first step costs a plan of its own."""
    parameters = [nn.Parameter(torch.ones(n, 3)) for n in range(1, 6)]
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(parameters, lr=2.0, **options)
    missed = []
    for step in range(6):
        # Passes through 1 and 0.5, which are baked into kernels elsewhere.
        optimizer.param_groups[0]["lr"] = 2.0 / 2**step
        for parameter in parameters:
            parameter.grad = torch.tensor(np.ones(tuple(parameter.shape), np.float32))
        before = torch.stats()["plans_missed"]
        optimizer.step()
        missed.append(torch.stats()["plans_missed"] - before)
    assert missed[0] <= 1 and missed[1:] == [0] * 5


@pytest.mark.parametrize("name", RULES)
def test_many_parameters_few_launches(name: str) -> None:
    parameters = [nn.Parameter(torch.ones(n, 3)) for n in range(1, 21)]
    optimizer = getattr(torch.optim, name)(parameters)
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.tensor(np.ones(tuple(parameter.shape), np.float32))
        before = torch.stats()["kernels_launched"]
        optimizer.step()
    # Adafactor's sums over rows, columns and all of a parameter are kernels of their own.
    most = 60 if name == "Adafactor" else 4
    assert torch.stats()["kernels_launched"] - before <= most
