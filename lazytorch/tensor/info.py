"""finfo and iinfo: the numeric limits of dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from lazytorch.dtypes import DType, bfloat16
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import get_default_dtype


class _Limits:
    """What finfo and iinfo share: equality by dtype, and attributes that cannot be written."""

    dtype: str
    bits: int

    def __init__(self, **facts: Any) -> None:
        vars(self).update(facts)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, _Limits):
            return NotImplemented
        return (type(self), self.dtype) == (type(other), other.dtype)

    def __ne__(self, other: object) -> Any:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), self.dtype))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"attribute '{name}' of 'torch.{type(self).__name__}' objects is not writable"
        )


class finfo(_Limits):
    """Limits of a floating-point dtype (the default one if none is given), or of the parts of a
    complex one.

    >>> finfo(torch.float16).max
    65504.0
    """

    max: float
    min: float
    eps: float
    tiny: float
    smallest_normal: float
    resolution: float

    def __init__(self, type: DType | None = None) -> None:
        chosen = get_default_dtype() if type is None else type
        if not isinstance(chosen, DType) or chosen.kind not in "fc":
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                f"'{chosen!r}'"
            )
        chosen = chosen.real
        facts = ml_dtypes.finfo(chosen.numpy) if chosen is bfloat16 else np.finfo(chosen.numpy)
        normal = float(facts.smallest_normal)
        super().__init__(
            dtype=chosen.name, bits=chosen.itemsize * 8, max=float(facts.max),
            min=float(facts.min), eps=float(facts.eps), tiny=normal, smallest_normal=normal,
            resolution=float(f"1e-{int(facts.precision)}"),
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


class iinfo(_Limits):
    """Limits of an integer dtype.

    >>> iinfo(torch.int8).min
    -128
    """

    max: int
    min: int

    def __init__(self, type: DType) -> None:
        if isinstance(type, DType) and type.kind == "b":
            raise TypeError("torch.bool is not supported by torch.iinfo")
        if not isinstance(type, DType) or type.kind not in "iu":
            raise TypeError(
                f"torch.iinfo() requires an integer input type. Use torch.finfo to handle "
                f"'{type!r}'"
            )
        facts = np.iinfo(type.numpy)
        super().__init__(
            dtype=type.name, bits=type.itemsize * 8, max=int(facts.max), min=int(facts.min)
        )

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"


functions.finfo = finfo
functions.iinfo = iinfo
