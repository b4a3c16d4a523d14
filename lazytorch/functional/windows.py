"""Sliding windows over spatial axes and the way back: what pooling, unfold and fold share.

``cut`` shows every window of an array; ``overlay`` is its adjoint, the sum of windows put back
where they came from. Both are moves and few additions, so they fuse with whatever surrounds
them: with step s and size k an input element lies in at most ceil(k / s) windows an axis, and
exactly those are added, by index arithmetic instead of a scatter. Windows that do not overlap
need no addition at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    detached,
    padded,
    part,
    permuted,
    reshaped,
    sum_over,
    windowed,
)
from lazytorch.ops import movement
from lazytorch.tensor.apply import apply
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]

# More overlapping windows than this along an axis are added by a reduction, not one by one.
UNROLLED_OVERLAP = 8


@dataclass(frozen=True)
class Windows:
    """Windows over the last axes of an array: sizes, steps, dilation, and what is added around.

    ``count`` windows an axis; ``low`` and ``high`` elements are added (cut off when negative)
    so that exactly these windows fit.
    """

    extents: Shape
    size: Shape
    step: Shape
    dilation: Shape
    count: Shape
    low: Shape

    @property
    def high(self) -> Shape:
        return tuple(
            (count - 1) * step + (size - 1) * gap + 1 - extent - low
            for count, step, size, gap, extent, low in zip(
                self.count, self.step, self.size, self.dilation, self.extents, self.low
            )
        )

    @property
    def volume(self) -> int:
        """Elements of one window."""
        volume = 1
        for size in self.size:
            volume *= size
        return volume

    def widths(self, rank: int) -> list[tuple[int, int]]:
        """What is added to each axis of an array of ``rank`` dimensions."""
        lead = rank - len(self.extents)
        return [(0, 0)] * lead + list(zip(self.low, self.high))


def cut(x: Tensor, windows: Windows, fill: float) -> Tensor:
    """Every window of x (..., *extents): (..., *count, *size)."""
    rank = len(shape_of(x))
    lead = rank - len(windows.extents)
    with no_grad():
        values = padded(detached(x), windows.widths(rank), fill)
        for number, (size, step, gap) in enumerate(
            zip(windows.size, windows.step, windows.dilation)
        ):
            values = windowed(values, lead + number, size, step, gap)
    return attach(values, _CUT, (x,), (windows,))


def overlay(values: Tensor, windows: Windows) -> Tensor:
    """Windows (..., *count, *size) summed where they came from: (..., *extents)."""
    dims = len(windows.extents)
    lead = len(shape_of(values)) - 2 * dims
    with no_grad():
        x = detached(values)
        for number in reversed(range(dims)):
            x = _overlay_axis(x, lead + number, windows, number)
    return attach(x, _OVERLAY, (values,), (windows,))


# Each is linear and the other's adjoint.
_CUT = Rule("Im2ColBackward0", (lambda g, attrs: overlay(g, attrs[0]),))
_OVERLAY = Rule("Col2ImBackward0", (lambda g, attrs: cut(g, attrs[0], 0),))


def _overlay_axis(values: Tensor, axis: int, windows: Windows, number: int) -> Tensor:
    """The last axis of ``values`` (the position inside a window) folded back into ``axis``."""
    step, gap = windows.step[number], windows.dilation[number]
    low, extent = windows.low[number], windows.extents[number]
    if gap == 1:
        placed = _blocks(values, axis, step)
    else:
        placed = _dilated(values, axis, step, gap)
    have = shape_of(placed)[axis]
    widths = [(0, 0)] * len(shape_of(placed))
    widths[axis] = (-low, extent + low - have)
    return padded(placed, widths)


def _blocks(values: Tensor, axis: int, step: int) -> Tensor:
    """Blocks of ``step`` outputs: block b, phase r gets window b - j at position j * step + r."""
    shape = shape_of(values)
    size, count = shape[-1], shape[axis]
    overlap = -(-size // step)
    last = len(shape) - 1
    widths = [(0, 0)] * len(shape)
    widths[last] = (0, overlap * step - size)
    values = padded(values, widths)
    if overlap == 1:
        total = values
    elif overlap <= UNROLLED_OVERLAP:
        total = _unrolled(values, axis, step, overlap)
    else:
        total = _summed(values, axis, step, overlap)
    blocks = count + overlap - 1
    order = [*range(axis + 1), last, *range(axis + 1, last)]
    merged = (*shape[:axis], blocks * step, *shape[axis + 1 : last])
    return reshaped(permuted(total, order), merged)


def _unrolled(values: Tensor, axis: int, step: int, overlap: int) -> Tensor:
    last = len(shape_of(values)) - 1
    total: Any = None
    for number in range(overlap):
        widths = [(0, 0)] * (last + 1)
        widths[axis] = (number, overlap - 1 - number)
        term = padded(part(values, last, number * step, step), widths)
        total = term if total is None else total + term
    return total  # type: ignore[no-any-return]


def _summed(values: Tensor, axis: int, step: int, overlap: int) -> Tensor:
    """The same sum as a reduction over a skewed view.

    With the window axis moved next to the position axis and ``overlap - 1`` empty windows
    around, flat index (b + i) * w + (overlap - 1 - i) * step + r, w the padded window size,
    is block b, phase r of window b - (overlap - 1 - i): strides w, w - step and 1.
    """
    last = len(shape_of(values)) - 1
    order = [*(number for number in range(last) if number != axis), axis, last]
    moved = permuted(values, order)
    widths = [(0, 0)] * (last + 1)
    widths[last - 1] = (overlap - 1, overlap - 1)
    moved = padded(moved, widths)
    shape = shape_of(moved)
    room, width = shape[last - 1], shape[last]
    blocks = room - overlap + 1
    lead: list[int] = []
    stride = room * width
    for extent in reversed(shape[: last - 1]):
        lead.insert(0, stride)
        stride *= extent
    attrs = (
        (*shape[: last - 1], blocks, overlap, step),
        (*lead, width, width - step, 1),
        (overlap - 1) * step,
    )
    total = sum_over(apply(movement.AS_STRIDED, (moved,), attrs), (last,), keep=False)
    back = [*range(axis), last - 1, *range(axis, last - 1), last]
    return permuted(total, back)


def _dilated(values: Tensor, axis: int, step: int, gap: int) -> Tensor:
    """One term for each position inside a window, its elements ``step`` apart."""
    shape = shape_of(values)
    last = len(shape) - 1
    size, count = shape[last], shape[axis]
    total: Any = None
    for position in range(size):
        term = part(values, last, position, 1)
        term = reshaped(term, (*shape[: axis + 1], 1, *shape[axis + 1 : last]))
        widths = [(0, 0)] * (last + 1)
        widths[axis + 1] = (0, step - 1)
        term = padded(term, widths)
        term = reshaped(term, (*shape[:axis], count * step, *shape[axis + 1 : last]))
        around = [(0, 0)] * last
        around[axis] = (position * gap, (size - 1 - position) * gap)
        term = padded(term, around)
        total = term if total is None else total + term
    return total  # type: ignore[no-any-return]


def regular(extents: Sequence[int], blocks: Sequence[int]) -> Windows:
    """``blocks`` windows an axis that cover it without overlap; extents must divide evenly."""
    size = tuple(extent // count for extent, count in zip(extents, blocks))
    ones = (1,) * len(size)
    return Windows(tuple(extents), size, size, ones, tuple(blocks), (0,) * len(size))
