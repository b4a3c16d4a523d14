"""Functions without writes: which every recorded graph is."""

from __future__ import annotations

from functools import wraps
from typing import Any

from lazytorch.func.arguments import Function


def functionalize(func: Function, *, remove: str = "mutations") -> Function:
    """``func``, whose recorded graph has no writes and no views in any case.

    A write makes a new node, so there is nothing to remove; arguments are written to as by
    ``func`` itself. ``remove`` may be 'mutations' or 'mutations_and_views' (RuntimeError else).
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. "
            "Valid options are: remove='mutations' or remove='mutations_and_views'"
        )

    @wraps(func, updated=())
    def functional(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return functional
