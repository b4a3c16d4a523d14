"""Pruning beside PyTorch's: masks, names, hooks, and what is refused."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.nn.utils import prune


def network(library: Any) -> Any:
    draw = np.random.RandomState(3)
    model = library.nn.Sequential(
        library.nn.Conv2d(2, 4, 3),
        library.nn.ReLU(),
        library.nn.Flatten(),
        library.nn.Linear(16, 5),
    )
    for number, parameter in enumerate(model.parameters()):
        # No two are equally large.
        count = parameter.numel()
        values = draw.permutation(count) - count // 2 + 0.25 + number / 64
        parameter.data = library.tensor(values.reshape(tuple(parameter.shape)).astype(np.float32))
    return model


def pruned(library: Any) -> list[Any]:
    """State, output and gradients after each of several ways of pruning."""
    prune = library.nn.utils.prune
    model = network(library)
    conv, linear = model[0], model[3]
    x = library.tensor(np.random.RandomState(4).standard_normal((3, 2, 4, 4)).astype(np.float32))
    seen: list[Any] = []

    def look() -> None:
        model.zero_grad()
        model(x).sum().backward()
        state = {name: value.tolist() for name, value in model.state_dict().items()}
        gradients = {n: p.grad.tolist() for n, p in model.named_parameters() if p.grad is not None}
        seen.append((state, gradients, prune.is_pruned(model), len(conv._forward_pre_hooks)))

    prune.l1_unstructured(conv, "weight", amount=0.3)
    look()
    prune.ln_structured(conv, "weight", amount=1, n=2, dim=0)
    look()
    prune.ln_structured(conv, "weight", amount=0.25, n=float("inf"), dim=-1)
    look()
    prune.identity(linear, "bias")
    scores = library.tensor(np.arange(80.0).reshape(5, 16).astype(np.float32))
    prune.l1_unstructured(linear, "weight", amount=7, importance_scores=scores)
    prune.custom_from_mask(conv, "bias", library.tensor([1.0, 0.0, 1.0, 1.0]))
    look()
    places = [(conv, "weight"), (linear, "weight"), (linear, "bias")]
    prune.global_unstructured(places, prune.L1Unstructured, amount=0.5)
    look()
    seen.append(prune.L1Unstructured(2).prune(library.tensor([3.0, -1.0, 2.0, 5.0])).tolist())
    for module, name in [*places, (conv, "bias")]:
        prune.remove(module, name)
    look()
    return seen


def test_pruning_is_pytorchs() -> None:
    pytorch = pytest.importorskip("torch")
    importlib.import_module("torch.nn.utils.prune")
    with torch.device("numpy"):
        ours = pruned(torch)
    for mine, other in zip(ours, pruned(pytorch)):
        if isinstance(mine, list):
            assert mine == other
            continue
        assert list(mine[0]) == list(other[0]) and list(mine[1]) == list(other[1])
        assert mine[2:] == other[2:] and mine[0] == other[0]
        for name, value in mine[1].items():
            np.testing.assert_allclose(value, other[1][name], rtol=1e-4, atol=1e-3)


def test_random_methods_prune_as_much_as_asked() -> None:
    torch.manual_seed(0)
    layer = prune.random_unstructured(nn.Linear(8, 6), "weight", amount=0.25)
    assert int(layer.weight_mask.sum()) == 36
    prune.random_structured(layer, "weight", amount=2, dim=0)
    rows = layer.weight_mask.sum(1)
    assert int((rows == 0).sum()) >= 2 and isinstance(
        next(iter(layer._forward_pre_hooks.values())), prune.PruningContainer
    )
    again = prune.identity(nn.Linear(8, 6), "weight")
    again.load_state_dict(layer.state_dict())
    x = torch.ones(1, 8)
    assert again(x).tolist() == layer(x).tolist()
    optimizer = torch.optim.SGD(again.parameters(), lr=1.0)
    again(x).sum().backward()
    optimizer.step()
    assert again(x).tolist() != layer(x).tolist()
    assert bool((again.weight[layer.weight_mask == 0] == 0).all())


def test_what_is_refused() -> None:
    layer = nn.Linear(4, 2)
    before = sorted(layer.state_dict())
    for error, amount in ((TypeError, "2"), (ValueError, -1), (ValueError, 1.5), (ValueError, 99)):
        with pytest.raises(error, match="amount"):
            prune.l1_unstructured(layer, "weight", amount)
    with pytest.raises(ValueError, match="multidimensional"):
        prune.ln_structured(layer, "bias", 1, 2, 0)
    with pytest.raises(IndexError, match="Invalid index 5"):
        prune.random_structured(layer, "weight", 1, 5)
    with pytest.raises(AssertionError, match="importance_scores should have the same shape"):
        prune.l1_unstructured(layer, "weight", 1, importance_scores=torch.ones(3))
    with pytest.raises(ValueError, match="has to be pruned before"):
        prune.remove(layer, "weight")
    with pytest.raises(TypeError, match='Only "unstructured"'):
        prune.global_unstructured([(layer, "weight")], prune.LnStructured, amount=1, n=2)
    with pytest.raises(TypeError, match="is not a BasePruningMethod"):
        prune.PruningContainer().add_pruning_method(3)
    with pytest.raises(TypeError):
        prune.BasePruningMethod()
    # What failed has changed nothing.
    assert sorted(layer.state_dict()) == before and not prune.is_pruned(layer)
