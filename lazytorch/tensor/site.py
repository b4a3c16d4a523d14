"""The user's line: where outside the package an operation was called.

Kept as (code object, instruction offset), which costs a fraction of a microsecond, and turned
into text only when somebody asks.
"""

from __future__ import annotations

import os
import sys
from types import CodeType

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


def site_line(site: Site) -> int:
    """The line number of a site."""
    code, offset = site
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= offset < end and number is not None:
            line = number
    return line


def format_site(site: Site | None) -> str:
    """``'file:line'`` of a recorded site, ``'<unknown>'`` when none was kept."""
    if site is None:
        return "<unknown>"
    return f"{site[0].co_filename}:{site_line(site)}"
