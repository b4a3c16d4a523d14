"""What the worker asks of a library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from lazytorch.bench.workload import Workload

Call = Callable[[], Any]


class Peer(ABC):
    """One library in its own process."""

    @abstractmethod
    def prepare(self, workload: Workload, compiled: bool) -> Call:
        """What is timed: computes the workload completely and answers its result.

        Raises ``NotAvailable`` when the library does not have what the workload needs.
        """

    @abstractmethod
    def export(self, result: Any) -> list[np.ndarray]:
        """The result as arrays."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions of what computes."""

    def counters(self) -> dict[str, int]:
        """Counts since the start, where the library has them: ``launches``, ``programs``."""
        return {}

    def peak_memory(self, call: Call) -> int | None:
        """Bytes that live at most at one time during a call, where the library can tell."""
        return None

    def device_seconds(self, call: Call) -> float | None:
        """Seconds of a call that the device spends in kernels, where the library can tell."""
        return None

    def limit(self, name: str, nbytes: int) -> Call | None:
        """A call that answers a limit of the device: ``peak`` in flop/s, or ``copy`` in byte/s for
        a copy that moves about ``nbytes``; ``None`` where there is nothing to measure with."""
        return None

    def clear(self) -> None:
        """Forget everything that the last workload left behind."""
        return None
