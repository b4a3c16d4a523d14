"""What torch.cuda, torch.mps and torch.xpu have in common: an OpenCL GPU under another name."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from lazytorch import engine, runtime
from lazytorch.tensor.device import device
from lazytorch.tensor.generator import manual_seed


class Accelerator(ModuleType):
    """A namespace whose devices are the OpenCL GPUs, numbered as the drivers report them."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"lazytorch.{kind}", f"torch.{kind}: OpenCL GPUs under this name.")
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        """Parts of the namespace, loaded when they are first named."""
        if name == "amp" and self.kind == "cuda":
            return importlib.import_module("lazytorch.cuda.amp")
        raise AttributeError(f"module 'lazytorch.{self.kind}' has no attribute {name!r}")

    def is_available(self) -> bool:
        """Whether there is an OpenCL GPU."""
        return runtime.gpu_count() > 0

    def device_count(self) -> int:
        """How many OpenCL GPUs there are."""
        return runtime.gpu_count()

    def current_device(self) -> int:
        """The number of the default device of this kind."""
        return 0

    def get_device_name(self, place: Any = None) -> str:
        """The name the driver gives a device."""
        return self._device(place).capabilities.name

    def synchronize(self, place: Any = None) -> None:
        """Wait until everything recorded for the devices is done."""
        engine.synchronize()

    def empty_cache(self) -> None:
        """Give unused memory back to the system."""
        for number in range(self.device_count()):
            self._device(number).empty_cache()

    def memory_allocated(self, place: Any = None) -> int:
        """Bytes in live buffers."""
        return self._device(place).memory_allocated()

    def max_memory_allocated(self, place: Any = None) -> int:
        """The most bytes in live buffers so far."""
        return self._device(place).max_memory_allocated()

    def memory_reserved(self, place: Any = None) -> int:
        """Bytes held from the system."""
        return self._device(place).memory_reserved()

    def manual_seed(self, seed: int) -> None:
        """Start the default stream of random numbers of a seed."""
        manual_seed(seed)

    manual_seed_all = manual_seed

    def is_bf16_supported(self) -> bool:
        """bfloat16 is computed in float32 on every device."""
        return True

    def _device(self, place: Any) -> Any:
        number = place.index if isinstance(place, device) else place
        return runtime.get_device(f"{self.kind}:{number or 0}")
