"""Integrals by the trapezoidal rule, and derivatives of sampled functions by differences."""

from __future__ import annotations

from typing import Any

from lazytorch import dtypes
from lazytorch.functional.composite import part, reshaped
from lazytorch.ops.shapes import existing_axis, normalize_axis
from lazytorch.tensor.apply import common_device
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

# Integrals ------------------------------------------------------------------------------------


def _areas(name: str, y: Tensor, x: Tensor | None, dx: float | None, axis: int) -> Any:
    """Twice the area below each pair of neighbouring samples."""
    extent = shape_of(y)[axis]
    doubled: Any = part(y, axis, 0, extent - 1) + part(y, axis, 1, extent - 1)  # type: ignore[operator]
    if x is None:
        return doubled * (1.0 if dx is None else float(dx))
    points = x
    if len(shape_of(x)) == 1:
        if shape_of(x)[0] != extent:
            raise RuntimeError(
                f"{name}: There must be one `x` value for each sample point: got "
                f"{shape_of(x)[0]} values for {extent} samples"
            )
        rank = len(shape_of(y))
        points = reshaped(x, [extent if number == axis else 1 for number in range(rank)])
    elif len(shape_of(x)) < len(shape_of(y)):
        points = reshaped(x, (1,) * (len(shape_of(y)) - len(shape_of(x))) + shape_of(x))
    # x may have more dimensions than y: its own axis is the one counted from the end.
    along = axis - len(shape_of(y)) + len(shape_of(points))
    return doubled * functions.diff(points, dim=along)


