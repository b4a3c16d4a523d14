"""Tensors that stand for one example of a batch."""

from __future__ import annotations

from typing import Any

from lazytorch.ops.examples import is_symbolic
from lazytorch.tensor.batching.levels import made_like, opened
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor


def check_same_shape(function: str, *tensors: Tensor) -> None:
    """``RuntimeError`` for a function whose result has a shape that depends on the values."""
    if opened.levels and any(is_symbolic(node_of(tensor)) for tensor in tensors):
        raise RuntimeError(
            "vmap: We do not support batching operators that can output dynamic shape. Attempted "
            f"to vmap over {function}: each example might give a result of another shape. Work "
            "with a mask of the whole shape (torch.where), or leave this outside of vmap."
        )


def for_each_example(made: Tensor, *like: Any) -> Tensor:
    """A new tensor that nobody aliases, made one of each example where one of ``like`` is.

    There is room then for what is different in each example.
    """
    if opened.levels:
        for model in like:
            if isinstance(model, Tensor):
                made._node = made_like(made._node, node_of(model))
    return made
