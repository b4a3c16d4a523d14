"""tinygrad, jitted, on the processor: through clang where it is installed, otherwise OpenCL."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
from importlib.metadata import version
from typing import Any

import numpy as np

from lazytorch.bench.peers import Contestant
from lazytorch.bench.peers.interface import Call, Peer
from lazytorch.bench.programs import tinygrad_programs as programs
from lazytorch.bench.workload import Workload


class TinygradPeer(Peer):
    """Runs kernels and whole training steps under ``TinyJit``."""

    def __init__(self) -> None:
        # Read when tinygrad is imported; what the user chose stays.
        os.environ.setdefault("DEV", "CPU" if shutil.which("clang") else "CL")
        # Its optimizers refuse to work otherwise; what is not trained here asks for nothing by it.
        os.environ.setdefault("TRAINING", "1")
        self.tinygrad: Any = importlib.import_module("tinygrad")
        importlib.import_module("tinygrad.nn.optim")
        self.device = self.tinygrad.Device[self.tinygrad.Device.DEFAULT]

    def prepare(self, workload: Workload, compiled: bool) -> Call:
        tensor = self.tinygrad.Tensor
        inputs = [tensor(array).realize() for array in workload.arrays()]
        options = dict(workload.options)
        if workload.program in ("train", "inference"):
            step = getattr(programs, workload.program)(self.tinygrad, *inputs, **options)
            return step if workload.kind == "step" else self._waiting(step)
        kernel = programs.KERNELS[workload.program]

        def call(*arguments: Any) -> Any:
            result = kernel(*arguments, **options)
            first, *rest = result if isinstance(result, tuple) else (result,)
            first.realize(*rest)
            return result

        function = call if workload.only == "eager" else self.tinygrad.TinyJit(call)
        return self._waiting(lambda: function(*inputs))

    def _waiting(self, step: Call) -> Call:
        def call() -> Any:
            result = step()
            self.device.synchronize()
            return result

        return call

    def export(self, result: Any) -> list[np.ndarray]:
        tensors = result if isinstance(result, tuple) else (result,)
        return [tensor.numpy() for tensor in tensors]

    def versions(self) -> dict[str, str]:
        number = version("tinygrad")
        return {"tinygrad": f"{number}, {self.tinygrad.Device.DEFAULT}"}

    def clear(self) -> None:
        gc.collect()


def connect(contestant: Contestant) -> Peer:
    """The peer of a contestant."""
    return TinygradPeer()