def _checked(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> int:
    if x is not None and dx is not None:
        raise TypeError(f"{name}() takes x or dx, not both")
    if x is not None and not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument 'x' must be Tensor, not {type(x).__name__}")
    axis = existing_axis(dim, len(shape_of(y)))
    bools = [n for n, t in (("x", x), ("y", y)) if t is not None and dtype_of(t) is dtypes.bool_]
    if bools:
        raise RuntimeError(
            f"{name}: received a bool input for {' or '.join(f'`{n}`' for n in bools)}, but bool "
            "is not supported"
        )
    return axis


@public(method=False, out=False)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of samples ``y`` along a dimension by the trapezoidal rule (DLMF 3.5.2).

    ``x`` holds the points (a vector, or of a shape that broadcasts with ``y``); without it they
    are ``dx`` apart, 1 by default.

    >>> trapezoid(tensor([1., 2., 3.]))
    tensor(4.)
    """
    axis = _checked("trapezoid", y, x, dx, dim)
    if not shape_of(y)[axis]:
        shape = shape_of(y)[:axis] + shape_of(y)[axis + 1 :]
        return functions.zeros(shape, dtype=dtype_of(y), device=y._device)
    areas = _areas("trapezoid", y, x, dx, axis)
    along = axis - len(shape_of(y)) + len(shape_of(areas))
    return functions.sum(areas, along) / 2.0  # type: ignore[no-any-return]


@public(method=False, out=False)
def trapz(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """``trapezoid`` under its older name."""
    return trapezoid(y, x, dx=dx, dim=dim)


@public(method=False, out=False)
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1
) -> Tensor:
    """The integrals from the first sample to each later one; arguments as for ``trapezoid``.

    >>> cumulative_trapezoid(tensor([1., 2., 3.]))
    tensor([1.5000, 4.0000])
    """
    axis = _checked("cumulative_trapezoid", y, x, dx, dim)
    if not shape_of(y)[axis]:
        return functions.zeros(shape_of(y), dtype=dtype_of(y), device=y._device)
    areas = _areas("cumulative_trapezoid", y, x, dx, axis)
    along = axis - len(shape_of(y)) + len(shape_of(areas))
    return functions.cumsum(areas, along) / 2.0  # type: ignore[no-any-return]


# Derivatives ----------------------------------------------------------------------------------


def _axes(input: Tensor, dim: Any) -> list[int]:
    rank = len(shape_of(input))
    if dim is None:
        return list(range(rank))
    axes = [normalize_axis(axis, rank) for axis in ([dim] if isinstance(dim, int) else dim)]
    for axis in axes:
        if axes.count(axis) > 1:
            raise RuntimeError(f"dim {axis} appears multiple times in the list of dims")
    return axes


def _spacings(input: Tensor, spacing: Any, axes: list[int]) -> list[Any]:
    """A number or a vector of points for each axis."""
    if spacing is None:
        return [1.0] * len(axes)
    if not isinstance(spacing, (list, tuple)):
        return [spacing] * len(axes)
    if len(spacing) != len(axes):
        raise RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar or a list of length equal "
            f"to the dimensions, but got a spacing argument of length {len(spacing)} and a dim "
            f"argument of length {len(axes)}."
        )
    points = [value for value in spacing if isinstance(value, Tensor)]
    for value in points:
        if value._device is not input._device:
            raise RuntimeError(
                "torch.gradient expected each tensor to be on the same device, but got devices "
                f"{value._device} and {input._device}!"
            )
    if points:
        common_device([input, *points])
    return list(spacing)


def _ends(f: Any, axis: int, steps: Any, order: int) -> tuple[Any, Any]:
    """One-sided differences at the first and the last point."""
    extent = shape_of(f)[axis]

    def at(place: int) -> Any:
        return part(f, axis, place if place >= 0 else extent + place, 1)

    def step(place: int) -> Any:
        if not isinstance(steps, Tensor):
            return steps
        return part(steps, axis, place if place >= 0 else extent - 1 + place, 1)

    if order == 1:
        return (at(1) - at(0)) / step(0), (at(-1) - at(-2)) / step(-1)

    def slope(places: tuple[int, int, int], a: Any, b: Any) -> Any:
        """The derivative at the first of three points of the parabola through them."""
        near, middle, far = (at(place) for place in places)
        return (
            middle * ((a + b) / (a * b))
            - near * ((2 * a + b) / (a * (a + b)))
            - far * (a / (b * (a + b)))
        )

    return slope((0, 1, 2), step(0), step(1)), -slope((-1, -2, -3), step(-1), step(-2))


def _derivative(f: Any, axis: int, spacing: Any, order: int) -> Tensor:
    extent = shape_of(f)[axis]
    ahead, here, behind = (part(f, axis, start, extent - 2) for start in (2, 1, 0))
    steps: Any = spacing
    if isinstance(spacing, Tensor):
        rank = len(shape_of(f))
        steps = functions.diff(spacing)
        steps = reshaped(steps, [extent - 1 if number == axis else 1 for number in range(rank)])
        a, b = part(steps, axis, 0, extent - 2), part(steps, axis, 1, extent - 2)
        # The same parabola at its middle point.
        inner = (
            ahead * (a / (b * (a + b)))  # type: ignore[operator]
            + here * ((b - a) / (a * b))  # type: ignore[operator]
            - behind * (b / (a * (a + b)))  # type: ignore[operator]
        )
    else:
        inner = (ahead - behind) / (2 * spacing)  # type: ignore[operator]
    first, last = _ends(f, axis, steps, order)
    out: Tensor = functions.cat((first, inner, last), axis)
    return out


@public(method=False, out=False)
def gradient(
    input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The derivative of a sampled function along each of ``dim`` (all dimensions by default).

    ``spacing``: the distance of samples, one for each dimension, or vectors of the points.
    Inside, second-order differences; at the ends one-sided ones of ``edge_order`` 1 or 2, for
    which a dimension must hold ``edge_order + 1`` samples.

    >>> gradient(tensor([1., 4., 9.]))
    (tensor([3., 4., 5.]),)
    """
    if edge_order not in (1, 2):
        raise RuntimeError(
            f"torch.gradient only supports edge_order=1 and edge_order=2, but got {edge_order}."
        )
    axes = _axes(input, dim)
    spacings = _spacings(input, spacing, axes)
    for axis in axes:
        if shape_of(input)[axis] <= edge_order:
            raise RuntimeError(
                "torch.gradient expected each dimension size to be at least edge_order+1: got "
                f"{shape_of(input)[axis]} in dimension {axis}"
            )
    for axis, value in zip(axes, spacings):
        if isinstance(value, Tensor) and shape_of(value) not in ((), (shape_of(input)[axis],)):
            raise RuntimeError(
                f"torch.gradient expected {shape_of(input)[axis]} coordinates for dimension "
                f"{axis}, but got spacing of shape {list(shape_of(value))}"
            )
    values = input
    return tuple(
        _derivative(values, axis, value if _is_points(value) else _number(value), edge_order)
        for axis, value in zip(axes, spacings)
    )


def _is_points(value: Any) -> bool:
    return isinstance(value, Tensor) and bool(shape_of(value))


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value  # type: ignore[attr-defined]
