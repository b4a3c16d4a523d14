"""Reading and writing at positions given by tensors: gather, scatter and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.tape import label, named
from lazytorch.dtypes import DType
from lazytorch.functional.bounds import check_index, check_positions, remember_range
from lazytorch.functional.shape import reshape
from lazytorch.ops import indexing, movement
from lazytorch.ops.shapes import broadcast, count, normalize_axis
from lazytorch.tensor.apply import apply, cast, to_operand
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.batching.examples import check_same_shape, for_each_example
from lazytorch.tensor.batching.values import are_examples, computed, every_value
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Shape = tuple[int, ...]


def _long_index(index: Tensor, name: str) -> Tensor:
    if dtype_of(index) not in (dtypes.int64, dtypes.int32):
        if not count(shape_of(index)):
            return cast(index, dtypes.int64)
        raise RuntimeError(
            f"{name}(): Expected dtype int32/int64 for index, but got {dtype_of(index)!r}"
        )
    return index


def _cut(tensor: Tensor, shape: Shape) -> Tensor:
    """The leading part of a tensor, where its shape is larger."""
    if shape_of(tensor) == shape:
        return tensor
    starts, steps = (0,) * len(shape), (1,) * len(shape)
    return apply(movement.SLICE, (tensor,), (starts, shape, steps))


_gather_rule = named(indexing.GATHER, "GatherBackward0")


@public(out=Target(apart=True, exact=1))
@shown_as("GatherBackward0")
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """``out[i][j] = input[index[i][j]][j]`` along dimension 0, likewise along others.

    ``index`` has the input's number of dimensions and is nowhere larger except along ``dim``.
    """
    shape, wanted = shape_of(input), shape_of(index)
    index = _long_index(index, "gather")
    if not shape or not wanted:
        return reshape(gather(_row(input), 0, _row(index)), wanted)
    axis = normalize_axis(dim, len(shape))
    if len(shape) != len(wanted) and not count(wanted):
        # Without a position nothing has to fit.
        return reshape(gather(reshape(input, (-1,)), 0, reshape(index, (-1,))), wanted)
    if len(shape) != len(wanted):
        if not count(wanted):
            return functions.zeros(wanted, dtype=dtype_of(input), device=input._device)
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for place, (have, want) in enumerate(zip(shape, wanted)):
        if place != axis and want > have:
            raise RuntimeError(
                f"Size does not match at dimension {place} expected index {list(wanted)} to be no "
                f"larger than self {list(shape)} apart from dimension {axis}"
            )
    check_positions(index, shape[axis], "gather", axis)
    part = tuple(
        have if place == axis else want for place, (have, want) in enumerate(zip(shape, wanted))
    )
    return apply(indexing.GATHER, (_cut(input, part), index), (axis,), _gather_rule)


def _row(tensor: Tensor) -> Tensor:
    return tensor if shape_of(tensor) else reshape(tensor, (1,))


@public()
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """``gather`` with broadcasting; over all elements without ``dim``."""
    if dim is None:
        return gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)))
    rank = len(shape_of(input))
    axis = normalize_axis(dim, rank)
    checked = check_index(cast(indices, dtypes.int64), shape_of(input)[axis], axis)
    shape, wanted = shape_of(input), shape_of(indices)
    common = tuple(max(a, b) for a, b in zip(shape, wanted))
    data = tuple(shape[axis] if place == axis else common[place] for place in range(rank))
    where = tuple(wanted[axis] if place == axis else common[place] for place in range(rank))
    return gather(functions.broadcast_to(input, data), axis, functions.broadcast_to(checked, where))


_index_select_rule = named(indexing.GATHER, "IndexSelectBackward0")


@public(out=Target(apart=True))
@shown_as("IndexSelectBackward0")
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions ``index`` (a vector) of a dimension."""
    if len(shape_of(index)) > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    _long_index(index, "index_select")
    if not shape_of(input):
        return functions.clone(input)
    axis = normalize_axis(dim, len(shape_of(input)))
    low_high_checked = _row(index)
    try:
        check_positions(low_high_checked, shape_of(input)[axis], "index_select", axis)
    except RuntimeError as error:
        raise IndexError(f"index out of range in self: {error}") from None
    positions = _along(low_high_checked, axis, len(shape_of(input)))
    return apply(indexing.GATHER, (input, positions), (axis,), _index_select_rule)


