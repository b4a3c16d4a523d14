"""Which dimension of each argument and result counts the examples: reading and checking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.trees import flatten
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

Dims = list[Any]


def name_of(func: Any) -> str:
    """What messages call a function."""
    return getattr(func, "__name__", None) or repr(func)


def structure(tree: Any) -> str:
    """A nested container with a star for each leaf.

    >>> structure((1, {"a": [2]}))
    "(*, {'a': [*]})"
    """
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {structure(one)}" for key, one in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inside = ", ".join(structure(one) for one in tree)
        return f"({inside})" if isinstance(tree, tuple) else f"[{inside}]"
    return "*"


def spread(prefix: Any, tree: Any) -> Dims | None:
    """An entry of ``prefix`` for each leaf of ``tree``; one entry may stand for a whole branch.

    ``None`` where the structures do not match.
    """
    if not isinstance(prefix, (tuple, list, dict)):
        return [prefix] * len(flatten(tree)[0])
    if type(prefix) is not type(tree) or len(prefix) != len(tree):
        return None
    if isinstance(prefix, dict) and isinstance(tree, dict):
        if prefix.keys() != tree.keys():
            return None
        pairs = [(prefix[key], tree[key]) for key in tree]
    else:
        pairs = list(zip(prefix, tree))
    found: Dims = []
    for entry, branch in pairs:
        dims = spread(entry, branch)
        if dims is None:
            return None
        found += dims
    return found


def in_dims_of(func: Any, in_dims: Any, args: tuple[Any, ...], values: Sequence[Any]) -> Dims:
    """The dimension of each leaf of the arguments; ValueError for what does not fit."""
    call = f"vmap({name_of(func)}, in_dims={in_dims}, ...)(<inputs>)"
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(
            f"{call}: expected `in_dims` to be int or a (potentially nested) tuple matching the "
            f"structure of inputs, got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name_of(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or "
            "you are trying to vmap over a function with no inputs. The latter is unsupported."
        )
    dims = spread(in_dims, args)
    if dims is None:
        raise ValueError(
            f"{call}: in_dims is not compatible with the structure of `inputs`. in_dims has "
            f"structure {structure(in_dims)} but inputs has structure {structure(args)}."
        )
    for value, dim in zip(values, dims):
        _check_in_dim(call, value, dim)
    return dims


def _check_in_dim(call: str, value: Any, dim: Any) -> None:
    if dim is None:
        return
    if not isinstance(dim, int):
        raise ValueError(
            f"{call}: Got in_dim={dim} for an input but in_dim must be either an integer "
            "dimension or None."
        )
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{call}: Got in_dim={dim} for an input but the input is of type {type(value)}. We "
            "cannot vmap over non-Tensor arguments, please use None as the respective in_dim"
        )
    rank = len(shape_of(value))
    if not -rank <= dim < rank:
        raise ValueError(
            f"{call}: Got in_dim={dim} for some input, but that input is a Tensor of "
            f"dimensionality {rank} so expected in_dim to satisfy -{rank} <= in_dim < {rank}."
        )


def size_of(values: Sequence[Any], dims: Dims) -> int:
    """How many examples there are; ValueError where arguments disagree."""
    sizes = [shape_of(value)[dim] for value, dim in zip(values, dims) if dim is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if len(set(sizes)) > 1:
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0]


def out_dims_of(func: Any, out_dims: Any, made: Any, results: Sequence[Any]) -> Dims:
    """The dimension for each leaf of what the function returned."""
    name = name_of(func)
    for entry in flatten(out_dims)[0]:
        if entry is not None and not isinstance(entry, int):
            raise ValueError(
                f"vmap({name}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a "
                "python collection of ints representing where in the outputs the vmapped "
                "dimension should appear."
            )
    one = isinstance(made, Tensor) and isinstance(out_dims, tuple) and len(out_dims) == 1
    dims = spread(out_dims[0] if one else out_dims, made)
    if dims is None:
        raise ValueError(
            f"vmap({name}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with "
            f"the structure of `outputs`. out_dims has structure {structure(out_dims)} but "
            f"outputs has structure {structure(made)}."
        )
    for value, dim in zip(results, dims):
        if dim is not None and not isinstance(value, Tensor):
            raise ValueError(
                f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(value)}. "
                "Did you mean to set out_dims= to None for output?"
            )
    return dims
