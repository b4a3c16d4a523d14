"""In-place fills of tensors several of whose elements are one in memory: they are assignments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lazytorch.functional import elementwise, indexing, selection
from lazytorch.functional.shared_elements import shares_elements
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor


def _unless_shared(plain: Callable[..., Tensor], key_of: Callable[..., Any]) -> None:
    """Let the in-place form of a fill write by position where elements of the target share memory.

    ``key_of(target, *arguments)`` is the assignment that the fill is: an index and a value.
    """
    name = f"{plain.__name__}_"
    fill = getattr(Tensor, name)

    @functools.wraps(fill)
    def filled(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not shares_elements(self):
            written: Tensor = fill(self, *args, **kwargs)
            return written
        # For its checks of the arguments; what it gives is not what is stored.
        plain(self, *args, **kwargs)
        key, value = key_of(self, *args, **kwargs)
        indexing.set_item(self, key, value)
        return self

    setattr(Tensor, name, filled)
    setattr(functions, name, filled)


_unless_shared(
    elementwise.masked_fill,
    lambda target, mask, value: (functions.broadcast_to(mask, shape_of(target)), value),
)
_unless_shared(
    selection.index_fill,
    lambda target, dim, index, value: ((slice(None),) * (dim % target.ndim) + (index,), value),
)
