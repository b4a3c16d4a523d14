"""utils.checkpoint: the same gradients from less memory."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import engine, nn
from lazytorch.runtime import get_device
from lazytorch.utils import checkpoint as checkpointing
from lazytorch.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential

MANNERS = pytest.mark.parametrize("reentrant", [False, True])


def network(depth: int = 3, dropout: float = 0.5) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        *[
            nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))
            for _ in range(depth)
        ]
    )


def gradients(model: Any, run: Any, looks: bool) -> list[Any]:
    model.zero_grad()
    torch.manual_seed(1)
    x = torch.randn(5, 4, requires_grad=True)
    loss = run(x).square().sum()
    if looks:
        loss.item()
    loss.backward()
    return [x.grad.tolist(), *[p.grad.tolist() for p in model.parameters()]]


@MANNERS
def test_gradients_with_dropout_are_the_same(reentrant: bool, each_device: str) -> None:
    model, looks = network(), reentrant

    def checkpointed(x: Any) -> Any:
        for block in model:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return x

    expected = gradients(model, model, looks)
    for run in (
        checkpointed,
        lambda x: checkpoint_sequential(model, 2, x, use_reentrant=reentrant),
    ):
        for a, b in zip(gradients(model, run, looks), expected):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@MANNERS
def test_peak_memory_falls(reentrant: bool) -> None:
    device = get_device(engine.resolve_device(str(torch.ones(1).device)))
    wide = [nn.Sequential(nn.Linear(32, 512), nn.Tanh(), nn.Linear(512, 32)) for _ in range(6)]
    x = torch.randn(512, 32, requires_grad=True)

    def peak(checkpointed: bool) -> int:
        engine.flush()
        device.synchronize()
        device.empty_cache()
        device.reset_peak()
        before = device.memory_allocated()
        h = x
        for block in wide:
            h = checkpoint(block, h, use_reentrant=reentrant) if checkpointed else block(h)
        loss = h.mean()
        loss.item()
        loss.backward()
        x.grad.sum().item()
        x.grad = None
        for block in wide:
            block.zero_grad()
        return device.max_memory_allocated() - before

    # A block keeps 512 x 512 numbers (1 MiB), a checkpoint 512 x 32.
    peak(True)
    assert peak(True) < 0.5 * peak(False)


def test_nested_and_differentiated_twice(each_device: str) -> None:
    x = torch.tensor([0.3, 0.7], requires_grad=True)

    def inner(t: Any) -> Any:
        return t.sin().exp()

    def outer(t: Any) -> Any:
        return checkpoint(inner, t * t, use_reentrant=False) * t

    def derivatives(run: Any) -> list[Any]:
        (first,) = torch.autograd.grad(run(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        return [first.tolist(), second.tolist()]

    found = derivatives(lambda t: checkpoint(outer, t, use_reentrant=False))
    np.testing.assert_allclose(found, derivatives(lambda t: inner(t * t) * t), rtol=1e-5)


def test_a_kept_graph_runs_again_and_a_freed_one_refuses() -> None:
    x = torch.ones(2, requires_grad=True)
    y = checkpoint(lambda t: t.exp().sin(), x, use_reentrant=False).sum()
    y.backward(retain_graph=True)
    y.backward()
    expected = 2 * np.e * np.cos(np.e)
    np.testing.assert_allclose(x.grad.tolist(), [expected] * 2, rtol=1e-5)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_a_repetition_stops_early() -> None:
    steps: list[int] = []

    def region(t: Any) -> Any:
        t = t.exp()
        steps.append(1)
        t = t.sin()
        steps.append(2)
        return t

    for early, expected in ((True, [1, 2, 1]), (False, [1, 2, 1, 2])):
        steps.clear()
        x = torch.ones(2, requires_grad=True)
        checkpoint(region, x, use_reentrant=False, early_stop=early).sum().backward()
        assert steps == expected


def test_regions_that_differ_are_noticed() -> None:
    def growing() -> Any:
        runs: list[int] = []

        def region(t: Any) -> Any:
            runs.append(1)
            return t.exp() if len(runs) > 1 else t.exp().sin()

        return region

    def changing() -> Any:
        runs: list[int] = []

        def region(t: Any) -> Any:
            runs.append(1)
            return torch.cat([t] * len(runs)).exp()

        return region

    x = torch.ones(2, requires_grad=True)
    y = checkpoint(growing(), x, use_reentrant=False, debug=True)
    with pytest.raises(CheckpointError, match=r"forward: 2\n.*recomputation: 1") as caught:
        y.sum().backward()
    assert "test_checkpoint.py" in str(caught.value)
    y = checkpoint(changing(), x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.sum().backward()


def test_contexts_and_keywords() -> None:
    entered: list[str] = []

    class Context:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            entered.append(self.name)

        def __exit__(self, *_: Any) -> None:
            pass

    x = torch.ones(2, requires_grad=True)
    y = checkpoint(
        lambda t, power: t.exp() ** power, x, power=2, use_reentrant=False,
        context_fn=lambda: (Context("forward"), Context("again")),
    )  # fmt: skip
    y.sum().backward()
    assert entered == ["forward", "again"]


def test_wrong_uses() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: power"):
        checkpoint(torch.exp, x, use_reentrant=True, power=2)
    with pytest.raises(ValueError, match="only supported when use_reentrant=False"):
        checkpoint(torch.exp, x, use_reentrant=True, debug=True)
    with pytest.raises(ValueError, match="determinism_check should be one of"):
        checkpoint(torch.exp, x, use_reentrant=False, determinism_check="some")
    with pytest.raises(RuntimeError, match=r"incompatible with .grad\(\)"):
        torch.autograd.grad(checkpoint(torch.exp, x, use_reentrant=True).sum(), x)
    with pytest.raises(NotImplementedError, match="saved_tensors_hooks"):
        checkpointing.create_selective_checkpoint_contexts([])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint(torch.exp, torch.ones(2))
    assert ["use_reentrant" in str(w.message) for w in caught] == [True, False]
