"""Named results of functions with several of them, printed as in PyTorch."""

from __future__ import annotations

from collections import namedtuple
from typing import Any


def result_type(name: str, fields: str) -> Any:
    """A tuple type that prints as ``torch.return_types.name(field=...)``."""
    base: Any = namedtuple(name, fields)  # type: ignore[misc]

    class Result(base):  # type: ignore[misc]
        __slots__ = ()

        def __repr__(self) -> str:
            pairs: Any = zip(base._fields, self)
            parts = ",\n".join(f"{field}={value!r}" for field, value in pairs)
            return f"torch.return_types.{name}(\n{parts})"

    Result.__name__ = Result.__qualname__ = name
    return Result


Max = result_type("max", "values indices")
Min = result_type("min", "values indices")
Sort = result_type("sort", "values indices")
TopK = result_type("topk", "values indices")
Median = result_type("median", "values indices")
NanMedian = result_type("nanmedian", "values indices")
Mode = result_type("mode", "values indices")
KthValue = result_type("kthvalue", "values indices")
CumMax = result_type("cummax", "values indices")
CumMin = result_type("cummin", "values indices")
AMinMax = result_type("aminmax", "min max")
