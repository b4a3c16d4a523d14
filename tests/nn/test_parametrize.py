"""Parametrized weights and folded norms, against PyTorch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import nn

torch = pytest.importorskip("torch")


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def taken(state: Any) -> dict[str, Any]:
    return {name: lazytorch.tensor(value.numpy()) for name, value in state.items()}


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=2e-4, atol=2e-5)


CASES = [
    ("Linear(4, 3)", "weight_norm(layer)", (2, 4)),
    ("Conv2d(2, 3, 3)", "weight_norm(layer, dim=None)", (1, 2, 4, 4)),
    ("Linear(4, 3)", "spectral_norm(layer)", (2, 4)),
    ("ConvTranspose1d(2, 3, 2)", "spectral_norm(layer, n_power_iterations=2)", (1, 2, 4)),
    ("Linear(4, 4)", "orthogonal(layer)", (2, 4)),
    ("Linear(4, 6)", "orthogonal(layer)", (2, 4)),
    ("Linear(6, 4)", "orthogonal(layer, orthogonal_map='cayley')", (2, 6)),
    ("Linear(6, 4)", "orthogonal(layer, 'weight', 'matrix_exp', use_trivialization=False)", (2, 6)),
]


@pytest.mark.parametrize(("layer", "call", "shape"), CASES)
def test_usual_parametrizations(layer: str, call: str, shape: tuple[int, ...]) -> None:
    made = []
    for library in (lazytorch, torch):
        module = eval(f"nn.{layer}", {"nn": library.nn})
        places = vars(library.nn.utils.parametrizations)
        made.append(eval(call, {**places, "layer": module}))
    ours, theirs = made
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    ours.load_state_dict(taken(state))
    for module, library in ((ours, lazytorch), (theirs, torch)):
        out = module(library.from_numpy(values(*shape)))
        (out * library.from_numpy(values(*out.shape))).sum().backward()
    close(ours.weight, theirs.weight)
    for name, parameter in theirs.named_parameters():
        close(ours.get_parameter(name).grad, parameter.grad)
    for name, buffer in theirs.named_buffers():
        close(ours.get_buffer(name), buffer)
    for module, library in ((ours, lazytorch), (theirs, torch)):
        library.nn.utils.parametrize.remove_parametrizations(module.eval(), "weight")
    assert type(ours) is getattr(nn, layer.split("(")[0]) and list(ours.state_dict()) == list(
        theirs.state_dict()
    )
    close(ours.weight, theirs.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize(
    ("layer", "shape"), [("Linear(4, 3)", (2, 4)), ("ConvTranspose1d(2, 3, 2)", (1, 2, 4))]
)
def test_older_norms(norm: str, layer: str, shape: tuple[int, ...]) -> None:
    made = []
    for library in (lazytorch, torch):
        module = eval(f"nn.{layer}", {"nn": library.nn})
        made.append(getattr(library.nn.utils, norm)(module))
    ours, theirs = made
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(taken(theirs.state_dict()))
    for training in (True, False):
        for module, library in ((ours, lazytorch), (theirs, torch)):
            module.train(training)
            out = module(library.from_numpy(values(*shape)))
            (out * library.from_numpy(values(*out.shape))).sum().backward()
    close(ours.weight, theirs.weight)
    for name, parameter in theirs.named_parameters():
        close(ours.get_parameter(name).grad, parameter.grad)
    with pytest.raises(RuntimeError, match=f"two {norm} hooks"):
        getattr(nn.utils, norm)(ours)
    for module, library in ((ours, lazytorch), (theirs, torch)):
        getattr(library.nn.utils, f"remove_{norm}")(module)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    close(ours.weight, theirs.weight)
    with pytest.raises(ValueError, match=f"{norm} of 'weight' not found"):
        getattr(nn.utils, f"remove_{norm}")(ours)


def test_assigned_weights() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    layer.weight = lazytorch.from_numpy(values(3, 4))
    np.testing.assert_allclose(layer.weight.detach().numpy(), values(3, 4), rtol=1e-5)
    for map in ("matrix_exp", "householder"):
        square = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map=map)
        basis = np.linalg.qr(values(4, 4))[0].astype(np.float32)
        square.weight = lazytorch.from_numpy(basis)
        np.testing.assert_allclose(square.weight.detach().numpy(), basis, atol=1e-5)
    reflected = nn.utils.parametrizations.orthogonal(
        nn.Linear(3, 5), orthogonal_map="householder", use_trivialization=False
    )
    basis = np.linalg.qr(values(5, 3))[0].astype(np.float32)
    reflected.weight = lazytorch.from_numpy(basis)
    np.testing.assert_allclose(reflected.weight.detach().numpy(), basis, atol=1e-5)


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.triu() + x.triu(1).T


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return x * 2

    def right_inverse(self, x: Any) -> Any:
        return x / 2


def test_parametrizations_compose_and_share() -> None:
    parametrize = nn.utils.parametrize
    layer = nn.Linear(3, 3)
    weight, before = layer.weight, layer.weight.detach().clone()
    doubled = Doubled()
    parametrize.register_parametrization(layer, "weight", doubled)
    assert layer.parametrizations.weight.original is weight  # an optimizer may hold it
    assert lazytorch.allclose(layer.weight, before)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert lazytorch.equal(layer.weight, layer.weight.T)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    calls = doubled.calls
    with parametrize.cached():
        layer(lazytorch.ones(1, 3)), layer(lazytorch.ones(1, 3))
    assert doubled.calls == calls + 1
    twin = copy.deepcopy(layer)
    with lazytorch.no_grad():
        twin.parametrizations.weight.original.zero_()
    assert twin.weight.abs().sum() == 0 and layer.weight.abs().sum() > 0
    other = parametrize.transfer_parametrizations_and_params(layer, nn.Linear(3, 3), "weight")
    assert lazytorch.equal(other.weight, layer.weight)
    with pytest.raises(RuntimeError, match=r"only supported through state_dict\(\)"):
        pickle.dumps(layer)
    with pytest.raises(RuntimeError, match="does not implement right_inverse"):
        layer.weight = before
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is weight and type(layer) is nn.Linear


def test_what_parametrizations_may_not_do() -> None:
    class Longer(nn.Module):
        def forward(self, x: Any) -> Any:
            return lazytorch.cat([x, x])

    parametrize = nn.utils.parametrize
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(layer, "weight", Longer())
    assert type(layer) is nn.Linear and not parametrize.is_parametrized(layer)
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(layer, "nothing", Symmetric())
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(layer, "weight")
    for wrong, error in (
        (lambda p: p.orthogonal(layer, orthogonal_map="x"), ValueError),
        (lambda p: p.orthogonal(layer, "bias"), ValueError),
        (lambda p: p.spectral_norm(layer, dim=2), IndexError),
        (lambda p: p.spectral_norm(layer, n_power_iterations=0), ValueError),
    ):
        with pytest.raises(error):
            wrong(nn.utils.parametrizations)


def test_folded_norms() -> None:
    for layer, norm, shape in (
        ("Conv2d(2, 3, 3, bias=False)", "BatchNorm2d(3)", (2, 2, 5, 5)),
        ("ConvTranspose1d(2, 3, 2)", "BatchNorm1d(3, affine=False)", (2, 2, 5)),
        ("Linear(4, 3)", "BatchNorm1d(3)", (5, 4)),
    ):
        first, second = (eval(f"nn.{text}", {"nn": nn}) for text in (layer, norm))
        second.running_mean.copy_(lazytorch.from_numpy(values(3)))
        second.running_var.copy_(lazytorch.from_numpy(np.abs(values(3)) + 0.5))
        with pytest.raises(AssertionError, match="eval"):
            nn.utils.fuse_conv_bn_eval(first, second)
        first.eval(), second.eval()
        if "Linear" in layer:
            folded = nn.utils.fuse_linear_bn_eval(first, second)
        else:
            folded = nn.utils.fuse_conv_bn_eval(first, second, transpose="Transpose" in layer)
        x = lazytorch.from_numpy(values(*shape))
        np.testing.assert_allclose(
            folded(x).detach().numpy(), second(first(x)).detach().numpy(), rtol=2e-4, atol=2e-5
        )
