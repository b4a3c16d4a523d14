"""JAX, with ``jit`` around every program."""

from __future__ import annotations

import gc
import importlib
from typing import Any

import numpy as np

from lazytorch.bench.peers import Contestant, NotAvailable
from lazytorch.bench.peers.interface import Call, Peer
from lazytorch.bench.programs import jax_kernels, jax_models
from lazytorch.bench.workload import Workload


class JaxPeer(Peer):
    """Runs kernels jitted, and training steps as one jitted function that donates its state."""

    def __init__(self) -> None:
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_platforms", "cpu")

    def prepare(self, workload: Workload, compiled: bool) -> Call:
        jax = self.jax
        arrays = [jax.numpy.asarray(array) for array in workload.arrays()]
        options = dict(workload.options)
        if workload.program in ("train", "inference"):
            step = getattr(jax_models, workload.program)(jax, *arrays, **options)
            return step if workload.kind == "step" else lambda: jax.block_until_ready(step())
        program = jax_kernels.PROGRAMS.get(workload.program)
        if program is None:
            raise NotAvailable(f"the program {workload.program} is not written for JAX")
        function = program(jax, **options)
        if workload.only != "eager":
            function = jax.jit(function)
        return lambda: jax.block_until_ready(function(*arrays))

    def export(self, result: Any) -> list[np.ndarray]:
        arrays = result if isinstance(result, tuple) else (result,)
        return [np.asarray(array) for array in arrays]

    def versions(self) -> dict[str, str]:
        return {"jax": self.jax.__version__}

    def clear(self) -> None:
        gc.collect()
        self.jax.clear_caches()


def connect(contestant: Contestant) -> Peer:
    """The peer of a contestant."""
    return JaxPeer()
