"""finfo and iinfo: the numeric limits of dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from lazytorch.dtypes import DType, bfloat16
from lazytorch.tensor.attach import functions
from lazytorch.tensor.promotion import get_default_dtype


class finfo:
    """Limits of a floating-point dtype (the default one if none is given).

    >>> finfo(torch.float16).max
    65504.0
    """

    def __init__(self, dtype: DType | None = None) -> None:
        chosen = dtype or get_default_dtype()
        if not isinstance(chosen, DType) or chosen.kind != "f":
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                f"'{chosen!r}'"
            )
        facts = ml_dtypes.finfo(chosen.numpy) if chosen is bfloat16 else np.finfo(chosen.numpy)
        self.dtype = chosen.name
        self.bits = chosen.itemsize * 8
        self.max = float(facts.max)
        self.min = float(facts.min)
        self.eps = float(facts.eps)
        self.tiny = self.smallest_normal = float(facts.smallest_normal)
        self.resolution = float(facts.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype.

    >>> iinfo(torch.int8).min
    -128
    """

    def __init__(self, dtype: DType) -> None:
        if not isinstance(dtype, DType) or dtype.kind not in "iu":
            raise TypeError(
                f"torch.iinfo() requires an integer input type. Use torch.finfo to handle "
                f"'{dtype!r}'"
            )
        facts = np.iinfo(dtype.numpy)
        self.dtype = dtype.name
        self.bits = dtype.itemsize * 8
        self.max = int(facts.max)
        self.min = int(facts.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


functions.finfo = finfo
functions.iinfo = iinfo
