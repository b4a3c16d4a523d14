"""torch.cpu.amp: older names of mixed precision on processors."""

from __future__ import annotations

from lazytorch.amp.older import older_names

globals().update(older_names("cpu"))
__all__ = ["GradScaler", "autocast"]  # noqa: F822 - made above
