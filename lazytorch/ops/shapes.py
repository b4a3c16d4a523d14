"""Shape arithmetic shared by the operation records: broadcasting and axis checks."""

from __future__ import annotations

from collections.abc import Sequence

from lazytorch.ir.definition import Shape


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that all ``shapes`` expand to; ``RuntimeError`` as PyTorch's when there is none.

    >>> broadcast([(3, 1), (4,)])
    (3, 4)
    """
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(len(shape) for shape in shapes)
    result = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for position, extent in enumerate(shape, offset):
            known = result[position]
            if known == extent or extent == 1:
                continue
            if known != 1:
                raise RuntimeError(
                    f"The size of tensor a ({known}) must match the size of tensor b ({extent}) "
                    f"at non-singleton dimension {position} (shapes: "
                    f"{', '.join(str(list(shape)) for shape in shapes)})"
                )
            result[position] = extent
    return tuple(result)


def normalize_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front; ``IndexError`` as PyTorch's when out of range."""
    span = max(rank, 1)
    if not -span <= axis < span:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], "
            f"but got {axis})"
        )
    return axis + span if axis < 0 else axis


def existing_axis(axis: int, rank: int) -> int:
    """``normalize_axis`` of what needs a dimension: a 0-d tensor has none."""
    if not rank:
        raise IndexError(f"Dimension specified as {axis} but tensor has no dimensions")
    return normalize_axis(axis, rank)


def count(shape: Shape) -> int:
    """Number of elements."""
    result = 1
    for extent in shape:
        result *= extent
    return result
