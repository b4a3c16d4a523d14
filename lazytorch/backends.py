"""torch.backends: what programs ask of the libraries behind PyTorch, answered for OpenCL.

The switches of cuDNN and the like are kept, since programs set them; kernels here are chosen by
the engine, and give the same result every time.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lazytorch as torch


class _Backend:
    """The answers for one library: whether it is there, and switches that are kept."""

    def __init__(self, present: Any, **switches: Any) -> None:
        self._present = present
        vars(self).update(switches)

    def is_available(self) -> bool:
        """Whether tensors can be computed by it on this machine."""
        return bool(self._present())

    def is_built(self) -> bool:
        """The same: nothing is built in, drivers are found when a program runs."""
        return bool(self._present())


def _never() -> bool:
    return False


mps = _Backend(lambda: torch.mps.is_available())
cuda = _Backend(
    lambda: torch.cuda.is_available(),
    matmul=SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=True),
)
cudnn = _Backend(
    _never,
    enabled=True,
    benchmark=False,
    deterministic=False,
    allow_tf32=True,
    version=lambda: None,
)
mkl = _Backend(_never)
mkldnn = _Backend(_never, enabled=True)
openmp = _Backend(_never)

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
