"""torch.backends: what programs ask of the libraries behind PyTorch, answered for OpenCL.

The switches of cuDNN and the like are kept, since programs set them; kernels here are chosen by
the engine, and give the same result every time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import lazytorch as torch

# ``import torch.backends.cudnn``: the parts below are modules, though there are no files of them.
__path__: list[str] = []


class _Backend(ModuleType):
    """The answers for one library: whether it is there, and switches that are kept."""

    def __init__(self, name: str, present: Any, **switches: Any) -> None:
        super().__init__(f"lazytorch.backends.{name}")
        self._present = present
        self._switches = tuple(switches)
        vars(self).update(switches)
        sys.modules[self.__name__] = self

    def is_available(self) -> bool:
        """Whether tensors can be computed by it on this machine."""
        return bool(self._present())

    def is_built(self) -> bool:
        """The same: nothing is built in, drivers are found when a program runs."""
        return bool(self._present())

    @contextmanager
    def flags(self, **switches: Any) -> Iterator[None]:
        """Keep switches for a ``with`` block."""
        before = {name: getattr(self, name) for name in switches}
        vars(self).update(switches)
        try:
            yield
        finally:
            vars(self).update(before)


def _never() -> bool:
    return False


class _Attention:
    """Which kernels attention may use, as programs choose it; here there is one, which is kept."""

    def __init__(self) -> None:
        self._enabled = dict.fromkeys(("flash", "mem_efficient", "math", "cudnn"), True)

    def switches(self) -> dict[str, Any]:
        """``enable_math_sdp(bool)``, ``math_sdp_enabled()`` and their kin."""
        found: dict[str, Any] = {}
        for name in self._enabled:
            found[f"enable_{name}_sdp"] = lambda on, name=name: self._enabled.update({name: on})
            found[f"{name}_sdp_enabled"] = lambda name=name: self._enabled[name]
        return found


mps = _Backend("mps", lambda: torch.mps.is_available())
cuda = _Backend(
    "cuda",
    lambda: torch.cuda.is_available(),
    matmul=SimpleNamespace(
        allow_tf32=False,
        allow_fp16_reduced_precision_reduction=True,
        allow_bf16_reduced_precision_reduction=True,
    ),
    preferred_linalg_library=lambda backend=None: "default",
    **_Attention().switches(),
)
cudnn = _Backend(
    "cudnn",
    _never,
    enabled=True,
    benchmark=False,
    benchmark_limit=10,
    deterministic=False,
    allow_tf32=True,
    version=lambda: None,
)
mkl = _Backend("mkl", _never)
mkldnn = _Backend("mkldnn", _never, enabled=True, deterministic=False, allow_tf32=True)
nnpack = _Backend("nnpack", _never)
openmp = _Backend("openmp", _never)
cusparselt = _Backend("cusparselt", _never)
# einsum chooses the order of its products itself.
opt_einsum = _Backend("opt_einsum", _never, enabled=False, strategy=None)
cpu = _Backend("cpu", lambda: True, get_cpu_capability=lambda: "DEFAULT")

__all__ = [
    "cpu", "cuda", "cudnn", "cusparselt", "mkl", "mkldnn", "mps", "nnpack", "openmp", "opt_einsum",
]  # fmt: skip
