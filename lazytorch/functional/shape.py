"""Views: functions that show the same elements under another shape or order.

Each gives a tensor in the same storage where PyTorch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, named
from lazytorch.ir.index import row_major_strides
from lazytorch.ops import movement
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import apply, make_view
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.formats import contiguous_format
from lazytorch.tensor.storage import dtype_of, is_contiguous, node_of, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor, fresh

Shape = tuple[int, ...]


def offset_of(tensor: Tensor) -> int:
    """The position of a tensor's first element in its storage."""
    return 0 if tensor._view is None else tensor._view.offset


def as_shape(arguments: Sequence[Any]) -> Shape:
    """``f(2, 3)``, ``f((2, 3))`` and ``f(Size)`` as a tuple of ints."""
    if len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
        arguments = arguments[0]
    shape = []
    for extent in arguments:
        if type(extent) is not int:
            if not hasattr(extent, "__index__") or isinstance(extent, bool):
                raise TypeError(
                    f"shape entries must be int, but got {type(extent).__name__} in "
                    f"{tuple(arguments)}"
                )
            extent = extent.__index__()
        shape.append(extent)
    return tuple(shape)


# reshape, view --------------------------------------------------------------------------------


def complete_shape(shape: Shape, size: int) -> Shape:
    """The shape with its one -1 worked out; ``RuntimeError`` when it does not fit ``size``."""
    missing = [axis for axis, extent in enumerate(shape) if extent == -1]
    if any(extent < -1 for extent in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)}")
    if len(missing) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if missing:
        known = count(tuple(extent for extent in shape if extent != -1))
        if known == 0 and size == 0:
            raise RuntimeError(
                f"cannot reshape tensor of 0 elements into shape {list(shape)} because the "
                "unspecified dimension size -1 can be any value and is ambiguous"
            )
        if known and size % known == 0:
            filled = list(shape)
            filled[missing[0]] = size // known
            return tuple(filled)
    elif count(shape) == size:
        return shape
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {size}")


