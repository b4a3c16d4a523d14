"""MultiheadAttention and the transformers with masks, against PyTorch, on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import nn
from lazytorch.runtime import available_devices, get_device

# What is tested here is not the second driver's kernels, and it compiles slowly.
DEVICES = [name for name in available_devices() if name != "opencl:1"]

LAYERS = [
    ({}, {}),
    ({"bias": False, "batch_first": True}, {"average_attn_weights": False}),
    ({"add_bias_kv": True, "add_zero_attn": True}, {"padding": True}),
    ({"kdim": 3, "vdim": 5, "batch_first": True}, {"need_weights": False}),
    ({}, {"causal": True, "need_weights": False, "is_causal": True}),
    ({}, {"causal": True, "padding": True}),
]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def masks(library: Any, options: dict[str, Any], device: str, length: int, batch: int) -> Any:
    options = dict(options)
    if options.pop("causal", False):
        options["attn_mask"] = library.nn.Transformer.generate_square_subsequent_mask(
            length, device=device
        )
    if options.pop("padding", False):
        padding = np.zeros((batch, length), np.bool_)
        padding[0, -2:] = True
        additive = np.where(padding, -np.inf, 0).astype(np.float32)
        chosen = additive if "attn_mask" in options else padding
        options["key_padding_mask"] = library.from_numpy(chosen).to(device)
    return options


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("arguments", "options"), LAYERS)
def test_attention(arguments: dict[str, Any], options: dict[str, Any], device: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(8, 2, **arguments)
    ours = nn.MultiheadAttention(8, 2, **arguments)
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    ours.load_state_dict({name: lazytorch.tensor(v.numpy()) for name, v in state.items()})
    assert list(ours.state_dict()) == list(state)
    ours.to(device)
    widths = (8, ours.kdim, ours.vdim)
    shapes = [(3, 5, w) if ours.batch_first else (5, 3, w) for w in widths]
    found = []
    for library, layer, place in ((lazytorch, ours, device), (torch, theirs, "cpu")):
        inputs = [library.from_numpy(values(*s)).to(place).requires_grad_() for s in shapes]
        if len(set(widths)) == 1:
            inputs = [inputs[0]] * 3
        out, weights = layer(*inputs, **masks(library, options, place, 5, 3))
        (out * library.from_numpy(values(*out.shape)).to(place)).sum().backward()
        assert (weights is None) == (options.get("need_weights", True) is False)
        grads = [layer.out_proj.weight.grad, *(x.grad for x in inputs)]
        found.append([t.detach().cpu().numpy() for t in (out, weights, *grads) if t is not None])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DEVICES)
def test_a_layer_without_weights_keeps_no_scores(name: str) -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 64, dropout=0.0, batch_first=True).to(name)
    x = lazytorch.ones(2, 512, 64, device=name)
    with lazytorch.no_grad():
        x.sum().item()
        device = get_device(name)
        device.reset_peak()
        before = device.max_memory_allocated()
        layer(x).sum().item()
    scores = 2 * 4 * 512 * 512 * 4
    assert device.max_memory_allocated() - before < scores / 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AssertionError, match="divisible by num_heads"):
        nn.MultiheadAttention(5, 2)
    with pytest.raises(ValueError, match="embed_dim=0 and num_heads=2"):
        nn.MultiheadAttention(0, 2)
    with pytest.raises(RuntimeError, match="activation should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, 8, activation="tanh")
    model = nn.Transformer(4, 2, 1, 1, 8)
    x = lazytorch.ones(5, 3, 4)
    with pytest.raises(RuntimeError, match="batch number of src and tgt must be equal"):
        model(x, x[:, :2])
    with pytest.raises(RuntimeError, match=r"equal to d_model \(4\)"):
        model(x[..., :2], x)
    with pytest.raises(RuntimeError, match="Need attn_mask"):
        model.encoder(x, is_causal=True)
