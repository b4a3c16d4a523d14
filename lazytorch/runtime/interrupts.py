"""Ctrl-C at a moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_main = threading.main_thread().ident


class interrupts_held:
    """Ctrl-C inside the block is answered at its end.

    A plan that updates memory in place is carried out whole, and its results are handed to the
    tensors, or not at all: an update that was half done would be done again on what it had
    already changed. Only the main thread is interrupted; elsewhere nothing is held.
    """

    __slots__ = ("_before", "_waiting")

    def __enter__(self) -> None:
        self._waiting: tuple[int, FrameType | None] | None = None
        self._before: Any = None
        if threading.get_ident() == _main:
            before = signal.getsignal(signal.SIGINT)
            # Handlers of other languages, and none, are left alone.
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._waiting = (number, frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            if self._waiting is not None:
                self._before(*self._waiting)
