"""The programs as one writes them for PyTorch; lazytorch and PyTorch run the very same code.

A program gets a :class:`Library` and its inputs as tensors and returns what is timed: a function
without arguments that answers a tensor, a tuple of tensors, or, for a training step, its loss as a
Python number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch.bench.programs import models, weights

Step = Callable[[], Any]
Wrap = Callable[[Any], Any]


def unchanged(function: Any) -> Any:
    """The wrapper of code that runs as it is written."""
    return function


@dataclass(frozen=True)
class Library:
    """A module that looks like ``torch``, a device of it, and what its compiler is put around:
    plain functions, models, or whole training steps."""

    torch: Any
    device: str
    compile_function: Wrap = unchanged
    compile_model: Wrap = unchanged
    compile_step: Wrap = unchanged

    def tensor(self, array: np.ndarray) -> Any:
        """A copy of an array on the device."""
        return self.torch.tensor(array).to(self.device)


def _forward(function: Callable[..., Any]) -> Callable[..., Step]:
    """A program that calls one function of tensors."""

    def program(library: Library, *tensors: Any, **options: Any) -> Step:
        def call(*arguments: Any) -> Any:
            return function(library.torch, *arguments, **options)

        compiled = library.compile_function(call)
        return lambda: compiled(*tensors)

    return program


# Kernels ----------------------------------------------------------------------------------------


def matmul(torch: Any, a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """``a @ b``, where each may be looked at transposed."""
    return (a.transpose(-2, -1) if transpose_a else a) @ (b.transpose(-2, -1) if transpose_b else b)


def convolution(torch: Any, x: Any, w: Any, stride: int, padding: int, groups: int) -> Any:
    """Two-dimensional convolution."""
    return torch.nn.functional.conv2d(x, w, None, stride, padding, 1, groups)


def _convolution_gradient(wanted: int) -> Callable[..., Step]:
    """The gradient alone: the forward pass happens once, before anything is timed."""

    def program(library: Library, x: Any, w: Any, g: Any, **options: Any) -> Step:
        torch = library.torch
        operand = (x, w)[wanted].requires_grad_()

        def call(x: Any, w: Any) -> Any:
            return convolution(torch, x, w, **options)

        y = library.compile_function(call)(x, w)
        return lambda: torch.autograd.grad(y, operand, g, retain_graph=True)[0]

    return program


def attention(torch: Any, q: Any, k: Any, v: Any) -> Any:
    """Causal attention of (batch, heads, length, width)."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention_backward(library: Library, q: Any, k: Any, v: Any, g: Any) -> Step:
    """Attention and its three gradients."""
    torch = library.torch
    operands = tuple(tensor.requires_grad_() for tensor in (q, k, v))

    def call(q: Any, k: Any, v: Any) -> Any:
        return attention(torch, q, k, v)

    compiled = library.compile_function(call)

    def step() -> Any:
        y = compiled(*operands)
        return (y.detach(), *torch.autograd.grad(y, operands, g))

    return step


def _gradient(function: Callable[..., Any]) -> Callable[..., Step]:
    """A function of two tensors whose sum of products with the last one is differentiated by the
    floats among them; the forward pass is part of it."""

    def program(library: Library, *tensors: Any) -> Step:
        torch = library.torch
        *inputs, g = tensors
        floats = [x.requires_grad_() for x in inputs if x.is_floating_point()]

        def call(*arguments: Any) -> Any:
            return function(torch, *arguments)

        compiled = library.compile_function(call)
        return lambda: torch.autograd.grad(compiled(*inputs), floats, g)

    return program


def group_norm(torch: Any, x: Any, w: Any, b: Any) -> Any:
    """Eight groups of channels."""
    return torch.nn.functional.group_norm(x, 8, w, b)


def layer_norm(torch: Any, x: Any, w: Any, b: Any) -> Any:
    """Over the last dimension."""
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), w, b)


def embedding(torch: Any, positions: Any, table: Any) -> Any:
    """Rows of a table."""
    return torch.nn.functional.embedding(positions, table)


def adds(torch: Any, a: Any, count: int) -> Any:
    """A chain of tiny additions."""
    b = a
    for _ in range(count):
        b = b + a
    return b


