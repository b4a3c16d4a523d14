"""Small composites: products of vectors, distances, powers, covariance, the most frequent."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional import results
from lazytorch.functional.elementwise import plain_add, plain_div, plain_mul, plain_sub
from lazytorch.functional.linalg import labelled
from lazytorch.functional.shape import reshape
from lazytorch.functional.unary import _floating
from lazytorch.functional.vector_norms import vector_norm
from lazytorch.ops.shapes import broadcast, normalize_axis
from lazytorch.tensor.apply import cast
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.values import computed, every_value
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor


@public()
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product over a dimension of size 3."""
    shape = broadcast((shape_of(input), shape_of(other)))
    if dim is None:
        dim = next((axis for axis, extent in enumerate(shape) if extent == 3), -1)
    axis = normalize_axis(dim, len(shape))
    if shape[axis] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {axis} must have length 3. Got {shape[axis]}"
        )
    a, b = functions.broadcast_to(input, shape), functions.broadcast_to(other, shape)

    def turned(tensor: Tensor, shift: int) -> Tensor:
        return functions.roll(tensor, -shift, axis)

    out = plain_sub(plain_mul(turned(a, 1), turned(b, 2)), plain_mul(turned(a, 2), turned(b, 1)))
    return label(out, "LinalgCrossBackward0")


@public()
@shown_as("UnsafeViewBackward0")
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product."""
    a, b = list(shape_of(input)), list(shape_of(other))
    rank = max(len(a), len(b))
    a, b = [1] * (rank - len(a)) + a, [1] * (rank - len(b)) + b
    left = reshape(input, [extent for pair in zip(a, [1] * rank) for extent in pair])
    right = reshape(other, [extent for pair in zip([1] * rank, b) for extent in pair])
    return reshape(plain_mul(left, right), [m * n for m, n in zip(a, b)])


@public(method=False)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All selections of ``r`` elements of a vector, one a row."""
    if len(shape_of(input)) != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(shape_of(input))}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return functions.empty((0,), dtype=dtype_of(input), device=input._device)
    size = shape_of(input)[0]
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(size), r)), np.int64).reshape(-1, r)
    return functions.take(input, functions.tensor(places, device=input._device))


_no_slope = Rule(
    "CdistBackward0", (lambda g, x, f: f.zeros_like(x), lambda g, y, f: f.zeros_like(y))
)


