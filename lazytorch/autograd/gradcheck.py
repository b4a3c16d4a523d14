"""``from torch.autograd.gradcheck import gradcheck``: the checks under PyTorch's module path.

``torch.autograd.gradcheck`` is the function. Importing this module puts the module in its place,
so the module can be called as the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from lazytorch.autograd.checking import GradcheckError, gradcheck, gradgradcheck

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class _Called(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> bool:
        return gradcheck(*args, **kwargs)


sys.modules[__name__].__class__ = _Called
