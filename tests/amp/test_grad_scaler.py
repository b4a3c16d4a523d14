"""GradScaler beside PyTorch's, over steps some of whose gradients are not finite."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch as torch
from lazytorch import engine

# What the loss of each step is multiplied by.
FACTORS = [1, 1, float("inf"), 1, 1, 1, float("nan"), float("inf"), 2, 1, 1, 3]


def trained(library: Any, place: str, clip: bool) -> list[Any]:
    """Parameters, factor and state after each step of two optimizers with one scaler."""
    draw = np.random.RandomState(0)
    first, second = [
        library.tensor(draw.standard_normal(shape).astype(np.float32)).to(place).requires_grad_()
        for shape in ((3, 4), (5,))
    ]
    optimizers = [
        library.optim.AdamW([first], lr=0.1),
        library.optim.SGD([second], lr=0.1, momentum=0.9),
    ]
    scaler = library.amp.GradScaler(
        place, init_scale=1000.1, growth_factor=1.7, backoff_factor=0.3, growth_interval=2
    )
    seen: list[Any] = []
    for factor in FACTORS:
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = [(first.square().sum() * factor), second.exp().sum()]
        for loss in scaler.scale(losses):
            loss.backward()
        if clip:
            scaler.unscale_(optimizers[1])
            library.nn.utils.clip_grad_norm_([second], 0.5)
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        seen.append([scaler.get_scale(), *scaler.state_dict().values()])
        seen.append([*first.detach().flatten().tolist(), *second.detach().tolist()])
    return seen


@pytest.mark.parametrize("clip", [False, True])
def test_steps_are_pytorchs(clip: bool) -> None:
    pytorch = pytest.importorskip("torch")
    for ours, theirs in zip(trained(lazytorch, "numpy", clip), trained(pytorch, "cpu", clip)):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


def setup(**options: Any) -> tuple[Any, Any, Any]:
    weight = torch.ones(3, requires_grad=True)
    return weight, torch.optim.SGD([weight], lr=1.0), torch.amp.GradScaler("cpu", **options)


def test_only_the_decision_is_waited_for() -> None:
    weight, optimizer, scaler = setup()

    def asked() -> int:
        counts = engine.stats()
        return sum(counts[name] for name in ("plans_hit", "plans_missed", "plans_loaded"))

    before = asked()
    scaler.scale((weight * 2).sum()).backward()
    scaler.unscale_(optimizer)
    assert asked() == before
    scaler.step(optimizer)
    # The gradients for the decision, and the update, which nobody waits for.
    assert asked() == before + 2
    scaler.update()
    scaler.get_scale()
    scaler.state_dict()
    assert asked() == before + 2
    assert weight.tolist() == [-1.0] * 3


def test_a_float16_loss_may_grow() -> None:
    weight, _, scaler = setup()
    with torch.autocast("cpu", torch.float16):
        loss = torch.stack([(weight.half() @ weight.half()) * 100]).sum()
    scaled = scaler.scale(loss)
    assert loss.dtype is torch.float16 and scaled.item() == 300 * 65536
    nested = scaler.scale((loss, [loss]))
    assert isinstance(nested, tuple) and isinstance(nested[1], list)


def test_state_and_settings() -> None:
    weight, optimizer, scaler = setup(init_scale=8.0)
    scaler.scale(weight.sum()).backward()
    scaler.step(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled"):
        pickle.dumps(scaler)
    scaler.update(4.0)
    again = pickle.loads(pickle.dumps(scaler))
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(again.state_dict())
    assert other.state_dict() == scaler.state_dict()
    assert other.get_scale() == 4.0 and other.get_growth_interval() == 2000
    other.set_growth_factor(3.0), other.set_backoff_factor(0.1), other.set_growth_interval(5)
    settings = other.get_growth_factor(), other.get_backoff_factor(), other.get_growth_interval()
    assert settings == (3.0, 0.1, 5) and other.is_enabled()
    off = torch.amp.GradScaler("cpu", enabled=False)
    assert off.state_dict() == {} and off.get_scale() == 1.0 and off.scale(weight) is weight
    off.step(optimizer), off.update(), off.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        other.load_state_dict({})


def test_mistakes() -> None:
    weight, optimizer, scaler = setup()
    for call in (scaler.unscale_, scaler.step, lambda _: scaler.update()):
        with pytest.raises(AssertionError, match="_scale is None"):
            call(optimizer)
    scaler.scale(weight.sum())
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(weight.sum()).backward()
    with pytest.raises(AssertionError, match="No inf checks were recorded prior"):
        scaler.update()
    with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
        scaler.step(optimizer, closure=lambda: 0)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called on this optimizer since"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="called after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="step\\(\\) has already been called"):
        scaler.step(optimizer)
    short = torch.ones(2, dtype=torch.float16, requires_grad=True)
    scaler.scale(short.sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16"):
        scaler.unscale_(torch.optim.SGD([short], lr=0.1))
    for options in ({"growth_factor": 1.0}, {"backoff_factor": 1.0}):
        with pytest.raises(AssertionError, match="factor must be"):
            torch.amp.GradScaler("cpu", **options)
    if not torch.cuda.is_available():
        with pytest.warns(UserWarning, match="CUDA is not available"):
            assert not torch.amp.GradScaler().is_enabled()
    with pytest.warns(FutureWarning, match="deprecated"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.cuda.amp.GradScaler is enabled")
        torch.cuda.amp.GradScaler(init_scale=2.0)
