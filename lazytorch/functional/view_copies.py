"""Views as values of their own (``*_copy``), and inputs with a view of them written over
(``*_scatter``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.autograd.naming import shown_as
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.examples import for_each_example
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

# Views that are methods of tensors; the copies are functions only, as in PyTorch.
_VIEWS = (
    "as_strided", "diagonal", "expand", "movedim", "permute", "select", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
)  # fmt: skip


def _copying(name: str) -> Callable[..., Any]:
    def view_name(input: Tensor, *args: Any, **kwargs: Any) -> str | None:
        # The copy's entry is the view's, marked: its gradient goes the same way.
        view = getattr(input, name)(*args, **kwargs)
        entry = (view[0] if isinstance(view, tuple) else view)._grad_fn
        return entry and f"{entry.name()}_copy"

    @shown_as(view_name)
    def copied(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = getattr(input, name)(*args, **kwargs)
        if isinstance(result, tuple):
            return tuple(functions.clone(part) for part in result)
        return functions.clone(result)

    copied.__name__ = copied.__qualname__ = f"{name}_copy"
    copied.__doc__ = f"``{name}`` as a value of its own instead of a view."
    return copied


for _name in _VIEWS:
    public(method=False)(_copying(_name))


@public(method=False)
@shown_as("AliasBackward0_copy")
def alias_copy(input: Tensor) -> Tensor:
    """A copy of the tensor."""
    return functions.clone(input)  # type: ignore[no-any-return]


@public(aliases=())
@shown_as("NarrowCopyBackward0")
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``narrow`` as a value of its own."""
    shape = shape_of(input)
    if dim >= len(shape):
        raise RuntimeError(f"narrow_copy(): expected dim < {len(shape)}, but got {dim}")
    if length < 0:
        raise RuntimeError(
            f"start ({start}) + length ({length}) exceeds dimension size ({shape[dim]})."
        )
    return functions.clone(functions.narrow(input, dim, start, length))  # type: ignore[no-any-return]


@public(method=True, out=False)
@shown_as("UnsafeSplitBackward0")
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """``chunk``; the parts may be written to like any other."""
    return functions.chunk(input, chunks, dim)  # type: ignore[no-any-return]


@public(method=True, out=False)
@shown_as("UnsafeSplitBackward0")
def unsafe_split(input: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """``split``; the parts may be written to like any other."""
    return functions.split(input, split_size, dim)  # type: ignore[no-any-return]


def _written(input: Tensor, src: Tensor, view: Callable[[Tensor], Tensor], name: str) -> Tensor:
    out: Tensor = for_each_example(functions.clone(input), src)
    region = view(out)
    if shape_of(region) != shape_of(src):
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = "
            f"{list(shape_of(src))}, slice size = {list(shape_of(region))} ({name})"
        )
    region.copy_(src)
    return out


@public()
@shown_as("SelectScatterBackward0")
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """``input`` with ``src`` in the place of ``input.select(dim, index)``."""
    return _written(input, src, lambda out: out.select(dim, index), "select_scatter")


@public()
@shown_as("SliceScatterBackward0")
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    """``input`` with ``src`` in the place of ``input[start:end:step]`` along ``dim``.

    >>> slice_scatter(zeros(4), ones(2), start=1, end=3)
    tensor([0., 1., 1., 0.])
    """
    axis = dim if dim >= 0 else dim + len(shape_of(input))
    key = (*(slice(None),) * axis, slice(start, end, step))
    return _written(input, src, lambda out: out[key], "slice_scatter")


@public()
@shown_as("DiagonalScatterBackward0")
def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """``input`` with ``src`` in the place of a diagonal."""
    return _written(input, src, lambda out: out.diagonal(offset, dim1, dim2), "diagonal_scatter")


@public()
@shown_as("AsStridedScatterBackward0")
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """``input`` with ``src`` in the place of a strided region of it."""

    def region(out: Tensor) -> Tensor:
        return out.as_strided(size, stride, storage_offset or 0)

    return _written(input, src, region, "as_strided_scatter")
