"""torch.special: special functions under their own namespace.

Each is also ``torch.special_name``, as in PyTorch. Where PyTorch has the function under another
name as well (``torch.i0``, ``torch.igamma``), that is the same function.
"""

from __future__ import annotations

from typing import Any

from lazytorch.tensor.attach import functions
from lazytorch.tensor.autocast import casting_all as _casting_all
from lazytorch.tensor.overrides import make_overridable as _make_overridable

_NAMES = (
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "chebyshev_polynomial_t",
    "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w", "digamma",
    "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc",
    "gammaln", "hermite_polynomial_h", "hermite_polynomial_he", "i0", "i0e", "i1", "i1e",
    "laguerre_polynomial_l", "legendre_polynomial_p", "log1p", "log_ndtr", "log_softmax", "logit",
    "logsumexp", "modified_bessel_i0", "modified_bessel_i1", "modified_bessel_k0",
    "modified_bessel_k1", "multigammaln", "ndtr", "ndtri", "polygamma", "psi", "round",
    "scaled_modified_bessel_k0", "scaled_modified_bessel_k1", "shifted_chebyshev_polynomial_t",
    "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w", "sinc", "softmax", "spherical_bessel_j0", "xlog1py", "xlogy",
    "zeta",
)  # fmt: skip


def _find(name: str) -> Any:
    """The function, which the elementary ones have under their plain name only."""
    return getattr(functions, f"special_{name}", None) or getattr(functions, name)


globals().update({name: _find(name) for name in _NAMES})
__all__ = [*_NAMES]


_casting_all(globals(), "special_")
_make_overridable(globals())
