"""A node's site as text: which line of the user's recorded it."""

from __future__ import annotations

from typing import Any


def format_site(site: Any) -> str:
    """'file:line' of a node's site."""
    if site is None:
        return "an unknown line"
    code, offset = site
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if number is not None and start <= offset < end:
            line = number
    return f"{code.co_filename}:{line}"
