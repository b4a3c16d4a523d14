"""Named log channels, silent unless ``LAZYTORCH_LOG`` names them.

``LAZYTORCH_LOG=fuse,code`` prints two channels to standard error. A message is a callable, so
that building the text costs nothing while its channel is off. (``lazytorch.log`` is PyTorch's
logarithm, hence the module's plural.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from lazytorch import config

CHANNELS = ("fuse", "code", "memory", "cache", "plan", "build", "tune")


def enabled(channel: str) -> bool:
    """Whether a channel is printed."""
    names = config.get("LOG")
    return bool(names) and channel in names.split(",")


def write(channel: str, message: Callable[[], str]) -> None:
    """Print ``message()`` when its channel is on."""
    if enabled(channel):
        for line in message().splitlines():
            print(f"[lazytorch {channel}] {line}", file=sys.stderr)
