"""Named results of functions with several of them, printed as in PyTorch."""

from __future__ import annotations

import operator
from typing import Any


class NamedResult(tuple[Any, ...]):
    """A tuple whose items also have names."""

    __slots__ = ()
    _name = ""
    _fields: tuple[str, ...] = ()

    def __new__(cls, *values: Any) -> NamedResult:
        return tuple.__new__(cls, values)

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        pairs = zip(self._fields, self)
        parts = ",\n".join(f"{field}={value!r}" for field, value in pairs)
        return f"torch.return_types.{self._name}(\n{parts})"


def result_type(name: str, fields: str) -> Any:
    """A tuple type that prints as ``torch.return_types.name(field=...)``."""
    names = tuple(fields.split())
    members: dict[str, Any] = {
        field: property(operator.itemgetter(place)) for place, field in enumerate(names)
    }
    members.update(__slots__=(), _name=name, _fields=names, __module__=__name__)
    return type(name, (NamedResult,), members)


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
FrExp = result_type("frexp", "mantissa exponent")
Histogram = result_type("histogram", "hist bin_edges")
HistogramDD = result_type("histogramdd", "hist bin_edges")
