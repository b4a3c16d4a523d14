"""The engine: decides when pending nodes are computed, and turns them into finished plans.

``execution`` is the page about time (budgets, state, replaying plans), ``pipeline`` the one about
making a plan.
"""

from lazytorch.engine.capture import Capture, Captured, current, looked
from lazytorch.engine.execution import (
    clear_plans,
    close_capture,
    flush,
    leaf_from_array,
    pending,
    plan_for,
    realize,
    recorded,
    recorded_together,
    resolve_device,
    stats,
    synchronize,
    to_array,
    unshare,
    write_array,
)
from lazytorch.engine.sites import format_site
from lazytorch.engine.state import accompany, note_state, noted_state
from lazytorch.runtime import use_numpy_only

__all__ = [
    "Capture",
    "Captured",
    "accompany",
    "clear_plans",
    "close_capture",
    "current",
    "flush",
    "format_site",
    "leaf_from_array",
    "looked",
    "note_state",
    "noted_state",
    "pending",
    "plan_for",
    "realize",
    "recorded",
    "recorded_together",
    "resolve_device",
    "stats",
    "synchronize",
    "to_array",
    "unshare",
    "use_numpy_only",
    "write_array",
]
