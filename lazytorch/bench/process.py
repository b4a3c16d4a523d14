"""The parent's end of a worker: starts it, asks, and says what happened when it dies."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

from lazytorch.bench.peers import Contestant, NotAvailable

# How long a worker may take to end by itself once it is told to.
PATIENCE_SECONDS = 5.0
SHOWN_LINES = 15


class ContestantFailed(Exception):
    """A contestant raised an error or its process died; the message has its last words."""


class WorkerProcess:
    """A worker for one library and device; started by the first question."""

    def __init__(self, contestant: Contestant, environment: dict[str, str] | None = None) -> None:
        self.contestant = contestant
        self.environment = environment or {}
        self.versions: dict[str, str] = {}
        self.start_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: BinaryIO | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def ask(self, name: str, *arguments: Any) -> Any:
        """What the worker answers. Raises ``NotAvailable`` or ``ContestantFailed``; after a death
        the next question starts a new process."""
        if self._process is None:
            self._start()
        return self._exchange((name, *arguments))

    def _start(self) -> None:
        # The package may stand beside the program rather than be installed.
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        begun = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lazytorch.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, **self.environment},
        )
        self.versions = self._exchange(self.contestant)
        self.start_seconds = time.perf_counter() - begun

    def _exchange(self, message: Any) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(message, process.stdin, protocol=5)
            process.stdin.flush()
            kind, value = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise ContestantFailed(self._last_words()) from None
        if kind == "unavailable":
            raise NotAvailable(value)
        if kind == "failed":
            raise ContestantFailed(value)
        return value

    def _last_words(self) -> str:
        process, errors = self._process, self._errors
        assert process is not None and errors is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
        status = process.poll()
        self.close()
        return "\n".join([f"its process ended with status {status}", *lines])

    def close(self) -> None:
        """End the process; it is told by the end of its input, and killed if it does not listen."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        if self._errors is not None:
            self._errors.close()
            self._errors = None
