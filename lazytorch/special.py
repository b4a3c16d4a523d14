"""torch.special: special functions under their own namespace."""

from __future__ import annotations

from typing import Any

from lazytorch.tensor.attach import functions

_SAME = (
    "digamma", "erf", "erfc", "erfinv", "exp2", "expm1", "i0", "log1p", "log_softmax", "logit",
    "logsumexp", "polygamma", "round", "sinc", "softmax", "xlogy",
)  # fmt: skip
_OTHER = {"expit": "sigmoid", "psi": "digamma", "gammaln": "lgamma"}


def __getattr__(name: str) -> Any:
    found = name if name in _SAME else _OTHER.get(name)
    if found is None or not hasattr(functions, found):
        raise AttributeError(f"module 'lazytorch.special' has no attribute {name!r}")
    return getattr(functions, found)
