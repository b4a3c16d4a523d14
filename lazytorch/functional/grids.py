"""Grids, triangles and diagonals: tensors made from the places of their elements."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.joining import _at_least, cat, stack
from lazytorch.functional.shape import expand, permute, reshape
from lazytorch.ops.shapes import broadcast, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

# Broadcasting, grids --------------------------------------------------------------------------


@public(method=False, out=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Tensors expanded to their common shape."""
    given = tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    shape = broadcast([shape_of(tensor) for tensor in given])
    return tuple(expand(tensor, shape) for tensor in given)


@public(method=False, out=False)
def broadcast_shapes(*shapes: Any) -> Any:
    """The common shape of several."""
    wanted = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in shapes]
    return functions.Size(broadcast(wanted))


@public(method=False, out=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates of a grid from its axes; ``indexing`` 'ij' or 'xy'."""
    given = list(
        tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors
    )
    if indexing not in ("ij", "xy"):
        raise RuntimeError(
            f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}'
        )
    swap = indexing == "xy" and len(given) >= 2
    if swap:
        given[0], given[1] = given[1], given[0]
    shape = tuple(tensor.numel() for tensor in given)
    grids = []
    for axis, tensor in enumerate(given):
        aligned = reshape(tensor, tuple(-1 if place == axis else 1 for place in range(len(given))))
        grids.append(expand(aligned, shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@public(method=False, out=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of the elements of several vectors, one a row."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([reshape(grid, (-1,)) for grid in meshgrid(*tensors)], 1)


# Triangles and diagonals ----------------------------------------------------------------------


def _triangle_mask(shape: tuple[int, ...], diagonal: int, lower: bool, like: Tensor) -> Tensor:
    rows = reshape(functions.arange(shape[-2], device=like._device), (-1, 1))
    columns = functions.arange(shape[-1], device=like._device)
    reach = functions.add(rows, diagonal)
    return functions.le(columns, reach) if lower else functions.ge(columns, reach)


def _triangle(name: str, lower: bool) -> None:
    rule = Rule(
        f"{name.capitalize()}Backward0", (lambda g, attrs, f: getattr(f, name)(g, attrs[0]),)
    )

    def cut(input: Tensor, diagonal: int = 0) -> Tensor:
        shape = shape_of(input)
        if len(shape) < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        plain = fresh(node_of(input), input._device)
        kept = functions.where(_triangle_mask(shape, diagonal, lower, input), plain, 0)
        return attach(cast(kept, dtype_of(input)), rule, (input,), (diagonal,))

    cut.__name__ = cut.__qualname__ = name
    side = "lower" if lower else "upper"
    cut.__doc__ = f"The {side} triangle of matrices, zeros elsewhere."
    public(inplace=True)(cut)


_triangle("tril", True)
_triangle("triu", False)


def _triangle_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, lower: bool
) -> Tensor:
    mask = functions.ones((row, col), device=device)
    cut = functions.tril(mask, offset) if lower else functions.triu(mask, offset)
    found = functions.nonzero(cut)
    return cast(functions.contiguous_value(functions.t(found)), dtype or dtypes.int64)


@public(method=False, out=False)
def tril_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    """Row and column numbers of a lower triangle, (2, n)."""
    return _triangle_indices(row, col, offset, lower=True, **options)


@public(method=False, out=False)
def triu_indices(row: int, col: int, offset: int = 0, **options: Any) -> Tensor:
    """Row and column numbers of an upper triangle, (2, n)."""
    return _triangle_indices(row, col, offset, lower=False, **options)


functions.contiguous_value = lambda input: fresh(node_of(input), input._device)


@public()
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A matrix with a vector on its diagonal, or the diagonal of a matrix."""
    rank = len(shape_of(input))
    if rank == 1:
        return diag_embed(input, diagonal)
    if rank != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {rank}D")
    return functions.clone(functions.diagonal(input, diagonal))


@public(out=False)
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last dimension on their diagonal."""
    shape = shape_of(input)
    rank = len(shape) + 1
    first, second = normalize_axis(dim1, rank), normalize_axis(dim2, rank)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = shape[-1] + abs(offset)
    zeros = functions.zeros((*shape[:-1], size, size), dtype=dtype_of(input), device=input._device)
    start = offset if offset >= 0 else -offset * size
    logical: list[int] = []
    step = size * size
    for extent in reversed(shape[:-1]):
        logical.append(step)
        step *= extent
    strides = (*reversed(logical), size + 1)
    filled = label(functions.insert_strided(zeros, input, strides, start), "DiagEmbedBackward0")
    order = list(range(rank - 2))
    for axis, source in sorted(((first, rank - 2), (second, rank - 1))):
        order.insert(axis, source)
    return filled if order == list(range(rank)) else permute(filled, order)


@public(out=False)
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements of a tensor on its diagonal."""
    return diag_embed(reshape(input, (-1,)), offset)


@public(out=False)
@shown_as("BlockDiagBackward0")
def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of a larger one."""
    blocks = [_at_least(tensor, 2) for tensor in tensors]
    width = sum(shape_of(block)[1] for block in blocks)
    rows = []
    start = 0
    for block in blocks:
        height, own = shape_of(block)
        options = {"dtype": dtype_of(block), "device": block._device}
        left = functions.zeros((height, start), **options)
        right = functions.zeros((height, width - start - own), **options)
        rows.append(cat([left, block, right], 1))
        start += own
    return cat(rows, 0)
