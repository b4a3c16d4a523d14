"""NumPy itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazytorch.bench.peers import Contestant
from lazytorch.bench.peers.interface import Call, Peer
from lazytorch.bench.programs.numpy_kernels import PROGRAMS
from lazytorch.bench.workload import Workload


class NumpyPeer(Peer):
    """Runs what one would write in NumPy."""

    def prepare(self, workload: Workload, compiled: bool) -> Call:
        program = PROGRAMS[workload.program]
        arrays = workload.arrays()
        options = dict(workload.options)
        return lambda: program(*arrays, **options)

    def export(self, result: Any) -> list[np.ndarray]:
        return [np.asarray(result)]

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}


def connect(contestant: Contestant) -> Peer:
    """The peer of a contestant."""
    return NumpyPeer()
