"""``torch.compile``: calls repeated from captured plans, guarded so that none is ever stale."""

from __future__ import annotations

from lazytorch.compiler.compiled import Unsupported, compile, is_compiling, reset
from lazytorch.compiler.marks import (
    allow_in_graph,
    assume_constant_result,
    cudagraph_mark_step_begin,
    disable,
    is_dynamo_compiling,
    is_exporting,
    list_backends,
    set_stance,
)

__all__ = [
    "Unsupported", "allow_in_graph", "assume_constant_result", "compile",
    "cudagraph_mark_step_begin", "disable", "is_compiling", "is_dynamo_compiling", "is_exporting",
    "list_backends", "reset", "set_stance",
]  # fmt: skip
