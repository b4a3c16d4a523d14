"""``torch.cuda.amp`` and ``torch.cpu.amp``: the names mixed precision had before ``torch.amp``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from lazytorch import dtypes
from lazytorch.amp import custom
from lazytorch.amp.grad_scaler import GradScaler
from lazytorch.dtypes import DType
from lazytorch.functional import autocast as regions


def _warn(kind: str, name: str) -> None:
    warnings.warn(
        f"`torch.{kind}.amp.{name}(args...)` is deprecated. Please use "
        f"`torch.amp.{name}('{kind}', args...)` instead.",
        FutureWarning,
        stacklevel=3,
    )


def older_autocast(kind: str, short: DType) -> type[regions.autocast]:
    """``autocast`` for one kind of device."""

    class autocast(regions.autocast):
        def __init__(
            self, enabled: bool = True, dtype: DType = short, cache_enabled: bool = True
        ) -> None:
            _warn(kind, "autocast")
            super().__init__(kind, dtype, enabled, cache_enabled)

    autocast.__doc__ = f"``torch.autocast({kind!r}, ...)`` under its older name."
    return autocast


def older_scaler(kind: str) -> type[GradScaler]:
    """``GradScaler`` for one kind of device."""

    class OlderGradScaler(GradScaler):
        def __init__(
            self, init_scale: float = 2.0**16, growth_factor: float = 2.0,
            backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True,
        ) -> None:  # fmt: skip
            _warn(kind, "GradScaler")
            super().__init__(
                kind, init_scale, growth_factor, backoff_factor, growth_interval, enabled
            )

    OlderGradScaler.__name__ = OlderGradScaler.__qualname__ = "GradScaler"
    OlderGradScaler.__doc__ = f"``torch.amp.GradScaler({kind!r}, ...)`` under its older name."
    return OlderGradScaler


def older_decorator(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """``custom_fwd`` or ``custom_bwd`` for one kind of device."""

    @functools.wraps(function)
    def decorator(*args: Any, **kwargs: Any) -> Any:
        _warn(kind, function.__name__)
        return function(*args, device_type=kind, **kwargs)

    return decorator


def older_names(kind: str) -> dict[str, Any]:
    """Everything a module of older names offers."""
    short = dtypes.bfloat16 if kind == "cpu" else dtypes.float16
    names: dict[str, Any] = {
        "autocast": older_autocast(kind, short), "GradScaler": older_scaler(kind),
    }  # fmt: skip
    if kind == "cuda":
        for function in (custom.custom_fwd, custom.custom_bwd):
            names[function.__name__] = older_decorator(function, kind)
    return names
