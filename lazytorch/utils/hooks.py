"""RemovableHandle: what every function that registers a hook returns."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import MutableMapping
from typing import Any


class RemovableHandle:
    """Takes a hook out of its table again; a context manager that does so at its end.

    The table (and tables of flags in ``extra_dict``) are held weakly, so that a handle kept by
    mistake does not keep a model.
    """

    _ids = itertools.count()

    def __init__(self, hooks_dict: MutableMapping[int, Any], *, extra_dict: Any = None) -> None:
        self.id = next(RemovableHandle._ids)
        tables = [hooks_dict]
        if isinstance(extra_dict, (list, tuple)):
            tables += extra_dict
        elif extra_dict is not None:
            tables.append(extra_dict)
        self._tables = [weakref.ref(table) for table in tables]

    def remove(self) -> None:
        """Stop calling the hook; a second call does nothing."""
        for reference in self._tables:
            table = reference()
            if table is not None:
                table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

    def __getstate__(self) -> dict[str, Any]:
        # Weak references cannot be pickled; a handle read from a file removes nothing.
        return {"id": self.id, "_tables": []}
