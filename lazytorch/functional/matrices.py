"""What the functions of torch.linalg share: checks of their matrices, and errors about values.

Functions with one result that always exists are nodes of the graph (see ``host``). Those that can
fail for some values, and those with several results, look at their input when they are called, so
that an error names the user's line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.errors import LinAlgError
from lazytorch.functional.complex import adjoint
from lazytorch.ops.shapes import broadcast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.values import are_examples, from_values, values_of
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

_WIDTHS = {"float16": "Half", "bfloat16": "BFloat16"}


# Checks -----------------------------------------------------------------------------------------


def check_matrix(A: Tensor, function: str, name: str = "A") -> None:
    """At least two dimensions."""
    if len(shape_of(A)) < 2:
        raise RuntimeError(f"{function}: The input tensor {name} must have at least 2 dimensions.")


def check_square(A: Tensor, function: str) -> None:
    """A batch of square matrices."""
    check_matrix(A, function)
    rows, columns = shape_of(A)[-2:]
    if rows != columns:
        raise RuntimeError(
            f"{function}: A must be batches of square matrices, but they are {rows} by {columns} "
            "matrices"
        )


def check_floating(A: Tensor, function: str, kernel: str | None = None) -> None:
    """float32, float64, complex64 or complex128; ``kernel`` is what PyTorch names for others."""
    dtype = dtype_of(A)
    if dtype.kind not in "fc":
        raise RuntimeError(
            f"{function}: Expected a floating point or complex tensor as input. Got "
            f"{scalar_name(dtype)}"
        )
    low = _WIDTHS.get(dtype.name)
    if low is not None and kernel is not None:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{low}'")
    if low is not None:
        raise RuntimeError(f"{function}: Low precision dtypes not supported. Got {low}")


def check_kernel(A: Tensor, kernel: str) -> None:
    """As :func:`check_floating`, for functions that PyTorch refuses by their kernel's name."""
    dtype = dtype_of(A)
    if dtype.kind not in "fc" or dtype.name in _WIDTHS:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_name(dtype)}'")


def check_same_dtype(first: Tensor, second: Tensor, function: str, names: str = "A and B") -> None:
    """Both of one dtype."""
    a, b = dtype_of(first), dtype_of(second)
    if a is not b:
        one, _, other = names.partition(" and ")
        raise RuntimeError(
            f"{function}: Expected {names} to have the same dtype, but found {one} of type "
            f"{scalar_name(a)} and {other} of type {scalar_name(b)} instead"
        )


def raise_at(info: np.ndarray, function: str, message: str) -> None:
    """``LinAlgError`` for the first matrix of a batch whose ``info`` is not 0.

    ``{}`` in ``message`` stands for that number.
    """
    if not info.any():
        return
    place = int(np.flatnonzero(info)[0])
    number = int(info.reshape(-1)[place])
    where = f"(Batch element {place}): " if info.ndim else ""
    raise LinAlgError(f"{function}: {where}{message.format(number)}")


# Values -----------------------------------------------------------------------------------------


def on_device(array: Any, *like: Tensor) -> Tensor:
    """A new array as a tensor on the device of ``like``, in the same memory where that can be.

    ``like`` are all tensors whose values it was made of: where one of them is an example of a
    batch the array has the batch in front, and so has the example's result.
    """
    return from_values(array, *like)


def look(tensor: Tensor) -> np.ndarray:
    """The values on the host; with the batch in front where the tensor is one example."""
    array: np.ndarray = values_of(tensor)[0] if are_examples(tensor) else functions.peek(tensor)
    return array


def look_at_both(first: Tensor, second: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The values of two tensors, both with the batch in front where one is an example."""
    if are_examples(first, second):
        one, other = values_of(first, second)
        return one, other
    return look(first), look(second)


def look_with_bounds(A: Tensor, *bounds: Any) -> list[Any]:
    """The values of matrices (.., m, n) and of bounds for them: tensors that broadcast to (..),
    numbers or ``None``, which stay. All have the batch in front where one is an example."""
    given = [bound for bound in bounds if isinstance(bound, Tensor)]
    if not are_examples(A, *given):
        return [look(A), *(look(one) if isinstance(one, Tensor) else one for one in bounds)]
    rank = len(shape_of(A)) - 2
    for place, bound in enumerate(given):
        shape = shape_of(bound)
        given[place] = functions.reshape(bound, (*(1,) * (rank - len(shape)), *shape))
    array, *rest = values_of(A, *given)
    found = iter(rest)
    return [array, *(next(found) if isinstance(one, Tensor) else one for one in bounds)]


# Matrices ---------------------------------------------------------------------------------------


def adjoint_of(A: Tensor) -> Tensor:
    """The conjugate transpose of each matrix."""
    return adjoint(A)


def transposed(A: Tensor) -> Tensor:
    """The transpose of each matrix."""
    result: Tensor = functions.transpose(A, -2, -1)
    return result


def column(vector: Tensor) -> Tensor:
    """Numbers along the last dimension as factors of rows."""
    result: Tensor = functions.unsqueeze(vector, -1)
    return result


def row(vector: Tensor) -> Tensor:
    """Numbers along the last dimension as factors of columns."""
    result: Tensor = functions.unsqueeze(vector, -2)
    return result


def diagonal_of(A: Tensor) -> Tensor:
    """The diagonals of matrices."""
    result: Tensor = functions.diagonal(A, 0, -2, -1)
    return result


def identity(like: Tensor, rows: int, columns: int | None = None) -> Tensor:
    """A matrix with ones on its diagonal, of the dtype and device of ``like``."""
    columns = rows if columns is None else columns
    result: Tensor = functions.eye(rows, columns, dtype=dtype_of(like), device=like._device)
    return result


def broadcast_batches(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the batch dimensions that they broadcast to."""
    a, b = shape_of(first), shape_of(second)
    if a[:-2] == b[:-2]:
        return first, second
    batch = tuple(broadcast((a[:-2], b[:-2])))
    expand = functions.broadcast_to
    return expand(first, batch + tuple(a[-2:])), expand(second, batch + tuple(b[-2:]))
