"""NumPy's side of what NumPy has no function for."""

from __future__ import annotations

from typing import Any

import numpy as np


def owner(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def as_strided(array: np.ndarray, shape: Any, strides: Any, offset: int) -> np.ndarray:
    steps = tuple(step * array.itemsize for step in strides)
    return np.ndarray(shape, array.dtype, owner(array), offset * array.itemsize, steps)


def diagonal(array: np.ndarray, offset: int, first: int, second: int) -> np.ndarray:
    taken = array.diagonal(offset, first, second)
    taken.flags.writeable = True
    return taken


def unfold(array: np.ndarray, axis: int, size: int, step: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(array, size, axis, writeable=True)
    return windows[(slice(None),) * axis + (slice(None, None, step),)]


def expand(array: np.ndarray, shape: Any) -> np.ndarray:
    steps = np.broadcast_to(array, shape).strides
    return np.lib.stride_tricks.as_strided(array, shape, steps)


def part(array: np.ndarray, number: int) -> np.ndarray:
    """The real or the imaginary part."""
    return array.real if number == 0 else array.imag


def parts(array: np.ndarray) -> np.ndarray:
    """Complex numbers as a last dimension of two."""
    half = array.real.dtype
    steps = (*array.strides, half.itemsize)
    start = array.__array_interface__["data"][0] - owner(array).__array_interface__["data"][0]
    return np.ndarray((*array.shape, 2), half, owner(array), start, steps)


def paired(array: np.ndarray) -> np.ndarray:
    return array.view(np.complex64)[..., 0]


def put(array: np.ndarray, index: Any, value: Any) -> None:
    array[index] = value


def scatter(array: np.ndarray, axis: int, index: list, value: Any, add: bool) -> None:
    places = list(np.indices(np.shape(index)))
    places[axis] = np.array(index)
    if add:
        np.add.at(array, tuple(places), value)
    else:
        array[tuple(places)] = value


NUMPY = {
    "np": np, "as_strided": as_strided, "diagonal": diagonal, "unfold": unfold, "expand": expand,
    "part": part, "parts": parts, "paired": paired, "put": put, "scatter": scatter,
    "seen": lambda value: None, "refused": lambda: None,
}  # fmt: skip
