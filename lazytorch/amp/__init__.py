"""torch.amp: mixed precision, that is ``autocast`` regions and gradients that are scaled.

>>> scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
>>> weight = torch.ones(2, requires_grad=True)
>>> optimizer = torch.optim.SGD([weight], lr=1.0)
>>> with torch.autocast("cpu"):
...     loss = (weight * 2).sum()
>>> scaler.scale(loss).backward()
>>> scaler.step(optimizer)
>>> scaler.update()
>>> weight
tensor([-1., -1.], requires_grad=True)
"""

from __future__ import annotations

from lazytorch.amp.custom import custom_bwd, custom_fwd
from lazytorch.amp.grad_scaler import GradScaler
from lazytorch.functional.autocast import autocast, is_autocast_available

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
