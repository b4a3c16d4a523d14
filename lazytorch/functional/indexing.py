"""``tensor[index]``: reading and writing by position, slice, mask and tensors of positions.

Numbers, slices, ``None`` and ``...`` give views. Tensors of positions (and masks, which are
turned into positions) are combined into one gather or scatter over the dimensions they index,
joined into a single axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.bounds import check_index
from lazytorch.functional.shape import _no_rule, offset_of, selected, sliced
from lazytorch.functional.shared_elements import (
    memory_of,
    places_in_memory,
    shares_elements,
    warn_if_expanded,
)
from lazytorch.ir.index import row_major_strides
from lazytorch.ops import movement
from lazytorch.ops.shapes import broadcast, count
from lazytorch.tensor import creation
from lazytorch.tensor.apply import cast, make_view
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.examples import check_same_shape, for_each_example
from lazytorch.tensor.batching.values import are_examples
from lazytorch.tensor.inplace import check_writable, copied, store
from lazytorch.tensor.recorder import c_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor, fresh

_INTEGERS = (dtypes.int64, dtypes.int32, dtypes.int16, dtypes.int8)


# Understanding an index -----------------------------------------------------------------------


def _as_tuple(index: Any) -> tuple[Any, ...]:
    if isinstance(index, tuple):
        return index
    if (
        isinstance(index, list)
        and len(index) <= 32
        and any(
            item is None or item is Ellipsis or isinstance(item, (slice, Tensor, list, tuple))
            for item in index
        )
    ):
        return tuple(index)
    return (index,)


def _normalized(index: Any, rank: int) -> list[Any]:
    """Items as int, slice, None, bool or index tensors; the ellipsis written out."""
    items: list[Any] = []
    place: int | None = None
    used = 0
    for item in _as_tuple(index):
        if item is Ellipsis:
            if place is not None:
                raise IndexError("an index can only have a single ellipsis ('...')")
            place = len(items)
            continue
        item = _item(item)
        items.append(item)
        if isinstance(item, Tensor):
            used += len(shape_of(item)) if dtype_of(item) is dtypes.bool_ else 1
        elif item is not None and not isinstance(item, bool):
            used += 1
    if used > rank:
        raise IndexError(f"too many indices for tensor of dimension {rank}")
    missing = [slice(None)] * (rank - used)
    return items + missing if place is None else items[:place] + missing + items[place:]


def _item(item: Any) -> Any:
    kind = item.__class__
    if kind is int or kind is slice or item is None or kind is bool:
        return item
    if isinstance(item, Tensor):
        dtype = dtype_of(item)
        if dtype is dtypes.uint8:
            return cast(item, dtypes.bool_)
        if dtype is dtypes.bool_:
            return item
        if dtype not in _INTEGERS:
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return item
    if isinstance(item, (np.bool_,)):
        return bool(item)
    if isinstance(item, (list, tuple, range, np.ndarray)):
        array = np.asarray(_plain(item))
        if array.size == 0 and array.dtype.kind == "f":
            array = array.astype(np.int64)
        if array.dtype.kind not in "iub":
            raise IndexError(
                "tensors used as indices must be long, int, byte or bool tensors, but got "
                f"{array.dtype}"
            )
        wanted = np.bool_ if array.dtype.kind == "b" else np.int64
        return creation.tensor(array.astype(wanted), device="cpu")
    if hasattr(item, "__index__"):
        return item.__index__()
    raise TypeError(
        "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
        f"indices (got {kind.__name__})"
    )


def _as_number(item: Any) -> Any:
    if isinstance(item, Tensor) and not shape_of(item) and dtype_of(item).kind in "iu":
        # An example's position is another number for each example: it stays a tensor.
        return item if are_examples(item) else int(item)
    return item


def _plain(item: Any) -> Any:
    if isinstance(item, (list, tuple)):
        return [_plain(part) for part in item]
    return item.item() if isinstance(item, Tensor) else item


# Basic indexing: one view ---------------------------------------------------------------------


def _slice_bounds(item: slice, extent: int) -> tuple[int, int, int]:
    step = 1 if item.step is None else item.step.__index__()
    if step <= 0:
        raise ValueError("step must be greater than zero")
    for bound in (item.start, item.stop):
        if bound is not None and not hasattr(bound, "__index__"):
            raise TypeError(
                "slice indices must be integers or None or have an __index__ method, but got "
                f"{type(bound).__name__}"
            )
    start, stop, _ = slice(
        None if item.start is None else item.start.__index__(),
        None if item.stop is None else item.stop.__index__(),
    ).indices(extent)
    return start, max(stop, start), step


def _position(item: int, extent: int, axis: int) -> int:
    if not -extent <= item < extent:
        raise IndexError(f"index {item} is out of bounds for dimension {axis} with size {extent}")
    return item + extent if item < 0 else item


def _region_gradient(g: Any, attrs: Any, f: Any) -> Any:
    shape, strides, offset, before = attrs
    zeros = f.zeros(before, dtype=g.dtype, device=g.device)
    return f.insert_strided(zeros, g.reshape(shape), strides, offset)


_RULES = {
    name: Rule(name, (_region_gradient,))
    for name in ("SelectBackward0", "SliceBackward0", "UnsqueezeBackward0", "AliasBackward0")
}


def _basic_view(input: Tensor, items: Sequence[Any]) -> Tensor:
    """The view that ints, slices and None choose, as one step."""
    before, true = shape_of(input), strides_of(input)
    logical = row_major_strides(before)
    shape: list[int] = []
    strides: list[int] = []
    steps: list[int] = []
    start = offset = axis = 0
    last = "AliasBackward0"
    for item in items:
        if item is None:
            shape.append(1)
            within = axis < len(before)
            strides.append(before[axis] * true[axis] if within else 1)
            steps.append(before[axis] * logical[axis] if within else 1)
            last = "UnsqueezeBackward0"
            continue
        if item.__class__ is slice:
            first, stop, step = _slice_bounds(item, before[axis])
            extent = (stop - first + step - 1) // step
            shape.append(extent)
            strides.append(true[axis] * step)
            steps.append(logical[axis] * step)
            if extent != before[axis]:
                last = "SliceBackward0"
        else:
            first = _position(item, before[axis], axis)
            last = "SelectBackward0"
        start += first * logical[axis]
        offset += first * true[axis]
        axis += 1
    region = (tuple(shape), tuple(steps), start)
    made = make_view(
        input, movement.AS_STRIDED, region, region[0], tuple(strides), offset_of(input) + offset,
        _no_rule,
    )  # fmt: skip
    return attach(made, _RULES[last], (input,), (*region, before))


def _get_item(self: Tensor, index: Any) -> Tensor:
    shape = shape_of(self)
    kind = index.__class__
    if kind is int and shape:
        return selected(self, 0, _position(index, shape[0], 0))
    if kind is slice and shape:
        start, stop, step = _slice_bounds(index, shape[0])
        return sliced(self, 0, start, stop, step)
    if not shape and kind is int:
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
            "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number"
        )
    items = _normalized(index, len(shape))
    # A 0-d integer tensor selects, as a number would.
    items = [_as_number(item) for item in items]
    if not any(isinstance(item, (Tensor, bool)) for item in items):
        return _basic_view(self, items)
    return _advanced_get(self, items)


# Advanced indexing ----------------------------------------------------------------------------


class _Selection:
    """Positions over some dimensions of ``view``, and where their result dimensions go."""

    def __init__(self, view: Tensor, axes: list[int], indices: list[Tensor]) -> None:
        self.view = view
        self.axes = axes
        self.shape = shape_of(view)
        chosen = broadcast_indices([shape_of(index) for index in indices])
        self.index_shape = chosen
        adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
        rest = [axis for axis in range(len(self.shape)) if axis not in axes]
        self.before = [axis for axis in rest if adjacent and axis < axes[0]]
        self.after = [axis for axis in rest if axis not in self.before]
        self.order = (*self.before, *axes, *self.after)
        self.positions = self._linear(indices)

    def of(self, other: Tensor) -> _Selection:
        """The same positions of another tensor of the view's shape."""
        twin = _Selection.__new__(_Selection)
        twin.__dict__.update(self.__dict__)
        twin.view = other
        return twin

    def _linear(self, indices: list[Tensor]) -> Tensor:
        """One position over the joined dimensions for each element of the indices."""
        extents = [self.shape[axis] for axis in self.axes]
        strides = row_major_strides(tuple(extents))
        total: Any = None
        for index, extent, stride, axis in zip(indices, extents, strides, self.axes):
            if index._device is not self.view._device:
                index = functions.converted(index, self.view._device, dtype_of(index))
            checked: Any = cast(check_index(index, extent, axis), dtypes.int64)
            part = checked if stride == 1 else checked * stride
            total = part if total is None else total + part
        if shape_of(total) != self.index_shape:
            total = functions.broadcast_to(total, self.index_shape)
        return total

    def sizes(self) -> tuple[int, int, int, int]:
        """Elements before, in and after the joined dimensions, and number of positions."""
        return (
            count(tuple(self.shape[axis] for axis in self.before)),
            count(tuple(self.shape[axis] for axis in self.axes)),
            count(tuple(self.shape[axis] for axis in self.after)),
            count(self.index_shape),
        )

    def result_shape(self) -> tuple[int, ...]:
        shape = self.shape
        return (
            *(shape[axis] for axis in self.before), *self.index_shape,
            *(shape[axis] for axis in self.after),
        )  # fmt: skip

    def joined(self) -> Tensor:
        """The view with the indexed dimensions together in the middle of three."""
        before, inside, after, _ = self.sizes()
        ordered = self.view
        if self.order != tuple(range(len(self.shape))):
            ordered = functions.permute(ordered, self.order)
        return functions.reshape(ordered, (before, inside, after))

    def column(self) -> Tensor:
        """The positions in the shape in which the primitives take them."""
        return functions.reshape(self.positions, (1, self.sizes()[3], 1))


