"""The stores of one point of a nest, together: what updates in place rest on.

``schedule.memory`` lets a value lie where another value of the same point is read, as a new weight
in place of the old one. That is right as long as

* every value of a point is computed before any of them is stored, which is done here;
* every point is stored once. Where a register tile or a panel is moved back at the end of an axis
  so as to stay inside, the rows that it repeats are summed again and not stored again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lazytorch.codegen.emitter import Emitter
from lazytorch.dtypes import DType
from lazytorch.ir.kernel import Store


def store_all(
    stores: Iterable[Store],
    emitter: Emitter,
    width: int,
    values: Mapping[int, DType] | None = None,
) -> None:
    """Emit the stores of one element, or of ``width`` lanes, after all their values.

    ``values`` has the dtypes of the arrays, where they may differ from those of the values.
    """
    stores = list(stores)
    for store in stores:
        emitter.value(store.value)
    for store in stores:
        dtype = store.value.dtype if values is None else values[store.target]
        emitter.store(emitter.names(store.target), store.index, store.value, dtype, width)