def _along(index: Tensor, axis: int, rank: int) -> Tensor:
    """A vector of positions in the shape in which the primitives take it."""
    shape = tuple(shape_of(index)[0] if place == axis else 1 for place in range(rank))
    if shape == shape_of(index):
        return index
    return fresh(
        node_of(apply(movement.RESHAPE, (fresh(node_of(index), index._device),), (shape,))),
        index._device,
    )


# Scatter --------------------------------------------------------------------------------------

_MODES = {"sum": "add", "prod": "prod", "amax": "max", "amin": "min"}
_rules = {
    "set": named(indexing.SCATTER, "ScatterBackward0"),
    "add": named(indexing.SCATTER, "ScatterAddBackward0"),
    "prod": named(indexing.SCATTER, "ScatterReduceBackward0"),
    "max": named(indexing.SCATTER, "ScatterReduceBackward0"),
    "min": named(indexing.SCATTER, "ScatterReduceBackward0"),
}


def _scattered(input: Tensor, dim: int, index: Tensor, src: Any, mode: str, name: str) -> Tensor:
    shape, wanted = shape_of(input), shape_of(index)
    if dtype_of(index) is not dtypes.int64:
        index = cast(_long_index(index, name), dtypes.int64)
    if isinstance(src, Tensor) and dtype_of(src) is not dtype_of(input):
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    if not shape:
        return reshape(
            _scattered(
                _row(input),
                0,
                _row(index),
                src if not isinstance(src, Tensor) else _row(src),
                mode,
                name,
            ),
            (),
        )
    axis = normalize_axis(dim, len(shape))
    if len(wanted) != len(shape) and count(wanted):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if not count(wanted):
        return functions.clone(input)
    for place, (have, want) in enumerate(zip(shape, wanted)):
        if place != axis and want > have:
            raise RuntimeError(
                f"Expected index {list(wanted)} to be no larger than self {list(shape)} apart from "
                f"dimension {axis}"
            )
    check_positions(index, shape[axis], name, axis)
    values = _source_values(input, src, wanted, name)
    part = tuple(
        have if place == axis else want for place, (have, want) in enumerate(zip(shape, wanted))
    )
    if part == shape:
        return apply(indexing.SCATTER, (input, index, values), (axis, mode), _rules[mode])
    inside = apply(indexing.SCATTER, (_cut(input, part), index, values), (axis, mode), _rules[mode])
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.insert(0, step)
        step *= extent
    return functions.insert_strided(input, inside, tuple(strides), 0)


def _source_values(input: Tensor, src: Any, wanted: Shape, name: str) -> Tensor:
    if not isinstance(src, Tensor):
        number = to_operand(src, dtype_of(input), input._device)
        return apply(movement.EXPAND, (number,), (wanted,))
    if any(want > have for want, have in zip(wanted, shape_of(src))):
        raise RuntimeError(
            f"Expected index {list(wanted)} to be no larger than src {list(shape_of(src))} ({name})"
        )
    return _cut(src, wanted)


@public(inplace=True)
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: Any = None,
) -> Tensor:
    """``input`` with ``src`` (tensor or number) written at positions along ``dim``."""
    source = value if src is None else src
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise RuntimeError("reduce argument must be either add or multiply.")
        return _scattered(
            input, dim, index, source, {"add": "add", "multiply": "prod"}[reduce], "scatter"
        )
    return _scattered(input, dim, index, source, "set", "scatter")


