"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import lazytorch as torch
from lazytorch import nn


def test_sequential() -> None:
    model = nn.Sequential(OrderedDict(first=nn.Linear(2, 3), second=nn.ReLU()))
    assert list(dict(model.named_children())) == ["first", "second"] and model.first is model[0]
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model[:2]) == 2 and isinstance(model[-1], nn.Linear)
    model.append(nn.Tanh()).insert(1, nn.Identity())
    assert [type(m).__name__ for m in model] == ["Linear", "Identity", "ReLU", "Linear", "Tanh"]
    assert isinstance(model.pop(1), nn.Identity) and list(model._modules) == ["0", "1", "2", "3"]
    del model[-1]
    model[1] = nn.Sigmoid()
    assert isinstance(model[1], nn.Sigmoid) and len(model + model) == 6 and len(model * 2) == 6
    model += nn.Sequential(nn.ReLU())
    assert tuple(model(torch.ones(4, 2)).shape) == (4, 1)
    with pytest.raises(IndexError, match="index 9 is out of range"):
        model[9]
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        nn.Sequential(3)
    with pytest.raises(ValueError, match="supports only objects of Sequential"):
        model + [nn.ReLU()]


def test_module_list() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.append(nn.ReLU())
    layers.extend([nn.Tanh(), nn.Tanh()])
    layers.insert(0, nn.Identity())
    layers += [nn.ReLU()]
    assert [name for name, _ in layers.named_children()] == list("012345")
    assert isinstance(layers[1:3], nn.ModuleList) and len(layers[1:3]) == 2
    del layers[0:2]
    assert isinstance(layers[0], nn.ReLU) and len(layers) == 4
    with pytest.raises(TypeError, match="should be called with an iterable"):
        layers.extend(3)


def test_module_dict() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(1, 1)})
    layers.update([("b", nn.ReLU())])
    layers["c"] = nn.Tanh()
    assert list(layers) == ["a", "b", "c"] and "b" in layers and len(layers) == 3
    assert isinstance(layers.pop("b"), nn.ReLU) and list(layers.keys()) == ["a", "c"]
    with pytest.raises(ValueError, match="has length 3; 2 is required"):
        layers.update([("x", 1, 2)])
    layers.clear()
    assert len(layers) == 0


def test_parameter_containers() -> None:
    values = nn.ParameterList([torch.ones(2), nn.Parameter(torch.zeros(1)), "note"])
    assert [name for name, _ in values.named_parameters()] == ["0", "1"]
    values.append(torch.ones(3))
    assert isinstance(values[-1], nn.Parameter) and values[2] == "note" and len(values) == 4
    named = nn.ParameterDict({"a": torch.ones(2)})
    named["b"] = torch.zeros(3)
    assert list(dict(named.named_parameters())) == ["a", "b"]
    merged = named | nn.ParameterDict({"c": torch.ones(1)})
    assert list(merged) == ["a", "b", "c"] and merged["a"] is named["a"]
    assert named.popitem()[0] == "b" and named.get("zz", 5) == 5
    with pytest.raises(KeyError):
        named["zz"]
