"""Values that a computation on the host needs, for all examples where there are many.

What such a computation makes of arrays (batch, ...) is again one value of each example. Several
levels give several leading axes, the outermost first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lazytorch import engine
from lazytorch.ir.node import Node
from lazytorch.ops import movement
from lazytorch.ops.examples import Level, example_of, is_symbolic, levels_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.levels import opened
from lazytorch.tensor.batching.transform import batch_of, every_example
from lazytorch.tensor.recorder import array_of, record
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh


def _levels_among(nodes: Sequence[Node]) -> list[Level]:
    found = {level.number: level for node in nodes for level in levels_of(node)}
    return [found[number] for number in sorted(found)]


def are_examples(*tensors: Tensor) -> bool:
    """Whether one of the tensors stands for each example of a batch that is being worked on."""
    return bool(opened.levels) and any(is_symbolic(node_of(tensor)) for tensor in tensors)


def values_of(*tensors: Tensor) -> list[np.ndarray]:
    """The values on the host, with the same leading axes for the examples of all of them."""
    nodes = [node_of(tensor) for tensor in tensors]
    levels = _levels_among(nodes)
    return [array_of(_spread(node, levels)) for node in nodes]


def every_value(tensor: Tensor) -> np.ndarray:
    """The values on the host, those of all examples: for checks that each must pass."""
    if are_examples(tensor):
        return array_of(every_example(node_of(tensor)))
    return functions.peek(tensor)  # type: ignore[no-any-return]


def _spread(node: Node, levels: Sequence[Level]) -> Node:
    for level in reversed(levels):
        batch = batch_of(node, level)
        if batch is None:
            shape = (level.size, *node.shape)
            batch = record(movement.EXPAND, (node,), (shape,), shape, node.dtype, node.device)
        node = batch
    return node


def computed(function: Callable[..., np.ndarray], *tensors: Tensor) -> Tensor:
    """What a function on the host makes of the values; of each example in turn, where there are
    many. Its result must have the same shape for all."""
    return computed_all(lambda *arrays: [function(*arrays)], *tensors)[0]


def computed_all(function: Callable[..., list[np.ndarray]], *tensors: Tensor) -> list[Tensor]:
    """As :func:`computed`, for a function with several results."""
    if not are_examples(*tensors):
        found = function(*(functions.peek(tensor) for tensor in tensors))
        return [from_values(array, *tensors) for array in found]
    arrays = values_of(*tensors)
    batch = arrays[0].shape[: arrays[0].ndim - len(shape_of(tensors[0]))]
    made = [function(*(array[place] for array in arrays)) for place in np.ndindex(batch)]
    if not made:
        # Without examples, one of zeros tells what a result looks like.
        like = function(*(np.zeros(shape_of(one), dtype_of(one).numpy) for one in tensors))
        return [from_values(np.empty((*batch, *one.shape), one.dtype), *tensors) for one in like]
    stacks = [np.stack(each) for each in zip(*made)]
    return [from_values(each.reshape(*batch, *each.shape[1:]), *tensors) for each in stacks]


def from_values(array: np.ndarray, *like: Tensor) -> Tensor:
    """What was made of ``values_of(*like)``, as a tensor of one example, without history."""
    whole = np.asarray(array, order="C")
    place = like[0]._device
    node = engine.leaf_from_array(whole, place.runtime, share=True)
    for level in _levels_among([node_of(tensor) for tensor in like]):
        node = example_of(node, level)
    return fresh(node, place)
