"""torch.signal: window functions."""

from __future__ import annotations

from lazytorch.signal import windows

__all__ = ["windows"]
