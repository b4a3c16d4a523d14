"""Bad input: PyTorch's exception class, raised where the function is called, with a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lazytorch
import lazytorch.nn.functional as F

torch = pytest.importorskip("torch")

Call = Callable[[Any, Any], Any]

CALLS: dict[str, Call] = {
    "conv channels": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 4, 3, 3)),
    "conv kernel too large": lambda m, f: f.conv2d(m.ones(1, 3, 2, 2), m.ones(2, 3, 3, 3)),
    "conv rank": lambda m, f: f.conv2d(m.ones(5, 5), m.ones(2, 3, 3, 3)),
    "conv bias": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), m.ones(3)),
    "conv dtype": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3).double()),
    "conv groups": lambda m, f: f.conv2d(m.ones(1, 4, 5, 5), m.ones(3, 2, 3, 3), groups=2),
    "conv stride": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), stride=0),
    "conv dilation": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), dilation=0),
    "conv padding": lambda m, f: f.conv2d(m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), padding=-1),
    "conv padding word": lambda m, f: f.conv2d(
        m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), padding="some"
    ),
    "conv same strided": lambda m, f: f.conv2d(
        m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), padding="same", stride=2
    ),
    "conv stride list": lambda m, f: f.conv2d(
        m.ones(1, 3, 5, 5), m.ones(2, 3, 3, 3), stride=(1, 1, 1)
    ),
    "conv no tensor": lambda m, f: f.conv2d([1.0], m.ones(2, 3, 3, 3)),
    "transposed channels": lambda m, f: f.conv_transpose2d(
        m.ones(1, 3, 5, 5), m.ones(4, 2, 3, 3)
    ),
    "transposed output padding": lambda m, f: f.conv_transpose2d(
        m.ones(1, 3, 5, 5), m.ones(3, 2, 3, 3), output_padding=1
    ),
    "pool rank": lambda m, f: f.max_pool2d(m.ones(5, 5), 2),
    "pool padding": lambda m, f: f.max_pool2d(m.ones(1, 1, 5, 5), 2, padding=2),
    "pool too large": lambda m, f: f.max_pool2d(m.ones(1, 1, 2, 2), 3),
    "pool stride": lambda m, f: f.max_pool2d(m.ones(1, 1, 5, 5), 2, 0),
    "avg divisor": lambda m, f: f.avg_pool2d(m.ones(1, 1, 4, 4), 2, divisor_override=0),
    "adaptive sizes": lambda m, f: f.adaptive_avg_pool2d(m.ones(1, 1, 4, 4), (1, 2, 3)),
    "softmax dim": lambda m, f: f.softmax(m.ones(2, 3), 2),
    "softmax integers": lambda m, f: f.softmax(m.ones(2, 3).long(), 1),
    "log_softmax dim": lambda m, f: f.log_softmax(m.ones(2, 3), -3),
    "glu odd": lambda m, f: f.glu(m.ones(2, 3)),
    "glu scalar": lambda m, f: f.glu(m.tensor(1.0)),
    "gelu word": lambda m, f: f.gelu(m.ones(2), approximate="some"),
    "relu bool": lambda m, f: f.relu(m.ones(2).bool()),
    "prelu weights": lambda m, f: f.prelu(m.ones(2, 3), m.ones(4)),
    "softshrink": lambda m, f: f.softshrink(m.ones(2), -1.0),
    "class too large": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, 3])),
    "class negative": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, -1])),
    "nll class": lambda m, f: f.nll_loss(m.ones(2, 3), m.tensor([0, 5])),
    "batch sizes": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, 1, 2])),
    "class dtype": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, 1]).float()),
    "class int32": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, 1]).int()),
    "class weight": lambda m, f: f.cross_entropy(m.ones(2, 3), m.tensor([0, 1]), m.ones(2)),
    "smoothing": lambda m, f: f.cross_entropy(
        m.ones(2, 3), m.tensor([0, 1]), label_smoothing=1.5
    ),
    "reduction": lambda m, f: f.mse_loss(m.ones(2), m.ones(2), reduction="some"),
    "cross entropy reduction": lambda m, f: f.cross_entropy(
        m.ones(2, 3), m.tensor([0, 1]), reduction="some"
    ),
    "mse shapes": lambda m, f: f.mse_loss(m.ones(2), m.ones(3)),
    "bce shapes": lambda m, f: f.binary_cross_entropy(m.ones(2), m.ones(3)),
    "bce range": lambda m, f: f.binary_cross_entropy(m.tensor([2.0, 0.5]), m.ones(2)),
    "logits shapes": lambda m, f: f.binary_cross_entropy_with_logits(m.ones(2), m.ones(3)),
    "huber delta": lambda m, f: f.huber_loss(m.ones(2), m.ones(2), delta=0.0),
    "smooth beta": lambda m, f: f.smooth_l1_loss(m.ones(2), m.ones(2), beta=-1.0),
    "triplet margin": lambda m, f: f.triplet_margin_loss(
        m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), margin=0.0
    ),
    "layer norm shape": lambda m, f: f.layer_norm(m.ones(2, 3), (4,)),
    "layer norm weight": lambda m, f: f.layer_norm(m.ones(2, 3), (3,), m.ones(2)),
    "rms norm shape": lambda m, f: f.rms_norm(m.ones(2, 3), (2, 4)),
    "batch norm weight": lambda m, f: f.batch_norm(
        m.ones(2, 3, 4), None, None, m.ones(4), None, True
    ),
    "batch norm one value": lambda m, f: f.batch_norm(m.ones(1, 3), None, None, training=True),
    "batch norm no statistics": lambda m, f: f.batch_norm(m.ones(2, 3), None, None),
    "group norm groups": lambda m, f: f.group_norm(m.ones(2, 4, 3), 3),
    "instance norm": lambda m, f: f.instance_norm(m.ones(2, 3, 1)),
    "dropout": lambda m, f: f.dropout(m.ones(2), 1.5),
    "dropout1d rank": lambda m, f: f.dropout1d(m.ones(2, 3, 4, 5), 0.5),
    "embedding index": lambda m, f: f.embedding(m.tensor([0, 7]), m.ones(5, 2)),
    "embedding dtype": lambda m, f: f.embedding(m.tensor([0.0]), m.ones(5, 2)),
    "embedding padding": lambda m, f: f.embedding(m.tensor([0]), m.ones(5, 2), padding_idx=9),
    "bag mode": lambda m, f: f.embedding_bag(m.tensor([[0]]), m.ones(5, 2), mode="some"),
    "one hot negative": lambda m, f: f.one_hot(m.tensor([-1])),
    "one hot small": lambda m, f: f.one_hot(m.tensor([5]), 3),
    "one hot float": lambda m, f: f.one_hot(m.tensor([1.0])),
    "pad odd": lambda m, f: f.pad(m.ones(2, 3), (1,)),
    "pad long": lambda m, f: f.pad(m.ones(3), (1, 1, 1, 1)),
    "pad mode": lambda m, f: f.pad(m.ones(2, 3), (1, 1), "some"),
    "reflect too far": lambda m, f: f.pad(m.ones(1, 2, 3), (3, 3), "reflect"),
    "circular too far": lambda m, f: f.pad(m.ones(1, 2, 3), (4, 0), "circular"),
    "pad negative": lambda m, f: f.pad(m.ones(2, 3), (-3, -3)),
    "pixel shuffle": lambda m, f: f.pixel_shuffle(m.ones(1, 3, 2, 2), 2),
    "pixel unshuffle": lambda m, f: f.pixel_unshuffle(m.ones(1, 3, 3, 2), 2),
    "unfold": lambda m, f: f.unfold(m.ones(1, 3, 2, 2), 3),
    "fold": lambda m, f: f.fold(m.ones(1, 8, 5), (4, 5), 2),
    "interpolate both": lambda m, f: f.interpolate(m.ones(1, 1, 2, 2), 2, 2),
    "interpolate neither": lambda m, f: f.interpolate(m.ones(1, 1, 2, 2)),
    "interpolate mode": lambda m, f: f.interpolate(m.ones(1, 1, 2, 2), 2, mode="some"),
    "interpolate rank": lambda m, f: f.interpolate(m.ones(1, 1, 2), 2, mode="bilinear"),
    "interpolate corners": lambda m, f: f.interpolate(
        m.ones(1, 1, 2, 2), 2, align_corners=True
    ),
    "attention dtypes": lambda m, f: f.scaled_dot_product_attention(
        m.ones(2, 2), m.ones(2, 2).double(), m.ones(2, 2)
    ),
    "attention mask and causal": lambda m, f: f.scaled_dot_product_attention(
        m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), is_causal=True
    ),
    "attention mask of other keys": lambda m, f: f.scaled_dot_product_attention(
        m.ones(2, 3, 4, 8), m.ones(2, 3, 5, 8), m.ones(2, 3, 5, 8), m.ones(4, 6)
    ),
    "attention mask of more heads": lambda m, f: f.scaled_dot_product_attention(
        m.ones(2, 1, 4, 8), m.ones(2, 1, 5, 8), m.ones(2, 1, 5, 8), m.ones(3, 4, 5)
    ),
    "attention mask of more axes": lambda m, f: f.scaled_dot_product_attention(
        m.ones(2, 3, 4, 8), m.ones(2, 3, 5, 8), m.ones(2, 3, 5, 8), m.ones(1, 2, 3, 4, 5)
    ),
    "cosine integers": lambda m, f: f.cosine_similarity(m.ones(2, 2).long(), m.ones(2, 2).long()),
    "multi margin p": lambda m, f: f.multi_margin_loss(m.ones(2, 2), m.tensor([0, 1]), p=3),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(CALLS))
def test_refused_as_in_pytorch(name: str) -> None:
    call = CALLS[name]
    with pytest.raises(Exception) as expected:
        call(torch, torch.nn.functional)
    with pytest.raises(expected.type) as raised:
        call(lazytorch, F)
    assert len(str(raised.value)) > 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m.isclose(x, x, rtol=-0.5), "rtol must .* zero, but got -0.5"),
        (lambda m, x: m.isclose(x, x, atol=-0.5), "atol must .* zero, but got -0.5"),
        (lambda m, x: m.bucketize(x, x), r"must be 1 dimension, but got dim\(2\)"),
        (lambda m, x: m.rot90(x, dims=[1, 1]), "different, but got dim0 = 1 and dim1 = 1"),
        (lambda m, x: m.multinomial(x, 0), "cannot sample n_sample <= 0 samples"),
    ],
)
def test_what_was_answered_silently_is_refused(call: Call, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(lazytorch, lazytorch.ones(2, 2))
    with pytest.raises(RuntimeError, match=message):
        call(torch, torch.ones(2, 2))
