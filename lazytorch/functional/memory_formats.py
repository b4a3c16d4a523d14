"""Tensors laid out in a memory format: channels last, in place of row by row.

A format is asked for, by ``to``, ``contiguous``, ``clone`` or when a tensor is made, and that
tensor has its strides. Results of operations lie row by row whatever the operands do, where PyTorch
keeps the operands' order: kernels here read through any strides, and pack what they read often.
Modules keep their parameters in order for the same reason.
"""

from __future__ import annotations

from typing import Any

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.ops import movement
from lazytorch.tensor.attach import functions
from lazytorch.tensor.formats import CHANNELS_LAST_ORDER, check_format, contiguous_format
from lazytorch.tensor.recorder import record
from lazytorch.tensor.storage import Storage, View, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

_clone_rule = Rule("CloneBackward0", (lambda g: g,))


def laid_out(input: Tensor, wanted: Any, function: str) -> Tensor:
    """``input`` if it lies in the wanted format, otherwise a copy that does.

    ``RuntimeError`` where the format is one of tensors of another rank.
    """
    check_format(wanted, function)
    order = CHANNELS_LAST_ORDER.get(wanted)
    if order is None:
        return input.contiguous() if wanted is contiguous_format else input
    if len(shape_of(input)) != len(order):
        raise RuntimeError(f"required rank {len(order)} tensor to use {wanted.name} format")
    return input if input.is_contiguous(wanted) else _copied(input, order)


def clone_in(input: Tensor, wanted: Any) -> Tensor:
    """A copy in the wanted format."""
    out = laid_out(input, wanted, "clone")
    if out is not input:
        return out
    order = CHANNELS_LAST_ORDER.get(wanted)
    return input.clone() if order is None else _copied(input, order)


def _copied(input: Tensor, order: tuple[int, ...]) -> Tensor:
    """A copy whose memory holds the dimensions in another order."""
    node, shape = node_of(input), shape_of(input)
    inside = tuple(shape[axis] for axis in order)
    back = tuple(order.index(axis) for axis in range(len(order)))
    memory = record(movement.PERMUTE, (node,), (order,), inside, node.dtype, node.device)
    strides = [0] * len(order)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    out = fresh(None, input._device)
    out._storage = Storage(memory, input._device)
    out._view = View(None, shape, tuple(strides), 0, 0)
    out._node = record(movement.PERMUTE, (memory,), (back,), shape, node.dtype, node.device)
    return attach(out, _clone_rule, (input,))


functions.laid_out = laid_out
functions.clone_in = clone_in
