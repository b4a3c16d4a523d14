"""Size: the shape of a tensor, a tuple that prints as in PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any


class Size(tuple[int, ...]):
    """A tuple of extents.

    >>> Size((2, 3)).numel()
    6
    """

    __slots__ = ()
    __module__ = "torch"  # What its class prints as.

    def __new__(cls, extents: Iterable[Any] = ()) -> Size:
        if type(extents) is not tuple:
            extents = tuple(extents)
        for number, extent in enumerate(extents):
            if type(extent) is not int:
                return tuple.__new__(cls, _as_integers(extents, number))
        return tuple.__new__(cls, extents)

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        count = 1
        for extent in self:
            count *= extent
        return count

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    __str__ = __repr__

    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            raise TypeError(
                f"can only concatenate tuple (not {type(other).__name__}) to torch.Size"
            )
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return Size(other + tuple(self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        product = tuple.__mul__(self, times)
        return product if product is NotImplemented else Size(product)

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        return (_rebuild, (tuple(self),))


def _rebuild(extents: tuple[int, ...]) -> Size:
    return Size(extents)


def _as_integers(extents: tuple[Any, ...], first: int) -> tuple[int, ...]:
    """Extents of which number ``first`` is no int: integers of other libraries become ints."""
    found = list(extents[:first])
    for number in range(first, len(extents)):
        extent = extents[number]
        if isinstance(extent, (str, float)) or not hasattr(extent, "__index__"):
            raise TypeError(
                f"torch.Size() takes an iterable of 'int' (item {number} is "
                f"'{type(extent).__name__}')"
            )
        found.append(operator.index(extent))
    return tuple(found)