def broadcast_indices(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape of index tensors; ``IndexError`` when there is none."""
    try:
        return broadcast(shapes)
    except RuntimeError:
        texts = ", ".join(str(list(shape)) for shape in shapes)
        raise IndexError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {texts}"
        ) from None


def _select(input: Tensor, items: Sequence[Any]) -> _Selection:
    """Apply the basic parts of an index; the rest as positions over dimensions of the view."""
    basic: list[Any] = []
    axes: list[int] = []
    indices: list[Tensor] = []
    source = axis = 0
    for item in items:
        if isinstance(item, bool):
            basic.append(None)
            indices.append(creation.tensor([0] if item else [], dtype=dtypes.int64))
            axes.append(axis)
            axis += 1
        elif isinstance(item, Tensor) and dtype_of(item) is dtypes.bool_:
            covered = len(shape_of(item))
            _check_mask(item, shape_of(input), source)
            if covered == 0:
                basic.append(None)
                axes.append(axis)
                indices.append(creation.tensor([0] if bool(item) else [], dtype=dtypes.int64))
                axis += 1
                continue
            check_same_shape("indexing with a boolean mask", item)
            found = functions.nonzero(item, as_tuple=True)
            for number in range(covered):
                basic.append(slice(None))
                axes.append(axis)
                indices.append(found[number])
                axis += 1
            source += covered
        else:
            basic.append(slice(None) if isinstance(item, Tensor) else item)
            if isinstance(item, Tensor):
                axes.append(axis)
                indices.append(item)
            if item.__class__ is not int:
                axis += 1
            source += item is not None
    plain = all(item.__class__ is slice and item == slice(None) for item in basic)
    view = input if plain else _basic_view(input, basic)
    return _Selection(view, axes, indices)


def _check_mask(mask: Tensor, shape: tuple[int, ...], start: int) -> None:
    for number, extent in enumerate(shape_of(mask)):
        if shape[start + number] != extent:
            raise IndexError(
                f"The shape of the mask {list(shape_of(mask))} at index {number} does not match "
                f"the shape of the indexed tensor {list(shape)} at index {start + number}"
            )


_index_rule = Rule("IndexBackward0", (lambda g: g,))


def _advanced_get(input: Tensor, items: Sequence[Any]) -> Tensor:
    selection = _select(input, items)
    gathered = functions.gather_primitive(selection.joined(), selection.column(), 1)
    value = functions.reshape(gathered, selection.result_shape())
    # A value of its own, not a view of the gathered one; and PyTorch's name for it.
    return attach(fresh(node_of(value), value._device), _index_rule, (value,))


# Assignment -----------------------------------------------------------------------------------


def set_item(self: Tensor, index: Any, value: Any) -> None:
    """``self[index] = value`` of a tensor or a number; ``TypeError`` for arrays and lists."""
    if not isinstance(value, Tensor):
        value = _as_value(value, self)
    items = _normalized(index, len(shape_of(self)))
    items = [_as_number(item) for item in items]
    if not any(isinstance(item, (Tensor, bool)) for item in items):
        target = _basic_view(self, items)
        store(target, copied(target, _without_leading_ones(value, len(shape_of(target)))))
        return
    masks = [item for item in items if not (item.__class__ is slice and item == slice(None))]
    single = isinstance(value, (int, float, bool)) or count(shape_of(value)) == 1
    if len(masks) == 1 and isinstance(masks[0], Tensor) and single:
        mask = masks[0]
        leads = dtype_of(mask) is dtypes.bool_ and items[0] is mask and shape_of(mask)
        if leads and not shares_elements(self):
            _fill_where(self, mask, value)
            return
    index_put(self, _select(self, items), value, accumulate=False)


def _without_leading_ones(value: Any, rank: int) -> Any:
    """Assignment by index, unlike ``copy_``, drops leading dimensions of 1."""
    if isinstance(value, Tensor):
        shape = shape_of(value)
        extra = len(shape) - rank
        if extra > 0 and all(extent == 1 for extent in shape[:extra]):
            return functions.reshape(value, shape[extra:])
    return value


def _as_value(value: Any, target: Tensor) -> Any:
    """A number to be assigned; ``TypeError`` for arrays, lists and everything else, as PyTorch."""
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, complex) and dtype_of(target).kind != "c":
        name = c_name(dtype_of(target))
        raise RuntimeError(f"value cannot be converted to type {name} without overflow")
    if isinstance(value, (bool, int, float, complex)):
        return value
    kind = type(value)
    given = f"numpy.{kind.__name__}" if kind.__module__ == "numpy" else kind.__name__
    raise TypeError(
        f"can't assign a {given} to a {target.type()}: assign a number or a tensor, for "
        "example torch.as_tensor(value)"
    )


def _fill_where(target: Tensor, mask: Tensor, value: Any) -> None:
    """``target[mask] = number``: no positions need to be found."""
    shape = shape_of(target)
    _check_mask(mask, shape, 0)
    covered = shape_of(mask)
    aligned = functions.reshape(mask, (*covered, *(1,) * (len(shape) - len(covered))))
    aligned = functions.converted(aligned, target._device, dtypes.bool_)
    if isinstance(value, Tensor):
        value = functions.converted(value.reshape(()), target._device, dtype_of(target))  # type: ignore[attr-defined]
    present = functions.snapshot(target)
    chosen = cast(functions.where(aligned, value, present), dtype_of(target))
    store(target, label(chosen, "IndexPutBackward0"))


def index_put(target: Tensor, selection: _Selection, value: Any, accumulate: bool) -> None:
    """Write (or add) ``value`` at a selection of ``target``, in place."""
    view = selection.view
    before, _, after, positions = selection.sizes()
    shape = selection.result_shape()
    stand_in = creation.empty(shape, dtype=dtype_of(view), device=view._device)
    values = functions.reshape(
        copied(stand_in, _without_leading_ones(value, len(shape))), (before, positions, after)
    )
    check_writable(view)
    if not count(shape):
        return
    if shares_elements(view):
        warn_if_expanded(view, "index_put_")
        twin = selection.of(places_in_memory(view))
        places = functions.gather_primitive(twin.joined(), twin.column(), 1)
        memory = memory_of(view)
        chosen = _Selection(memory, [0], [functions.reshape(places, (-1,))])
        index_put(memory, chosen, functions.reshape(values, (-1,)), accumulate)
        return
    twin = selection.of(functions.snapshot(view))
    written = functions.scatter_primitive(
        twin.joined(), twin.column(), values, 1, "add" if accumulate else "set"
    )
    ordered = functions.reshape(written, tuple(selection.shape[axis] for axis in selection.order))
    if selection.order != tuple(range(len(selection.shape))):
        back = [0] * len(selection.order)
        for place, axis in enumerate(selection.order):
            back[axis] = place
        ordered = functions.permute(ordered, back)
    store(view, label(functions.clone(ordered), "IndexPutBackward0"))


@public(out=False, function=True)
def index_put_(
    input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False
) -> Tensor:
    """Write ``values`` at ``input[indices]`` (or add them), in place."""
    items = _normalized(tuple(indices), len(shape_of(input)))
    index_put(input, _select(input, items), values, accumulate)
    return input


@shown_as("IndexPutBackward0")
def index_put_function(
    input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False
) -> Tensor:
    """``index_put_`` on a copy."""
    copy = for_each_example(functions.clone(input), values, *indices)
    return index_put_(copy, indices, values, accumulate)


public("index_put", out=False)(index_put_function)


_members: Any = Tensor
_members.__getitem__ = _get_item
_members.__setitem__ = set_item
