"""torch.accelerator: the OpenCL GPUs without a vendor's name."""

from __future__ import annotations

from typing import Any

from lazytorch.accelerators import Accelerator
from lazytorch.tensor.device import device

_cards = Accelerator("cuda")

is_available = _cards.is_available
device_count = _cards.device_count
current_device_index = _cards.current_device
set_device_index = _cards.set_device
synchronize = _cards.synchronize
current_stream = _cards.current_stream
set_stream = _cards.set_stream
empty_cache = _cards.empty_cache
memory_allocated = _cards.memory_allocated
max_memory_allocated = _cards.max_memory_allocated
memory_reserved = _cards.memory_reserved
max_memory_reserved = _cards.max_memory_reserved
memory_stats = _cards.memory_stats
reset_peak_memory_stats = _cards.reset_peak_memory_stats
get_memory_info = _cards.mem_get_info


def current_accelerator(check_available: bool = False) -> device | None:
    """The kind of device that is there beside the processor, ``None`` where there is none."""
    return device("cuda") if is_available() else None


def device_index(place: Any) -> Any:
    """For a ``with`` block, make a card the device of new tensors."""
    return _cards.device(place)
