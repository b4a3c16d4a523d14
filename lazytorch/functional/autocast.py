"""torch.autocast: regions in which operations choose float32 or a shorter dtype.

P. Micikevicius et al., "Mixed precision training", 2018: products in a short dtype, sums, losses
and what loses digits in float32. Which operation is which stands in ``tensor.autocast_lists``.
The settings behind the regions belong to the thread that makes them.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from lazytorch import dtypes, runtime
from lazytorch.dtypes import DType
from lazytorch.tensor.attach import functions
from lazytorch.tensor.autocast import KINDS, is_enabled, set_enabled, short_dtype, state
from lazytorch.tensor.device import ACCELERATORS

_SHORT = (dtypes.bfloat16, dtypes.float16)


def is_autocast_available(device_type: str) -> bool:
    """Whether there are regions for a kind of device."""
    return device_type in KINDS


def _known(device_type: str) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if device_type not in KINDS:
        raise RuntimeError(
            f"User specified an unsupported autocast device_type '{device_type}': expected one of "
            f"{', '.join(KINDS)}"
        )
    return device_type


class autocast:
    """Inside, operations compute in the dtype that suits them: products and convolutions of
    float32 tensors in ``dtype``, what needs its digits in float32.

    A context manager, and a decorator of functions. ``device_type`` names the devices whose
    tensors it is about; ``dtype`` is ``bfloat16`` on processors and ``float16`` on cards unless
    given; ``enabled=False`` makes a region inside another in which nothing is chosen;
    ``cache_enabled`` casts each parameter once a region. Wrap the forward pass and the loss:
    backward computes in the dtypes that forward used. Both short dtypes exist on every device:
    kernels read and write 16 bits and compute in float32.

    Raises ``RuntimeError`` for kinds of device that have no regions. A ``dtype`` that is not
    short, and a kind of card that is not there, turn the region off with a warning.

    >>> with autocast("cpu"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        self.device = _known(device_type)
        self.fast_dtype = short_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = state.caching if cache_enabled is None else cache_enabled
        self._enabled = enabled and self._possible()
        self._before: list[tuple[bool, DType, bool]] = []

    def _possible(self) -> bool:
        if self.device in ACCELERATORS and not runtime.gpu_count():
            warnings.warn(
                f"User provided device_type of '{self.device}', but "
                f"{self.device.upper()} is not available. Disabling autocast.",
                stacklevel=3,
            )
            return False
        if self.fast_dtype not in _SHORT:
            warnings.warn(
                f"In {self.device.upper()} autocast, but the target dtype is not supported. "
                f"Disabling autocast.\n{self.device.upper()} Autocast only supports dtypes of "
                f"{', '.join(map(str, _SHORT))} currently.",
                stacklevel=3,
            )
            return False
        return True

    def __enter__(self) -> autocast:
        self._before.append((is_enabled(self.device), short_dtype(self.device), state.caching))
        set_enabled(self.device, self._enabled)
        state.dtypes[self.device] = self.fast_dtype
        state.caching = self._cache_enabled
        state.nesting += 1
        return self

    def __exit__(self, *_: Any) -> None:
        state.nesting -= 1
        if not state.nesting:
            state.casts.clear()
        enabled, state.dtypes[self.device], state.caching = self._before.pop()
        set_enabled(self.device, enabled)

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(func):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(func).__name__}. As a "
                "context manager it is written: with torch.autocast(device_type): ..."
            )

        @functools.wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return decorated


# Settings -------------------------------------------------------------------------------------


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether the thread is in a region for a kind of device."""
    return is_enabled(_known(device_type))


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Begin or end a region by hand; with one argument, for ``cuda``."""
    if enabled is None:
        device_type, enabled = "cuda", device_type
    set_enabled(_known(device_type), enabled)


def get_autocast_dtype(device_type: str) -> DType:
    """The short dtype of regions for a kind of device."""
    return short_dtype(_known(device_type))


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Choose the short dtype of regions for a kind of device."""
    if not isinstance(dtype, DType):
        raise TypeError(
            "set_autocast_dtype(): argument 'dtype' (position 2) must be torch.dtype, not "
            f"{type(dtype).__name__}"
        )
    state.dtypes[_known(device_type)] = dtype


def is_autocast_cache_enabled() -> bool:
    """Whether parameters are cast once a region."""
    return state.caching


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Cast parameters once a region, or each time."""
    state.caching = enabled


def clear_autocast_cache() -> None:
    """Forget the casts of parameters."""
    state.casts.clear()


def autocast_increment_nesting() -> int:
    """Note that a region begins; how many are open now."""
    state.nesting += 1
    return state.nesting


def autocast_decrement_nesting() -> int:
    """Note that a region ends; how many are open now."""
    state.nesting -= 1
    return state.nesting


# Older names, each for one kind of device -------------------------------------------------------


def _deprecated(function: Callable[..., Any], name: str, kind: str) -> Callable[..., Any]:
    """``function`` for one kind of device, warning that the name is old."""
    described = f"``{function.__name__}({kind!r})`` under its older name."
    text = (
        f"torch.{name} is deprecated. Please use torch.{function.__name__}({kind!r}"
        f"{', ...' if len(inspect.signature(function).parameters) > 1 else ''}) instead."
    )

    def older(*args: Any) -> Any:
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return function(kind, *args)

    older.__name__ = older.__qualname__ = name
    older.__doc__ = described
    return older


for _older, _function, _kind in (
    ("is_autocast_cpu_enabled", is_autocast_enabled, "cpu"),
    ("set_autocast_cpu_enabled", set_autocast_enabled, "cpu"),
    ("get_autocast_cpu_dtype", get_autocast_dtype, "cpu"),
    ("set_autocast_cpu_dtype", set_autocast_dtype, "cpu"),
    ("get_autocast_gpu_dtype", get_autocast_dtype, "cuda"),
    ("set_autocast_gpu_dtype", set_autocast_dtype, "cuda"),
):
    setattr(functions, _older, _deprecated(_function, _older, _kind))

for _setting in (
    autocast, is_autocast_enabled, set_autocast_enabled, get_autocast_dtype, set_autocast_dtype,
    is_autocast_cache_enabled, set_autocast_cache_enabled, clear_autocast_cache,
    autocast_increment_nesting, autocast_decrement_nesting,
):  # fmt: skip
    setattr(functions, _setting.__name__, _setting)