@public(inplace=True)
@shown_as("ScatterAddBackward0")
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with ``src`` added at positions along ``dim``."""
    return _scattered(input, dim, index, src, "add", "scatter_add")


@public(inplace=True)
@shown_as("ScatterReduceBackward0")
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``input`` with ``src`` combined at positions along ``dim``: sum, prod, mean, amax, amin."""
    if reduce not in (*_MODES, "mean"):
        raise RuntimeError(
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}"
        )
    base = input
    if dtype_of(input) is dtypes.bool_ and dtype_of(src) is dtypes.bool_:
        # Of 0 and 1 the sum is the largest and the product the smallest.
        reduce = {"sum": "amax", "prod": "amin"}.get(reduce, reduce)
    ones = functions.ones_like(src, dtype=_count_dtype(input))
    if not include_self:
        zeros = functions.zeros_like(input, dtype=_count_dtype(input))
        hit = _scattered(zeros, dim, index, ones, "add", "scatter_reduce")
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": _lowest(input), "amin": _highest(input)}
        base = functions.where(functions.ne(hit, 0), neutral[reduce], input)
        base = cast(base, dtype_of(input))
    mode = _MODES.get(reduce, "add")
    out = _scattered(base, dim, index, src, mode, "scatter_reduce")
    if reduce == "mean":
        start = functions.ones_like(input) if include_self else functions.zeros_like(input)
        if dtype_of(input) is dtypes.bool_:
            raise NotImplementedError("\"scatter_reduce_mean\" not implemented for 'Bool'")
        counts = _scattered(start, dim, index, ones, "add", "scatter_reduce")
        counts = functions.clamp(counts, min=1)
        rounded = None if dtype_of(input).kind == "f" else "floor"
        out = functions.div(out, counts, rounding_mode=rounded)
    return out


def _count_dtype(like: Tensor) -> DType:
    """A dtype that can count what meets at a place."""
    return dtypes.int32 if dtype_of(like) is dtypes.bool_ else dtype_of(like)


def _lowest(like: Tensor) -> Any:
    dtype = dtype_of(like)
    if dtype is dtypes.bool_:
        return False
    return -float("inf") if dtype.kind == "f" else int(np.iinfo(dtype.numpy).min)


def _highest(like: Tensor) -> Any:
    dtype = dtype_of(like)
    if dtype is dtypes.bool_:
        return True
    return float("inf") if dtype.kind == "f" else int(np.iinfo(dtype.numpy).max)


def scatter_base_gradient(
    g: Tensor, x: Tensor, y: Tensor, z: Tensor, out: Tensor, axis: int, mode: str
) -> Tensor:
    """The gradient of the base of a scatter."""
    if mode == "add":
        return g
    if mode == "set":
        zeros = functions.zeros(shape_of(z), dtype=g.dtype, device=g.device)
        return functions.scatter_primitive(g, y, zeros, axis, "set")
    if mode == "prod":
        alone, pair, sums = _products_without_a_zero(x, y, z, axis)
        rest = alone + pair * (sums - x)  # type: ignore[operator]
        return g * functions.where(x == 0, rest, out / _not_zero(x))  # type: ignore[operator, no-any-return]
    return functions.where(x == out, g / _winners(x, y, z, out, axis), 0)  # type: ignore[operator, no-any-return]


def scatter_value_gradient(
    g: Tensor, x: Tensor, y: Tensor, z: Tensor, out: Tensor, axis: int, mode: str
) -> Tensor:
    """The gradient of the values of a scatter."""
    taken = functions.gather_primitive(g, y, axis)
    if mode in ("add", "set"):
        return taken
    result = functions.gather_primitive(out, y, axis)
    if mode == "prod":
        parts = _products_without_a_zero(x, y, z, axis)
        alone, pair, sums = (functions.gather_primitive(part, y, axis) for part in parts)
        rest = alone + pair * (sums - z)
        return taken * functions.where(z == 0, rest, result / _not_zero(z))  # type: ignore[operator, no-any-return]
    shares = functions.gather_primitive(g / _winners(x, y, z, out, axis), y, axis)  # type: ignore[operator]
    return functions.where(z == result, shares, 0)


