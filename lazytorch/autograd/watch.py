"""Who looks at every entry as it is written: anomaly detection, and hooks on saved tensors.

Writing the tape asks one flag. Only while somebody watches does it cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Watcher = Callable[[Any], None]


class Watch:
    """The functions that are called with each entry, and whether there are any."""

    __slots__ = ("_watchers", "active")

    def __init__(self) -> None:
        self.active = False
        self._watchers: dict[Watcher, int] = {}

    def open(self, watcher: Watcher) -> None:
        """Call ``watcher(entry)`` for entries from now on, until closed as often as opened."""
        self._watchers = {**self._watchers, watcher: self._watchers.get(watcher, 0) + 1}
        self.active = True

    def close(self, watcher: Watcher) -> None:
        """Take back one ``open``."""
        left = dict(self._watchers)
        left[watcher] -= 1
        if not left[watcher]:
            del left[watcher]
        self._watchers = left
        self.active = bool(left)

    def note(self, entry: Any) -> None:
        """An entry was written."""
        for watcher in self._watchers:
            watcher(entry)


watch = Watch()
