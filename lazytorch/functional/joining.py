"""Putting tensors together, taking them apart, repeating and reversing them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label, named
from lazytorch.functional.shape import as_shape, reshape, selected, sliced
from lazytorch.ops import movement
from lazytorch.ops.shapes import count, existing_axis, normalize_axis
from lazytorch.tensor.apply import apply, cast, common_device
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.promotion import result_type
from lazytorch.tensor.storage import node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

_cat_rule = named(movement.CONCATENATE, "CatBackward0")
_stack_rule = named(movement.CONCATENATE, "StackBackward0")


def _checked(tensors: Any, name: str) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        raise TypeError(
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor"
        )
    given = list(tensors)
    for number, tensor in enumerate(given):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"expected Tensor as element {number} in argument 0, but got "
                f"{type(tensor).__name__}"
            )
    if not given:
        refusal = ValueError if name == "torch.cat" else RuntimeError
        raise refusal(f"{name}(): expected a non-empty list of Tensors")
    return given


def concatenate(tensors: list[Tensor], axis: int, rule: Rule) -> Tensor:
    """Tensors of one rank joined along an axis, brought to one dtype."""
    dtype = result_type(*tensors)
    common_device(tensors)
    return apply(movement.CONCATENATE, [cast(t, dtype) for t in tensors], (axis,), rule)


@public(method=False, out=Target(apart=True), aliases=("concat", "concatenate"))
def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along a dimension; they agree in all others."""
    given = _checked(tensors, "torch.cat")
    # The historical exception: empty one-dimensional tensors join with anything.
    kept = [tensor for tensor in given if shape_of(tensor) != (0,)]
    if not kept:
        empty = functions.zeros((0,), dtype=result_type(*given), device=given[0].device)
        return attach(empty, _cat_rule, given[:1], (0,))
    place = dim if axis is None else axis
    first = shape_of(kept[0])
    if not first:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated")
    along = normalize_axis(place, len(first))
    for number, tensor in enumerate(kept):
        shape = shape_of(tensor)
        if len(shape) != len(first):
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}"
            )
        for dimension, (extent, other) in enumerate(zip(first, shape)):
            if dimension != along and extent != other:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {along}. Expected size "
                    f"{extent} but got size {other} for tensor number {number} in the list."
                )
    if len(kept) == 1 and len(given) == 1:
        return attach(fresh(node_of(kept[0]), kept[0]._device), _cat_rule, kept, (along,))
    dtype = result_type(*given)
    return concatenate([cast(tensor, dtype) for tensor in kept], along, _cat_rule)


def _with_axis(tensor: Tensor, axis: int) -> Tensor:
    shape = shape_of(tensor)
    return apply(movement.RESHAPE, (tensor,), ((*shape[:axis], 1, *shape[axis:]),))


@public(method=False)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    given = _checked(tensors, "stack")
    first = shape_of(given[0])
    for number, tensor in enumerate(given):
        if shape_of(tensor) != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 "
                f"and {list(shape_of(tensor))} at entry {number}"
            )
    axis = normalize_axis(dim, len(first) + 1)
    return concatenate([_with_axis(tensor, axis) for tensor in given], axis, _stack_rule)


def _at_least(tensor: Tensor, rank: int) -> Tensor:
    shape = shape_of(tensor)
    if len(shape) >= rank:
        return tensor
    if rank == 3 and len(shape) == 2:
        return reshape(tensor, (*shape, 1))
    if rank == 3 and len(shape) == 1:
        return reshape(tensor, (1, *shape, 1))
    return reshape(tensor, (*(1,) * (rank - len(shape)), *shape))


def _atleast(name: str, rank: int) -> None:
    def raised(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], Tensor):
            return _at_least(tensors[0], rank)
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple(_at_least(tensor, rank) for tensor in given)

    raised.__name__ = raised.__qualname__ = name
    raised.__doc__ = f"Tensors with at least {rank} dimensions."
    shown = "ViewBackward0" if rank == 1 else "UnsqueezeBackward0"
    public(method=False, out=False)(shown_as(shown)(raised))


for _rank in (1, 2, 3):
    _atleast(f"atleast_{_rank}d", _rank)


@public(method=False)
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the second dimension, vectors along their only one."""
    given = [_at_least(tensor, 1) for tensor in _checked(tensors, "hstack")]
    return cat(given, 0 if len(shape_of(given[0])) == 1 else 1)


@public(method=False, aliases=("row_stack",))
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
    return cat([_at_least(tensor, 2) for tensor in _checked(tensors, "vstack")], 0)


@public(method=False)
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the third dimension."""
    return cat([_at_least(tensor, 3) for tensor in _checked(tensors, "dstack")], 2)


