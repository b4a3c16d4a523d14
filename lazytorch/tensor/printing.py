"""How a tensor prints: the same text as PyTorch's.

All numbers of one tensor share a format, chosen from their range: integers with a point, four
decimals, or scientific notation. Large tensors show only their edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch import dtypes
from lazytorch.ops.examples import is_symbolic, levels_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.batching.levels import opened
from lazytorch.tensor.batching.transform import batch_of
from lazytorch.tensor.overrides import Overridable
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh


@dataclass
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_options = _Options()
_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print: digits, when and how to shorten, width, notation.

    ``profile`` 'default', 'short' or 'full' sets all four numbers.
    """
    changes = dict(_PROFILES[profile]) if profile is not None else {}
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}  # fmt: skip
    changes.update({name: value for name, value in given.items() if value is not None})
    for name, value in changes.items():
        setattr(_options, name, value)
    _options.sci_mode = sci_mode


class _Format:
    """The common format of a tensor's numbers."""

    def __init__(self, values: np.ndarray) -> None:
        self.width = 1
        self.integral = True
        self.scientific = False
        self.floating = values.dtype.kind == "f"
        if not self.floating:
            self.width = max([self.width, *(len(str(value)) for value in values.tolist())])
            return
        told = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        if told.size:
            self._choose(told)

    def _choose(self, told: np.ndarray) -> None:
        sizes = np.abs(told)
        smallest, largest = float(sizes.min()), float(sizes.max())
        self.integral = bool((told == np.ceil(told)).all())
        wide = largest / smallest > 1000.0 or largest > 1.0e8
        self.scientific = wide or (not self.integral and smallest < 1.0e-4)
        if _options.sci_mode is not None:
            self.scientific = _options.sci_mode
        digits = _options.precision
        if self.scientific:
            texts = (f"{value:.{digits}e}" for value in told.tolist())
        elif self.integral:
            texts = (f"{value:.0f}." for value in told.tolist())
        else:
            texts = (f"{value:.{digits}f}" for value in told.tolist())
        self.width = max(self.width, max(map(len, texts)))

    def text(self, value: Any) -> str:
        """One number, padded to the common width."""
        if not self.floating:
            return str(value).rjust(self.width)
        if self.scientific:
            shown = f"{value:{self.width}.{_options.precision}e}"
        elif self.integral:
            shown = f"{value:.0f}"
            if math.isfinite(value):
                shown += "."
        else:
            shown = f"{value:.{_options.precision}f}"
        return shown.rjust(self.width)


class _ComplexFormat:
    """The common formats of the two parts of a tensor's numbers."""

    def __init__(self, values: np.ndarray) -> None:
        self._real = _Format(values.real)
        self._imaginary = _Format(values.imag)
        self.width = self._real.width + self._imaginary.width + 1

    def text(self, value: complex) -> str:
        """One number: the real part padded to the common width, the imaginary one to the left."""
        imaginary = self._imaginary.text(value.imag).lstrip()
        sign = "" if imaginary[0] == "-" else "+"
        return f"{self._real.text(value.real)}{sign}{imaginary}j"


def _edges(array: np.ndarray) -> np.ndarray:
    """What is shown of a large array, for choosing the format."""
    edge = _options.edgeitems
    for axis, extent in enumerate(array.shape):
        if extent > 2 * edge:
            places = [*range(edge), *range(extent - edge, extent)]
            array = np.take(array, places, axis)
    return array


def _vector(array: np.ndarray, indent: int, shorten: bool, form: _Format | _ComplexFormat) -> str:
    per_line = max(1, (_options.linewidth - indent) // (form.width + 2))
    edge = _options.edgeitems
    values = array.tolist()
    if shorten and len(values) > 2 * edge:
        shown = [form.text(value) for value in values[:edge]]
        shown += [" ..."]
        shown += [form.text(value) for value in values[-edge:]]
    else:
        shown = [form.text(value) for value in values]
    lines = [shown[start : start + per_line] for start in range(0, len(shown), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(", ".join(line) for line in lines) + "]"


def _nested(array: np.ndarray, indent: int, shorten: bool, form: _Format | _ComplexFormat) -> str:
    if array.ndim == 0:
        return form.text(array.item())
    if array.ndim == 1:
        return _vector(array, indent, shorten, form)
    edge = _options.edgeitems
    if shorten and array.shape[0] > 2 * edge:
        parts = [_nested(part, indent + 1, shorten, form) for part in array[:edge]]
        parts.append("...")
        parts += [_nested(part, indent + 1, shorten, form) for part in array[-edge:]]
    else:
        parts = [_nested(part, indent + 1, shorten, form) for part in array]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _suffixes(tensor: Tensor, empty: bool) -> list[str]:
    dtype, shape = dtype_of(tensor), shape_of(tensor)
    found: list[str] = []
    if tensor._device.type not in ("cpu",):
        index = tensor._device.index
        name = (
            str(tensor._device)
            if index is not None or tensor._device.type in ("mps", "numpy")
            else f"{tensor._device}:0"
        )
        found.append(f"device='{name}'")
    if empty:
        if len(shape) != 1:
            found.append(f"size={shape}")
        if dtype is not get_default_dtype():
            found.append(f"dtype={dtype!r}")
    elif dtype not in (
        get_default_dtype(), get_default_dtype().to_complex(), dtypes.int64, dtypes.bool_
    ):  # fmt: skip
        found.append(f"dtype={dtype!r}")
    entry = tensor.grad_fn  # type: ignore[attr-defined]
    if entry is not None:
        found.append(f"grad_fn=<{entry.name()}>")
    elif tensor._requires_grad:
        found.append("requires_grad=True")
    return found


def tensor_text(tensor: Tensor) -> str:
    """The text of ``repr(tensor)``; computes the value."""
    plain = not isinstance(tensor, Overridable)
    prefix = "tensor(" if plain else f"{type(tensor).__name__}("
    indent = len(prefix)
    shape = shape_of(tensor)
    empty = 0 in shape
    if empty:
        body = "[]"
    else:
        array = functions.peek(tensor)
        if array.dtype.kind == "f" or array.dtype == dtypes.bfloat16.numpy:
            array = array.astype(np.float64)
        shorten = array.size > _options.threshold
        told = (_edges(array) if shorten else array).reshape(-1)
        form = _ComplexFormat(told) if array.dtype.kind == "c" else _Format(told)
        body = _nested(array, indent, shorten, form)
    text = prefix + body
    line = len(text) - text.rfind("\n") + 1
    for suffix in _suffixes(tensor, empty):
        if line + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            line = indent + len(suffix)
        else:
            text += ", " + suffix
            line += len(suffix) + 2
    return text + ")"


def _representation(self: Tensor) -> str:
    node = node_of(self) if opened.levels else None
    if node is None or not is_symbolic(node):
        return tensor_text(self)
    # One example of a batch: the batch is shown.
    level = max(levels_of(node), key=lambda level: level.number)
    depth = opened.levels.index(level) + 1 if level in opened.levels else 1
    text = _representation(fresh(batch_of(node, level), self._device)).replace("\n", "\n    ")
    return f"BatchedTensor(lvl={depth}, bdim=0, value=\n    {text}\n)"


_members: Any = Tensor
_members.__repr__ = _representation
functions.set_printoptions = set_printoptions
