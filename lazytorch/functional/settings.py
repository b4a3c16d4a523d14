"""Process-wide switches: determinism, threads, precision, warnings.

What PyTorch lets programs choose is often settled here: kernels give the same result every time
and float32 is computed in float32. Such switches keep what they were told, and say so.
"""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass

from lazytorch.tensor.attach import functions

_DEBUG_MODES = ("default", "warn", "error")
_PRECISIONS = ("highest", "high", "medium")


@dataclass
class _Settings:
    deterministic_mode: int = 0
    precision: str = "highest"
    warn_always: bool = False
    threads: int | None = None
    interop_threads: int | None = None


_settings = _Settings()

# Determinism ----------------------------------------------------------------------------------


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for results that are the same every time.

    All kernels here give such results (sums have one order, scatters too), so that neither
    ``mode`` changes what is computed, and nothing raises or warns.
    """
    if not isinstance(mode, bool):
        raise TypeError(
            "use_deterministic_algorithms(): argument 'mode' (position 1) must be bool, not "
            f"{type(mode).__name__}"
        )
    _settings.deterministic_mode = (1 if warn_only else 2) if mode else 0


def are_deterministic_algorithms_enabled() -> bool:
    """Whether deterministic results were asked for (they are given in any case)."""
    return _settings.deterministic_mode > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether only a warning was asked for where a result is not deterministic."""
    return _settings.deterministic_mode == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """``use_deterministic_algorithms`` by name or number: default, warn, error."""
    if not isinstance(debug_mode, (str, int)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in _DEBUG_MODES:
            raise RuntimeError(
                "invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got "
                f"{debug_mode}"
            )
        debug_mode = _DEBUG_MODES.index(debug_mode)
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(
            f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}"
        )
    _settings.deterministic_mode = int(debug_mode)


def get_deterministic_debug_mode() -> int:
    """0 (default), 1 (warn) or 2 (error)."""
    return _settings.deterministic_mode


# Threads --------------------------------------------------------------------------------------


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_num_threads() -> int:
    """How many threads kernels on the processor were asked to use: all processors at first."""
    return _settings.threads or _processors()


def set_num_threads(num: int) -> None:
    """Ask for a number of threads for kernels on the processor.

    OpenCL drivers own their threads and take no number from a program. The number is kept for
    ``get_num_threads``; one that differs from the processors of the process is warned of once.
    """
    _settings.threads = _positive(num, "set_num_threads")
    if num != _processors():
        _warn_of_threads()


@functools.cache
def _warn_of_threads() -> None:
    warnings.warn(
        "set_num_threads() is kept, but kernels run on the threads of the OpenCL driver: one for "
        "each processor of the process. Start it with fewer processors (taskset -c 0-3 python "
        "...) to use fewer.",
        UserWarning,
        stacklevel=3,
    )


def get_num_interop_threads() -> int:
    """How many operations may run beside each other: one, kernels are launched in order."""
    return _settings.interop_threads or 1


def set_num_interop_threads(num: int) -> None:
    """Kept for ``get_num_interop_threads``; may be called once. Kernels are launched in order."""
    number = _positive(num, "set_num_interop_threads")
    if _settings.interop_threads is not None:
        raise RuntimeError(
            "Error: cannot set number of interop threads after parallel work has started or "
            "set_num_interop_threads called"
        )
    _settings.interop_threads = number


def _positive(number: int, function: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise RuntimeError(f"{function} expects an int, but got {type(number).__name__}")
    if number <= 0:
        raise RuntimeError(f"{function} expects a positive integer, but got {number}")
    return number


# Precision and warnings -----------------------------------------------------------------------


def set_float32_matmul_precision(precision: str) -> None:
    """'highest', 'high' or 'medium': how little float32 products may keep.

    Kernels here compute them in float32 always, which is as exact as each of these allows.
    Another name is warned of and changes nothing, as in PyTorch.
    """
    if precision not in _PRECISIONS:
        warnings.warn(
            f"{precision} is not one of 'highest', 'high', or 'medium'; the current "
            "set_float32_matmul_precision call has no effect.",
            UserWarning,
            stacklevel=2,
        )
        return
    _settings.precision = precision


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` was told, 'highest' at first."""
    return _settings.precision


def set_flush_denormal(mode: bool) -> bool:
    """Whether denormal numbers can be flushed to zero as asked: kernels here keep them.

    True for ``mode=False``, which is how it is; False for ``mode=True``, as on processors that
    have no such mode.
    """
    if not isinstance(mode, bool):
        raise RuntimeError(f"flush_denormal expects a bool, but got {type(mode).__name__}")
    return not mode


def set_warn_always(b: bool) -> None:
    """Whether warnings that are given once may be given each time."""
    if not isinstance(b, bool):
        raise RuntimeError(f"set_warn_always expects a bool, but got {type(b).__name__}")
    _settings.warn_always = b


def is_warn_always_enabled() -> bool:
    """What ``set_warn_always`` was told."""
    return _settings.warn_always


for _function in (
    use_deterministic_algorithms, are_deterministic_algorithms_enabled,
    is_deterministic_algorithms_warn_only_enabled, set_deterministic_debug_mode,
    get_deterministic_debug_mode, get_num_threads, set_num_threads, get_num_interop_threads,
    set_num_interop_threads, set_float32_matmul_precision, get_float32_matmul_precision,
    set_flush_denormal, set_warn_always, is_warn_always_enabled,
):  # fmt: skip
    setattr(functions, _function.__name__, _function)