def _not_zero(values: Tensor) -> Tensor:
    """``values`` with 1 in place of 0."""
    return functions.where(functions.eq(values, 0), 1, values)  # type: ignore[no-any-return]


def _products_without_a_zero(x: Tensor, y: Tensor, z: Tensor, axis: int) -> tuple[Tensor, ...]:
    """What derivatives by factors that are zero are made of: the product of the others where it
    is the only one, the same where there are two, and the sum of the factors that are zero.

    By one of two zeros the derivative is that product times the other zero. It is zero, but its
    own derivative is not, so the other is written as the sum without the one.
    """
    own, given = (functions.eq(values, 0) for values in (x, z))

    def combined(base: Tensor, values: Tensor, mode: str) -> Tensor:
        return functions.scatter_primitive(base, y, values, axis, mode)  # type: ignore[no-any-return]

    zeros = combined(cast(own, dtype_of(z)), cast(given, dtype_of(z)), "add")
    others = combined(_not_zero(x), _not_zero(z), "prod")
    sums = combined(functions.where(own, x, 0), functions.where(given, z, 0), "add")
    return functions.where(zeros == 1, others, 0), functions.where(zeros == 2, others, 0), sums


def _winners(x: Tensor, y: Tensor, z: Tensor, out: Tensor, axis: int) -> Tensor:
    """How many values share the place of an extreme one."""
    hits = cast(functions.eq(z, functions.gather_primitive(out, y, axis)), dtype_of(z))
    own = cast(functions.eq(x, out), dtype_of(z))
    return functions.scatter_primitive(own, y, hits, axis, "add")


functions.scatter_base_gradient = scatter_base_gradient
functions.scatter_value_gradient = scatter_value_gradient


# Whole slices ---------------------------------------------------------------------------------


def _slice_shape(base: Tensor, vector: Tensor, axis: int) -> Shape:
    """The shape of the slices that a vector names along an axis."""
    extents = shape_of(base)
    return (*extents[:axis], shape_of(vector)[0], *extents[axis + 1 :])


