"""The whole steps of ``models`` as one writes them for JAX.

Parameters are a dictionary under PyTorch's names; weights of linear layers are kept as (inputs,
outputs), which is the layout a JAX program would choose. Optimizers are written out, as in JAX's
own tutorials; the whole step is one jitted function that donates its state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.bench.programs import weights
from lazytorch.bench.programs.jax_kernels import convolution, layer_norm
from lazytorch.bench.programs.torch_like import OPTIMIZERS
from lazytorch.bench.programs.weights import RESNET_BLOCKS

Parameters = dict[str, Any]
# (logits, new running statistics) of (parameters, running statistics, inputs, training).
Model = Callable[[Parameters, Parameters, Any, bool], tuple[Any, Parameters]]


def linear(p: Parameters, name: str, x: Any) -> Any:
    """``x W + b``."""
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def mlp(jax: Any) -> Model:
    """784-512-512-10 with ReLU."""
    relu = jax.nn.relu

    def call(p: Parameters, s: Parameters, x: Any, training: bool) -> tuple[Any, Parameters]:
        return linear(p, "4", relu(linear(p, "2", relu(linear(p, "0", x))))), s

    return call


def cnn(jax: Any) -> Model:
    """Two convolutions, max pooling, two linear layers."""
    relu, conv = jax.nn.relu, convolution(jax, 1, 0)

    def biased(p: Parameters, name: str, x: Any) -> Any:
        return conv(x, p[f"{name}.weight"]) + p[f"{name}.bias"][:, None, None]

    def call(p: Parameters, s: Parameters, x: Any, training: bool) -> tuple[Any, Parameters]:
        x = relu(biased(p, "2", relu(biased(p, "0", x))))
        window = (1, 1, 2, 2)
        x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, window, "VALID")
        return linear(p, "8", relu(linear(p, "6", x.reshape(x.shape[0], -1)))), s

    return call


def batch_norm(jax: Any) -> Callable[..., Any]:
    """Batch norm (Ioffe and Szegedy 2015, algorithm 1), noting new running statistics."""

    def call(
        p: Parameters, s: Parameters, new: Parameters, name: str, x: Any, training: bool
    ) -> Any:
        mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        if training:
            old_mean, old_variance = mean, variance
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            count = x.size // x.shape[1]
            unbiased = variance * (count / (count - 1))
            new[f"{name}.running_mean"] = 0.9 * old_mean + 0.1 * mean
            new[f"{name}.running_var"] = 0.9 * old_variance + 0.1 * unbiased
        scale = p[f"{name}.weight"] * jax.lax.rsqrt(variance + 1e-5)
        shift = p[f"{name}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    return call


def resnet18(jax: Any) -> Model:
    """ResNet-18 for images of 32 x 32."""
    relu, norm = jax.nn.relu, batch_norm(jax)

    def call(p: Parameters, s: Parameters, x: Any, training: bool) -> tuple[Any, Parameters]:
        new: Parameters = {}

        def unit(weight: str, name: str, x: Any, stride: int, padding: int) -> Any:
            y = convolution(jax, stride, padding)(x, p[f"{weight}.weight"])
            return norm(p, s, new, name, y, training)

        x = relu(unit("stem", "norm", x, 1, 1))
        for number, (_, _, stride) in enumerate(RESNET_BLOCKS):
            block = f"blocks.{number}"
            y = relu(unit(f"{block}.first", f"{block}.norm1", x, stride, 1))
            y = unit(f"{block}.second", f"{block}.norm2", y, 1, 1)
            if f"{block}.shortcut.0.weight" in p:
                x = unit(f"{block}.shortcut.0", f"{block}.shortcut.1", x, stride, 0)
            x = relu(y + x)
        return linear(p, "head", x.mean((2, 3))), {**s, **new}

    return call


def gpt(jax: Any, width: int, layers: int, vocabulary: int, length: int, heads: int) -> Model:
    """A small GPT with learned positions."""
    norm_function = layer_norm(jax)

    def norm(p: Parameters, name: str, x: Any) -> Any:
        return norm_function(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def layer(p: Parameters, name: str, x: Any) -> Any:
        batch = x.shape[0]
        split = (batch, length, 3, heads, width // heads)
        z = linear(p, f"{name}.qkv", norm(p, f"{name}.norm1", x)).reshape(split)
        mixed = jax.nn.dot_product_attention(z[:, :, 0], z[:, :, 1], z[:, :, 2], is_causal=True)
        x = x + linear(p, f"{name}.out", mixed.reshape(batch, length, width))
        inner = linear(p, f"{name}.up", norm(p, f"{name}.norm2", x))
        return x + linear(p, f"{name}.down", jax.nn.gelu(inner, approximate=True))

    def call(p: Parameters, s: Parameters, tokens: Any, training: bool) -> tuple[Any, Parameters]:
        x = p["tokens.weight"][tokens] + p["positions.weight"]
        for number in range(layers):
            x = layer(p, f"layers.{number}", x)
        return (norm(p, "norm", x) @ p["head.weight"]).reshape(-1, vocabulary), s

    return call


def lstm(jax: Any) -> Model:
    """An LSTM as a scan over time; the products with the inputs are done before it, at once."""
    numpy, sigmoid = jax.numpy, jax.nn.sigmoid

    def call(p: Parameters, s: Parameters, x: Any, training: bool) -> tuple[Any, Parameters]:
        bias = p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"]
        driven = x.swapaxes(0, 1) @ p["lstm.weight_ih_l0"] + bias

        def cell(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = numpy.split(row + h @ p["lstm.weight_hh_l0"], 4, 1)
            c = sigmoid(f) * c + sigmoid(i) * numpy.tanh(g)
            return (sigmoid(o) * numpy.tanh(c), c), None

        zero = numpy.zeros((x.shape[0], 256))
        (h, _), _ = jax.lax.scan(cell, (zero, zero), driven)
        return linear(p, "head", h), s

    return call


MODELS: dict[str, Callable[..., Model]] = {
    "mlp": mlp, "cnn": cnn, "resnet18": resnet18, "gpt": gpt, "lstm": lstm,
}  # fmt: skip


def state(jax: Any, model: str, **options: Any) -> tuple[Parameters, Parameters]:
    """Parameters and running statistics from the common initial weights."""
    parameters: Parameters = {}
    statistics: Parameters = {}
    for name, value in weights.initial(model, **options).items():
        if name.endswith("num_batches_tracked"):
            continue
        embedding = name in ("tokens.weight", "positions.weight")
        if value.ndim == 2 and not embedding:
            value = np.ascontiguousarray(value.T)
        kept = statistics if ".running_" in f".{name}" else parameters
        kept[name] = jax.numpy.asarray(value)
    return parameters, statistics


def _update(jax: Any, optimizer: str) -> Callable[..., Any]:
    """(parameter, state, gradient, number of the step) to (parameter, state)."""
    numpy, settings = jax.numpy, OPTIMIZERS[optimizer]
    rate = settings["lr"]

    def momentum(p: Any, state: Any, g: Any, t: Any) -> Any:
        (velocity,) = state
        velocity = numpy.where(t == 1, g, settings.get("momentum", 0.0) * velocity + g)
        return p - rate * velocity, (velocity,)

    def adam(p: Any, state: Any, g: Any, t: Any) -> Any:
        # Kingma and Ba 2015, algorithm 1; the decay of Loshchilov and Hutter 2019, algorithm 2.
        m, v = state
        p = p * (1 - rate * settings.get("weight_decay", 0.0))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        scale = numpy.sqrt(v / (1 - 0.999**t)) + 1e-8
        return p - rate * (m / (1 - 0.9**t)) / scale, (m, v)

    return momentum if optimizer == "SGD" else adam


def train(
    jax: Any, x: Any, y: Any, model: str, optimizer: str, **options: Any
) -> Callable[[], float]:
    """A training step on one batch; its loss is looked at every time."""
    parameters, statistics = state(jax, model, **options)
    function = MODELS[model](jax, **options)
    update = _update(jax, optimizer)

    def loss_of(p: Parameters, s: Parameters, x: Any, y: Any) -> tuple[Any, Parameters]:
        logits, new = function(p, s, x, True)
        chances = jax.nn.log_softmax(logits)
        return -jax.numpy.take_along_axis(chances, y[:, None], 1).mean(), new

    def step(p: Parameters, s: Parameters, moments: Any, t: Any, x: Any, y: Any) -> Any:
        (loss, s), gradients = jax.value_and_grad(loss_of, has_aux=True)(p, s, x, y)
        t = t + 1
        updated = {name: update(p[name], moments[name], gradients[name], t) for name in p}
        p = {name: pair[0] for name, pair in updated.items()}
        return p, s, {name: pair[1] for name, pair in updated.items()}, t, loss

    count = 1 if optimizer == "SGD" else 2
    moments = {
        name: tuple(jax.numpy.zeros_like(value) for _ in range(count))
        for name, value in parameters.items()
    }
    held = [parameters, statistics, moments, jax.numpy.float32(0)]
    jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def call() -> float:
        *held[:], loss = jitted(*held, x, y)
        return float(loss)

    return call


def inference(jax: Any, x: Any, model: str, **options: Any) -> Callable[[], Any]:
    """A model in evaluation mode."""
    parameters, statistics = state(jax, model, **options)
    function = MODELS[model](jax, **options)
    forward = jax.jit(lambda p, s, x: function(p, s, x, False)[0])
    return lambda: forward(parameters, statistics, x)
