"""What tuning found out, on disk and in memory.

A result is a small file of JSON, data only, named by two digests: the scope (device, driver and
the sources of code generation) and the body with the facts its schedule was chosen for. Whatever
cannot be read is a miss: then the rules decide, as if nobody had tuned.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazytorch import codegen, config, logs
from lazytorch.codegen.candidates import family_of
from lazytorch.codegen.choice import Chooser, Schedule, by_rule, from_data, to_data
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir.kernel import Body
from lazytorch.ir.show import show_body
from lazytorch.runtime.cache import FileCache
from lazytorch.runtime.device import Device

FORMAT = "1"
TRYING = ".trying"
_SCOPE, _BODY = 20, 40
_files = FileCache("tuned")


@dataclass(frozen=True)
class Finding:
    """What tuning one body found. ``schedule`` is None where the rules' choice won.

    Times are milliseconds of one run of the body, untuned and with the schedule. ``version`` is
    code generation's.
    """

    label: str
    device: str
    schedule: Schedule | None
    default_ms: float
    tuned_ms: float
    tried: int
    discarded: int
    version: str

    @property
    def is_current(self) -> bool:
        """Whether code generation is still what it was."""
        return self.version == codegen_version()

    @property
    def ratio(self) -> float:
        """How many times faster the tuned kernel is."""
        return self.default_ms / self.tuned_ms if self.tuned_ms > 0 else 1.0

    def to_bytes(self) -> bytes:
        """The finding as JSON."""
        data = {
            **self.__dict__, "schedule": None if self.schedule is None else to_data(self.schedule)
        }  # fmt: skip
        return json.dumps(data, sort_keys=True).encode()

    @staticmethod
    def from_bytes(payload: bytes) -> Finding | None:
        """What ``to_bytes`` wrote; None for anything else."""
        try:
            data = json.loads(payload)
            schedule = data.pop("schedule")
            found = Finding(schedule=None if schedule is None else from_data(schedule), **data)
            return found if found.default_ms >= 0 and found.tuned_ms >= 0 else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Table:
    """The findings for one device, read once."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.findings: dict[str, Finding] = {}
        self._digest: str | None = None
        for name in _names():
            if name.startswith(scope + "-") and not name.endswith(TRYING):
                found = Finding.from_bytes(_files.read(name) or b"")
                if found is None:
                    logs.write("tune", lambda name=name: f"{name} is unreadable")  # type: ignore[misc]
                else:
                    self.findings[name.removeprefix(scope + "-")] = found

    def wanted(self, target: Target, body: Body, values: Mapping[int, DType]) -> Schedule | None:
        """The schedule that was found best for a body."""
        if family_of(body) is None:
            return None
        found = self.findings.get(body_key(body, values, target))
        return None if found is None else found.schedule

    def add(self, key: str, finding: Finding) -> None:
        """Keep a finding, also for other processes."""
        self.findings[key] = finding
        self._digest = None
        _files.write(f"{self.scope}-{key}", finding.to_bytes())

    def signature(self) -> str:
        """A text that differs when the schedules differ; empty when there are none."""
        if self._digest is None:
            chosen = sorted(
                (key, repr(f.schedule)) for key, f in self.findings.items() if f.schedule
            )
            self._digest = FileCache.key(repr(chosen)) if chosen else ""
        return self._digest

    # A driver may crash on a candidate, and the process with it. What is being tried is written
    # down first, so that the next process knows what to leave out.

    def suspect(self, key: str) -> Any:
        """The schedule that was being tried when a process died, as data; None otherwise."""
        payload = _files.read(f"{self.scope}-{key}{TRYING}")
        with contextlib.suppress(ValueError):
            return None if payload is None else json.loads(payload)
        return None

    def trying(self, key: str, schedules: list[Any] | None) -> None:
        """Write down what is tried next; None when nothing is any more."""
        name = f"{self.scope}-{key}{TRYING}"
        if schedules is None:
            _files.remove(name)
        else:
            _files.write(name, json.dumps(schedules).encode())


_tables: dict[str, Table] = {}
_read_for: tuple[Any, ...] = ()


def table_of(device: Device) -> Table:
    """The table of a device under the current cache settings."""
    global _read_for
    settings = (config.get("CACHE"), config.get("CACHE_DIR"))
    if settings != _read_for:
        _tables.clear()
        _read_for = settings
    table = _tables.get(device.name)
    if table is None:
        table = _tables[device.name] = Table(_scope(device) if _names() or is_tuning() else "")
    elif not table.scope and is_tuning():
        table = _tables[device.name] = Table(_scope(device))
    return table


def is_tuning() -> bool:
    """Whether kernels that are built for the first time are tuned."""
    return bool(config.get("TUNE") == "tune")


def chooser(device: Device, target: Target) -> Chooser:
    """What schedule each body of a plan for this device wants."""
    if device.kind != "opencl" or config.get("TUNE") == "ignore":
        return by_rule
    table = table_of(device)
    return functools.partial(table.wanted, target) if table.findings else by_rule


def signature(device: Device) -> str:
    """Part of the key of anything that has a device's tuned schedules inside."""
    if device.kind != "opencl" or config.get("TUNE") == "ignore":
        return ""
    return table_of(device).signature()


def saved() -> Iterator[Finding]:
    """Every finding on disk, whatever it was found for."""
    for name in _names():
        found = Finding.from_bytes(_files.read(name) or b"")
        if found is not None:
            yield found


def clear() -> int:
    """Forget every finding; how many files were deleted."""
    names = _names()
    for name in names:
        _files.remove(name)
    _tables.clear()
    return len(names)


def _names() -> list[str]:
    folder = _files.folder
    if folder is None:
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp")


# Keys -------------------------------------------------------------------------------------------


def _scope(device: Device) -> str:
    facts = device.capabilities
    parts = (FORMAT, facts.name, facts.vendor, facts.driver, codegen_version())
    return FileCache.key(*parts)[:_SCOPE]


@functools.lru_cache(maxsize=1)
def codegen_version() -> str:
    """A digest of the sources that turn kernels into text."""
    digest = hashlib.sha256()
    for path in sorted(Path(codegen.__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def body_key(body: Body, values: Mapping[int, DType], target: Target) -> str:
    """One name for equal bodies, whatever numbers their values have in a graph."""
    return FileCache.key(repr(target), body_text(body, values))[:_BODY]


def body_text(body: Body, values: Mapping[int, DType]) -> str:
    """A body as text, its values named in order of appearance and with their types."""
    names: dict[int, str] = {}

    def name(number: int) -> str:
        if number not in names:
            names[number] = f"v{len(names)}:{values[number].name}"
        return names[number]

    text = "\n".join(show_body(body, name))
    results: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        return results.setdefault(found[0], f"r{len(results)}")

    return re.sub(r"\br\d+\b", renamed, text)
