"""A tiled contraction for GPUs, as OpenCL C."""
from __future__ import annotations
from lazytorch.codegen.contract_body import TiledContractBody
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.target import Target


def local_size(target: Target) -> int:
    return 256


def render_gpu(body: TiledContractBody, emitter: Emitter, target: Target, group: str) -> int:
    raise NotImplementedError
