"""Tools for composites: primitives called on tensors without making views, and small checks.

Composites are written with these instead of the public shape functions because what they
build is nobody's alias: a move recorded here is one node, with no storage behind it. Each is
differentiable. Knows primitives and the tape, nothing about any layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import mode
from lazytorch.dtypes import DType
from lazytorch.functional.bounds import note_limits, value_range
from lazytorch.ir.definition import OpDef
from lazytorch.ir.node import Node
from lazytorch.ops import contraction, elementwise, indexing, leaves, movement, reduction
from lazytorch.ops.shapes import count, normalize_axis
from lazytorch.tensor.apply import apply, binary, cast, unary
from lazytorch.tensor.attach import functions, not_a_tensor
from lazytorch.tensor.batching.values import every_value
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.recorder import infer_and_record, record, scalar_node
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Shape = tuple[int, ...]

# Values ---------------------------------------------------------------------------------------


def constant(value: float, like: Tensor) -> Tensor:
    """A number of a formula (not of a user) as a 0-d tensor, baked into the kernel."""
    dtype = dtype_of(like)
    node = Node(leaves.CONSTANT, (), (value,), (), dtype, like._device.runtime)
    return fresh(node, like._device)


def number(value: Any, like: Tensor) -> Tensor:
    """A user's number as a 0-d tensor of ``like``'s dtype; never part of a plan's key."""
    return fresh(scalar_node(value, dtype_of(like), like._device.runtime), like._device)


def iota(length: int, like: Tensor, dtype: DType = dtypes.int32) -> Tensor:
    """0, 1, ..., length - 1 on ``like``'s device, computed wherever it is read."""
    node = Node(leaves.IOTA, (), (), (length,), dtype, like._device.runtime)
    return fresh(node, like._device)


def widened(tensor: Tensor) -> Tensor:
    """16-bit floats as float32, so that a chain of maps rounds once and not at each step."""
    dtype = dtype_of(tensor)
    return cast(tensor, dtypes.float32) if dtype.itemsize == 2 and dtype.kind == "f" else tensor


