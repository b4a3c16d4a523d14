"""``vmap``: a function of one example, applied to a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from lazytorch.autograd.batching import ExampleBackward, example, inside, leave
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.trees import Rebuild, flatten
from lazytorch.func.arguments import Function
from lazytorch.func.dimensions import in_dims_of, name_of, out_dims_of, size_of
from lazytorch.ops.examples import Level, is_symbolic, levels_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.transform import batch_of
from lazytorch.tensor.generator import get_rng_state, set_rng_state
from lazytorch.tensor.storage import node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Dims = list[Any]


def vmap(
    func: Function, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *,
    chunk_size: int | None = None,
) -> Function:  # fmt: skip
    """The function that applies ``func``, written for one example, to a batch of them at once.

    ``in_dims`` says which dimension of each argument counts the examples: an int for all of them,
    or a structure like that of the arguments, with ``None`` for what all examples share. Keyword
    arguments are shared. ``out_dims`` says the same of the results. ``func`` runs once, on
    tensors without that dimension; what it computes is computed for the batch by as many kernels
    as for one example. Uses nest, in each other and in the other transforms.

    ``randomness``: random operations in ``func`` are an error, or give the 'same' numbers for
    all examples, or 'different' ones. ``chunk_size`` bounds how many examples are computed
    together.

    Raises ValueError for dimensions that do not fit the arguments or results, and RuntimeError
    where ``func`` asks for a value (``.item()``, ``if tensor:``), makes shapes that depend on
    values, or writes examples into a tensor that they share.

    >>> torch.vmap(torch.dot)(torch.eye(2), torch.tensor([[1., 2.], [3., 4.]]))
    tensor([1., 4.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(
            "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness}"
        )
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @wraps(func, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        values, rebuild = flatten(args)
        dims = in_dims_of(func, in_dims, args, values)
        size = size_of(values, dims)
        call = _Call(func, rebuild, kwargs, out_dims, randomness)
        if chunk_size is None or size <= chunk_size:
            return call.result([call.run(values, dims, size)])
        parts = []
        before = get_rng_state() if randomness == "same" else None
        for start in range(0, size, chunk_size):
            if before is not None:
                set_rng_state(before)
            length = min(chunk_size, size - start)
            chunk = [
                value if dim is None else functions.narrow(value, dim, start, length)
                for value, dim in zip(values, dims)
            ]
            parts.append(call.run(chunk, dims, length))
        return call.result(parts)

    return mapped


def debug_unwrap(tensor: Tensor, *, recurse: bool = True) -> Tensor:
    """The batch behind an example inside of ``vmap``, for looking at it; other tensors as they are.

    Of nested levels the innermost goes first; all of them with ``recurse``.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"Expected tensor in debug_unwrap, got {type(tensor).__name__}")
    node = node_of(tensor)
    if not is_symbolic(node):
        return tensor
    level = max(levels_of(node), key=lambda level: level.number)
    batch = fresh(batch_of(node, level), tensor._device)
    return debug_unwrap(batch) if recurse else batch


class _Call:
    """One call of a mapped function."""

    def __init__(
        self, func: Function, rebuild: Rebuild, kwargs: dict[str, Any], out_dims: Any,
        randomness: str,
    ) -> None:  # fmt: skip
        self.func, self.rebuild, self.kwargs = func, rebuild, kwargs
        self.out_dims, self.randomness = out_dims, randomness
        self.dims: Dims = []
        self.rebuild_results: Any = None

    def run(self, values: Sequence[Any], dims: Dims, size: int) -> list[Any]:
        """The results for one chunk, those with a batch having it in front."""
        level = Level(size, self.randomness)
        batches = [
            value if dim is None or dim % len(shape_of(value)) == 0
            else functions.movedim(value, dim, 0)
            for value, dim in zip(values, dims)
        ]  # fmt: skip
        # One tensor given twice is one tensor inside, too: writes to it are seen through both.
        ones: dict[tuple[int, Any], tuple[Tensor, Tensor]] = {}
        given: list[Any] = []
        with inside(level):
            for value, batch, dim in zip(values, batches, dims):
                if dim is None:
                    given.append(value)
                    continue
                key = (id(value), dim % len(shape_of(value)))
                if key not in ones:
                    ones[key] = (example(batch, level), batch)
                given.append(ones[key][0])
            made = self.func(*self.rebuild(given), **self.kwargs)
            results, self.rebuild_results = flatten(made)
            self.dims = out_dims_of(self.func, self.out_dims, made, results)
        self._check_shared(results, level)
        written = [pair for pair in ones.values() if _is_written(pair[0])]
        mapped = [result for result, dim in zip(results, self.dims) if dim is not None]
        left = leave(level, [*mapped, *(one for one, _ in written)])
        for (one, batch), value in zip(written, left[len(mapped) :]):
            _write_back(one, batch, value)
        whole = iter(left)
        return [result if dim is None else next(whole) for result, dim in zip(results, self.dims)]

    def _check_shared(self, results: Sequence[Any], level: Level) -> None:
        for result, dim in zip(results, self.dims):
            if dim is None and isinstance(result, Tensor):
                node = node_of(result)
                if is_symbolic(node) and level in levels_of(node):
                    name = name_of(self.func)
                    raise ValueError(
                        f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim "
                        "is None"
                    )

    def result(self, parts: list[list[Any]]) -> Any:
        """What the user gets, from the results of all chunks."""
        made = []
        for place, dim in enumerate(self.dims):
            value = parts[0][place]
            if dim is not None:
                if len(parts) > 1:
                    value = functions.cat([part[place] for part in parts])
                if dim != 0:
                    value = functions.movedim(value, 0, dim)
            made.append(value)
        return self.rebuild_results(made)


def _is_written(one: Tensor) -> bool:
    return one._storage is not None and one._storage.version > 0


def _write_back(one: Tensor, batch: Tensor, value: Tensor) -> None:
    """What the function wrote into its argument, written into the batch it came from."""
    entry = one._grad_fn
    if entry is not None and entry.__class__ is ExampleBackward:
        # Written while the tape was off.
        with no_grad():
            batch.copy_(value)  # type: ignore[attr-defined]
        return
    batch.copy_(value)  # type: ignore[attr-defined]
