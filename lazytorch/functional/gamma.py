"""Functions of the gamma family: digamma, polygamma, incomplete gamma, Hurwitz zeta.

Definitions: NIST Digital Library of Mathematical Functions (DLMF), chapters 5, 8 and 25.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.composite import require_tensor
from lazytorch.functional.elementwise import plain_add
from lazytorch.functional.host_maps import host_value, promoted, scipy_special, special_map
from lazytorch.tensor.apply import combined
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor

# Derivatives of the logarithm of gamma --------------------------------------------------------

digamma = special_map(
    "digamma", scipy_special("digamma"),
    """The logarithmic derivative of the gamma function (DLMF 5.2.2).

    Integers are computed in the default dtype; -inf at 0, NaN at negative integers.

    >>> digamma(tensor([1., 2.]))
    tensor([-0.5772,  0.4228])
    """,
    gradient=lambda g, x, f: g * f.polygamma(1, x), label="DigammaBackward0",
    halves=True, method="digamma", aliases=("special_psi",),
)  # fmt: skip

_polygamma_rule = Rule(
    "PolygammaBackward0", (lambda g, x, f, attrs: g * f.polygamma(attrs[0] + 1, x),)
)


@public(method=False, aliases=("special_polygamma",))
def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of ``digamma``, for ``n`` >= 0 (DLMF 5.15).

    >>> polygamma(1, tensor([1.]))
    tensor([1.6449])
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(
            f"polygamma(): argument 'n' (position 1) must be int, not {type(n).__name__}"
        )
    require_tensor(input, "polygamma", "input", 2)
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n, but got n = {n}.")
    (values,) = promoted("polygamma", (input,), halves=True)

    def compute(array: np.ndarray) -> Any:
        from scipy import special

        return special.polygamma(n, array) if n else special.digamma(array)

    out = host_value(f"polygamma{n}", compute, values)
    return attach(out, _polygamma_rule, (values,), (n,))


@public("polygamma", function=False, inplace=True)
def _polygamma_method(input: Tensor, n: int) -> Tensor:
    """The n-th derivative of ``digamma``."""
    return polygamma(n, input)


public("special_gammaln", method=False)(functions.lgamma)


@public(inplace=True, aliases=("special_multigammaln",))
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension ``p`` (DLMF 35.3.5).

    ``log(pi) * p * (p - 1) / 4`` plus ``lgamma(input - i / 2)`` summed over i from 0 to p - 1.
    """
    require_tensor(input, "mvlgamma", "input", 1)
    if dtype_of(input) is dtypes.bool_:
        raise RuntimeError("The input tensor may not be a boolean tensor.")
    if p < 1:
        raise RuntimeError(f"p has to be greater than or equal to 1, but got {p}")
    (values,), _ = combined((input,), floating=True)
    total = functions.lgamma(values)
    for number in range(1, p):
        total = plain_add(total, functions.lgamma(plain_add(values, -0.5 * number)))
    return label(plain_add(total, p * (p - 1) / 4 * math.log(math.pi)), "MvlgammaBackward0")


# Incomplete gamma functions -------------------------------------------------------------------


def _refuse(name: str) -> Any:
    def gradient(g: Any) -> Any:
        raise NotImplementedError(
            f"the derivative for '{name}: input' is not implemented. Detach the first argument, "
            "or differentiate by the second only."
        )

    return gradient


def _density(x: Any, y: Any, f: Any) -> Any:
    """d/dy P(x, y) = exp(-y) y^(x - 1) / Gamma(x) (DLMF 8.8.13)."""
    return f.exp((x - 1) * f.log(y) - y - f.lgamma(x))


def _incomplete(name: str, complement: bool) -> Any:
    function = scipy_special("gammaincc" if complement else "gammainc")
    at_zero, at_infinity = (1.0, 0.0) if complement else (0.0, 1.0)

    def compute(a: np.ndarray, x: np.ndarray) -> Any:
        value = function(a, x)
        # PyTorch looks at these limits before it looks for NaN in the other argument.
        value = np.where(np.isnan(a) & (x == 0), at_zero, value)
        value = np.where(np.isnan(a) & (x == np.inf), at_infinity, value)
        return np.where((a == np.inf) & np.isnan(x), at_zero, value)

    def by_limit(g: Any, x: Any, y: Any, f: Any) -> Any:
        return -g * _density(x, y, f) if complement else g * _density(x, y, f)

    rule = Rule(f"{name.capitalize()}Backward0", (_refuse(name), by_limit))

    def incomplete(input: Tensor, other: Tensor) -> Tensor:
        require_tensor(input, name, "input", 1)
        require_tensor(other, name, "other", 2)
        given = combined((input, other))[1]
        if given.kind != "f":
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{scalar_name(given)}': convert one of the "
                "inputs to a real floating-point dtype first, e.g. with .float()"
            )
        pair = promoted(name, (input, other), halves=True)
        return attach(host_value(name, compute, *pair), rule, pair)

    which = "upper" if complement else "lower"
    section = "8.2.4, Q" if complement else "8.2.4, P"
    incomplete.__name__ = incomplete.__qualname__ = name
    incomplete.__doc__ = f"""The regularized {which} incomplete gamma function (DLMF {section}).

    Of two floating-point tensors that broadcast, both positive. There is a gradient by ``other``
    only: asking for one by ``input`` raises ``NotImplementedError``.

    >>> {name}(tensor([1.]), tensor([1.]))
    tensor([{0.3679 if complement else 0.6321}])
    """
    alias = "special_gammaincc" if complement else "special_gammainc"
    public(inplace=True)(incomplete)
    public(alias, method=False)(incomplete)
    return incomplete


igamma = _incomplete("igamma", complement=False)
igammac = _incomplete("igammac", complement=True)


# Zeta -----------------------------------------------------------------------------------------


def _zeta_value(s: np.ndarray, q: np.ndarray) -> Any:
    # The limit at q = inf is 0; PyTorch's expansion ends in 0 * inf there.
    return np.where((q == np.inf) & (s > 1), np.nan, scipy_special("zeta")(s, q))


def _no_exponent_gradient(g: Any) -> Any:
    raise NotImplementedError("the derivative for 'zeta' is not implemented.")


_zeta_rules = [
    Rule(
        f"SpecialZetaBackward{number}",
        (_no_exponent_gradient, lambda g, x, y, f: g * -x * f.special_zeta(x + 1, y)),
    )
    for number in range(3)
]


@public("special_zeta", method=False)
def zeta(input: Any, other: Any) -> Tensor:
    """The Hurwitz zeta function (DLMF 25.11.1): ``1 / (other + k) ** input`` summed over k.

    Tensors or numbers that broadcast, at least one a tensor. There is a gradient by ``other``
    only (DLMF 25.11.17): asking for one by ``input`` raises ``NotImplementedError``.

    >>> special_zeta(tensor([2.]), 1)
    tensor([1.6449])
    """
    pair = promoted("zeta", (input, other), halves=False)
    kind = 0 if isinstance(input, Tensor) and isinstance(other, Tensor) else 1
    if kind and isinstance(input, Tensor):
        kind = 2
    return attach(host_value("zeta", _zeta_value, *pair), _zeta_rules[kind], pair)
