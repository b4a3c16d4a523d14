"""What tuning tells the user: a bar while it runs, a table at the end of the process."""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from tqdm import tqdm

from lazytorch.codegen.choice import Schedule, to_data
from lazytorch.engine.tuning.table import Finding

_found: list[Finding] = []


class Clock:
    """Tells when a number of seconds is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end


class Bar:
    """A progress bar on standard error for one body's candidates."""

    def __init__(self, name: str, count: int, rule_seconds: float) -> None:
        self._rule = rule_seconds
        self._bar = tqdm(
            total=count, desc=name, unit=" candidates", leave=False, file=sys.stderr,
            dynamic_ncols=True,
        )  # fmt: skip
        self.advance(0, rule_seconds)

    def advance(self, done: int, best_seconds: float) -> None:
        """Show how many were tried, and the best so far beside the rules' choice."""
        self._bar.n = done
        ratio = self._rule / best_seconds
        self._bar.set_postfix_str(f"best {best_seconds * 1e3:.4g} ms, {ratio:.2f}x the default")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.close()


def note(finding: Finding) -> None:
    """Remember a finding for the table at the end."""
    if not _found:
        atexit.register(_at_exit)
    _found.append(finding)


def _at_exit() -> None:
    write(_found, sys.stderr)


def write(findings: Sequence[Finding], stream: TextIO) -> None:
    """The table: each kernel's default and tuned time, their ratio, and the schedule."""
    if not findings:
        print("nothing was tuned", file=stream)
        return
    width = min(60, max(len(finding.label) for finding in findings))
    print(f"{'kernel':{width}}  default ms  tuned ms  ratio  schedule", file=stream)
    for found in sorted(findings, key=lambda f: f.default_ms - f.tuned_ms, reverse=True):
        print(
            f"{found.label:{width}}  {found.default_ms:10.4f}  {found.tuned_ms:8.4f}  "
            f"{found.ratio:5.2f}  {text_of(found.schedule)}",
            file=stream,
        )
    before = sum(finding.default_ms for finding in findings)
    after = sum(finding.tuned_ms for finding in findings)
    total = f"all {len(findings)}"
    print(f"{total:{width}}  {before:10.4f}  {after:8.4f}  {before / after:5.2f}", file=stream)


def text_of(schedule: Schedule | None) -> str:
    """A schedule in a line."""
    if schedule is None:
        return "the default"
    data = to_data(schedule)
    data.pop("kind")
    return " ".join(f"{name}={value}" for name, value in data.items() if value not in (0, ""))
