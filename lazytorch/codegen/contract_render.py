"""Tiled contractions to OpenCL C, for either device family."""

from __future__ import annotations

from lazytorch.codegen import contract_cpu, contract_gpu
from lazytorch.codegen.contract_body import TiledContractBody
from lazytorch.codegen.emitter import Emitter
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType


def local_size(body: object, target: Target) -> int:
    """Work-items in a work-group of the body."""
    assert isinstance(body, TiledContractBody), f"{type(body).__name__} was not lowered"
    return 1 if body.tiling is not None else contract_gpu.local_size(target)


def render_contract(
    body: object,
    emitter: Emitter,
    values: dict[int, DType],
    target: Target,
    local: int,
    group: str,
) -> int:
    """Write the body's statements; the number of work-groups it takes."""
    assert isinstance(body, TiledContractBody), f"{type(body).__name__} was not lowered"
    if body.tiling is None:
        return contract_gpu.render_gpu(body, emitter, target, group)
    return contract_cpu.render_cpu(body, emitter, group)