# Whole steps ------------------------------------------------------------------------------------


def _model(library: Library, arrays: dict[str, np.ndarray], **options: Any) -> Any:
    """A model with given weights."""
    torch = library.torch
    model = models.make(torch, **options)
    model.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    return model.to(library.device)


OPTIMIZERS: dict[str, dict[str, float]] = {
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3, "weight_decay": 0.01},
    "SGD": {"lr": 0.1, "momentum": 0.9},
}


def train(library: Library, x: Any, y: Any, optimizer: str, **options: Any) -> Step:
    """A training step on one batch; its loss is looked at every time."""
    torch = library.torch
    model = _model(library, weights.initial(**options), **options)
    updates = getattr(torch.optim, optimizer)(model.parameters(), **OPTIMIZERS[optimizer])
    forward = library.compile_model(model)

    def step() -> Any:
        updates.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(x), y)
        loss.backward()
        updates.step()
        return loss

    compiled = library.compile_step(step)
    return lambda: compiled().item()


def model_gradients(library: Library, x: Any, g: Any, **options: Any) -> Step:
    """What a model gives, and the gradients of its sum of products with ``g`` by all parameters."""
    torch = library.torch
    model = _model(library, weights.initial(**options), **options)
    parameters = list(model.parameters())
    forward = library.compile_model(model)

    def call(x: Any) -> Any:
        out = forward(x)
        return (out.detach(), *torch.autograd.grad(out, parameters, g))

    compiled = library.compile_function(call)
    return lambda: compiled(x)


def inference(library: Library, x: Any, **options: Any) -> Step:
    """A model in evaluation mode."""
    model = _model(library, weights.initial(**options), **options).eval()
    forward = library.compile_function(library.compile_model(model))
    return lambda: forward(x)


PROGRAMS: dict[str, Callable[..., Step]] = {
    "matmul": _forward(matmul),
    "convolution": _forward(convolution),
    "convolution_input_gradient": _convolution_gradient(0),
    "convolution_weight_gradient": _convolution_gradient(1),
    "attention": _forward(attention),
    "attention_backward": attention_backward,
    "multiply-add": _forward(lambda torch, a, b: a * b + 0.5 * a),
    "exp": _forward(lambda torch, a: a.exp()),
    "gelu": _forward(lambda torch, a: torch.nn.functional.gelu(a, approximate="tanh")),
    "softmax": _forward(lambda torch, x: torch.softmax(x, -1)),
    "log_softmax": _forward(lambda torch, x: torch.log_softmax(x, -1)),
    "layer_norm": _forward(layer_norm),
    "layer_norm_gradient": _gradient(layer_norm),
    "group_norm": _forward(group_norm),
    "group_norm_gradient": _gradient(group_norm),
    "sum_rows": _forward(lambda torch, x: x.sum(0)),
    "sum_columns": _forward(lambda torch, x: x.sum(1)),
    "sum_all": _forward(lambda torch, x: x.sum()),
    "max_columns": _forward(lambda torch, x: x.amax(1)),
    "cumsum": _forward(lambda torch, x: x.cumsum(1)),
    "transpose": _forward(lambda torch, x: x.t().contiguous()),
    "mean_columns": _forward(lambda torch, x: x.mean(1)),
    "argmax_columns": _forward(lambda torch, x: x.argmax(1)),
    "cummax": _forward(lambda torch, x: x.cummax(-1)[0]),
    "gather": _forward(lambda torch, x, i: x.gather(1, i)),
    "index_select": _forward(lambda torch, x, i: x.index_select(0, i)),
    "scatter_add": _forward(lambda torch, x, i, y: x.scatter_add(1, i, y)),
    "embedding": _forward(embedding),
    "embedding_gradient": _gradient(embedding),
    "concatenate": _forward(lambda torch, x, y: torch.cat([x, y], 1)),
    "sort": _forward(lambda torch, x: x.sort(1)[0]),
    "topk": _forward(lambda torch, x: x.topk(16, 1)[0]),
    "adds": _forward(adds),
    "train": train,
    "inference": inference,
    "model_gradients": model_gradients,
}
