"""Packed: a saved value in the form that a user's hook gave it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from lazytorch.autograd.entries import AccumulateGrad, Edge
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh

Pack = Callable[[Tensor], Any]
Unpack = Callable[[Any], Tensor]


class Packed:
    """What stands in an entry instead of a tensor: what ``pack`` gave, and how to get it back.

    The tensor's history is kept beside it, so that what comes back can be differentiated. Of an
    entry's own results only the number is kept: the entry must not keep itself alive.
    """

    __slots__ = ("_edge", "_number", "_requires_grad", "_unpack", "_value")

    def __init__(
        self, value: Any, unpack: Unpack, requires_grad: bool, edge: Edge | None, number: int
    ) -> None:
        self._value = value
        self._unpack = unpack
        self._requires_grad = requires_grad
        self._edge = edge
        self._number = number

    def unpacked(self, entry: Any) -> Tensor:
        """The tensor again, with its history; ``TypeError`` when ``unpack`` gives none."""
        found = self._unpack(self._value)
        if not isinstance(found, Tensor):
            raise TypeError(
                "Output of saved tensor unpack_hook expected to be a Tensor but got result of "
                f"type {type(found).__name__}"
            )
        tensor = fresh(node_of(found), found._device)
        if self._requires_grad:
            tensor._requires_grad = True
            maker, number = self._edge or (entry, self._number)
            if isinstance(maker, AccumulateGrad):
                tensor._accumulator = weakref.ref(maker)
            else:
                tensor._grad_fn, tensor._output_number = maker, number
        return tensor


class PackedExtra:
    """What a composite keeps beside its sources, with each tensor among it packed."""

    __slots__ = ("_parts", "_single")

    def __init__(self, extra: Any, pack: Callable[[Any], Any]) -> None:
        self._single = not isinstance(extra, tuple)
        self._parts = [pack(part) for part in ((extra,) if self._single else extra)]

    def unpacked(self, entry: Any) -> Any:
        """The same values again."""
        found = tuple(
            part.unpacked(entry) if isinstance(part, Packed) else part for part in self._parts
        )
        return found[0] if self._single else found
