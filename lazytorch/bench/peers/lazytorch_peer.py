"""lazytorch itself, on one device, eager-looking or with ``lazytorch.compile``."""

from __future__ import annotations

import gc
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import lazytorch
from lazytorch import engine
from lazytorch.bench.limits import copy_bandwidth, fma_peak
from lazytorch.bench.peers import Contestant, NotAvailable
from lazytorch.bench.peers.interface import Call, Peer
from lazytorch.bench.programs.torch_like import PROGRAMS, Library
from lazytorch.bench.workload import Workload
from lazytorch.runtime import get_device, resolve
from lazytorch.tensor.storage import node_of

PROFILED_CALLS = 4


class LazytorchPeer(Peer):
    """Runs the programs of ``torch_like`` with lazytorch."""

    def __init__(self, device: str) -> None:
        self.name = device

    @cached_property
    def device(self) -> Any:
        """The device, opened when it is first needed, as in any program."""
        return get_device(resolve(self.name))

    def _library(self, compiled: bool) -> Library:
        if not compiled:
            return Library(lazytorch, self.name)
        replay = getattr(lazytorch, "compile", None)
        if replay is None:
            raise NotAvailable("lazytorch.compile is not there yet")
        return Library(lazytorch, self.name, compile_function=replay, compile_step=replay)

    def prepare(self, workload: Workload, compiled: bool) -> Call:
        for name in workload.needs:
            value: Any = lazytorch
            for part in name.split("."):
                value = getattr(value, part, None)
            if value is None:
                raise NotAvailable(f"lazytorch.{name} is not there yet")
        library = self._library(compiled)
        tensors = [library.tensor(array).realize() for array in workload.arrays()]
        program = PROGRAMS[workload.program]
        step = program(library, *tensors, **dict(workload.options))
        if workload.kind == "step":
            return step
        recording = lazytorch.enable_grad if workload.kind == "gradient" else lazytorch.no_grad

        def call() -> Any:
            with recording():
                result = step()
            results = result if isinstance(result, tuple) else (result,)
            engine.realize([node_of(tensor) for tensor in results])
            engine.synchronize()
            return result

        return call

    def export(self, result: Any) -> list[np.ndarray]:
        tensors = result if isinstance(result, tuple) else (result,)
        return [np.array(tensor.detach().cpu().numpy()) for tensor in tensors]

    def versions(self) -> dict[str, str]:
        capabilities = self.device.capabilities
        return {
            "lazytorch": _version(),
            f"device {self.name}": capabilities.name,
            f"driver of {self.name}": capabilities.driver,
        }

    def counters(self) -> dict[str, int]:
        stats = lazytorch.stats()
        return {"launches": stats["kernels_launched"], "programs": stats["programs_built"]}

    def peak_memory(self, call: Call) -> int | None:
        """The most bytes in live buffers, weights and temporaries of plans included."""
        self.device.reset_peak()
        call()
        engine.synchronize()
        return int(self.device.max_memory_allocated())

    def device_seconds(self, call: Call) -> float | None:
        """By OpenCL's profiling events; the best of a few, as the times it is compared with."""
        best = float("inf")
        for _ in range(PROFILED_CALLS):
            with lazytorch.profile() as profile:
                call()
            best = min(best, profile.device_seconds)
        return best

    def limit(self, name: str, nbytes: int) -> Call | None:
        if self.device.name == "numpy":
            return None
        return fma_peak(self.device) if name == "peak" else copy_bandwidth(self.device, nbytes)

    def clear(self) -> None:
        gc.collect()
        engine.clear_plans()
        self.device.drop_arena()
        self.device.empty_cache()


def _version() -> str:
    """The version of the installed package, or that it runs from a checkout."""
    try:
        return version("lazytorch")
    except PackageNotFoundError:
        return "from a checkout"


def connect(contestant: Contestant) -> Peer:
    """The peer of a contestant."""
    return LazytorchPeer(contestant.device)
