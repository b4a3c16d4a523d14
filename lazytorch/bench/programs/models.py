"""The models of the whole-step workloads, for any module that looks like ``torch``.

Classes are made inside functions, because what they inherit from is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.bench.programs.weights import CLASSES, RESNET_BLOCKS


def mlp(torch: Any) -> Any:
    """784-512-512-10 with ReLU."""
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)
    )


def cnn(torch: Any) -> Any:
    """Two convolutions, max pooling, two linear layers, for 28 x 28 images."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def _block(torch: Any) -> Any:
    nn, relu = torch.nn, torch.nn.functional.relu

    class Block(nn.Module):  # type: ignore[name-defined, misc]
        """Two 3 x 3 convolutions beside a shortcut (He et al. 2015, figure 2)."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x: Any) -> Any:
            inner = relu(self.norm1(self.first(x)))
            return relu(self.norm2(self.second(inner)) + self.shortcut(x))

    return Block


def resnet18(torch: Any) -> Any:
    """ResNet-18 for images of 32 x 32: a 3 x 3 stem without pooling."""
    nn, relu = torch.nn, torch.nn.functional.relu
    block = _block(torch)

    class ResNet18(nn.Module):  # type: ignore[name-defined, misc]
        """Stem, eight blocks, mean over the image, classes."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.norm = nn.BatchNorm2d(64)
            self.blocks = nn.Sequential(*(block(*sizes) for sizes in RESNET_BLOCKS))
            self.head = nn.Linear(512, CLASSES)

        def forward(self, x: Any) -> Any:
            x = self.blocks(relu(self.norm(self.stem(x))))
            return self.head(x.mean((2, 3)))

    return ResNet18()


def _layer(torch: Any) -> Any:
    nn, functional = torch.nn, torch.nn.functional

    class Layer(nn.Module):  # type: ignore[name-defined, misc]
        """Attention and a perceptron, each behind a layer norm (Radford et al. 2019)."""

        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1 = nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.norm2 = nn.LayerNorm(width)
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, length, width = x.shape
            split = (batch, length, 3, self.heads, width // self.heads)
            q, k, v = self.qkv(self.norm1(x)).view(*split).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
            inner = functional.gelu(self.up(self.norm2(x)), approximate="tanh")
            return x + self.down(inner)

    return Layer


def gpt(torch: Any, width: int, layers: int, vocabulary: int, length: int, heads: int) -> Any:
    """A small GPT with learned positions; logits of (batch * length, vocabulary)."""
    nn = torch.nn
    layer = _layer(torch)

    class GPT(nn.Module):  # type: ignore[name-defined, misc]
        """Embeddings, layers, norm, logits."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, width)
            self.positions = nn.Embedding(length, width)
            self.layers = nn.Sequential(*(layer(width, heads) for _ in range(layers)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            x = self.layers(self.tokens(tokens) + self.positions(places))
            return self.head(self.norm(x)).flatten(0, 1)

    return GPT()


def lstm(torch: Any) -> Any:
    """An LSTM of 64 to 256; classes from its last step."""
    nn = torch.nn

    class Recurrent(nn.Module):  # type: ignore[name-defined, misc]
        """(batch, time, 64) to (batch, classes)."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(64, 256, batch_first=True)
            self.head = nn.Linear(256, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    return Recurrent()


def gpt_block(torch: Any, width: int, heads: int) -> Any:
    """One layer of the GPT: (batch, length, width) to the same."""
    return _layer(torch)(width, heads)


def digits(torch: Any) -> Any:
    """The network of ``examples/digits.py`` without its dropouts; (batch, 1, 8, 8) to logits."""
    nn = torch.nn

    def block(inputs: int, outputs: int) -> list[Any]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 2 * 2, CLASSES),
    )  # fmt: skip


MODELS: dict[str, Callable[..., Any]] = {
    "mlp": mlp, "cnn": cnn, "resnet18": resnet18, "gpt": gpt, "lstm": lstm,
    "gpt_block": gpt_block, "digits": digits,
}  # fmt: skip


def make(torch: Any, model: str, **options: Any) -> Any:
    """The model of a name."""
    return MODELS[model](torch, **options)
