"""AdamW under PyTorch's file name; it stands beside Adam, whose rule it is."""

from __future__ import annotations

from lazytorch.optim.adam import AdamW

__all__ = ["AdamW"]
