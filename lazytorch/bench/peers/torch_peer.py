"""PyTorch, eager or with ``torch.compile`` around functions and models."""

from __future__ import annotations

import gc
import importlib
import os
from typing import Any

import numpy as np

from lazytorch.bench.peers import Contestant
from lazytorch.bench.peers.interface import Call, Peer
from lazytorch.bench.programs.torch_like import PROGRAMS, Library
from lazytorch.bench.workload import Workload


class TorchPeer(Peer):
    """Runs the programs of ``torch_like`` with PyTorch on the processor."""

    def __init__(self, compiled: bool) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.compiled = compiled
        wraps = (self._compile, self._compile) if compiled else ()
        self.library = Library(self.torch, "cpu", *wraps)

    def _compile(self, function: Any) -> Any:
        # Shapes never change within a workload, and the next one starts anew.
        return self.torch.compile(function, dynamic=False)

    def prepare(self, workload: Workload, compiled: bool) -> Call:
        program = PROGRAMS[workload.program]
        tensors = [self.library.tensor(array) for array in workload.arrays()]
        options = dict(workload.options)
        step = program(self.library, *tensors, **options)
        if workload.kind != "forward":
            return step

        def call() -> Any:
            with self.torch.no_grad():
                return step()

        return call

    def export(self, result: Any) -> list[np.ndarray]:
        tensors = result if isinstance(result, tuple) else (result,)
        return [tensor.detach().numpy() for tensor in tensors]

    def versions(self) -> dict[str, str]:
        return {"torch": self.torch.__version__}

    def peak_memory(self, call: Call) -> int | None:
        """Bytes of live tensors before the call, and the most that the profiler sees allocated
        on top of them while it runs."""
        profiler = importlib.import_module("torch.profiler")
        live = self._live()
        with profiler.profile(
            activities=[profiler.ProfilerActivity.CPU], profile_memory=True
        ) as record:
            call()
        now = most = 0
        events = record.profiler.kineto_results.events()
        for event in sorted(events, key=lambda event: event.start_ns()):
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        return live + most

    def _live(self) -> int:
        """Bytes of all storages that tensors refer to."""
        sizes = {}
        for held in gc.get_objects():
            # Not its subclasses: those without memory are the compiler's own.
            if type(held) in (self.torch.Tensor, self.torch.nn.Parameter):
                for tensor in (held, held.grad if held.is_leaf else None):
                    if tensor is not None:
                        storage = tensor.untyped_storage()
                        sizes[storage.data_ptr()] = storage.nbytes()
        return sum(sizes.values())

    def clear(self) -> None:
        gc.collect()
        if self.compiled:
            self.torch.compiler.reset()


def connect(contestant: Contestant) -> Peer:
    """The peer of a contestant."""
    return TorchPeer(contestant.library == "torch.compile")
