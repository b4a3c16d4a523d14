"""nn.LinearCrossEntropyLoss gives PyTorch's losses and gradients, and prints the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices

peer = pytest.importorskip("torch")

_RNG = np.random.default_rng(0)
_INPUT = _RNG.standard_normal((4, 5)).astype(np.float32)
_WEIGHT = _RNG.standard_normal((30, 5)).astype(np.float32)
_BIAS = _RNG.standard_normal(30).astype(np.float32)


def _losses(module: Any, device: str, options: dict[str, Any], classes: int) -> list[Any]:
    layer = module.nn.LinearCrossEntropyLoss(5, classes, device=device, **options)
    with module.no_grad():
        layer.linear.weight.copy_(module.from_numpy(_WEIGHT))
        if options.get("bias"):
            layer.linear.bias.copy_(module.from_numpy(_BIAS))
    x = module.tensor(_INPUT, device=device, requires_grad=True)
    shape = (4, *options.get("out_features", ()))
    target = (module.arange(int(np.prod(shape)), device=device) % classes).reshape(shape)
    loss = layer(x, target)
    loss.sum().backward()
    return [loss, x.grad, layer.linear.weight.grad, repr(layer)]


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize(
    ("classes", "options"),
    [
        (30, {}),
        (30, {"bias": True, "label_smoothing": 0.1}),
        (10, {"out_features": (3,), "reduction": "none"}),
        (10, {"out_features": (3,), "bias": True, "ignore_index": 2, "reduction": "sum"}),
    ],
)
def test_values_gradients_and_text(device: str, classes: int, options: dict[str, Any]) -> None:
    if not hasattr(peer.nn, "LinearCrossEntropyLoss"):
        pytest.skip("this PyTorch has none")
    *mine, text = _losses(lazytorch, device, options, classes)
    *theirs, expected = _losses(peer, "cpu", options, classes)
    assert text == expected
    for found, wanted in zip(mine, theirs):
        np.testing.assert_allclose(
            found.detach().cpu().numpy(), wanted.detach().numpy(), rtol=1e-4, atol=1e-5
        )


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(RuntimeError, match="label_smoothing to be in range"):
        lazytorch.nn.LinearCrossEntropyLoss(2, 3, label_smoothing=2.0)
    with pytest.raises(RuntimeError, match="expected weight shape"):
        lazytorch.nn.LinearCrossEntropyLoss(2, 3, weight=lazytorch.ones(2))
