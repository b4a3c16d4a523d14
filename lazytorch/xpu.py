"""torch.xpu: OpenCL GPUs under this name."""

from __future__ import annotations

import sys

from lazytorch.accelerators import Accelerator

sys.modules[__name__] = Accelerator("xpu")