@public(method=False)
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined as columns."""
    given = [
        reshape(tensor, (-1, 1)) if len(shape_of(tensor)) < 2 else tensor
        for tensor in _checked(tensors, "column_stack")
    ]
    return cat(given, 1)


# Taking apart ---------------------------------------------------------------------------------


def _marked(views: list[Tensor], name: str) -> tuple[Tensor, ...]:
    """Several views made at once refuse writes on the tape."""
    for view in views:
        label(view, name)
        if view._view is not None and view._view.multiple is None and view._requires_grad:
            view._view.multiple = name
    return tuple(views)


@public(out=False)
def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of ``split_size`` positions each (the last may be smaller), or of given sizes."""
    shape = shape_of(tensor)
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    axis = normalize_axis(dim, len(shape))
    extent = shape[axis]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and extent != 0):
            raise RuntimeError(
                f"split expects split_size be non-negative, but got split_size={size}"
            )
        sizes = [size] * (extent // size if size else 1)
        if size and extent % size:
            sizes.append(extent % size)
        sizes = sizes or [0]
    else:
        sizes = [int(size) for size in split_size_or_sections]
        if sum(sizes) != extent or any(size < 0 for size in sizes):
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {extent} (input tensor's "
                f"size at dimension {axis}), but got split_sizes={sizes}"
            )
    views = []
    start = 0
    for size in sizes:
        views.append(sliced(tensor, axis, start, start + size))
        start += size
    sections = (
        "SplitBackward0" if isinstance(split_size_or_sections, int) else "SplitWithSizesBackward0"
    )
    return _marked(views, sections)


public("split_with_sizes", out=False)(split)


@public(out=False)
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` views of equal size, the last perhaps smaller."""
    shape = shape_of(input)
    if not shape:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    axis = normalize_axis(dim, len(shape))
    size = -(-shape[axis] // chunks)
    return split(input, size if size else [0] * chunks, axis)


@public(out=False)
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views split into a number of nearly equal parts, or at given positions."""
    shape = shape_of(input)
    if not shape:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor")
    axis = normalize_axis(dim, len(shape))
    extent = shape[axis]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()  # type: ignore[attr-defined]
    if isinstance(indices_or_sections, int):
        parts = indices_or_sections
        if parts <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {parts}")
        base, longer = divmod(extent, parts)
        sizes = [base + 1] * longer + [base] * (parts - longer)
        bounds = [0]
        for size in sizes:
            bounds.append(bounds[-1] + size)
    else:
        bounds = [0, *indices_or_sections, extent]
    views = []
    for start, stop in itertools.pairwise(bounds):
        start, stop, _ = slice(start, stop).indices(extent)
        views.append(sliced(input, axis, start, max(stop, start)))
    return tuple(views)


@public(out=False)
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views at each position of a dimension."""
    shape = shape_of(input)
    axis = existing_axis(dim, len(shape))
    return _marked(
        [selected(input, axis, place) for place in range(shape[axis])], "UnbindBackward0"
    )


def _split_along(name: str, axis: int, least: int) -> None:
    def parts(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        rank = len(shape_of(input))
        if rank < least:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor "
                f"with {rank} dimensions!"
            )
        place = 0 if rank == 1 else axis
        sections = indices_or_sections
        if isinstance(sections, int) and (sections == 0 or shape_of(input)[place] % sections):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {place}, but the size of the "
                f"dimension {shape_of(input)[place]} is not divisible by the split_size "
                f"{indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, place)

    parts.__name__ = parts.__qualname__ = name
    parts.__doc__ = f"Views split along dimension {axis}, by a number of parts or by positions."
    public(out=False)(parts)


_split_along("hsplit", 1, 1)
_split_along("vsplit", 0, 2)
_split_along("dsplit", 2, 3)


# Repeating, reversing -------------------------------------------------------------------------


@public(function=False)
def repeat(input: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    """The tensor copied ``sizes`` times along each dimension."""
    times = as_shape(sizes if repeats is None else (repeats,))
    shape = shape_of(input)
    if len(times) < len(shape):
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            "tensor"
        )
    if any(number < 0 for number in times):
        raise RuntimeError(f"Trying to create tensor with negative dimension {list(times)}")
    padded = (*(1,) * (len(times) - len(shape)), *shape)
    apart: list[int] = []
    wide: list[int] = []
    for number, extent in zip(times, padded):
        apart += [1, extent]
        wide += [number, extent]
    joined = tuple(number * extent for number, extent in zip(times, padded))
    value = apply(
        movement.EXPAND, (apply(movement.RESHAPE, (input,), (tuple(apart),)),), (tuple(wide),)
    )
    return apply(movement.RESHAPE, (value,), (joined,), _repeat_rule)


_repeat_rule = named(movement.RESHAPE, "RepeatBackward0")


@public(out=False)
def tile(input: Tensor, *counts: Any, dims: Any = None) -> Tensor:
    """``repeat`` with missing leading counts taken as 1."""
    times = as_shape(counts if dims is None else (dims,))
    rank = len(shape_of(input))
    return repeat(input, (*(1,) * (rank - len(times)), *times))


@public(out=False)
@shown_as("ViewBackward0")
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element repeated, ``repeats`` a number or one for each position."""
    if repeats is None:
        return functions.repeat_interleave(
            functions.arange(len(input), device=input._device),
            input,
            0,  # type: ignore[arg-type]
        )
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if isinstance(repeats, Tensor) and repeats.numel() == 1:
        repeats = repeats.item()  # type: ignore[attr-defined]
    if isinstance(repeats, int):
        if repeats < 0:
            raise RuntimeError("Repeats must be non-negative")
        apart = (*shape[: axis + 1], 1, *shape[axis + 1 :])
        wide = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
        joined = (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :])
        value = apply(movement.RESHAPE, (input,), (apart,))
        value = apply(movement.EXPAND, (value,), (wide,))
        return apply(movement.RESHAPE, (value,), (joined,))
    counts = functions.peek(repeats).reshape(-1)
    if counts.size != shape[axis]:
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{counts.size} and input.size({axis}) = {shape[axis]}"
        )
    places = functions.tensor(range_repeated(counts), device=input._device)
    return functions.index_select(input, axis, places)


def range_repeated(counts: Any) -> Any:
    """0, 1, ... each repeated as often as ``counts`` says, on the host."""
    return np.repeat(np.arange(counts.size, dtype=np.int64), counts)


@public(out=False)
@shown_as("FlipBackward0")
def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """Dimensions in reversed order, as a copy."""
    shape = shape_of(input)
    given = as_shape(axes if dims is None else (dims,))
    turned = {normalize_axis(axis, len(shape)) for axis in given}
    if len(turned) != len(given):
        raise RuntimeError("dim appears multiple times in the list of dims")
    if not count(shape):
        return functions.clone(input)
    starts = tuple(extent - 1 if axis in turned else 0 for axis, extent in enumerate(shape))
    steps = tuple(-1 if axis in turned else 1 for axis in range(len(shape)))
    return apply(movement.SLICE, (input,), (starts, shape, steps), _flip_applied)


_flip_applied = Rule("FlipBackward0", (lambda g, attrs, f: _flip_gradient(g, attrs, f),))


def _flip_gradient(g: Any, attrs: Any, f: Any) -> Any:
    return f.flip(g, tuple(axis for axis, step in enumerate(attrs[2]) if step < 0))


@public(out=False)
@shown_as("FlipBackward0")
def fliplr(input: Tensor) -> Tensor:
    """Columns in reversed order."""
    if len(shape_of(input)) < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, (1,))


@public(out=False)
@shown_as("FlipBackward0")
def flipud(input: Tensor) -> Tensor:
    """Rows in reversed order."""
    if not shape_of(input):
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, (0,))


@public(out=False)
@shown_as("RollBackward0")
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved along dimensions, those pushed out coming in at the other end."""
    shape = shape_of(input)
    if dims is None or dims == ():
        if not isinstance(shifts, int):
            if len(shifts) != 1:
                raise RuntimeError(
                    f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0"
                )
            shifts = shifts[0]
        flat = roll(reshape(input, (-1,)), shifts, 0)
        return reshape(flat, shape)
    amounts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    axes = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(amounts) != len(axes):
        raise RuntimeError(
            f"shifts and dimensions must align. shifts: {len(amounts)}, dims:{len(axes)}"
        )
    result = input
    for amount, axis in zip(amounts, axes):
        place = existing_axis(axis, len(shape))
        extent = shape[place]
        moved = amount % extent if extent else 0
        if moved:
            back = sliced(result, place, extent - moved, extent)
            front = sliced(result, place, 0, extent - moved)
            result = concatenate([back, front], place, _roll_rule)
    return functions.clone(result) if result is input else result


_roll_rule = named(movement.CONCATENATE, "RollBackward0")


@public(out=False)
@shown_as("Rot90Backward0")
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Rotated by 90 degrees ``k`` times in the plane of two dimensions."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if len(shape_of(input)) < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {len(shape_of(input))}")
    first, second = (normalize_axis(axis, len(shape_of(input))) for axis in dims)
    if first == second:
        raise RuntimeError(
            f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"
        )
    turns = k % 4
    if turns == 0:
        return functions.clone(input)
    if turns == 2:
        return flip(input, (first, second))
    exchanged = functions.transpose(input, first, second)
    return flip(exchanged, (first,) if turns == 1 else (second,))