def _slice_arguments(
    input: Tensor, dim: int, index: Tensor, source: Tensor, name: str
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Input, positions and source of at least one dimension, and the axis they are about."""
    _long_index(index, name)
    if len(shape_of(index)) > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector")
    base, values, vector = _row(input), _row(source), _row(index)
    axis = normalize_axis(dim, len(shape_of(base)))
    given, wanted = shape_of(values), _slice_shape(base, vector, axis)
    if given != wanted:
        same_rank = len(given) == len(wanted)
        # PyTorch calls these a wrong index in one of the functions.
        wrong = IndexError if name == "index_copy" else RuntimeError
        if same_rank and given[axis] != wanted[axis]:
            raise wrong(
                f"{name}(): Number of indices ({wanted[axis]}) should be equal to "
                f"source.size(dim): ({given[axis]}), for dim: {axis}"
            )
        raise (RuntimeError if same_rank else wrong)(
            f"{name}(): source tensor shape must match self tensor shape, excluding the specified "
            f"dimension. Got self.shape = {list(shape_of(base))} source.shape = {list(given)}"
        )
    if dtype_of(values) is not dtype_of(base):
        raise RuntimeError(
            f"{name}(): self ({scalar_name(dtype_of(base))}) and source "
            f"({scalar_name(dtype_of(values))}) expected to have the same dtype"
        )
    return base, vector, values, axis


def _slices(input: Tensor, dim: int, index: Tensor, source: Tensor, mode: str, name: str) -> Tensor:
    base, vector, values, axis = _slice_arguments(input, dim, index, source, name)
    try:
        check_positions(vector, shape_of(base)[axis], name, axis)
    except RuntimeError as error:
        raise IndexError(f"index out of range in self: {error}") from None
    positions = _along(vector, axis, len(shape_of(base)))
    out = apply(indexing.SCATTER, (base, positions, values), (axis, mode))
    return out if shape_of(input) else reshape(out, ())


@public(inplace=True)
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """``input`` with slices of ``source`` added at positions of a dimension."""
    scaled = source if alpha == 1 else functions.mul(source, alpha)
    return label(_slices(input, dim, index, scaled, "add", "index_add"), "IndexAddBackward0")


@public(inplace=True)
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with slices of ``source`` written at positions of a dimension."""
    return label(_slices(input, dim, index, source, "set", "index_copy"), "IndexCopyBackward0")


def _index_fill_name(input: Tensor, dim: int, index: Tensor, value: Any) -> str:
    return f"IndexFillBackward{int(isinstance(value, Tensor))}"


@public(inplace=True)
@shown_as(_index_fill_name)
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """``input`` with one value (a number or a 0-d tensor) at positions of a dimension.

    The value's gradient counts each place once, however often ``index`` names it.
    """
    base = _row(input)
    axis = normalize_axis(dim, len(shape_of(base)))
    if isinstance(value, Tensor) and value._requires_grad:
        # A scatter's rule cannot tell which of the values written to one place has stayed.
        nowhere = functions.zeros(shape_of(base)[axis], dtype=dtypes.bool_, device=base._device)
        named = _along(index_fill(nowhere, 0, index, True), axis, len(shape_of(base)))
        out = functions.where(named, cast(value, dtype_of(base)), base)
        return label(reshape(out, shape_of(input)), "IndexFillBackward1")
    vector = check_index(_row(index), shape_of(base)[axis], axis)
    number = to_operand(value, dtype_of(base), base._device)
    values = apply(movement.EXPAND, (number,), (_slice_shape(base, vector, axis),))
    out = _slices(base, axis, vector, values, "set", "index_fill")
    return out if shape_of(input) else reshape(out, ())


@public(inplace=True)
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
    include_self: bool = True,
) -> Tensor:  # fmt: skip
    """``input`` with slices of ``source`` combined at positions: prod, mean, amax or amin.

    Without ``include_self`` what ``input`` holds at those positions does not count.

    >>> index_reduce(ones(2), 0, tensor([0, 0]), tensor([2., 3.]), "prod")
    tensor([6., 1.])
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got "
            f"{reduce}."
        )
    base, vector, values, axis = _slice_arguments(input, dim, index, source, "index_reduce")
    checked = cast(check_index(vector, shape_of(base)[axis], axis), dtypes.int64)
    shape = shape_of(values)
    positions = functions.expand_copy(_along(checked, axis, len(shape)), shape)
    out = scatter_reduce(base, axis, positions, values, reduce, include_self=include_self)
    return label(reshape(out, shape_of(input)), "IndexReduceBackward0")


# By mask and by flat position -----------------------------------------------------------------


@public()
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of elements that are not zero: (n, rank), or one vector a dimension.

    The number of results depends on the values, so this computes them.
    """
    check_same_shape("torch.where" if as_tuple else "torch.nonzero", input)
    array = functions.peek(input)
    if as_tuple:
        parts = np.nonzero(np.atleast_1d(array))
        extents = np.atleast_1d(array).shape
        return tuple(
            remember_range(_host(part, input), 0, max(extent - 1, 0))
            for part, extent in zip(parts, extents)
        )
    found = np.argwhere(array)
    return _host(found, input)


