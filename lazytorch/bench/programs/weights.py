"""The initial weights of every model, as NumPy arrays under PyTorch's names.

Every library starts from these, so that losses can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

CLASSES = 10
Shapes = dict[str, tuple[int, ...]]
# inputs, outputs, stride of the eight blocks of ResNet-18.
RESNET_BLOCKS = (
    (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1),
    (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1),
)  # fmt: skip


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return {**_norm(name, width), **statistics, f"{name}.num_batches_tracked": ()}


def mlp() -> Shapes:
    """Names and shapes of the perceptron."""
    return {**_linear("0", 784, 512), **_linear("2", 512, 512), **_linear("4", 512, CLASSES)}


def cnn() -> Shapes:
    """Names and shapes of the convolutional network."""
    return {
        "0.weight": (32, 1, 3, 3), "0.bias": (32,), "2.weight": (64, 32, 3, 3), "2.bias": (64,),
        **_linear("6", 64 * 12 * 12, 128), **_linear("8", 128, CLASSES),
    }  # fmt: skip


def resnet18() -> Shapes:
    """Names and shapes of ResNet-18."""
    shapes: Shapes = {"stem.weight": (64, 3, 3, 3), **_batch_norm("norm", 64)}
    for number, (inputs, outputs, stride) in enumerate(RESNET_BLOCKS):
        block = f"blocks.{number}"
        shapes[f"{block}.first.weight"] = (outputs, inputs, 3, 3)
        shapes |= _batch_norm(f"{block}.norm1", outputs)
        shapes[f"{block}.second.weight"] = (outputs, outputs, 3, 3)
        shapes |= _batch_norm(f"{block}.norm2", outputs)
        if stride != 1 or inputs != outputs:
            shapes[f"{block}.shortcut.0.weight"] = (outputs, inputs, 1, 1)
            shapes |= _batch_norm(f"{block}.shortcut.1", outputs)
    return {**shapes, **_linear("head", 512, CLASSES)}


def gpt(width: int, layers: int, vocabulary: int, length: int, heads: int) -> Shapes:
    """Names and shapes of the small GPT."""
    shapes: Shapes = {
        "tokens.weight": (vocabulary, width), "positions.weight": (length, width),
        **_norm("norm", width), "head.weight": (vocabulary, width),
    }  # fmt: skip
    for number in range(layers):
        shapes |= {f"layers.{number}.{name}": s for name, s in gpt_block(width, heads).items()}
    return shapes


def gpt_block(width: int, heads: int) -> Shapes:
    """Names and shapes of one layer of the GPT."""
    return {
        **_norm("norm1", width), **_norm("norm2", width), **_linear("qkv", width, 3 * width),
        **_linear("out", width, width), **_linear("up", width, 4 * width),
        **_linear("down", 4 * width, width),
    }  # fmt: skip


def digits() -> Shapes:
    """Names and shapes of the network for digits of 8 x 8."""
    shapes: Shapes = {}
    for place, inputs, outputs in ((0, 1, 32), (3, 32, 64), (7, 64, 64)):
        shapes[f"{place}.weight"] = (outputs, inputs, 3, 3)
        shapes |= _batch_norm(str(place + 1), outputs)
    return {**shapes, **_linear("12", 64 * 2 * 2, CLASSES)}


def lstm() -> Shapes:
    """Names and shapes of the recurrent network."""
    return {
        "lstm.weight_ih_l0": (1024, 64), "lstm.weight_hh_l0": (1024, 256),
        "lstm.bias_ih_l0": (1024,), "lstm.bias_hh_l0": (1024,), **_linear("head", 256, CLASSES),
    }  # fmt: skip


SHAPES: dict[str, Callable[..., Shapes]] = {
    "mlp": mlp, "cnn": cnn, "resnet18": resnet18, "gpt": gpt, "lstm": lstm,
    "gpt_block": gpt_block, "digits": digits,
}  # fmt: skip


@lru_cache(maxsize=2)
def initial(model: str, **options: Any) -> dict[str, np.ndarray]:
    """The weights of a model, only to be read: the same in every process.

    >>> initial("mlp")["4.bias"].shape
    (10,)
    """
    rng = np.random.default_rng(1)
    shapes = SHAPES[model](**options)
    return {name: _value(name, shape, rng) for name, shape in shapes.items()}


def _value(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random matrices scaled for their number of inputs; norms start as the identity."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if len(shape) > 1:
        embedding = name in ("tokens.weight", "positions.weight")
        scale = 0.02 if embedding else math.sqrt(1 / math.prod(shape[1:]))
        return (rng.standard_normal(shape) * scale).astype(np.float32)
    # A weight that is a vector scales what a norm has made.
    one = name.endswith(("running_var", "weight"))
    return np.full(shape, 1.0 if one else 0.0, np.float32)
