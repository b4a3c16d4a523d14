"""Tensors of numbers in steps: ranges, lines between two numbers, the identity matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.dtypes import DType
from lazytorch.ops import elementwise, leaves
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.creation import DECIDES, wants_grad
from lazytorch.tensor.device import as_device, device
from lazytorch.tensor.formats import check_layout
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.recorder import record
from lazytorch.tensor.tensor import Tensor, fresh


def iota(length: int, dtype: DType, place: device) -> Tensor:
    """0, 1, 2, ... as an integer dtype."""
    return fresh(record(leaves.IOTA, (), (), (length,), dtype, place.runtime), place)


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``start, start + step, ...`` below ``end``; one argument is the end.

    >>> arange(3)
    tensor([0, 1, 2])
    """
    check_layout(layout)
    if end is None:
        start, end = 0, start
    start, end, step = (_number(value) for value in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) / step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if not all(math.isfinite(value) for value in (start, end, step)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    floating = any(isinstance(value, float) for value in (start, end, step))
    chosen = dtype or (get_default_dtype() if floating else dtypes.int64)
    if chosen.kind in "iu":
        # What is given is converted first.
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ValueError("step must be nonzero")
    if chosen.kind == "f":
        length = math.ceil((end - start) / step)
    else:
        length = -(-(end - start) // step)
    made = _stepped(length, start, step, chosen, as_device(device))
    return wants_grad(made, requires_grad)


def _number(value: Any) -> Any:
    if isinstance(value, (Tensor, np.generic)):
        return value.item()  # type: ignore[union-attr]
    if not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, but got {type(value).__name__}")
    return value


def _stepped(length: int, start: Any, step: Any, dtype: DType, place: device) -> Tensor:
    """``start + i * step`` computed in a dtype wide enough, then converted."""
    if dtype.kind == "f":
        if isinstance(start, int) and isinstance(step, int):
            wide = functions.add(functions.mul(iota(length, dtypes.int64, place), step), start)
            return functions.converted(wide, place, dtype)
        array = (start + np.arange(length, dtype=np.float64) * step).astype(dtype.numpy)
        return fresh(engine.leaf_from_array(array, place.runtime), place)
    if isinstance(start, float) or isinstance(step, float):
        start, step = int(start), int(step)
    counted = iota(length, dtypes.int64, place)
    if step != 1:
        counted = functions.mul(counted, step)
    if start != 0:
        counted = functions.add(counted, start)
    return functions.converted(counted, place, dtype)


def range_inclusive(start: Any = 0, end: Any = 0, step: Any = 1, **options: Any) -> Tensor:
    """The deprecated ``torch.range``: as ``arange`` with the end included."""
    dtype = options.pop("dtype", None) or get_default_dtype()
    if step == 0:
        raise RuntimeError("step must be nonzero")
    length = math.floor((end - start) / step) + 1
    return _stepped(length, start, step, dtype, as_device(options.pop("device", None)))


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` numbers from ``start`` to ``end``, both included, evenly spaced."""
    check_layout(layout)
    if not isinstance(steps, int):
        raise TypeError(
            "linspace() received an invalid combination of arguments - got "
            f"({type(start).__name__}, {type(end).__name__}, {type(steps).__name__}): steps must "
            "be int"
        )
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    start, end = _ends("linspace", start, end)
    chosen = dtype or get_default_dtype()
    array = linspace_array(start, end, steps, chosen)
    place = as_device(device)
    made = fresh(engine.leaf_from_array(array, place.runtime), place)
    return wants_grad(made, requires_grad)


def _ends(name: str, start: Any, end: Any) -> tuple[Any, Any]:
    """The numbers that a line begins and ends with, which 0-d tensors may hold."""
    tensors = [(what, x) for what, x in (("start", start), ("end", end)) if isinstance(x, Tensor)]
    if any(x.ndim for _, x in tensors):
        given = " and ".join(f"{what} with {x.ndim} dimension(s)" for what, x in tensors)
        raise RuntimeError(
            f"{name} only supports 0-dimensional start and end tensors, but got {given}."
        )
    return _number(start), _number(end)


def linspace_array(start: Any, end: Any, steps: int, dtype: DType) -> np.ndarray:
    """Counted from both ends, as PyTorch does, so that the last number is exactly ``end``."""
    if dtype.kind != "f":
        if dtype.kind in "iu":
            # What is given is converted first.
            start, end = int(start), int(end)
        step = (end - start) / (steps - 1) if steps > 1 else 0.0
        kind: Any = np.float64
    else:
        kind = np.float32 if dtype.itemsize <= 4 else np.float64
        step = (kind(end) - kind(start)) / kind(steps - 1) if steps > 1 else kind(0)
    numbers = np.arange(steps, dtype=kind)
    with np.errstate(all="ignore"):
        ahead = kind(start) + numbers * kind(step)
        behind = kind(end) - (steps - 1 - numbers) * kind(step)
    array = np.where(np.arange(steps) < steps // 2, ahead, behind)
    if steps == 1:
        array = np.array([start], kind)
    return elementwise.cast_array(array.astype(kind), dtype)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, **options: Any) -> Tensor:
    """``base`` to the power of ``linspace(start, end, steps)``.

    Of an integer dtype the ends are cut to integers, the exponents between them are not.

    >>> logspace(0, 3, 4)
    tensor([   1.,   10.,  100., 1000.])
    """
    start, end = _ends("logspace", start, end)
    dtype = options.get("dtype")
    if dtype is dtypes.bool_:
        raise NotImplementedError("\"logspace_cpu\" not implemented for 'Bool'")
    if dtype is None or dtype.kind not in "iu":
        return functions.pow(base, linspace(start, end, steps, **options))
    ends = float(int(start)), float(int(end))
    exponents = linspace(*ends, steps, **{**options, "dtype": dtypes.float32})
    powers = functions.pow(float(base), exponents.to(dtypes.float64))  # type: ignore[attr-defined]
    return functions.converted(powers, powers._device, dtype)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the diagonal of an ``n`` by ``m`` matrix, zeros elsewhere."""
    check_layout(layout)
    columns = n if m is None else m
    if n < 0 or columns < 0:
        raise RuntimeError(f"n must be greater or equal to 0, got {min(n, columns)}")
    place = as_device(device)
    row = iota(n, dtypes.int64, place).reshape(n, 1)  # type: ignore[attr-defined]
    made = functions.eq(row, iota(columns, dtypes.int64, place))
    made = functions.converted(made, place, dtype or get_default_dtype())
    return wants_grad(made, requires_grad)


for _maker in (arange, linspace, logspace, eye):
    public(method=False, out=DECIDES)(_maker)
public("range", method=False, out=DECIDES)(range_inclusive)