@public()
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first ``size`` positions of elements that are not zero, (size, rank).

    Where there are fewer, rows of ``fill_value`` follow.

    >>> nonzero_static(tensor([0, 1, 2]), size=3)
    tensor([[ 1],
            [ 2],
            [-1]])
    """
    if size < 0:
        raise RuntimeError("nonzero_static: 'size' must be an non-negative integer")

    def positions(array: np.ndarray) -> np.ndarray:
        found = np.argwhere(array)[:size]
        rows = np.full((size, array.ndim), fill_value, np.int64)
        rows[: len(found)] = found
        return rows

    return computed(positions, input)


def _host(array: np.ndarray, like: Tensor) -> Tensor:
    values = np.ascontiguousarray(array, np.int64)
    return fresh(engine.leaf_from_array(values, like._device.runtime), like._device)


@public()
def argwhere(input: Tensor) -> Tensor:
    """The positions of elements that are not zero, (n, rank)."""
    return nonzero(input)


@public(out=Target(apart=True))
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where ``mask`` holds, in one dimension; both broadcast."""
    if dtype_of(mask) is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    check_same_shape("`mask` in torch.masked_select(self, mask)", mask)
    wide, chosen = functions.broadcast_tensors(input, mask)
    return label(wide[chosen], "MaskedSelectBackward0")  # type: ignore[index]


@public(inplace=True)
@shown_as("MaskedScatterBackward0")
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with the elements of ``source``, in order, where ``mask`` holds."""
    if dtype_of(mask) is not dtypes.bool_:
        raise RuntimeError(
            "masked_scatter_ only supports boolean masks, but got mask with dtype "
            f"{scalar_name(dtype_of(mask))}"
        )
    if dtype_of(source) is not dtype_of(input):
        raise RuntimeError(
            "masked_scatter_: expected self and source to have same dtypes but got "
            f"{scalar_name(dtype_of(input))} and {scalar_name(dtype_of(source))}"
        )
    shape = broadcast((shape_of(input), shape_of(mask)))
    input, chosen = functions.broadcast_to(input, shape), functions.broadcast_to(mask, shape)
    needed = int(every_value(functions.sum(chosen)).max())
    if source.numel() < needed:
        raise RuntimeError(
            f"masked_scatter: expected number of elements in source ({source.numel()}) to be at "
            f"least the number of true elements in mask ({needed})"
        )
    if not needed:
        return functions.clone(input)  # type: ignore[no-any-return]
    if are_examples(chosen):
        # Which element of the source comes where differs from example to example.
        places: Any = functions.cumsum(reshape(chosen, (-1,)), 0) - 1
        picked = functions.gather(reshape(source, (-1,)), 0, functions.clamp(places, min=0))
        return functions.where(chosen, reshape(picked, shape), input)  # type: ignore[no-any-return]
    result: Tensor = for_each_example(functions.clone(input), source)
    result[chosen] = reshape(source, (-1,))[:needed]  # type: ignore[index]
    return result


@public(out=Target(apart=True))
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements at flat positions, in the shape of ``index``."""
    checked = check_index(_long_index(index, "take"), input.numel(), 0)
    flat = reshape(input, (-1,))
    out = apply(indexing.GATHER, (flat, reshape(checked, (-1,))), (0,))
    return label(reshape(out, shape_of(index)), "TakeBackward0")


@public(inplace=True)
@shown_as("PutBackward0")
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``input`` with ``source`` written (or added) at flat positions.

    >>> put(zeros(3), tensor([0, 2]), tensor([4., 5.]))
    tensor([4., 0., 5.])
    """
    if dtype_of(source) is not dtype_of(input):
        raise RuntimeError(
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{scalar_name(dtype_of(input))} and source.dtype = {scalar_name(dtype_of(source))}"
        )
    if count(shape_of(source)) != count(shape_of(index)):
        raise RuntimeError(
            "put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {count(shape_of(source))}, index.numel() = "
            f"{count(shape_of(index))}"
        )
    if not count(shape_of(index)):
        return functions.clone(input)
    places = reshape(check_index(_long_index(index, "put_"), count(shape_of(input)), 0), (-1,))
    mode = "add" if accumulate else "set"
    sources = (reshape(input, (-1,)), places, reshape(source, (-1,)))
    written = apply(indexing.SCATTER, sources, (0, mode))
    return label(reshape(written, shape_of(input)), "PutBackward0")
