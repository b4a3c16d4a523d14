"""Who takes part: lazytorch on its devices, and the libraries it is compared with.

:func:`contestants` lists them without importing anything; :func:`connect` is called in a
contestant's own process and imports its library.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lazytorch.bench.peers.interface import Peer

# Name: (module that connects it, the package it needs, what installs it).
PEERS = {
    "numpy": ("numpy_peer", "numpy", "numpy"),
    "torch": ("torch_peer", "torch", "torch"),
    "torch.compile": ("torch_peer", "torch", "torch"),
    "jax": ("jax_peer", "jax", "jax"),
    "tinygrad": ("tinygrad_peer", "tinygrad", "tinygrad"),
}
# Of these the best counts where a figure is asked against the best peer.
BEST_OF = ("torch", "torch.compile", "jax")
# Whose outputs the others are compared with: the first of these that runs a workload.
REFERENCES = ("torch", "numpy", "jax")


class NotAvailable(Exception):
    """A contestant does not have what a workload needs; the message says what."""


@dataclass(frozen=True)
class Contestant:
    """``lazytorch`` on a device, eager-looking or compiled, or a peer by name."""

    library: str
    device: str = ""
    compiled: bool = False

    @property
    def label(self) -> str:
        """What tables call it.

        >>> Contestant("lazytorch", "opencl:1", compiled=True).label
        'lazytorch opencl:1 compiled'
        """
        if self.library != "lazytorch":
            return self.library
        return f"lazytorch {self.device}{' compiled' if self.compiled else ''}"

    @property
    def ours(self) -> bool:
        """Whether this is lazytorch."""
        return self.library == "lazytorch"

    @property
    def looks_eager(self) -> bool:
        """Whether its user writes eager code, or has asked for compiling."""
        return not self.compiled and self.library != "torch.compile"


def contestants(devices: Sequence[str], peers: Sequence[str]) -> tuple[list[Contestant], list[str]]:
    """Who can take part, and a line for each peer that cannot."""
    found = [
        Contestant("lazytorch", device, compiled)
        for device in devices
        for compiled in (False, True)
    ]
    missing = []
    for name in peers:
        _, package, install = PEERS[name]
        if find_spec(package) is None:
            missing.append(f"{name} is left out: not installed (pip install {install})")
        else:
            found.append(Contestant(name))
    return found, missing


def connect(contestant: Contestant) -> Peer:
    """Import the library of a contestant; called in its own process."""
    name = "lazytorch_peer" if contestant.ours else PEERS[contestant.library][0]
    module = importlib.import_module(f"lazytorch.bench.peers.{name}")
    peer: Peer = module.connect(contestant)
    return peer
