"""Saving and loading: PyTorch's zip format, both ways, without running code from files."""

from __future__ import annotations

from lazytorch.errors import CheckpointError
from lazytorch.serialization.load import load
from lazytorch.serialization.save import save

__all__ = ["CheckpointError", "load", "save"]
