"""Update rules against PyTorch, state that travels both ways, mistakes, and what is launched."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.runtime import available_devices

CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("Adam", {"betas": (0.5, 0.9), "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True, "foreach": True, "weight_decay": 0.1, "maximize": True}),
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
# PyTorch's Adafactor refuses complex parameters.
REAL_ONLY = ("Adafactor",)
SHAPES = ((3, 4), (5,), ())
# Rules run where a device cannot matter; ``test_rules_on_devices`` is about devices.
HOST = "numpy"


def run(
    library, name: str, options: dict, steps: int = 5, dtype: str = "float32", device: str = HOST
):
    """An optimizer after some steps on three real parameters and, where it may be, a complex."""
    generator = np.random.default_rng(0)
    mine = {"device": device} if library is torch else {}

    def draw() -> list:
        draws = [generator.standard_normal(shape) for shape in (*SHAPES, (2,), (2,))]
        kind = getattr(library, dtype)
        values = [library.tensor(d, dtype=kind, **mine) for d in draws[:3]]
        if dtype == "float32" and name not in REAL_ONLY and device == HOST:
            values.append(library.tensor((draws[3] + 1j * draws[4]).astype(np.complex64), **mine))
        return values

    parameters = [library.nn.Parameter(value) for value in draw()]
    optimizer = getattr(library.optim, name)(parameters, **options)
    for _ in range(steps):
        for parameter, gradient in zip(parameters, draw()):
            parameter.grad = gradient
        optimizer.step()
    return parameters, optimizer


def arrays(values) -> list[np.ndarray]:
    return [value.detach().cpu().numpy() for value in values]


def assert_close(mine, theirs) -> None:
    for a, b in zip(arrays(mine), arrays(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_rule_and_state_are_pytorchs(name: str) -> None:
    reference = pytest.importorskip("torch")
    for options in [options for rule, options in CASES if rule == name]:
        mine, my_optimizer = run(torch, name, options)
        theirs, their_optimizer = run(reference, name, options)
        assert_close(mine, theirs)
        assert repr(my_optimizer) == repr(their_optimizer)
        my_state, their_state = my_optimizer.state_dict(), their_optimizer.state_dict()
        assert my_state["param_groups"] == their_state["param_groups"]
        assert len(my_state["state"]) == len(their_state["state"])
        for number, entries in their_state["state"].items():
            assert list(entries) == list(my_state["state"][number])
            assert_close(my_state["state"][number].values(), entries.values())


@pytest.mark.parametrize("device", [d for d in available_devices() if d != HOST])
def test_rules_on_devices(device: str) -> None:
    for name, options in {name: options for name, options in CASES}.items():
        found, _ = run(torch, name, options, 2, device=device)
        expected, _ = run(torch, name, options, 2)
        assert_close(found, expected[:3])


@pytest.mark.parametrize("name", RULES)
def test_going_on_from_each_others_state(name: str) -> None:
    reference = pytest.importorskip("torch")
    options = {"lr": 0.05, "momentum": 0.9} if name == "SGD" else {"lr": 0.05}
    theirs, their_optimizer = run(reference, name, options, 3)
    mine, my_optimizer = run(torch, name, options, 2)
    saved = copy.deepcopy(their_optimizer.state_dict()), my_optimizer.state_dict()

    def moved(state: dict, library) -> dict:
        entries = {
            number: {key: library.tensor(value.numpy()) for key, value in entries.items()}
            for number, entries in state["state"].items()
        }
        return {"state": entries, "param_groups": state["param_groups"]}

    # Each with the other's state and parameters: two steps here and three there before.
    my_optimizer.load_state_dict(moved(saved[0], torch))
    their_optimizer.load_state_dict(moved(saved[1], reference))
    for a, b in zip(mine, theirs):
        one, other = a.detach().numpy().copy(), b.detach().numpy().copy()
        a.data.copy_(torch.tensor(other))
        b.data.copy_(reference.tensor(one))
        a.grad, b.grad = torch.ones_like(a), reference.ones_like(b)
    my_optimizer.step()
    their_optimizer.step()
    unmoved, same = run(reference, name, options, 3), run(torch, name, options, 2)
    for parameters, optimizer in (unmoved, same):
        for parameter in parameters:
            parameter.grad = parameter.detach() * 0 + 1
        optimizer.step()
    assert_close(mine, unmoved[0])
    assert_close(theirs, same[0])


@pytest.mark.parametrize("name", RULES)
def test_differentiable_steps(name: str) -> None:
    """Gradients pass through two updates, to the first value and to the gradients used."""
    reference = pytest.importorskip("torch")
    # PyTorch's Adamax and Rprop write over what a second step's gradient needs.
    factors = (1.0,) if name in ("Adamax", "Rprop") else (1.0, 0.5)

    def gradients(library) -> list:
        made = {"device": HOST} if library is torch else {}
        values = np.linspace(-1, 2, 8).reshape(2, 4)
        start = library.tensor(values, requires_grad=True, **made)
        used = library.tensor(values[::-1].copy() + 0.3, requires_grad=True, **made)
        parameter = start.clone()
        optimizer = getattr(library.optim, name)([parameter], differentiable=True)
        for factor in factors:
            parameter.grad = used * used * factor
            optimizer.step()
        (parameter * library.tensor(values, **made)).sum().backward()
        return [start.grad, used.grad]

    if "differentiable" not in inspect.signature(getattr(torch.optim, name).__init__).parameters:
        pytest.skip("PyTorch's has no such option")
    for a, b in zip(gradients(torch), gradients(reference)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_flags_that_choose_kernels_change_nothing(name: str) -> None:
    taken = inspect.signature(getattr(torch.optim, name).__init__).parameters
    plain, _ = run(torch, name, {}, 2)
    for flag in ("foreach", "fused", "capturable"):
        if flag in taken:
            for a, b in zip(arrays(run(torch, name, {flag: True}, 2)[0]), arrays(plain)):
                np.testing.assert_array_equal(a, b)


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
    assert [step.item() for step in steps] == [2.0] * 4
    steps[0].add_(1)
    assert steps[1].item() == 2.0


@pytest.mark.parametrize("name", RULES)
def test_every_step_is_one_plan_of_few_launches(name: str) -> None:
    """Neither a schedule nor the first step costs a plan of its own."""
    parameters = [nn.Parameter(torch.ones(n, 3, device=HOST)) for n in range(1, 13)]
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)(parameters, lr=2.0, **options)
    missed = []
    for step in range(6):
        # Passes through 1 and 0.5, which are baked into kernels elsewhere.
        optimizer.param_groups[0]["lr"] = 2.0 / 2**step
        for parameter in parameters:
            ones = np.ones(tuple(parameter.shape), np.float32)
            parameter.grad = torch.tensor(ones, device=HOST)
        before = torch.stats()
        optimizer.step()
        after = torch.stats()
        missed.append(after["plans_missed"] - before["plans_missed"])
    assert missed[0] <= 1 and missed[1:] == [0] * 5
    # Adafactor's sums over rows, columns and all of a parameter are kernels of their own.
    most = 36 if name == "Adafactor" else 4
    assert after["kernels_launched"] - before["kernels_launched"] <= most


def test_hooks_of_every_optimizer() -> None:
    seen: list[str] = []
    before = torch.optim.optimizer.register_optimizer_step_pre_hook(
        lambda optimizer, args, kwargs: seen.append(f"before {type(optimizer).__name__}")
    )
    after = torch.optim.optimizer.register_optimizer_step_post_hook(
        lambda optimizer, args, kwargs: seen.append(f"after {type(optimizer).__name__}")
    )
    try:
        for name in ("SGD", "Adam"):
            _, optimizer = run(torch, name, {}, steps=0)
            optimizer.register_step_pre_hook(lambda *_: seen.append("own before"))
            optimizer.register_step_post_hook(lambda *_: seen.append("own after"))
            optimizer.step()
    finally:
        before.remove()
        after.remove()
    optimizer.step()
    calls = [
        [f"before {name}", "own before", "own after", f"after {name}"] for name in ("SGD", "Adam")
    ]
    assert seen == [*calls[0], *calls[1], "own before", "own after"]
