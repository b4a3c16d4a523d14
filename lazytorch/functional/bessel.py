"""Bessel functions, modified and spherical ones, and the Airy function, by SciPy on the host.

Definitions: NIST Digital Library of Mathematical Functions (DLMF), chapters 9 and 10. As in
PyTorch only i0, i1 and their scaled forms have gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.functional.host_maps import scipy_special, special_map

# Modified, of the first kind, with gradients --------------------------------------------------


def _slope_of_i1(g: Any, x: Any, out: Any, f: Any) -> Any:
    """I1' = I0 - I1 / x (DLMF 10.29.2), 1/2 at 0."""
    zero = x == 0
    safe = f.where(zero, 1, x)
    return g * f.where(zero, 0.5, f.i0(x) - out / safe)


def _slope_of_i1e(g: Any, x: Any, out: Any, f: Any) -> Any:
    zero = x == 0
    safe = f.where(zero, 1, x)
    return g * f.where(zero, 0.5, f.special_i0e(x) - out * (f.sign(safe) + 1 / safe))


i0 = special_map(
    "i0", scipy_special("i0"),
    """The modified Bessel function of the first kind of order 0 (DLMF 10.25.2).

    >>> i0(tensor([0., 1.]))
    tensor([1.0000, 1.2661])
    """,
    gradient=lambda g, x, f: g * f.special_i1(x), label="I0Backward0", halves=True, method="i0",
)  # fmt: skip
i0e = special_map(
    "i0e", scipy_special("i0e"),
    """``i0(input) * exp(-|input|)``, finite for every number (DLMF 10.25.2).

    >>> special_i0e(tensor([0., 1.]))
    tensor([1.0000, 0.4658])
    """,
    gradient=lambda g, x, out, f: g * (f.special_i1e(x) - f.sign(x) * out),
    label="SpecialI0EBackward0", halves=True,
)  # fmt: skip
i1 = special_map(
    "i1", scipy_special("i1"),
    """The modified Bessel function of the first kind of order 1 (DLMF 10.25.2).

    >>> special_i1(tensor([0., 1.]))
    tensor([0.0000, 0.5652])
    """,
    gradient=_slope_of_i1, label="SpecialI1Backward0", halves=True,
)  # fmt: skip
i1e = special_map(
    "i1e", scipy_special("i1e"),
    """``i1(input) * exp(-|input|)``, finite for every number (DLMF 10.25.2).

    >>> special_i1e(tensor([0., 1.]))
    tensor([0.0000, 0.2079])
    """,
    gradient=_slope_of_i1e, label="SpecialI1EBackward0", halves=True,
)  # fmt: skip


# Without gradients ----------------------------------------------------------------------------

# name here and in PyTorch: (name in SciPy, description, value at 1)
_TABLE = {
    "bessel_j0": ("j0", "Bessel function of the first kind of order 0 (DLMF 10.2.2)", "0.7652"),
    "bessel_j1": ("j1", "Bessel function of the first kind of order 1 (DLMF 10.2.2)", "0.4401"),
    "bessel_y0": ("y0", "Bessel function of the second kind of order 0 (DLMF 10.2.3)", "0.0883"),
    "bessel_y1": ("y1", "Bessel function of the second kind of order 1 (DLMF 10.2.3)", "-0.7812"),
    "modified_bessel_i0": (
        "i0", "modified Bessel function of the first kind of order 0 (DLMF 10.25.2)", "1.2661",
    ),
    "modified_bessel_i1": (
        "i1", "modified Bessel function of the first kind of order 1 (DLMF 10.25.2)", "0.5652",
    ),
    "modified_bessel_k0": (
        "k0", "modified Bessel function of the second kind of order 0 (DLMF 10.27.4)", "0.4210",
    ),
    "modified_bessel_k1": (
        "k1", "modified Bessel function of the second kind of order 1 (DLMF 10.27.4)", "0.6019",
    ),
    "scaled_modified_bessel_k0": (
        "k0e", "``modified_bessel_k0`` times ``exp(input)`` (DLMF 10.27.4)", "1.1445",
    ),
    "scaled_modified_bessel_k1": (
        "k1e", "``modified_bessel_k1`` times ``exp(input)`` (DLMF 10.27.4)", "1.6362",
    ),
}  # fmt: skip

for _name, (_scipy, _what, _at_one) in _TABLE.items():
    special_map(
        _name, scipy_special(_scipy),
        f"""The {_what}; no gradient.

    >>> special_{_name}(tensor([1.]))
    tensor([{_at_one}])
    """,
    )  # fmt: skip


# Beyond this the function is smaller than any float64; SciPy's expansion gives NaN there.
_AIRY_VANISHES = 103.892


def _airy(x: np.ndarray) -> Any:
    return np.where(x > _AIRY_VANISHES, 0.0, scipy_special("airy")(x)[0])


airy_ai = special_map(
    "airy_ai", _airy,
    """The Airy function Ai (DLMF 9.2.2); no gradient.

    >>> special_airy_ai(tensor([0., 1.]))
    tensor([0.3550, 0.1353])
    """,
)  # fmt: skip


def _spherical(x: np.ndarray) -> Any:
    return np.where(np.isinf(x), 0.0, np.sinc(x / np.pi))


spherical_bessel_j0 = special_map(
    "spherical_bessel_j0", _spherical,
    """The spherical Bessel function of order 0, ``sin(input) / input`` (DLMF 10.49.3); no gradient.

    >>> special_spherical_bessel_j0(tensor([0., 1.]))
    tensor([1.0000, 0.8415])
    """,
)  # fmt: skip
