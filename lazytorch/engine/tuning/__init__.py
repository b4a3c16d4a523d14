"""Tuning: which schedule a kernel gets on a device, found by trying, and kept for later runs.

``table`` keeps what was found and answers which schedule a body wants; every plan asks it.
``session`` does the trying (LAZYTORCH_TUNE=1) and is imported only then: ``trial`` builds and
times one body's candidates, ``compare`` judges their results, ``report`` tells the user.
"""

from __future__ import annotations

from lazytorch.engine.tuning.table import (
    Finding,
    chooser,
    clear,
    is_tuning,
    saved,
    signature,
)

__all__ = ["Finding", "chooser", "clear", "is_tuning", "saved", "signature"]
