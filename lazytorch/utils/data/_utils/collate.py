"""Collation for types of the user's own: the table to add them to."""

from __future__ import annotations

from lazytorch.utils.data.collate import (
    collate,
    default_collate,
    default_collate_fn_map,
    default_convert,
)

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]