def narrowed(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in ``like``'s dtype."""
    return cast(tensor, dtype_of(like))


def detached(tensor: Tensor) -> Tensor:
    """The present value without history."""
    return fresh(node_of(tensor), tensor._device)


# Maps -----------------------------------------------------------------------------------------

exp = unary(elementwise.EXP, None, True)
expm1 = unary(elementwise.EXPM1, None, True)
log = unary(elementwise.LOG, None, True)
log1p = unary(elementwise.LOG1P, None, True)
tanh = unary(elementwise.TANH, None, True)
erf = unary(elementwise.ERF, None, True)
sqrt = unary(elementwise.SQRT, None, True)
rsqrt = unary(elementwise.RSQRT, None, True)
magnitude = unary(elementwise.ABS, None, False)
is_nan = unary(elementwise.IS_NAN, None, False)
larger = binary(elementwise.MAXIMUM, None)
smaller = binary(elementwise.MINIMUM, None)


# Recording ------------------------------------------------------------------------------------


def recorded(op: OpDef, sources: tuple[Tensor, ...], attrs: tuple[Any, ...]) -> Tensor:
    """``apply``, at half its price where nothing goes on the tape: inside a composite."""
    if mode.enabled:
        return apply(op, sources, attrs)
    nodes = tuple([node_of(source) for source in sources])
    return fresh(infer_and_record(op, nodes, attrs), sources[0]._device)


def moved(op: OpDef, source: Tensor, attrs: tuple[Any, ...], shape: Shape) -> Tensor:
    """The same for a move to a known shape."""
    if mode.enabled:
        return apply(op, (source,), attrs)
    node = node_of(source)
    made = record(op, (node,), attrs, shape, node.dtype, node.device)
    return fresh(made, source._device)


# Moves ----------------------------------------------------------------------------------------


def reshaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    wanted = tuple(shape)
    if shape_of(tensor) == wanted:
        return tensor
    if count(wanted) != count(shape_of(tensor)):
        raise RuntimeError(
            f"shape '{list(wanted)}' is invalid for input of size {count(shape_of(tensor))}"
        )
    return moved(movement.RESHAPE, tensor, (wanted,), wanted)


def permuted(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """Axis ``order[i]`` as axis i."""
    chosen = tuple(order)
    if chosen == tuple(range(len(chosen))):
        return tensor
    shape = shape_of(tensor)
    return moved(movement.PERMUTE, tensor, (chosen,), tuple([shape[axis] for axis in chosen]))


def expanded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Axes of size 1 repeated."""
    wanted = tuple(shape)
    if shape_of(tensor) == wanted:
        return tensor
    return moved(movement.EXPAND, tensor, (wanted,), wanted)


def sliced(
    tensor: Tensor, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None
) -> Tensor:
    """``sizes`` elements from ``starts`` in ``steps`` (negative ones too) along each axis."""
    strides = tuple(steps) if steps is not None else (1,) * len(tuple(sizes))
    if tuple(sizes) == shape_of(tensor) and not any(starts) and set(strides) <= {1}:
        return tensor
    return recorded(movement.SLICE, (tensor,), (tuple(starts), tuple(sizes), strides))


def part(tensor: Tensor, axis: int, start: int, size: int, step: int = 1) -> Tensor:
    """``size`` elements along one axis."""
    shape = shape_of(tensor)
    starts = tuple(start if number == axis else 0 for number in range(len(shape)))
    sizes = tuple(size if number == axis else extent for number, extent in enumerate(shape))
    steps = tuple(step if number == axis else 1 for number in range(len(shape)))
    return sliced(tensor, starts, sizes, steps)


def flipped(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """The order of elements along ``axes`` reversed."""
    shape = shape_of(tensor)
    if 0 in shape or not tuple(axes):
        return tensor
    starts = tuple(extent - 1 if axis in axes else 0 for axis, extent in enumerate(shape))
    steps = tuple(-1 if axis in axes else 1 for axis in range(len(shape)))
    return sliced(tensor, starts, shape, steps)


def padded(tensor: Tensor, widths: Sequence[tuple[int, int]], fill: float = 0) -> Tensor:
    """(low, high) elements added to each axis; negative ones are cut off."""
    shape = shape_of(tensor)
    if any(low < 0 or high < 0 for low, high in widths):
        starts = tuple(max(-low, 0) for low, _ in widths)
        sizes = tuple(
            max(extent - max(-low, 0) - max(-high, 0), 0)
            for extent, (low, high) in zip(shape, widths)
        )
        tensor = sliced(tensor, starts, sizes)
        widths = [(max(low, 0), max(high, 0)) for low, high in widths]
    if not any(low or high for low, high in widths):
        return tensor
    attrs = (tuple((int(low), int(high)) for low, high in widths),)
    return recorded(movement.PAD, (tensor, number(fill, tensor)), attrs)


def windowed(tensor: Tensor, axis: int, size: int, step: int, dilation: int = 1) -> Tensor:
    """Sliding windows along ``axis``; the position inside a window is a new last axis."""
    return recorded(movement.WINDOW, (tensor,), (axis, size, step, dilation))


def joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one after the other along ``axis``."""
    if len(tensors) == 1:
        return tensors[0]
    return recorded(movement.CONCATENATE, tuple(tensors), (axis,))


# Combinations ---------------------------------------------------------------------------------


def _reduced(op: Any, tensor: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    if not tuple(axes):
        return tensor
    out = recorded(op, (tensor,), (tuple(axes),))
    return reshaped(out, kept_shape(shape_of(tensor), axes)) if keep else out


def kept_shape(shape: Shape, axes: Sequence[int]) -> Shape:
    """``shape`` with the extents of ``axes`` 1."""
    return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))


def sum_over(tensor: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
    """The sum along ``axes``, which stay with size 1 unless ``keep`` is false."""
    return _reduced(reduction.SUM, tensor, axes, keep)


def max_over(tensor: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
    """The maximum along ``axes``; NaN where one occurs."""
    return _reduced(reduction.MAX, tensor, axes, keep)


def min_over(tensor: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
    """The minimum along ``axes``; NaN where one occurs."""
    return _reduced(reduction.MIN, tensor, axes, keep)


def gathered(data: Tensor, positions: Tensor, axis: int) -> Tensor:
    """``data`` at ``positions`` along ``axis``; see ``ops.indexing.GATHER``."""
    return recorded(indexing.GATHER, (data, positions), (axis,))


def scattered_sum(base: Tensor, positions: Tensor, values: Tensor, axis: int) -> Tensor:
    """``base`` with ``values`` added at ``positions`` along ``axis``."""
    return recorded(indexing.SCATTER, (base, positions, values), (axis, "add"))


def contracted(
    first: Tensor,
    second: Tensor,
    sizes: Sequence[int],
    output: Sequence[int],
    first_index: Sequence[Sequence[tuple[int, int]]],
    second_index: Sequence[Sequence[tuple[int, int]]],
) -> Tensor:
    """A contraction without a gradient of its own: for composites that bring one."""
    attrs = (
        tuple(sizes), tuple(output), tuple(map(tuple, first_index)), tuple(map(tuple, second_index))
    )  # fmt: skip
    first, second = detached(first), detached(second)
    if dtype_of(first).kind == "c":
        return _contracted_parts(first, second, attrs)
    return recorded(contraction.CONTRACT, (first, second), attrs)


def _contracted_parts(first: Tensor, second: Tensor, attrs: tuple[Any, ...]) -> Tensor:
    """Four contractions of the parts: kernels of products know real numbers only."""

    def product(*parts: OpDef) -> Tensor:
        pair = tuple(recorded(op, (t,), ()) for op, t in zip(parts, (first, second)))
        return recorded(contraction.CONTRACT, pair, attrs)

    real, imaginary = elementwise.REAL, elementwise.IMAGINARY
    above = product(real, real), product(imaginary, imaginary)
    beside = product(real, imaginary), product(imaginary, real)
    parts = recorded(elementwise.SUB, above, ()), recorded(elementwise.ADD, beside, ())
    return recorded(elementwise.COMPLEX, parts, ())


# Positions ------------------------------------------------------------------------------------


def _behind_moves(tensor: Tensor) -> Tensor:
    """The computed value that ``tensor`` takes its elements from by moves, or ``tensor``."""
    node = node_of(tensor)
    while node.buffer is None and node.op.kind in ("move", "example") and len(node.src) == 1:
        node = node.src[0]
    return tensor if node.buffer is None else fresh(node, tensor._device)


def known_values(tensor: Tensor) -> np.ndarray | None:
    """The values behind ``tensor`` if they are computed already, else ``None``.

    Moves are looked through: what they take is a part of what is behind them.
    """
    behind = _behind_moves(tensor)
    if node_of(behind).buffer is None:
        return None
    return functions.peek(behind)  # type: ignore[no-any-return]


def checked_positions(
    positions: Tensor, extent: int, complain: Callable[[int], Exception], ignored: int | None = None
) -> Tensor:
    """``positions`` after a check that all lie in [0, extent) or equal ``ignored``.

    What moves take from a computed value is not computed for the check: the whole value's range
    is known from then on, and usually answers.
    """
    low, high = value_range(_behind_moves(positions))
    note_limits(positions, min(low, 0), max(high, extent - 1))
    if low < 0 or high >= extent:
        exact = every_value(positions)
        outside = (exact < 0) | (exact >= extent)
        if ignored is not None:
            outside &= exact != ignored
        if outside.any():
            raise complain(int(exact[outside][0]))
    if ignored is None:
        return positions
    # The plan must not depend on which values a batch happens to hold.
    return smaller(larger(positions, 0), max(extent - 1, 0))


# Arguments ------------------------------------------------------------------------------------


def axis_of(tensor: Tensor, axis: int) -> int:
    """``axis`` counted from the front; ``IndexError`` when there is no such axis."""
    return normalize_axis(axis, len(shape_of(tensor)))


def require_floating(tensor: Tensor, kernel: str) -> None:
    """``NotImplementedError`` in PyTorch's words for dtypes without the operation."""
    dtype = dtype_of(tensor)
    if dtype.kind != "f":
        raise NotImplementedError(
            f"\"{kernel}\" not implemented for '{scalar_name(dtype)}': convert the input to a "
            "floating-point dtype, e.g. with .float()"
        )


def require_tensor(value: Any, function: str, name: str, position: int) -> None:
    """``TypeError`` in PyTorch's words for what is no tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(not_a_tensor(function, name, position, value))


def in_place(function: Callable[..., Tensor], target: Tensor, *args: Any) -> Tensor:
    """``function(target, ...)`` written into ``target``."""
    value = function(functions.snapshot(target), *args)
    result: Tensor = functions.assign_result(target, value)
    return result
