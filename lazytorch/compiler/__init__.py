"""``torch.compile``: calls repeated from captured plans, guarded so that none is ever stale."""

from __future__ import annotations

from lazytorch.compiler.compiled import Unsupported, compile, is_compiling, reset

__all__ = ["Unsupported", "compile", "is_compiling", "reset"]
