"""Functions around the error function and the normal distribution, and entropies.

Definitions: NIST Digital Library of Mathematical Functions (DLMF), chapter 7.
"""

from __future__ import annotations

import math
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import (
    detached,
    log,
    log1p,
    narrowed,
    require_tensor,
    widened,
)
from lazytorch.functional.elementwise import plain_mul, where
from lazytorch.functional.host_maps import promoted, scipy_special, special_map
from lazytorch.functional.unary import isnan
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.tensor import Tensor

_ROOT_HALF = math.sqrt(0.5)

erfinv = special_map(
    "erfinv", scipy_special("erfinv"),
    """The inverse of ``erf``: inf at 1, -inf at -1, NaN beyond (DLMF 7.17).

    >>> erfinv(tensor([0., 0.5]))
    tensor([0.0000, 0.4769])
    """,
    gradient=lambda g, out, f: g * f.exp(out * out) * 0.886226925452758,
    label="ErfinvBackward0", halves=True, method="erfinv",
)  # fmt: skip

erfcx = special_map(
    "erfcx", scipy_special("erfcx"),
    """The scaled complementary error function ``exp(x ** 2) * erfc(x)`` (DLMF 7.2.3).

    >>> special_erfcx(tensor([0., 1.]))
    tensor([1.0000, 0.4276])
    """,
    gradient=lambda g, x, out: g * (x * out * 2 - 1.1283791670955126),
    label="SpecialErfcxBackward0",
)  # fmt: skip

ndtri = special_map(
    "ndtri", scipy_special("ndtri"),
    """The number below which a standard normal variable lies with the given probability.

    The inverse of ``ndtr`` (DLMF 7.17 for the inverse error function): -inf at 0, inf at 1, NaN
    outside [0, 1].

    >>> special_ndtri(tensor([0.5, 0.975]))
    tensor([0.0000, 1.9600])
    """,
    gradient=lambda g, out, f: g * f.exp(out * out * 0.5) * math.sqrt(2 * math.pi),
    label="SpecialNdtriBackward0",
)  # fmt: skip

log_ndtr = special_map(
    "log_ndtr", scipy_special("log_ndtr"),
    """The logarithm of ``ndtr``, exact where ``ndtr`` itself would be 0 (DLMF 7.2.3).

    >>> special_log_ndtr(tensor([0., -40.]))
    tensor([  -0.6931, -804.6084])
    """,
    gradient=lambda g, x, f: g / f.special_erfcx(x * -_ROOT_HALF) * math.sqrt(2 / math.pi),
    label="SpecialLogNdtrBackward0",
)  # fmt: skip


@public("special_ndtr", method=False)
def ndtr(input: Tensor) -> Tensor:
    """The probability that a standard normal variable lies below ``input`` (DLMF 7.2.2).

    Half of ``erfc(-input / sqrt(2))``, which keeps its digits far below 0.

    >>> special_ndtr(tensor([0., 1.96]))
    tensor([0.5000, 0.9750])
    """
    require_tensor(input, "special_ndtr", "input", 1)
    (values,) = promoted("erf_vml", (input,), halves=True)
    tail = functions.erfc(plain_mul(widened(values), -_ROOT_HALF))
    return narrowed(plain_mul(tail, 0.5), values)


_entropy_rule = Rule("SpecialEntrBackward0", (lambda g, x, f: g * (-1 - f.log(x)),))


@public("special_entr", method=False)
def entr(input: Tensor) -> Tensor:
    """A term of an entropy: ``-input * log(input)``, 0 at 0 and -inf below.

    >>> special_entr(tensor([0., 0.5, 1.]))
    tensor([0.0000, 0.3466, -0.0000])
    """
    require_tensor(input, "special_entr", "input", 1)
    (values,) = promoted("entr", (input,), halves=True)
    with no_grad():
        x: Any = widened(detached(values))
        term = where(x > 0, -x * log(x), where(x == 0, 0.0, -math.inf))
        out = narrowed(where(isnan(x), x, term), values)
    return attach(out, _entropy_rule, (values,))


def _by_factor(g: Any, x: Any, y: Any, f: Any) -> Any:
    return f.where((x == 0) & (y <= -1), 0, g * f.log1p(y))


_XLOG1PY = [
    Rule(f"SpecialXlog1PyBackward{number}", (_by_factor, lambda g, x, y: g * x / (y + 1)))
    for number in range(3)
]


@public("special_xlog1py", method=False)
def xlog1py(input: Any, other: Any) -> Tensor:
    """``input * log1p(other)``, 0 where ``input`` is 0 and ``other`` is no NaN.

    Tensors or numbers that broadcast, at least one a tensor.

    >>> special_xlog1py(tensor([0., 2.]), tensor([-1., 1.]))
    tensor([0.0000, 1.3863])
    """
    pair = promoted("xlog1py", (input, other), halves=True)
    kind = 1 if not isinstance(input, Tensor) else 0 if isinstance(other, Tensor) else 2
    with no_grad():
        x, y = (widened(detached(value)) for value in pair)
        silent = functions.logical_and(functions.eq(x, 0), functions.logical_not(isnan(y)))
        out = narrowed(where(silent, 0.0, plain_mul(x, log1p(y))), pair[0])
    return attach(out, _XLOG1PY[kind], pair)
