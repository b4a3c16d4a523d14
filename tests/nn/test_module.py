"""Module: registration, traversal, modes, conversion, copies; PyTorch's words where it has some."""

from __future__ import annotations

import copy
import pickle

import pytest

import lazytorch as torch
from lazytorch import nn


class Scale(nn.Module):
    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(size))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x):
        return x * self.factor


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), Scale(4))


def test_assignment_registers_and_deletion_forgets() -> None:
    module = Scale()
    assert list(module.state_dict()) == ["factor", "seen"]
    assert [name for name, _ in module.named_buffers()] == ["seen", "scratch"]
    module.inner = nn.Linear(1, 1)
    assert "inner.weight" in dict(module.named_parameters())
    del module.inner
    assert "inner.weight" not in dict(module.named_parameters())
    module.factor = None
    assert list(module.parameters()) == []
    module.plain = 3
    assert module.__dict__["plain"] == 3


def test_a_module_may_take_the_name_of_a_parameter() -> None:
    module = Scale()
    module.factor = nn.Identity()
    assert list(module.parameters()) == [] and len(list(module.children())) == 1


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda m: setattr(m, "factor", 3), TypeError, "cannot assign 'int' as parameter 'factor'"),
        (lambda m: setattr(m, "seen", 3), TypeError, "cannot assign 'int' as buffer 'seen'"),
        (lambda m: m.register_parameter("a.b", None), KeyError, "t contain"),
        (lambda m: m.register_parameter("", None), KeyError, "t be empty"),
        (lambda m: m.register_parameter(3, None), TypeError, "should be a string"),
        (lambda m: m.register_buffer("train", None), KeyError, "already exists"),
        (lambda m: m.register_parameter("p", torch.ones(2)), TypeError, "torch.nn.Parameter"),
        (lambda m: m.register_buffer("b", 3), TypeError, "torch Tensor or None required"),
        (lambda m: m.add_module("m", 3), TypeError, "int is not a Module subclass"),
        (lambda m: m.missing, AttributeError, "'Scale' object has no attribute 'missing'"),
        (lambda m: m.get_submodule("a.b"), AttributeError, "has no attribute `a`"),
        (lambda m: m.get_parameter("seen"), AttributeError, "`seen` is not an nn.Parameter"),
        (lambda m: m.get_buffer("factor"), AttributeError, "`factor` is not a buffer"),
        (lambda m: m.train("yes"), ValueError, "expected to be boolean"),
        (lambda m: m.to(torch.int64), TypeError, "only accepts floating point"),
        (lambda m: nn.Module()(3), NotImplementedError, 'missing the required "forward"'),
        (lambda m: nn.Module(3), TypeError, "takes 1 positional argument but 2 were given"),
        (lambda m: nn.Module(a=3), TypeError, "unexpected keyword argument 'a'"),
        (lambda m: m.share_memory(), NotImplementedError, "share_memory"),
    ],
)
def test_mistakes(wrong, error, text) -> None:
    with pytest.raises(error, match=text.replace("(", r"\(")):
        wrong(Scale())


def test_assigning_before_init() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(torch.ones(1))

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()


def test_shared_parts_appear_once_unless_asked() -> None:
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(model.named_parameters(remove_duplicate=False))) == 4
    assert [name for name, _ in model.named_modules()] == ["", "0"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_paths() -> None:
    model = small()
    assert model.get_submodule("") is model
    assert model.get_parameter("0.weight") is model[0].weight
    assert model.get_buffer("1.running_mean") is model[1].running_mean
    model.set_submodule("2", nn.Identity())
    assert isinstance(model[2], nn.Identity)
    names = [name for name, _ in model.named_parameters(prefix="net")]
    assert names[0] == "net.0.weight"


def test_train_eval_apply_requires_grad_zero_grad() -> None:
    model = small()
    assert model.eval() is model and not any(m.training for m in model.modules())
    model.train()
    visited = []
    model.apply(lambda module: visited.append(type(module).__name__))
    assert visited == ["Linear", "BatchNorm1d", "Scale", "Sequential"]
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())
    model.requires_grad_(True)
    model(torch.randn(5, 3)).sum().backward()
    model.zero_grad(set_to_none=False)
    assert all(p.grad.abs().sum().item() == 0 for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_conversion_keeps_the_parameter_objects() -> None:
    model = small()
    before = list(model.parameters())
    assert model.double() is model
    assert all(a is b for a, b in zip(before, model.parameters()))
    assert model[0].weight.dtype is torch.float64
    assert model[1].num_batches_tracked.dtype is torch.int64
    assert model.half()[0].bias.dtype is torch.float16
    assert model.bfloat16()[1].running_var.dtype is torch.bfloat16
    assert model.float()[0].weight.dtype is torch.float32
    assert model.to(torch.ones(1, dtype=torch.float64))[0].weight.dtype is torch.float64
    assert model.to("cpu", torch.float32)[0].weight.dtype is torch.float32
    assert model[0].weight.requires_grad and model[0].weight.is_leaf


def test_copies_are_independent() -> None:
    model = small()
    twin = copy.deepcopy(model)
    again = pickle.loads(pickle.dumps(model))
    for other in (twin, again):
        assert repr(other) == repr(model)
        assert type(other[0].weight) is nn.Parameter and other[0].weight.requires_grad
        assert torch.equal(other[0].weight, model[0].weight)
    with torch.no_grad():
        model[0].weight.fill_(7)
    assert not torch.equal(twin[0].weight, model[0].weight)
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert (lambda m: m[1].weight is m[0].weight)(copy.deepcopy(tied))


def test_repr() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()]))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ModuleList(\n"
        "    (0-1): 2 x ReLU()\n"
        "    (2): Tanh()\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Parameter(torch.ones(2))) == (
        "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    )


def test_buffer_class() -> None:
    module = nn.Module()
    module.kept = nn.Buffer(torch.ones(2))
    module.scratch = nn.Buffer(torch.ones(2), persistent=False)
    assert list(module.state_dict()) == ["kept"]
    assert len(list(module.buffers())) == 2
    module.kept = torch.zeros(2)
    assert module.state_dict()["kept"].sum().item() == 0
