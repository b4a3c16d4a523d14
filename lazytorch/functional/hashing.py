"""hash_tensor: one 64-bit number that changes when a bit of a tensor does."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.functional.composite import detached
from lazytorch.functional.host import call_host
from lazytorch.functional.reduction import axes_of, kept_shape
from lazytorch.ops.shapes import count
from lazytorch.tensor.attach import public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_REFUSED = (
    dtypes.uint16, dtypes.uint32, dtypes.uint64, dtypes.complex64, dtypes.complex128,
)  # fmt: skip


@public()
def hash_tensor(input: Tensor, dim: Any = None, keepdim: bool = False, *, mode: int = 0) -> Tensor:
    """The exclusive or of all elements (those along ``dim``) as 64-bit patterns, uint64.

    Floating-point numbers are taken as float64, others as int64. Equal hashes do not mean equal
    tensors: the order of elements does not matter, and a pair of equal elements vanishes.

    Raises ``RuntimeError`` for another mode than 0 and for no elements without ``dim``,
    ``IndexError`` for a dimension without elements, ``NotImplementedError`` for complex numbers.

    >>> hash_tensor(tensor([1, 2, 4])).item()
    7
    """
    dtype, shape = dtype_of(input), shape_of(input)
    if mode != 0:
        raise RuntimeError(f"Unknown hash_tensor mode: {mode}")
    if dtype in _REFUSED:
        raise NotImplementedError(f"\"xor_sum_cpu\" not implemented for '{scalar_name(dtype)}'")
    axes = axes_of(dim, len(shape))
    if dim is None and not count(shape):
        raise RuntimeError(
            "hash_tensor: Expected reduction dim to be specified for input.numel() == 0. Specify "
            "the reduction dim with the 'dim' argument."
        )
    for axis in axes:
        if shape and not shape[axis]:
            raise IndexError(f"hash_tensor: Expected reduction dim {axis} to have non-zero size.")
    wide: Any = np.float64 if dtype.kind == "f" else np.int64
    kept = kept_shape(shape, axes)
    left = kept if keepdim else tuple(n for axis, n in enumerate(shape) if axis not in axes)

    def compute(array: np.ndarray) -> Any:
        patterns = np.ascontiguousarray(array.astype(wide)).view(np.uint64).reshape(shape)
        combine: Any = np.bitwise_xor.reduce
        return combine(patterns, axis=axes, keepdims=keepdim)

    return call_host(f"hash {axes} {keepdim}", compute, left, dtypes.uint64, detached(input))
