"""A user's Function inside of ``vmap``: its own rule for batches, where it has one.

Without one nothing is needed, as what ``forward`` records is rewritten like everything else. With
one (a static method ``vmap``) the batches are given to it, which allows a Function to do what
symbolic values cannot, like calling NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lazytorch.autograd.batching import example, leave
from lazytorch.autograd.trees import flatten
from lazytorch.ops.examples import Level, is_symbolic, levels_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.levels import opened, outside
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor


class VmapInfo(NamedTuple):
    """What a Function's ``vmap`` is told of the call."""

    batch_size: int
    randomness: str


def innermost_level(args: Any) -> Level | None:
    """The innermost level of whose examples some arguments are."""
    found: Level | None = None
    if opened.levels:
        for value in flatten(args)[0]:
            if isinstance(value, Tensor) and is_symbolic(node_of(value)):
                for level in levels_of(node_of(value)):
                    if found is None or level.number > found.number:
                        found = level
    return found


def apply_to_batches(function: Any, args: tuple[Any, ...], level: Level) -> Any:
    """One example of what ``function.vmap(info, in_dims, *args)`` makes of the batches."""
    values, rebuild = flatten(args)
    places = [
        place
        for place, value in enumerate(values)
        if isinstance(value, Tensor) and level in levels_of(node_of(value))
    ]
    dims: list[Any] = [None] * len(values)
    for place, batch in zip(places, leave(level, [values[place] for place in places])):
        values[place], dims[place] = batch, 0
    with outside(level):
        made = function.vmap(
            VmapInfo(level.size, level.randomness), rebuild(dims), *rebuild(values)
        )
        if not (isinstance(made, tuple) and len(made) == 2):
            raise RuntimeError(
                f"The vmap staticmethod of {function.__name__} is expected to return two elements "
                f"(output, out_dims), but got {type(made).__name__}"
            )
        output, out_dims = made
        results, rebuild_results = flatten(output)
        out = [out_dims] * len(results) if isinstance(out_dims, int) else flatten(out_dims)[0]
        if len(out) == 1:
            out = out * len(results)
        moved = [
            result if dim in (None, 0) else functions.movedim(result, dim, 0)
            for result, dim in zip(results, out)
        ]
    return rebuild_results(
        [one if dim is None else example(one, level) for one, dim in zip(moved, out)]
    )