@public(method=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """The p-distance between each row of ``x1`` (.., n, d) and of ``x2`` (.., m, d): (.., n, m).

    ``p`` >= 0; 0 counts the elements that differ, whose gradient is 0. ``RuntimeError`` for
    integers, tensors of fewer than two dimensions and rows of different lengths.

    >>> cdist(tensor([[0., 0.]]), tensor([[3., 4.]]))
    tensor([[5.]])
    """
    for name, rows in (("X1", x1), ("X2", x2)):
        if dtype_of(rows).kind != "f":
            raise RuntimeError(
                f"cdist only supports floating-point dtypes, {name} got: "
                f"{scalar_name(dtype_of(rows))}"
            )
        if len(shape_of(rows)) < 2:
            raise RuntimeError(
                f"cdist only supports at least 2D tensors, {name} got: {len(shape_of(rows))}D"
            )
    if shape_of(x1)[-1] != shape_of(x2)[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {shape_of(x1)[-1]} X2: "
            f"{shape_of(x2)[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if p == 0:
        with no_grad():
            different = functions.ne(functions.unsqueeze(x1, -2), functions.unsqueeze(x2, -3))
            counted = functions.sum(different, -1, dtype=dtype_of(x1))
        return attach(counted, _no_slope, (x1, x2))
    gap = plain_sub(functions.unsqueeze(x1, -2), functions.unsqueeze(x2, -3))
    return label(vector_norm(gap, p, -1), "CdistBackward0")


@public(inplace=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices along a dimension scaled down to a norm of at most ``maxnorm``."""
    rank = len(shape_of(input))
    if rank < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {rank} dimensions")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm:g}")
    axis = normalize_axis(dim, rank)
    rest = tuple(place for place in range(rank) if place != axis)
    norms = vector_norm(input, p, rest, True)
    scale = functions.where(
        functions.gt(norms, maxnorm), plain_div(maxnorm, plain_add(norms, 1e-7)), 1.0
    )
    return label(plain_mul(input, scale), "RenormBackward0")


@public()
@shown_as("ModeBackward0")
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(value, index) of the most frequent element along a dimension, the smallest of equals."""
    shape = shape_of(input)
    axis = normalize_axis(dim, len(shape))
    if not shape:
        return results.Mode(functions.clone(input), functions.zeros((), dtype=dtypes.int64))

    def places_of(values: np.ndarray) -> np.ndarray:
        array = np.moveaxis(values, axis, -1)
        places = np.empty(array.shape[:-1], np.int64)
        for where in np.ndindex(places.shape):
            found, counts = np.unique(array[where], return_counts=True)
            places[where] = np.flatnonzero(array[where] == found[counts.argmax()])[-1]
        return np.expand_dims(places, axis)

    index = computed(places_of, input)
    values = functions.gather(input, axis, index)
    if not keepdim:
        values, index = functions.squeeze(values, axis), functions.squeeze(index, axis)
    return results.Mode(label(values, "ModeBackward0"), index)


@public(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of a vector's elements as columns."""
    if len(shape_of(x)) != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    count = shape_of(x)[0] if N is None else N
    if count < 0:
        raise RuntimeError(f"N must be non-negative, but got {count}.")
    powers = functions.arange(count, device=x._device)
    if not increasing:
        powers = functions.flip(powers, 0)
    return functions.pow(functions.unsqueeze(x, 1), powers)


@public()
@shown_as("SqueezeBackward0")
def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The covariance matrix of rows of observations.

    ``fweights`` says how often each observation was made (integers), ``aweights`` how much it
    counts. One row gives a 0-d tensor.
    """
    if len(shape_of(input)) > 2:
        raise RuntimeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{len(shape_of(input))} dimensions"
        )
    rows = _floating(input if len(shape_of(input)) == 2 else reshape(input, (1, -1)))
    points = shape_of(rows)[1]
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is not None and (every_value(given) < 0).any():
            raise RuntimeError(f"cov(): {name} cannot be negative")
    weights = _observation_weights(rows, fweights, aweights)
    if weights is None:
        centred = plain_sub(rows, functions.mean(rows, 1, keepdim=True))
        total = labelled(centred, functions.conj(centred), ((0, 1), (2, 1), (0, 2)))
        out = plain_div(total, float(max(points - correction, 0)))
    else:
        mass = functions.sum(weights)
        centre = plain_div(functions.sum(plain_mul(rows, weights), 1, keepdim=True), mass)
        centred = plain_sub(rows, centre)
        heavy = functions.conj(plain_mul(centred, cast(weights, dtype_of(rows))))
        total = labelled(centred, heavy, ((0, 1), (2, 1), (0, 2)))
        lost: Any = correction
        if aweights is not None and correction:
            squares = functions.sum(plain_mul(weights, aweights))
            lost = plain_mul(plain_div(squares, mass), correction)
        out = plain_div(total, functions.clamp(plain_sub(mass, lost), min=0))
    return reshape(out, ()) if shape_of(rows)[0] == 1 else out


def _observation_weights(
    rows: Tensor, fweights: Tensor | None, aweights: Tensor | None
) -> Tensor | None:
    for name, given, kinds in (("fweights", fweights, "iub"), ("aweights", aweights, "f")):
        if given is None:
            continue
        if len(shape_of(given)) > 1:
            raise RuntimeError(
                f"cov(): expected {name} to have one or fewer dimensions but got {name} with "
                f"{len(shape_of(given))} dimensions"
            )
        if dtype_of(given).kind not in kinds:
            wanted = "integral" if kinds == "iub" else "floating point"
            raise RuntimeError(
                f"cov(): expected {name} to have {wanted} dtype but got {name} with "
                f"{scalar_name(dtype_of(given))} dtype"
            )
        if given.numel() != shape_of(rows)[1]:
            raise RuntimeError(
                f"cov(): expected {name} to have the same numel as there are observations in the "
                f"input but got {given.numel()} != {shape_of(rows)[1]}"
            )
    if fweights is None or aweights is None:
        return aweights if fweights is None else cast(fweights, dtype_of(rows).real)
    return plain_mul(fweights, aweights)


@public()
def corrcoef(input: Tensor) -> Tensor:
    """The correlation matrix of rows of observations."""
    if len(shape_of(input)) > 2:
        raise RuntimeError(
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{len(shape_of(input))} dimensions"
        )
    matrix = cov(input)
    if not shape_of(matrix):
        return plain_div(matrix, matrix)
    # The diagonal holds variances: real numbers, also of complex observations.
    spread = functions.sqrt(functions.real_part(functions.diagonal(matrix)))
    scaled = plain_div(plain_div(matrix, functions.unsqueeze(spread, 1)), spread)
    if dtype_of(scaled).kind != "c":
        return functions.clamp(scaled, -1, 1)
    parts = (functions.real_part(scaled), functions.imaginary_part(scaled))
    return functions.complex(*(functions.clamp(part, -1, 1) for part in parts))