def view_strides(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """The strides of a view of another shape, ``None`` when only a copy can have it."""
    if is_contiguous(shape, strides):
        return row_major_strides(wanted)
    if 0 in shape:
        return row_major_strides(wanted)
    result = [0] * len(wanted)
    place = len(wanted) - 1
    chunk_stride, chunk = strides[-1] if strides else 1, 1
    for axis in range(len(shape) - 1, -1, -1):
        chunk *= shape[axis]
        ends = axis == 0 or (shape[axis - 1] != 1 and strides[axis - 1] != chunk * chunk_stride)
        if not ends:
            continue
        inside = 1
        while place >= 0 and (inside < chunk or wanted[place] == 1):
            result[place] = inside * chunk_stride
            inside *= wanted[place]
            place -= 1
        if inside != chunk:
            return None
        if axis:
            chunk, chunk_stride = 1, strides[axis - 1]
    return tuple(result) if place == -1 else None


_view_rule = named(movement.RESHAPE, "ViewBackward0")
_unsafe_view_rule = named(movement.RESHAPE, "UnsafeViewBackward0")


def _view_as(input: Tensor, shape: Shape, strides: Shape, rule: Rule) -> Tensor:
    return make_view(input, movement.RESHAPE, (shape,), shape, strides, offset_of(input), rule)


@public(function=False)
def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The same elements under another shape, without copying; or another dtype.

    ``RuntimeError`` when the strides do not allow it: use ``reshape``.
    """
    if not shape and (size is not None or dtype is not None):
        shape = (dtype if size is None else size,)
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)):
        return functions.view_as_dtype(input, shape[0])
    before = shape_of(input)
    wanted = complete_shape(as_shape(shape), count(before))
    strides = view_strides(before, strides_of(input), wanted)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
        )
    return _view_as(input, wanted, strides, _view_rule)


@public(function=False)
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``view`` with the shape of another tensor."""
    return view(input, shape_of(other))


def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements under another shape: a view where possible, a copy otherwise."""
    before = shape_of(input)
    wanted = complete_shape(as_shape(sizes if shape is None else (shape,)), count(before))
    place = input._view
    if place is None:
        return _view_as(input, wanted, row_major_strides(wanted), _view_rule)
    strides = view_strides(before, place.strides, wanted)
    if strides is not None:
        return _view_as(input, wanted, strides, _view_rule)
    return apply(movement.RESHAPE, (input,), (wanted,), _unsafe_view_rule)


public(out=False)(reshape)


@public(function=False)
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``reshape`` to the shape of another tensor."""
    return reshape(input, shape_of(other))


@public(out=False)
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` joined into one."""
    shape = shape_of(input)
    first, last = normalize_axis(start_dim, len(shape)), normalize_axis(end_dim, len(shape))
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return reshape(input, (1,))
    if first == last:
        return input
    joined = count(shape[first : last + 1])
    return reshape(input, (*shape[:first], joined, *shape[last + 1 :]))


@public(out=False)
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, (-1,))


@public(out=False)
def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension split into several."""
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        parts = complete_shape(tuple(sizes), shape[axis])
    except RuntimeError:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} "
            f"({shape[axis]}) in the input tensor"
        ) from None
    return reshape(input, (*shape[:axis], *parts, *shape[axis + 1 :]))


# permute and its special cases ----------------------------------------------------------------

_permute_rule = named(movement.PERMUTE, "PermuteBackward0")
_transpose_rule = named(movement.PERMUTE, "TransposeBackward0")
_t_rule = named(movement.PERMUTE, "TBackward0")


def permuted(input: Tensor, order: Shape, rule: Rule) -> Tensor:
    """The view whose axis i is axis ``order[i]`` of the input."""
    shape, strides = shape_of(input), strides_of(input)
    return make_view(
        input, movement.PERMUTE, (order,), tuple([shape[axis] for axis in order]),
        tuple([strides[axis] for axis in order]), offset_of(input), rule,
    )  # fmt: skip


@public(out=False)
def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """Dimensions in another order."""
    rank = len(shape_of(input))
    given = as_shape(order if dims is None else (dims,))
    if len(given) != rank:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the "
            f"length of the desired ordering of dimensions i.e. input.dim() = {rank} is not equal "
            f"to len(dims) = {len(given)}".replace("(sparse_coo)", "")
        )
    axes = tuple(normalize_axis(axis, rank) for axis in given)
    if len(set(axes)) != rank:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permuted(input, axes, _permute_rule)


@public(out=False, aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    rank = len(shape_of(input))
    first, second = normalize_axis(dim0, rank), normalize_axis(dim1, rank)
    order = list(range(rank))
    if rank:
        order[first], order[second] = second, first
    return permuted(input, tuple(order), _transpose_rule)


@public(out=False)
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; a vector as it is."""
    rank = len(shape_of(input))
    if rank > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return permuted(input, tuple(range(rank))[::-1], _t_rule)


def _each_once(given: list[int], rank: int, name: str) -> list[int]:
    axes = [normalize_axis(axis, rank) for axis in given]
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"movedim: repeated dim in `{name}` ({given})")
    return axes


@public(out=False, aliases=("moveaxis",))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions moved to other places, the rest in order."""
    rank = len(shape_of(input))
    from_ = [source] if isinstance(source, int) else list(source)
    to = [destination] if isinstance(destination, int) else list(destination)
    if len(from_) != len(to):
        raise RuntimeError(
            "movedim: Invalid source or destination dims: source "
            f"({from_} dims) should contain the same number of dims as destination ({to} dims)"
        )
    from_ = _each_once(from_, rank, "source")
    to = _each_once(to, rank, "destination")
    order = [axis for axis in range(rank) if axis not in from_]
    for place, axis in sorted(zip(to, from_)):
        order.insert(place, axis)
    return permuted(input, tuple(order), _permute_rule)


@public(function=False)
def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions exchanged."""
    return transpose(input, -2, -1)


# expand ---------------------------------------------------------------------------------------

_expand_rule = named(movement.EXPAND, "ExpandBackward0")


def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a dimension."""
    before, strides = shape_of(input), strides_of(input)
    given = as_shape(sizes if size is None else (size,))
    skip = len(given) - len(before)
    if skip < 0:
        raise RuntimeError(
            f"expand({list(given)}): the number of sizes provided ({len(given)}) must be greater "
            f"or equal to the number of dimensions in the tensor ({len(before)})"
        )
    wanted: list[int] = []
    steps: list[int] = []
    for place, extent in enumerate(given):
        have = before[place - skip] if place >= skip else 1
        step = strides[place - skip] if place >= skip else 0
        if extent == -1 and place >= skip:
            extent = have
        if extent < 0 or (have != extent and have != 1):
            raise RuntimeError(
                f"The expanded size of the tensor ({extent}) must match the existing size "
                f"({have}) at non-singleton dimension {place}. Target sizes: {list(given)}. "
                f"Tensor sizes: {list(before)}"
            )
        wanted.append(extent)
        steps.append(step if have == extent else 0)
    shape = tuple(wanted)
    return make_view(
        input, movement.EXPAND, (shape,), shape, tuple(steps), offset_of(input), _expand_rule
    )


public(function=False)(expand)


@public(function=False)
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``expand`` to the shape of another tensor."""
    return expand(input, shape_of(other))


@public(out=False)
def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """``expand`` to ``size``."""
    return expand(input, size)


# squeeze, unsqueeze ---------------------------------------------------------------------------

_squeeze_all_rule = named(movement.RESHAPE, "SqueezeBackward0")
_squeeze_rule = named(movement.RESHAPE, "SqueezeBackward1")
_squeeze_many_rule = named(movement.RESHAPE, "SqueezeBackward2")
_unsqueeze_rule = named(movement.RESHAPE, "UnsqueezeBackward0")


@public(out=False)
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without dimensions of size 1: all of them, or those of ``dim``."""
    shape, strides = shape_of(input), strides_of(input)
    rank = len(shape)
    if dim is None:
        axes, rule = set(range(rank)), _squeeze_all_rule
    elif isinstance(dim, int):
        axes, rule = {normalize_axis(dim, rank)}, _squeeze_rule
    else:
        axes, rule = {normalize_axis(axis, rank) for axis in dim}, _squeeze_many_rule
    kept = [axis for axis in range(rank) if axis not in axes or shape[axis] != 1]
    return _view_as(
        input, tuple([shape[axis] for axis in kept]), tuple([strides[axis] for axis in kept]), rule
    )


@public(out=False)
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at ``dim``."""
    shape, strides = shape_of(input), strides_of(input)
    axis = normalize_axis(dim, len(shape) + 1)
    step = shape[axis] * strides[axis] if axis < len(shape) else 1
    return _view_as(
        input, (*shape[:axis], 1, *shape[axis:]), (*strides[:axis], step, *strides[axis:]),
        _unsqueeze_rule,
    )  # fmt: skip


# select, narrow, unfold, diagonal -------------------------------------------------------------

_slice_rule = named(movement.SLICE, "SliceBackward0")
_unfold_rule = named(movement.WINDOW, "UnfoldBackward0")


def sliced(input: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """The view of positions ``start, start + step, ...`` below ``stop`` (all in range)."""
    shape, strides = shape_of(input), strides_of(input)
    extent = max(0, (stop - start + step - 1) // step)
    starts = [0] * len(shape)
    starts[axis] = start
    steps = [1] * len(shape)
    steps[axis] = step
    sizes = (*shape[:axis], extent, *shape[axis + 1 :])
    taken = (*strides[:axis], strides[axis] * step, *strides[axis + 1 :])
    return make_view(
        input, movement.SLICE, (tuple(starts), sizes, tuple(steps)), sizes, taken,
        offset_of(input) + start * strides[axis], _slice_rule,
    )  # fmt: skip


def _select_gradient(g: Any, f: Any, attrs: Any) -> Any:
    _, strides, offset, base_shape = attrs
    zeros = f.zeros(base_shape, dtype=g.dtype, device=g.device)
    return f.insert_strided(zeros, g, strides, offset)


_select_rule = Rule("SelectBackward0", (_select_gradient,))
_diagonal_rule = Rule("DiagonalBackward0", (_select_gradient,))


def strided_view(input: Tensor, shape: Shape, strides: Shape, offset: int, rule: Rule) -> Tensor:
    """A view by geometry relative to the input seen as contiguous (``strides``, ``offset``
    count its elements in row-major order), with the storage geometry worked out from it."""
    before = shape_of(input)
    true_strides = strides_of(input)
    logical = row_major_strides(before)
    attrs = (shape, strides, offset)
    made_strides, made_offset = _translate(shape, strides, offset, before, logical, true_strides)
    with_rule = attrs + (before,)
    made = make_view(
        input, movement.AS_STRIDED, attrs, shape, made_strides, offset_of(input) + made_offset,
        _no_rule,
    )  # fmt: skip
    return attach(made, rule, (input,), with_rule)


_no_rule = Rule("None", ())


def _translate(
    shape: Shape, strides: Shape, offset: int, extents: Shape, logical: Shape, true: Shape
) -> tuple[Shape, int]:
    """Row-major positions as positions in the storage: each stride is a sum of axis steps."""
    moved: list[int] = []
    for stride in strides:
        rest, step = stride, 0
        for extent, unit, real in zip(extents, logical, true):
            if extent > 1 and unit:
                share, rest = divmod(rest, unit)
                step += share * real
        moved.append(step)
    rest, start = offset, 0
    for extent, unit, real in zip(extents, logical, true):
        if extent > 1 and unit:
            share, rest = divmod(rest, unit)
            start += share * real
    return tuple(moved), start


@public(out=False)
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The view at one position of a dimension, which disappears."""
    shape = shape_of(input)
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis = normalize_axis(dim, len(shape))
    position = int(index)
    if not -shape[axis] <= position < shape[axis]:
        raise IndexError(
            f"select(): index {position} out of range for tensor of size {list(shape)} at "
            f"dimension {axis}"
        )
    if position < 0:
        position += shape[axis]
    return selected(input, axis, position)


def selected(input: Tensor, axis: int, position: int) -> Tensor:
    """``select`` with checked arguments."""
    shape = shape_of(input)
    logical, strides = row_major_strides(shape), strides_of(input)
    kept = (*shape[:axis], *shape[axis + 1 :])
    offset = position * logical[axis]
    attrs = (kept, (*logical[:axis], *logical[axis + 1 :]), offset)
    made = make_view(
        input, movement.AS_STRIDED, attrs, kept, (*strides[:axis], *strides[axis + 1 :]),
        offset_of(input) + position * strides[axis], _no_rule,
    )  # fmt: skip
    return attach(made, _select_rule, (input,), (*attrs, shape))


@public(out=False)
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """``length`` positions of a dimension from ``start`` on."""
    shape = shape_of(input)
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    axis = normalize_axis(dim, len(shape))
    if isinstance(start, Tensor) and (shape_of(start) or dtype_of(start).kind not in "iu"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    begin = int(start)
    extent = shape[axis]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -extent <= begin <= extent:
        raise IndexError(
            f"start out of range (expected to be in range of [{-extent}, {extent}], but got "
            f"{begin})"
        )
    if begin < 0:
        begin += extent
    if begin + length > extent:
        raise RuntimeError(
            f"start ({begin}) + length ({length}) exceeds dimension size ({extent})."
        )
    return sliced(input, axis, begin, begin + length)


@public("unfold", function=False)
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Sliding windows over a dimension as a view; the position inside one is the last axis."""
    shape, strides = shape_of(input), strides_of(input)
    axis = normalize_axis(dimension, len(shape))
    extent = shape[axis] if shape else 1
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if size > extent:
        raise RuntimeError(
            f"maximum size for tensor at dimension {axis} is {extent} but size is {size}"
        )
    if not shape:
        return unfold(reshape(input, (1,)), 0, size, step).select(0, 0)  # type: ignore[attr-defined]
    windows = movement.window_count(extent, size, step, 1)
    return make_view(
        input, movement.WINDOW, (axis, size, step, 1),
        (*shape[:axis], windows, *shape[axis + 1 :], size),
        (*strides[:axis], strides[axis] * step, *strides[axis + 1 :], strides[axis]),
        offset_of(input), _unfold_rule,
    )  # fmt: skip


@public(out=False)
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The view of a diagonal of two dimensions, as the last dimension."""
    shape = shape_of(input)
    rank = len(shape)
    first, second = normalize_axis(dim1, rank), normalize_axis(dim2, rank)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    logical = row_major_strides(shape)
    if offset >= 0:
        length = max(min(shape[first], shape[second] - offset), 0)
        start = offset * logical[second]
    else:
        length = max(min(shape[first] + offset, shape[second]), 0)
        start = -offset * logical[first]
    kept = [axis for axis in range(rank) if axis not in (first, second)]
    new_shape = (*(shape[axis] for axis in kept), length)
    strides = (*(logical[axis] for axis in kept), logical[first] + logical[second])
    return strided_view(input, new_shape, strides, start if length else 0, _diagonal_rule)


# copies ---------------------------------------------------------------------------------------

_clone_rule = Rule("CloneBackward0", (lambda g: g,))


@public(out=False)
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with a storage of its own, row by row or in a memory format; it has a gradient."""
    if memory_format is not None:
        return functions.clone_in(input, memory_format)  # type: ignore[no-any-return]
    return attach(fresh(node_of(input), input._device), _clone_rule, (input,))


@public(function=False)
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself when its elements lie in order, otherwise a copy."""
    if memory_format is not None and memory_format is not contiguous_format:
        return functions.laid_out(input, memory_format, "contiguous")  # type: ignore[no-any-return]
    return input if input.is_contiguous() else clone(input)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over the dimensions along which ``size`` would broadcast to the input's shape."""
    shape, wanted = shape_of(input), as_shape(size)
    if shape == wanted:
        # A number is summed too: of bool and small integers that is an int64.
        return input if wanted or dtype_of(input).kind in "fc" else functions.sum(input)
    skip = len(shape) - len(wanted)
    axes = tuple(range(skip)) + tuple(
        axis + skip for axis, extent in enumerate(wanted) if extent == 1 and shape[axis + skip] != 1
    )
    if skip < 0 or any(extent not in (1, shape[axis + skip]) for axis, extent in enumerate(wanted)):
        raise RuntimeError(f"size {list(wanted)} is not expandable to size {list(shape)}.")
    summed = functions.sum(input, axes) if axes else input
    return summed if shape_of(summed) == wanted else reshape(summed, wanted)


public(function=False)(sum_to_size)
functions.sum_to_size = sum_to_size


def _transposed(self: Tensor) -> Tensor:
    return permuted(self, tuple(range(len(shape_of(self))))[::-1], _permute_rule)


def _matrix_transposed(self: Tensor) -> Tensor:
    if len(shape_of(self)) < 2:
        raise RuntimeError(
            "tensor.mT is only supported on matrices or batches of matrices. Got "
            f"{len(shape_of(self))}-D tensor."
        )
    return transpose(self, -2, -1)


_members: Any = Tensor
_members.T = property(_transposed)
_members.mT = property(_matrix_transposed)
_members.H = property(t)
_members.mH = property(_matrix_transposed)
