"""Every setting of lazytorch: its name, type, default and one line of help.

A setting is read from the environment variable ``LAZYTORCH_<NAME>`` at first use and may be
changed with :func:`set` or, for a while, with :func:`override`. ``python -m lazytorch config``
prints the table. Nothing else in the package reads the environment for settings of its own.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

PREFIX = "LAZYTORCH_"


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"expected 0 or 1, got {text!r}")


def _tune(text: str) -> str:
    lowered = text.strip().lower()
    meanings = {"": "use", "use": "use", "1": "tune", "tune": "tune", "0": "ignore"}
    if meanings.get(lowered, lowered) not in ("use", "tune", "ignore"):
        raise ValueError(f"expected 1 (tune), 0 (ignore) or nothing (use), got {text!r}")
    return meanings.get(lowered, lowered)


def _size(text: str) -> int:
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    lowered = text.strip().lower().removesuffix("ib").removesuffix("b")
    if lowered and lowered[-1] in units:
        return int(float(lowered[:-1]) * units[lowered[-1]])
    return int(lowered)


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str


_TABLE: dict[str, Setting] = {
    row.name: row
    for row in (
        Setting("DEVICE", str, "", "default device: cpu, numpy, opencl:N, cuda:N"),
        Setting("LOG", str, "", "channels: fuse, code, memory, cache, plan, build, tune"),
        Setting("FUSION", _flag, True, "0 gives every operation a kernel of its own"),
        Setting("EAGER", _flag, False, "1 computes every operation when it is recorded"),
        Setting("BOUNDS", _flag, False, "1 makes generated kernels check every index"),
        Setting("VERIFY", _flag, False, "1 checks the grammar of every stage"),
        Setting("CACHE", _flag, True, "0 keeps programs and plans in memory only"),
        Setting("CACHE_DIR", str, "", "folder of programs and plans (default: user cache)"),
        Setting("CACHE_LIMIT", _size, 512 << 20, "bytes of programs, and of plans, kept on disk"),
        Setting("MEMORY_LIMIT", _size, 0, "bytes a device may allocate, 0 for its own limit"),
        Setting(
            "KEEP_PACKED", _size, 1 << 30,
            "bytes of packed operands kept while they do not change, 0 packs each time",
        ),
        Setting("PROFILE", _flag, False, "1 prints, at exit, what every kernel took"),
        Setting("PROBE", _flag, True, "0 trusts every OpenCL driver without a probe"),
        Setting("SCHEDULE_FAMILY", str, "", "cpu or gpu: overrides the device's kernel family"),
        Setting("TUNE", _tune, "use", "1 tunes new kernels, 0 ignores what tuning found"),
        Setting("TUNE_LIMIT", float, 20.0, "seconds that tuning may spend on one kernel"),
        Setting("FLUSH_NODES", int, 20000, "pending operations before a graph is computed"),
        Setting("FLUSH_BYTES", _size, 2 << 30, "bytes pinned by pending work before it runs"),
        Setting("FLUSH_DEPTH", int, 4000, "longest pending chain before it is computed"),
        Setting("TRIAL_BUILDS", int, 0, "runs of a new plan for which it is compiled cheaply"),
        Setting("BUILD_PROCESSES", int, 0, "processes that compile a program, 0 for one each core"),
        Setting("PLAN_CACHE", int, 512, "finished plans kept in memory"),
    )
}
_values: dict[str, Any] = {}
_environment_checked = False


def table() -> list[Setting]:
    """All settings, in the order they are documented."""
    return list(_TABLE.values())


def get(name: str) -> Any:
    """The value of a setting.

    >>> get("FUSION")
    True
    """
    value = _values.get(name)
    if value is None:
        value = _values[name] = _read(name)
    return value


def set(name: str, value: Any) -> None:
    """Change a setting for this process."""
    if name not in _TABLE:
        raise KeyError(_unknown(name))
    _values[name] = value


@contextlib.contextmanager
def override(**changes: Any) -> Iterator[None]:
    """Change settings inside a ``with`` block.

    >>> with override(FUSION=False):
    ...     get("FUSION")
    False
    """
    before = {name: get(name) for name in changes}
    try:
        for name, value in changes.items():
            set(name, value)
        yield
    finally:
        _values.update(before)


def _read(name: str) -> Any:
    global _environment_checked
    if name not in _TABLE:
        raise KeyError(_unknown(name))
    if not _environment_checked:
        _environment_checked = True
        _warn_about_unknown_variables()
    setting = _TABLE[name]
    text = os.environ.get(PREFIX + name)
    if text is None:
        return setting.default
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ValueError(f"environment variable {PREFIX}{name}={text!r}: {error}") from None


def _warn_about_unknown_variables() -> None:
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable[len(PREFIX) :] not in _TABLE:
            warnings.warn(
                f"LT003: {variable} is no setting of lazytorch: "
                + _unknown(variable[len(PREFIX) :]),
                stacklevel=2,
            )


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _TABLE, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_TABLE)}"
    return f"unknown setting {name!r}; {hint}"
