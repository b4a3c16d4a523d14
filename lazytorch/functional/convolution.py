"""Convolutions as contractions, and their gradients as contractions again.

Three functions carry everything, for any number of spatial axes. With stride s, dilation d and
an input x that is padded already, output position o and kernel position k meet at s*o + d*k:

    correlate(x, w)[n, o, p]  = sum over c, k of  x[n, c, s*p + d*k] * w[o, c, k]
    spread_back(g, w)         = the gradient of correlate by x: a contraction of g with the
                                flipped kernel, one for each remainder of the position by s
    gather_kernel(x, g)       = the gradient by w: sum over n, p of x[n, c, s*p + d*k] * g[n, o, p]

Each is linear in both arguments and the gradient of each is made of the other two, so gradients
of every order are contractions. Derivation: V. Dumoulin, F. Visin, "A guide to convolution
arithmetic for deep learning", 2016, chapters 4 and 5. A transposed convolution is
``spread_back`` used forwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    contracted,
    flipped,
    padded,
    permuted,
    reshaped,
    sum_over,
)
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.templates import repeated
from lazytorch.tensor.tensor import Tensor

Shape = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry:
    """Stride, (low, high) padding and dilation of each spatial axis, and the groups."""

    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int

    def reach(self, kernel: Shape) -> Shape:
        """How far a dilated kernel extends beyond its first element."""
        return tuple(step * (size - 1) for step, size in zip(self.dilation, kernel))

    def output(self, extents: Shape, kernel: Shape) -> Shape:
        """The spatial extents of the result."""
        return tuple(
            (extent + low + high - reach - 1) // step + 1
            for extent, (low, high), reach, step in zip(
                extents, self.padding, self.reach(kernel), self.stride
            )
        )


def _spatial(widths: Sequence[tuple[int, int]], lead: int = 2) -> list[tuple[int, int]]:
    return [*[(0, 0)] * lead, *widths]


def _padded_groups(x: Tensor, widths: Sequence[tuple[int, int]], groups: int) -> Tensor:
    """x (n, c, ...) with its channels in groups and its spatial axes padded.

    Grouped first: what a contraction reads through padding alone needs no array of its own.
    """
    return padded(_grouped(x, 1, groups), _spatial(widths, 3 if groups > 1 else 2))


def _grouped(tensor: Tensor, axis: int, groups: int) -> Tensor:
    """``axis`` split into (groups, rest)."""
    if groups == 1:
        return tensor
    shape = shape_of(tensor)
    return reshaped(tensor, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _ungrouped(tensor: Tensor, axis: int, groups: int) -> Tensor:
    """(groups, rest) at ``axis`` merged."""
    if groups == 1:
        return tensor
    shape = shape_of(tensor)
    return reshaped(tensor, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


class _Axes:
    """Numbers for the axes of a contraction; an axis of groups only where there are groups."""

    def __init__(self, groups: int) -> None:
        self.sizes: list[int] = []
        self.group = [self.add(groups)] if groups > 1 else []

    def add(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def add_all(self, sizes: Sequence[int]) -> list[int]:
        return [self.add(size) for size in sizes]


def _plain(axes: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
    return [((axis, 1),) for axis in axes]


def _sliding(
    positions: Sequence[int], steps: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> list[tuple[tuple[int, int], ...]]:
    return [
        ((position, step), (offset, width))
        for position, step, offset, width in zip(positions, steps, kernel, dilation)
    ]


def _windows_dot_kernel(
    x: Tensor, w: Tensor, stride: Shape, dilation: Shape, groups: int, extents: Shape
) -> Tensor:
    """sum over c, k of x[n, c, stride*p + dilation*k] * w[o, c, k], p up to ``extents``.

    x has its channels in groups already, where there are several.
    """
    w = _grouped(w, 0, groups)
    lead = 2 if groups > 1 else 1
    axes = _Axes(groups)
    batch = axes.add(shape_of(x)[0])
    out = axes.add(shape_of(w)[lead - 1])
    positions = axes.add_all(extents)
    inner = axes.add(shape_of(w)[lead])
    kernel = axes.add_all(shape_of(w)[lead + 1 :])
    y = contracted(
        x, w, axes.sizes, [batch, *axes.group, out, *positions],
        _plain([batch, *axes.group, inner]) + _sliding(positions, stride, kernel, dilation),
        _plain([*axes.group, out, inner, *kernel]),
    )  # fmt: skip
    return _ungrouped(y, 1, groups)


def _biased(y: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return y
    shape = (1, shape_of(bias)[0], *(1 for _ in shape_of(y)[2:]))
    return y + reshaped(bias, shape)  # type: ignore[operator, no-any-return]


# The three functions ------------------------------------------------------------------------------


@repeated
def _correlate_value(x: Tensor, w: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    kernel = shape_of(w)[2:]
    extents = geometry.output(shape_of(x)[2:], kernel)
    x = _padded_groups(x, geometry.padding, geometry.groups)
    y = _windows_dot_kernel(x, w, geometry.stride, geometry.dilation, geometry.groups, extents)
    return _biased(y, bias)


def _with_gaps(g: Tensor, stride: Shape) -> Tensor:
    """s - 1 zeros behind each element of each spatial axis."""
    if all(step == 1 for step in stride):
        return g
    shape = shape_of(g)
    split = list(shape[:2])
    widths = [(0, 0), (0, 0)]
    for extent, step in zip(shape[2:], stride):
        split += [extent, 1]
        widths += [(0, 0), (0, step - 1)]
    merged = [extent * step for extent, step in zip(shape[2:], stride)]
    return reshaped(padded(reshaped(g, split), widths), (*shape[:2], *merged))


class _Spread:
    """How one spatial axis of ``spread_back`` is computed.

    Block B and phase r < ``phases`` are output position B * phases + r; it sums ``taps``
    products of g at B + ``ahead`` - m * ``width`` with the kernel, which has had ``before``
    zeros added so that tap m of phase r is its element m * phases + r. A stride so becomes
    phases: nothing is multiplied with the zeros that would lie between the elements of g, only
    with those that fill the kernel up to a multiple of the stride.
    """

    __slots__ = (
        "ahead", "before", "blocks", "crop", "gaps_after", "gaps_before", "phases", "taps", "width",
    )  # fmt: skip

    def __init__(
        self, extent: int, have: int, kernel: int, stride: int, dilation: int, low: int
    ) -> None:
        self.gaps_before = self.gaps_after = self.phases = self.width = 1
        self.before = self.crop = 0
        if stride > 1 and kernel == 1:
            # One tap: every product has a place of its own, and zeros come afterwards.
            self.gaps_after = stride
            self.ahead, self.taps, self.blocks, self.crop = 0, 1, have, low
            return
        if dilation > 1:
            self.gaps_before, stride = stride, 1
        self.phases, self.width = stride, dilation
        self.ahead = (stride - 1 + low) // stride
        self.before = stride * self.ahead - low
        self.taps = -(-(kernel + self.before) // stride)
        self.blocks = -(-extent // stride)

    def around(self, have: int) -> tuple[int, int]:
        """What is added around an axis of ``have`` elements so that every tap can be read."""
        reach = (self.taps - 1) * self.width
        before = reach - self.ahead
        return before, self.blocks + reach - before - have


def _phased_kernel(w: Tensor, plans: list[_Spread], groups: int) -> Tensor:
    """(o, c, k...) as ([g,] o, c, taps..., phases...), the taps reversed."""
    shape = shape_of(w)
    widths = [(0, 0), (0, 0)]
    split = list(shape[:2])
    for plan, size in zip(plans, shape[2:]):
        widths.append((plan.before, plan.taps * plan.phases - plan.before - size))
        split += [plan.taps, plan.phases]
    w = reshaped(padded(w, widths), split)
    dims = len(plans)
    taps = [2 + 2 * axis for axis in range(dims)]
    w = permuted(flipped(w, taps), (0, 1, *taps, *(axis + 1 for axis in taps)))
    return _grouped(w, 0, groups)


@repeated
def _spread_value(
    g: Tensor, w: Tensor, bias: Tensor | None, extents: Shape, geometry: Geometry
) -> Tensor:
    groups, dims = geometry.groups, len(extents)
    positions, kernel = shape_of(g)[2:], shape_of(w)[2:]
    plans = [
        _Spread(
            extents[axis], positions[axis], kernel[axis], geometry.stride[axis],
            geometry.dilation[axis], geometry.padding[axis][0],
        )
        for axis in range(dims)
    ]  # fmt: skip
    g = _with_gaps(g, tuple(plan.gaps_before for plan in plans))
    around = [plan.around(have) for plan, have in zip(plans, shape_of(g)[2:])]
    g = _padded_groups(g, around, groups)
    blocks = _phases(g, _phased_kernel(w, plans, groups), plans, groups)
    # (n, c, phases..., blocks...) -> (n, c, block, phase, block, phase, ...)
    order = [axis for place in range(dims) for axis in (2 + dims + place, 2 + place)]
    merged = [plan.blocks * plan.phases for plan in plans]
    x = reshaped(permuted(blocks, (0, 1, *order)), (*shape_of(blocks)[:2], *merged))
    x = _with_gaps(x, tuple(plan.gaps_after for plan in plans))
    widths = [
        (-plan.crop, extent + plan.crop - have)
        for plan, extent, have in zip(plans, extents, shape_of(x)[2:])
    ]
    return _biased(padded(x, _spatial(widths)), bias)


def _phases(g: Tensor, w: Tensor, plans: list[_Spread], groups: int) -> Tensor:
    """sum over o, taps of g[n, o, block + tap * width] * w[o, c, tap, phase]."""
    lead = 1 if groups > 1 else 0
    axes = _Axes(groups)
    batch = axes.add(shape_of(g)[0])
    out = axes.add(shape_of(w)[lead + 1])
    phases = axes.add_all([plan.phases for plan in plans])
    blocks = axes.add_all([plan.blocks for plan in plans])
    inner = axes.add(shape_of(w)[lead])
    taps = axes.add_all([plan.taps for plan in plans])
    ones = (1,) * len(plans)
    y = contracted(
        g, w, axes.sizes, [batch, *axes.group, out, *phases, *blocks],
        _plain([batch, *axes.group, inner])
        + _sliding(blocks, ones, taps, [plan.width for plan in plans]),
        _plain([*axes.group, inner, out, *taps, *phases]),
    )  # fmt: skip
    return _ungrouped(y, 1, groups)


@repeated
def _kernel_value(x: Tensor, g: Tensor, kernel: Shape, geometry: Geometry) -> Tensor:
    groups = geometry.groups
    # Groups of few channels are summed from the array itself, so it holds the padding too.
    x = _grouped(padded(x, _spatial(geometry.padding)), 1, groups)
    g = _grouped(g, 1, groups)
    lead = 2 if groups > 1 else 1
    axes = _Axes(groups)
    out = axes.add(shape_of(g)[lead])
    inner = axes.add(shape_of(x)[lead])
    offsets = axes.add_all(kernel)
    batch = axes.add(shape_of(x)[0])
    positions = axes.add_all(shape_of(g)[lead + 1 :])
    w = contracted(
        x, g, axes.sizes, [*axes.group, out, inner, *offsets],
        _plain([batch, *axes.group, inner])
        + _sliding(positions, geometry.stride, offsets, geometry.dilation),
        _plain([batch, *axes.group, out, *positions]),
    )  # fmt: skip
    return _ungrouped(w, 0, groups)


def _correlate_rule(name: str) -> Rule:
    return Rule(
        name,
        (
            lambda g, y, shapes, attrs: spread_back(g, y, shapes[0][2:], attrs[0]),
            lambda g, x, shapes, attrs: gather_kernel(x, g, shapes[1][2:], attrs[0]),
            _bias_gradient,
        ),
    )


def _bias_gradient(g: Any) -> Any:
    rank = len(shape_of(g))
    return sum_over(g, (0, *range(2, rank)), keep=False)


def _spread_rule(name: str) -> Rule:
    return Rule(
        name,
        (
            lambda g, y, shapes, attrs: correlate_to(shapes[0], g, y, attrs[1]),
            lambda g, x, shapes, attrs: gather_kernel(g, x, shapes[1][2:], attrs[1]),
            _bias_gradient,
        ),
    )


_CONVOLUTION = _correlate_rule("ConvolutionBackward0")
_TRANSPOSED = _spread_rule("ConvolutionBackward0")
_KERNEL = Rule(
    "ConvolutionBackwardBackward0",
    (
        lambda g, y, shapes, attrs: spread_back(y, g, shapes[0][2:], attrs[1]),
        lambda g, x, shapes, attrs: correlate_to(shapes[1], x, g, attrs[1]),
    ),
)


def correlate(x: Tensor, w: Tensor, geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """The convolution of x (n, c, ...) with w (o, c / groups, ...)."""
    y = _correlate_value(x, w, bias, geometry)
    return attach(y, _CONVOLUTION, (x, w, bias), (geometry,))


def correlate_to(shape: Shape, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """The convolution at its first positions: as many as ``shape`` has.

    A transposed convolution whose result was made longer by at least a stride, as a dilation
    larger than the stride allows, has room for more.
    """
    y = correlate(x, w, geometry)
    widths = [(0, want - have) for want, have in zip(shape[2:], shape_of(y)[2:])]
    return y if shape_of(y) == shape else padded(y, _spatial(widths))


def spread_back(
    g: Tensor, w: Tensor, extents: Shape, geometry: Geometry, bias: Tensor | None = None
) -> Tensor:
    """The transposed convolution of g (n, o, ...) with w (o, c / groups, ...)."""
    extents = tuple(extents)
    x = _spread_value(g, w, bias, extents, geometry)
    return attach(x, _TRANSPOSED, (g, w, bias), (extents, geometry))


def gather_kernel(x: Tensor, g: Tensor, kernel: Shape, geometry: Geometry) -> Tensor:
    """The gradient of ``correlate`` by its kernel."""
    kernel = tuple(kernel)
    w = _kernel_value(x, g, kernel, geometry)
    return attach(w, _KERNEL, (x, g), (kernel, geometry))
