"""Orthogonal polynomials by their recurrences (DLMF 18.9), on the host.

The degree is a tensor too, so how many steps there are depends on values. Degrees are truncated
to integers; a negative degree gives 0. There are no gradients, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.functional.host_maps import host_value, promoted
from lazytorch.tensor.attach import public
from lazytorch.tensor.tensor import Tensor

Array = Any
# (x, k, value of degree k, value of degree k - 1) -> value of degree k + 1
Step = Callable[[Array, int, Array, Array], Array]
# (x, degree) -> value, where recurrences would lose digits, and from which degree on
Closed = tuple[Callable[[Array, Array], Array], int]


def _degrees(n: Array) -> Array:
    """Degrees as integers; what is no finite number counts as negative."""
    return np.where(np.isfinite(n), n, -1).clip(-1, 2**62).astype(np.int64)


def _by_recurrence(x: Array, n: Array, first: Callable[[Array], Array], step: Step) -> Array:
    """Each element's polynomial of its own degree; steps end where nothing can change."""
    out = np.where(n < 0, 0.0, 1.0)
    if not (n > 0).any():
        return out
    before, value = np.ones_like(x), first(x)
    degree = 1
    while True:
        out = np.where(n == degree, value, out)
        rest = n > degree
        if not rest.any():
            return out
        if np.isnan(value[rest]).all():
            return np.where(rest, np.nan, out)
        before, value = value, step(x, degree, value, before)
        degree += 1


def _polynomial(
    name: str,
    first: Callable[[Array], Array],
    step: Step,
    what: str,
    at_half: str,
    *,
    shift: bool = False,
    closed: Closed | None = None,
    largest: dict[int, int] | None = None,
) -> None:
    """Make ``torch.special.name(x, n)`` public.

    ``closed`` holds inside (-1, 1) for degrees above a bound; ``largest`` gives the degree above
    which PyTorch answers NaN, by the size of the dtype.
    """

    def compute(given: np.ndarray, degree: np.ndarray) -> Any:
        x, n = np.broadcast_arrays(given.astype(np.float64), _degrees(degree))
        x = 2 * x - 1 if shift else x
        limit = (largest or {}).get(given.dtype.itemsize)
        if limit is not None:
            return np.where(n > limit, np.nan, _by_recurrence(x, np.minimum(n, limit), first, step))
        if closed is None:
            return _by_recurrence(x, n, first, step)
        formula, bound = closed
        inside = (np.abs(x) < 1) & (n > bound)
        stepped = _by_recurrence(x, np.where(inside, 0, n), first, step)
        return np.where(inside, formula(np.where(inside, x, 0.0), n), stepped)

    def polynomial(input: Any, n: Any) -> Tensor:
        return host_value(name, compute, *promoted(name, (input, n), halves=False))

    polynomial.__name__ = polynomial.__qualname__ = name
    polynomial.__doc__ = f"""{what} of degree ``n``, by recurrence (DLMF 18.9); no gradient.

    ``input`` and ``n`` are tensors or numbers that broadcast, at least one a tensor; integers are
    computed in the default dtype, 16-bit floats and complex numbers are refused.

    >>> special_{name}(tensor([0.5]), 3)
    tensor([{at_half}])
    """
    public(f"special_{name}", method=False)(polynomial)


# Chebyshev polynomials. All four share one recurrence (DLMF 18.9.9 ff.); inside (-1, 1) they are
# quotients of trigonometric functions of the angle whose cosine is x (DLMF 18.5.1 to 18.5.4).


def _twice(x: Array, k: int, value: Array, before: Array) -> Array:
    return 2 * x * value - before


def _second(x: Array, n: Array) -> Array:
    angle = np.arccos(x)
    return np.sin((n + 1) * angle) / np.sin(angle)


def _third(x: Array, n: Array) -> Array:
    angle = np.arccos(x)
    return np.cos((n + 0.5) * angle) / np.cos(angle / 2)


def _fourth(x: Array, n: Array) -> Array:
    angle = np.arccos(x)
    return np.sin((n + 0.5) * angle) / np.sin(angle / 2)


# letter: (degree 1, closed form, above which degree, values of degree 3 at x = 0.5 and x = 0)
_CHEBYSHEV: dict[str, tuple[Callable[[Array], Array], Closed, str, str, str]] = {
    "t": (lambda x: x, (lambda x, n: np.cos(n * np.arccos(x)), 6), "first", "-1.", "0."),
    "u": (lambda x: 2 * x, (_second, 8), "second", "-1.", "0."),
    "v": (lambda x: 2 * x - 1, (_third, 8), "third", "-1.", "1."),
    "w": (lambda x: 2 * x + 1, (_fourth, 8), "fourth", "-1.", "-1."),
}
for _letter, (_first, _closed, _kind, _plain, _shifted) in _CHEBYSHEV.items():
    _what = f"The Chebyshev polynomial of the {_kind} kind"
    _polynomial(f"chebyshev_polynomial_{_letter}", _first, _twice, _what, _plain, closed=_closed)
    _polynomial(
        f"shifted_chebyshev_polynomial_{_letter}", _first, _twice,
        f"{_what} at ``2 * input - 1``", _shifted, shift=True, closed=_closed,
    )  # fmt: skip

# Hermite, Laguerre, Legendre (DLMF table 18.9.1) ----------------------------------------------

_HERMITE_LIMITS = {4: 128, 8: 512}
_polynomial(
    "hermite_polynomial_h", lambda x: 2 * x,
    lambda x, k, value, before: 2 * x * value - 2 * k * before,
    "The physicist's Hermite polynomial", "-5.", largest=_HERMITE_LIMITS,
)  # fmt: skip
_polynomial(
    "hermite_polynomial_he", lambda x: x,
    lambda x, k, value, before: x * value - k * before,
    "The probabilist's Hermite polynomial", "-1.3750", largest=_HERMITE_LIMITS,
)  # fmt: skip
_polynomial(
    "laguerre_polynomial_l", lambda x: 1 - x,
    lambda x, k, value, before: ((2 * k + 1 - x) * value - k * before) / (k + 1),
    "The Laguerre polynomial", "-0.1458",
)  # fmt: skip
_polynomial(
    "legendre_polynomial_p", lambda x: x,
    lambda x, k, value, before: ((2 * k + 1) * x * value - k * before) / (k + 1),
    "The Legendre polynomial", "-0.4375",
)  # fmt: skip
