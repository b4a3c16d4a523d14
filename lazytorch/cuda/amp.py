"""torch.cuda.amp: older names of mixed precision on cards."""

from __future__ import annotations

from lazytorch.amp.older import older_names

globals().update(older_names("cuda"))
__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]  # noqa: F822 - made above
