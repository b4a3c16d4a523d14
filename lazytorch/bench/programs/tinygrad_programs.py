"""The programs of ``torch_like`` as one writes them for tinygrad.

Kernels are functions of (tinygrad, tensors, options), jitted by whoever calls them. Models are
functions of parameters under PyTorch's names, which keep PyTorch's layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.bench.programs import weights
from lazytorch.bench.programs.torch_like import OPTIMIZERS
from lazytorch.bench.programs.weights import RESNET_BLOCKS

Parameters = dict[str, Any]


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """``a @ b``, where each may be looked at transposed."""
    return (a.transpose(-2, -1) if transpose_a else a) @ (b.transpose(-2, -1) if transpose_b else b)


def convolution(x: Any, w: Any, stride: int, padding: int, groups: int = 1) -> Any:
    """Two-dimensional convolution."""
    return x.conv2d(w, groups=groups, stride=stride, padding=padding)


def input_gradient(x: Any, w: Any, g: Any, **options: int) -> Any:
    """The gradient alone; the forward pass is not used, and not computed."""
    return convolution(x, w, **options).gradient(x, gradient=g)[0]


def weight_gradient(x: Any, w: Any, g: Any, **options: int) -> Any:
    """The gradient alone; the forward pass is not used, and not computed."""
    return convolution(x, w, **options).gradient(w, gradient=g)[0]


def attention(q: Any, k: Any, v: Any) -> Any:
    """Causal attention of (batch, heads, length, width)."""
    return q.scaled_dot_product_attention(k, v, is_causal=True)


def attention_backward(q: Any, k: Any, v: Any, g: Any) -> tuple[Any, ...]:
    """Attention and its three gradients."""
    y = attention(q, k, v)
    return (y, *y.gradient(q, k, v, gradient=g))


def adds(a: Any, count: int) -> Any:
    """A chain of tiny additions."""
    b = a
    for _ in range(count):
        b = b + a
    return b


KERNELS: dict[str, Callable[..., Any]] = {
    "matmul": matmul,
    "convolution": convolution,
    "convolution_input_gradient": input_gradient,
    "convolution_weight_gradient": weight_gradient,
    "attention": attention,
    "attention_backward": attention_backward,
    "multiply-add": lambda a, b: a * b + 0.5 * a,
    "exp": lambda a: a.exp(),
    "gelu": lambda a: a.gelu(),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x, w, b: x.layernorm() * w + b,
    "sum_rows": lambda x: x.sum(0),
    "sum_columns": lambda x: x.sum(1),
    "sum_all": lambda x: x.sum(),
    "max_columns": lambda x: x.max(1),
    "cumsum": lambda x: x.cumsum(1),
    "transpose": lambda x: x.transpose(0, 1).contiguous(),
    "adds": adds,
}


# Models -----------------------------------------------------------------------------------------


def linear(p: Parameters, name: str, x: Any) -> Any:
    """``x W + b``."""
    return x.linear(p[f"{name}.weight"].transpose(0, 1), p.get(f"{name}.bias"))


def mlp(p: Parameters, x: Any) -> Any:
    """784-512-512-10 with ReLU."""
    return linear(p, "4", linear(p, "2", linear(p, "0", x).relu()).relu())


def cnn(p: Parameters, x: Any) -> Any:
    """Two convolutions, max pooling, two linear layers."""
    x = x.conv2d(p["0.weight"], p["0.bias"]).relu().conv2d(p["2.weight"], p["2.bias"]).relu()
    return linear(p, "8", linear(p, "6", x.max_pool2d((2, 2)).flatten(1)).relu())


def batch_norm(p: Parameters, name: str, x: Any, training: bool) -> Any:
    """Batch norm; in training it notes new running statistics."""
    mean, variance = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        batch_mean, batch_variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        count = x.shape[0] * x.shape[2] * x.shape[3]
        unbiased = batch_variance.detach() * (count / (count - 1))
        mean.assign(0.9 * mean + 0.1 * batch_mean.detach())
        variance.assign(0.9 * variance + 0.1 * unbiased)
        mean, variance = batch_mean, batch_variance
    inverse = (variance + 1e-5).rsqrt()
    return x.batchnorm(p[f"{name}.weight"], p[f"{name}.bias"], mean, inverse)


def resnet18(p: Parameters, x: Any, training: bool = True) -> Any:
    """ResNet-18 for images of 32 x 32."""

    def unit(weight: str, name: str, x: Any, stride: int, padding: int) -> Any:
        y = x.conv2d(p[f"{weight}.weight"], stride=stride, padding=padding)
        return batch_norm(p, name, y, training)

    x = unit("stem", "norm", x, 1, 1).relu()
    for number, (_, _, stride) in enumerate(RESNET_BLOCKS):
        block = f"blocks.{number}"
        y = unit(f"{block}.first", f"{block}.norm1", x, stride, 1).relu()
        y = unit(f"{block}.second", f"{block}.norm2", y, 1, 1)
        if f"{block}.shortcut.0.weight" in p:
            x = unit(f"{block}.shortcut.0", f"{block}.shortcut.1", x, stride, 0)
        x = (y + x).relu()
    return linear(p, "head", x.mean((2, 3)))


def gpt(
    p: Parameters, tokens: Any, width: int, layers: int, vocabulary: int, length: int, heads: int
) -> Any:
    """A small GPT with learned positions."""

    def norm(name: str, x: Any) -> Any:
        return x.layernorm() * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["tokens.weight"][tokens] + p["positions.weight"]
    batch = tokens.shape[0]
    for number in range(layers):
        name = f"layers.{number}"
        z = linear(p, f"{name}.qkv", norm(f"{name}.norm1", x))
        z = z.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = attention(z[0], z[1], z[2]).transpose(1, 2).reshape(batch, length, width)
        x = x + linear(p, f"{name}.out", mixed)
        inner = linear(p, f"{name}.up", norm(f"{name}.norm2", x)).gelu()
        x = x + linear(p, f"{name}.down", inner)
    return linear(p, "head", norm("norm", x)).flatten(0, 1)


def lstm(p: Parameters, x: Any) -> Any:
    """An LSTM, unrolled: a jitted function of tinygrad has no loops."""
    bias = p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"]
    driven = x.linear(p["lstm.weight_ih_l0"].transpose(0, 1), bias)
    h = c = x[:, 0, :1].expand(x.shape[0], 256) * 0
    for step in range(x.shape[1]):
        gates = driven[:, step] + h.linear(p["lstm.weight_hh_l0"].transpose(0, 1))
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return linear(p, "head", h)


MODELS: dict[str, Callable[..., Any]] = {
    "mlp": mlp, "cnn": cnn, "resnet18": resnet18, "gpt": gpt, "lstm": lstm,
}  # fmt: skip


def parameters(tinygrad: Any, model: str, **options: Any) -> tuple[Parameters, list[Any]]:
    """All tensors by name, and those that are trained."""
    held = {
        name: tinygrad.Tensor(value).realize()
        for name, value in weights.initial(model, **options).items()
        if not name.endswith("num_batches_tracked")
    }
    return held, [value for name, value in held.items() if "running_" not in name]


def train(
    tinygrad: Any, x: Any, y: Any, model: str, optimizer: str, **options: Any
) -> Callable[[], float]:
    """A training step on one batch, jitted whole; its loss is looked at every time."""
    held, trained = parameters(tinygrad, model, **options)
    settings = dict(OPTIMIZERS[optimizer])
    updates = getattr(tinygrad.nn.optim, optimizer)(trained, **settings)
    statistics = [value for name, value in held.items() if "running_" in name]

    def step() -> Any:
        updates.zero_grad()
        loss = MODELS[model](held, x, **options).sparse_categorical_crossentropy(y)
        loss.backward()
        return loss.realize(*updates.schedule_step(), *statistics)

    jitted = tinygrad.TinyJit(step)
    return lambda: float(jitted().item())


def inference(tinygrad: Any, x: Any, model: str, **options: Any) -> Callable[[], Any]:
    """A model in evaluation mode."""
    held, _ = parameters(tinygrad, model, **options)
    forward = tinygrad.TinyJit(lambda x: MODELS[model](held, x, training=False).realize())
    return lambda: forward(x)
