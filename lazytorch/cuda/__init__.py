"""torch.cuda: OpenCL GPUs under this name."""

from __future__ import annotations

import sys

from lazytorch.accelerators import Accelerator

_module = Accelerator("cuda")
_module.__path__ = __path__
_module.__spec__ = __spec__
sys.modules[__name__] = _module
