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

# Decompositions: those of torch.linalg print under another name than torch's own.
LinalgSlogdet = result_type("linalg_slogdet", "sign logabsdet")
LinalgEig = result_type("linalg_eig", "eigenvalues eigenvectors")
LinalgEigh = result_type("linalg_eigh", "eigenvalues eigenvectors")
LinalgSvd = result_type("linalg_svd", "U S Vh")
LinalgQr = result_type("linalg_qr", "Q R")
LinalgLu = result_type("linalg_lu", "P L U")
LinalgLuFactor = result_type("linalg_lu_factor", "LU pivots")
LinalgLuFactorEx = result_type("linalg_lu_factor_ex", "LU pivots info")
LinalgLdlFactor = result_type("linalg_ldl_factor", "LD pivots")
LinalgLdlFactorEx = result_type("linalg_ldl_factor_ex", "LD pivots info")
LinalgCholeskyEx = result_type("linalg_cholesky_ex", "L info")
LinalgInvEx = result_type("linalg_inv_ex", "inverse info")
LinalgSolveEx = result_type("linalg_solve_ex", "result info")
LinalgLstsq = result_type("linalg_lstsq", "solution residuals rank singular_values")
Slogdet = result_type("slogdet", "sign logabsdet")
Svd = result_type("svd", "U S V")
Qr = result_type("qr", "Q R")
Geqrf = result_type("geqrf", "a tau")
LuUnpack = result_type("lu_unpack", "P L U")
TriangularSolve = result_type("triangular_solve", "solution cloned_coefficient")
