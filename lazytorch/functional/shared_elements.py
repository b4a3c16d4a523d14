"""Writes by position into tensors several of whose elements are one in memory.

An expanded tensor, or overlapping windows, cannot take a new value for all of its elements: what a
write left alone would compete with what it changed. Positions are therefore found in the memory
itself, and only those are written, in order: where one is written twice, the last one stays.
"""

from __future__ import annotations

import warnings

from lazytorch.tensor import creation
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import overlaps, repeats, shape_of, storage_of, strided_positions
from lazytorch.tensor.tensor import Tensor


def shares_elements(tensor: Tensor) -> bool:
    """Whether elements of the tensor may be one in memory."""
    view = tensor._view
    return view is not None and overlaps(view.shape, view.strides)


def warn_if_expanded(tensor: Tensor, name: str) -> None:
    """Say, as PyTorch does, that such a write into an expanded tensor will be refused one day."""
    view = tensor._view
    if view is not None and repeats(view.shape, view.strides):
        warnings.warn(
            f"Use of {name} on expanded tensors is deprecated. Please clone() the tensor before "
            "performing this operation. This also applies to advanced indexing e.g. "
            "tensor[indices] = tensor",
            UserWarning,
            stacklevel=4,
        )


def memory_of(tensor: Tensor) -> Tensor:
    """All the memory behind a tensor as a vector of its dtype: a view."""
    size = storage_of(tensor).node.nbytes // tensor.element_size()  # type: ignore[attr-defined]
    vector: Tensor = functions.as_strided(tensor, (size,), (1,), 0)
    return vector


def places_in_memory(tensor: Tensor) -> Tensor:
    """For each element of a view where it lies in :func:`memory_of` it."""
    view = tensor._view
    assert view is not None
    places = strided_positions(view.shape, view.strides, view.offset)
    return creation.tensor(places.reshape(shape_of(tensor)), device=tensor._device)
