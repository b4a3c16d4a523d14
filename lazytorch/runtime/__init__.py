"""Devices, their memory, their queues and their compiled programs.

The public face of this layer; nothing here touches OpenCL before a device is asked for.
"""

from __future__ import annotations

from lazytorch.runtime.buffers import Buffer
from lazytorch.runtime.counters import Counters, counters
from lazytorch.runtime.device import Capabilities, Device
from lazytorch.runtime.launch import BoundLaunch, Launcher, LocalMemory
from lazytorch.runtime.registry import (
    available_devices,
    default_device_name,
    get_device,
    gpu_count,
    resolve,
    use_numpy_only,
)

__all__ = [
    "BoundLaunch",
    "Buffer",
    "Capabilities",
    "Counters",
    "Device",
    "Launcher",
    "LocalMemory",
    "available_devices",
    "counters",
    "default_device_name",
    "get_device",
    "gpu_count",
    "resolve",
    "use_numpy_only",
]
