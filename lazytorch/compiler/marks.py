"""torch.compiler's marks on functions, and its smaller questions.

A captured call records what its functions compute, whoever they are, so that marks which tell
PyTorch's tracer how to read a function have nothing to change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lazytorch import engine
from lazytorch.compiler.compiled import calls, is_compiling


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Decorate a function that is never repeated from a plan.

    Called on its own it runs as ever; a compiled function that calls it runs as if it were not
    compiled, from the first call on.
    """
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)

    @functools.wraps(fn)
    def never_captured(*args: Any, **kwargs: Any) -> Any:
        capture = engine.current.capture
        if capture is not None:
            name = getattr(fn, "__qualname__", type(fn).__name__)
            capture.breaks(f"{name} is marked with torch.compiler.disable")
        return fn(*args, **kwargs)

    return never_captured


def allow_in_graph(fn: Any) -> Any:
    """The function: what it computes is captured in any case."""
    return fn


def assume_constant_result(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function: its Python runs when a call is captured, and guards watch what it read."""
    return fn


def cudagraph_mark_step_begin() -> None:
    """Nothing begins: a plan's outputs are the caller's, and are not written again."""


def is_dynamo_compiling() -> bool:
    """Whether a compiled function is being captured now."""
    return is_compiling()


def is_exporting() -> bool:
    """False: graphs are not exported."""
    return False


def list_backends(exclude_tags: Any = None) -> list[str]:
    """The names ``compile(backend=...)`` stands for: one."""
    return ["lazytorch"]


class set_stance:
    """``set_stance("force_eager")`` lets compiled functions run as if they were not, until
    ``set_stance("default")``, or for a ``with`` block.

    PyTorch's other stances concern when it compiles again, which guards decide here.
    """

    def __init__(self, stance: str = "default", **_: Any) -> None:
        self._before = calls.ordinary
        calls.ordinary = stance == "force_eager"

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        calls.ordinary = self._before
