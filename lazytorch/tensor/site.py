"""The user's line: where outside the package an operation was called.

Kept as (code object, instruction offset), which costs a fraction of a microsecond, and turned
into text only when somebody asks.
"""

from __future__ import annotations

import os
import sys
from types import CodeType

from lazytorch.engine.sites import format_site

Site = tuple[CodeType, int]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class _Internal(dict[str, bool]):
    """Whether a file belongs to the package, by its name; names are few and hash once."""

    def __missing__(self, name: str) -> bool:
        answer = self[name] = name.startswith(_ROOT)
        return answer


_internal = _Internal()
_getframe = sys._getframe


def user_site() -> Site | None:
    """The first frame outside the package, counted from the caller's caller."""
    frame = _getframe(2)
    code = frame.f_code
    while _internal[code.co_filename]:
        frame = frame.f_back  # type: ignore[assignment]
        if frame is None:
            return None
        code = frame.f_code
    return code, frame.f_lasti


__all__ = ["Site", "format_site", "user_site"]
