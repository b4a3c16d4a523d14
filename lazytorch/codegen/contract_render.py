"""Tiled contractions to OpenCL C, for either device family."""

from __future__ import annotations

from lazytorch.codegen.contract_body import (
    GroupContractBody,
    PixelContractBody,
    TapContractBody,
    TiledContractBody,
)
from lazytorch.codegen.contract_cpu import render_cpu
from lazytorch.codegen.contract_gpu import render_gpu
from lazytorch.codegen.contract_pack import PanelPackBody, render_pack
from lazytorch.codegen.contract_pixels_cpu import render_pixels
from lazytorch.codegen.contract_pixels_pack import PixelPackBody, render_pixel_pack
from lazytorch.codegen.contract_taps_cpu import render_taps
from lazytorch.codegen.emitter import Emitter

_BODIES = (
    PanelPackBody, PixelContractBody, PixelPackBody, TapContractBody, TiledContractBody,
)  # fmt: skip


def local_size(body: object) -> int:
    """Work-items in a work-group of the body."""
    if isinstance(body, GroupContractBody):
        return body.tiling.local
    _check(body)
    return 1


def subgroup_size(body: object) -> int:
    """The size that the body requires of sub-groups, 0 for none."""
    return body.tiling.subgroup if isinstance(body, GroupContractBody) else 0


def render_contract(body: object, emitter: Emitter, group: str) -> int:
    """Write the body's statements; the number of work-groups it takes."""
    if isinstance(body, GroupContractBody):
        return render_gpu(body, emitter, group)
    if isinstance(body, PanelPackBody):
        return render_pack(body, emitter, group)
    if isinstance(body, PixelContractBody):
        return render_pixels(body, emitter, group)
    if isinstance(body, PixelPackBody):
        return render_pixel_pack(body, emitter, group)
    if isinstance(body, TapContractBody):
        return render_taps(body, emitter, group)
    _check(body)
    assert isinstance(body, TiledContractBody)
    return render_cpu(body, emitter, group)


def _check(body: object) -> None:
    if not isinstance(body, _BODIES):
        raise TypeError(
            f"a body of type {type(body).__name__} has no schedule; contractions go through "
            "codegen.contract.lower_contract first"
        )
