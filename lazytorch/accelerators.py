"""What torch.cuda, torch.mps and torch.xpu have in common: an OpenCL GPU under another name.

Where there is none they answer as PyTorch's do without a card: nothing is available, seeds and
caches may be set and emptied, and what needs a device raises ``DeviceError`` (a ``RuntimeError``).
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

from lazytorch import engine, runtime, streams
from lazytorch.errors import OutOfMemoryError
from lazytorch.tensor import generator
from lazytorch.tensor.device import device


class Accelerator(ModuleType):
    """A namespace whose devices are the OpenCL GPUs, numbered as the drivers report them."""

    Event, Stream, OutOfMemoryError = streams.Event, streams.Stream, OutOfMemoryError
    stream = staticmethod(streams.stream)
    has_half = True

    def __init__(self, kind: str) -> None:
        super().__init__(f"lazytorch.{kind}", f"torch.{kind}: OpenCL GPUs under this name.")
        self.kind = kind
        self._current = 0

    def __getattr__(self, name: str) -> Any:
        """Parts of the namespace, loaded when they are first named."""
        if name == "amp" and self.kind == "cuda":
            return importlib.import_module("lazytorch.cuda.amp")
        if name in ("memory", "random", "streams"):  # PyTorch's files; one file here.
            return self
        raise AttributeError(f"module 'lazytorch.{self.kind}' has no attribute {name!r}")

    # Which there are --------------------------------------------------------------------------

    def is_available(self) -> bool:
        """Whether there is an OpenCL GPU."""
        return runtime.gpu_count() > 0

    def is_initialized(self) -> bool:
        """Whether devices of this kind can be used: as soon as there is one."""
        return self.is_available()

    def init(self) -> None:
        """Make sure that there is a device; ``DeviceError`` where there is none."""
        self._found()

    def device_count(self) -> int:
        """How many OpenCL GPUs there are."""
        return runtime.gpu_count()

    def current_device(self) -> int:
        """The number of the device that is meant where none is named."""
        self._found()
        return self._current

    def set_device(self, place: Any) -> None:
        """Choose the device that is meant where none is named."""
        number = self._number(place)
        self._found(number)
        self._current = number

    def device(self, place: Any) -> AbstractContextManager[Any]:
        """For a ``with`` block, make a device the one of new tensors; -1 changes nothing."""
        if place is None or place == -1:
            return nullcontext()
        return device(self.kind, self._number(place))  # type: ignore[return-value]

    def device_of(self, obj: Any) -> AbstractContextManager[Any]:
        """For a ``with`` block, make the device of a tensor the one of new tensors."""
        place = obj.device
        return place if place.type == self.kind else nullcontext()  # type: ignore[no-any-return]

    # What they are ----------------------------------------------------------------------------

    def get_device_name(self, place: Any = None) -> str:
        """The name the driver gives a device."""
        return str(self._found(self._number(place)).capabilities.name)

    def get_device_capability(self, place: Any = None) -> tuple[int, int]:
        """(0, 0): OpenCL devices have no compute capability, and programs that ask for a high one
        take their path for other cards."""
        self._found(self._number(place))
        return (0, 0)

    def get_device_properties(self, place: Any = None) -> SimpleNamespace:
        """Name, memory and processors of a device."""
        facts = self._found(self._number(place)).capabilities
        return SimpleNamespace(
            name=facts.name, major=0, minor=0, total_memory=facts.global_memory,
            multi_processor_count=facts.compute_units,
        )  # fmt: skip

    def get_arch_list(self) -> list[str]:
        """Empty: kernels are compiled for the device when they are needed."""
        return []

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        """Whether bfloat16 is computed (in float32, as on every device) by a card."""
        return including_emulation and self.is_available()

    def is_tf32_supported(self) -> bool:
        """False: float32 products are computed in float32."""
        return False

    def can_device_access_peer(self, place: Any, peer: Any) -> bool:
        """False: devices exchange tensors through the host."""
        self._found(self._number(place)), self._found(self._number(peer))
        return False

    # Work -------------------------------------------------------------------------------------

    def synchronize(self, place: Any = None) -> None:
        """Wait until everything recorded for the devices is done."""
        self._found(self._number(place))
        engine.synchronize()

    def current_stream(self, place: Any = None) -> streams.Stream:
        """The one order of work."""
        self._found(self._number(place))
        return streams.only_stream

    default_stream = current_stream

    def set_stream(self, stream: Any) -> None:
        """Nothing is to be chosen: there is one order of work."""

    def is_current_stream_capturing(self) -> bool:
        """False: there are no graphs of CUDA's; ``lazytorch.compile`` repeats plans."""
        return False

    # Memory -----------------------------------------------------------------------------------

    def empty_cache(self) -> None:
        """Give unused memory back to the system."""
        for number in range(self.device_count()):
            self._found(number).empty_cache()

    def ipc_collect(self) -> None:
        """Nothing is to be collected: memory of devices is not shared between processes."""

    def memory_allocated(self, place: Any = None) -> int:
        """Bytes in live buffers; 0 where there is no device."""
        return self._bytes("memory_allocated", place)

    def max_memory_allocated(self, place: Any = None) -> int:
        """The most bytes in live buffers so far."""
        return self._bytes("max_memory_allocated", place)

    def memory_reserved(self, place: Any = None) -> int:
        """Bytes held from the system."""
        return self._bytes("memory_reserved", place)

    # Nothing keeps the most that was held: it is at least what is held now.
    max_memory_reserved = max_memory_cached = memory_cached = memory_reserved
    current_allocated_memory = memory_allocated
    driver_allocated_memory = memory_reserved

    def reset_peak_memory_stats(self, place: Any = None) -> None:
        """Count the most bytes in live buffers anew."""
        self._found(self._number(place)).reset_peak()

    reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats

    def mem_get_info(self, place: Any = None) -> tuple[int, int]:
        """(bytes not held by this process, all bytes) of a device; OpenCL tells no more."""
        found = self._found(self._number(place))
        total = found.capabilities.global_memory
        return total - found.memory_reserved(), total

    def recommended_max_memory(self) -> int:
        """All bytes of the device."""
        return self.mem_get_info()[1]

    def memory_stats(self, place: Any = None) -> dict[str, int]:
        """The numbers that are counted, under PyTorch's names; empty where there is no device."""
        if not self.is_available():
            return {}
        return {
            "allocated_bytes.all.current": self.memory_allocated(place),
            "allocated_bytes.all.peak": self.max_memory_allocated(place),
            "reserved_bytes.all.current": self.memory_reserved(place),
        }

    def memory_summary(self, place: Any = None, abbreviated: bool = False) -> str:
        """The numbers that are counted, as text."""
        stats = self.memory_stats(place)
        return "\n".join(f"{name:32}{value:>16}" for name, value in stats.items())

    # Random numbers: one stream for all devices -------------------------------------------------

    def manual_seed(self, seed: int) -> None:
        """Start the default stream of random numbers of a seed, where there is a device."""
        if self.is_available():
            generator.manual_seed(seed)

    manual_seed_all = manual_seed

    def seed(self) -> None:
        """Start the default stream of a seed that differs each time, where there is a device."""
        if self.is_available():
            generator.seed()

    seed_all = seed

    def initial_seed(self) -> int:
        """The seed of the default stream."""
        self._found()
        return generator.initial_seed()

    def get_rng_state(self, place: Any = None) -> Any:
        """The state of the default stream."""
        self._found()
        return generator.get_rng_state()

    def set_rng_state(self, new_state: Any, place: Any = None) -> None:
        """Continue the default stream from a state."""
        self._found()
        generator.set_rng_state(new_state)

    def get_rng_state_all(self) -> list[Any]:
        """The state of the default stream for each device."""
        return [generator.get_rng_state() for _ in range(self.device_count())]

    def set_rng_state_all(self, new_states: Any) -> None:
        """Continue the default stream from the last of the states."""
        for state in new_states:
            generator.set_rng_state(state)

    # Finding ----------------------------------------------------------------------------------

    def _number(self, place: Any) -> int:
        if isinstance(place, str):
            place = device(place)
        if isinstance(place, device):
            if place.type != self.kind:
                raise ValueError(f"Expected a {self.kind} device, but got: {place}")
            place = place.index
        return self._current if place is None else int(place)

    def _found(self, number: int | None = None) -> Any:
        return runtime.get_device(f"{self.kind}:{self._current if number is None else number}")

    def _bytes(self, what: str, place: Any) -> int:
        if not self.is_available():
            return 0
        return int(getattr(self._found(self._number(place)), what)())
