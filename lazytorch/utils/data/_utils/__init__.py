"""The place where PyTorch's documentation looks for the parts of collation."""

from __future__ import annotations

from lazytorch.utils.data._utils import collate

__all__ = ["collate"]
