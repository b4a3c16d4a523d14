"""assert_close, with what was expected, how far off it is, and where.

Closeness is ``|actual - expected| <= atol + rtol * |expected|`` in every element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch.dtypes import DType
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

_PRECISIONS = {
    "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7), "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7),
}  # fmt: skip
_NUMBERS = (bool, int, float, complex, np.number, np.bool_)


class _Options:
    """The settings of one call."""

    def __init__(
        self, rtol: float | None, atol: float | None, equal_nan: bool, **checks: bool
    ) -> None:
        if (rtol is None) != (atol is None):
            raise ValueError(
                "Both 'rtol' and 'atol' must be either specified or omitted, but got no "
                f"{'rtol' if rtol is None else 'atol'}."
            )
        self.given = None if rtol is None or atol is None else (rtol, atol)
        self.equal_nan = equal_nan
        self.checks = checks

    def tolerances(self, *kinds: DType) -> tuple[float, float]:
        """(rtol, atol), the wider defaults of the dtypes if none were given."""
        if self.given is not None:
            return self.given
        pairs = [_PRECISIONS.get(kind.name, (0.0, 0.0)) for kind in kinds]
        return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise ``AssertionError`` unless both are close, in every element.

    Both may be tensors, arrays, numbers, None, or sequences and mappings of these. Without
    ``rtol`` and ``atol`` the dtypes decide. ``msg`` replaces the message, or makes one of it.
    Raises ``ValueError`` when only one tolerance is given, ``TypeError`` for what cannot be
    compared.

    >>> assert_close(torch.ones(2), torch.ones(2))
    """
    options = _Options(
        rtol, atol, equal_nan,
        device=check_device, dtype=check_dtype, layout=check_layout, stride=check_stride,
    )  # fmt: skip
    found = _difference(actual, expected, options, allow_subclasses, ())
    if found is None:
        return
    text, path = found
    if path:
        text += "\n\nThe failure occurred for item " + "".join(f"[{key!r}]" for key in path)
    if callable(msg):
        text = msg(text)
    elif msg is not None:
        text = msg
    raise AssertionError(text)


_Found = tuple[str, tuple[Any, ...]] | None


def _difference(
    actual: Any, expected: Any, options: _Options, subclasses: bool, path: tuple[Any, ...]
) -> _Found:
    """The first difference and where it is in the containers; None if both are close."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        missing = [key for key in expected if key not in actual]
        added = [key for key in actual if key not in expected]
        if missing or added:
            text = "The keys of the mappings do not match:"
            text += f"\nMissing keys in the actual mapping: {sorted(missing)}" if missing else ""
            text += f"\nAdditional keys in the actual mapping: {sorted(added)}" if added else ""
            return text, path
        pairs = [(key, actual[key], expected[key]) for key in expected]
    elif _is_sequence(actual) and _is_sequence(expected):
        if len(actual) != len(expected):
            lengths = f"{len(actual)} != {len(expected)}"
            return f"The length of the sequences mismatch: {lengths}", path
        pairs = [(number, *pair) for number, pair in enumerate(zip(actual, expected))]
    else:
        off = _leaf_difference(actual, expected, options, subclasses)
        return None if off is None else (off, path)
    for key, first, second in pairs:
        found = _difference(first, second, options, subclasses, (*path, key))
        if found is not None:
            return found
    return None


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _leaf_difference(actual: Any, expected: Any, options: _Options, subclasses: bool) -> str | None:
    if actual is None or expected is None:
        if actual is None and expected is None:
            return None
        return f"None mismatch: {actual} is not {expected}"
    if isinstance(actual, _NUMBERS) and isinstance(expected, _NUMBERS):
        return _number_difference(actual, expected, options)
    related = isinstance(actual, type(expected)) or isinstance(expected, type(actual))
    if not (related and (subclasses or type(actual) is type(expected))):
        raise TypeError(
            "No comparison pair was able to handle inputs of type "
            f"{type(actual)} and {type(expected)}."
        )
    if not isinstance(actual, (Tensor, np.ndarray)):
        raise TypeError(
            f"No comparison pair was able to handle inputs of type {type(actual)} and "
            f"{type(expected)}."
        )
    return _tensor_difference(torch.as_tensor(actual), torch.as_tensor(expected), options)


def _number_difference(actual: Any, expected: Any, options: _Options) -> str | None:
    if options.checks["dtype"] and type(actual) is not type(expected):
        return f"The (d)types do not match: {type(actual)} != {type(expected)}."
    kinds = [functions.tensor(value).dtype for value in (actual, expected)]
    wide = {"float32": torch.float64, "complex64": torch.complex128}
    rtol, atol = options.tolerances(*(wide.get(kind.name, kind) for kind in kinds))
    if actual == expected or (options.equal_nan and actual != actual and expected != expected):
        return None
    gap = abs(actual - expected)
    if math.isfinite(gap) and gap <= atol + rtol * abs(expected):
        return None
    return _scalar_text(actual, expected, rtol, atol)


def _scalar_text(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    gap = abs(actual - expected)
    relative = gap / abs(expected) if expected != 0 else math.inf
    if rtol == atol == 0:
        word, allowed = "equal", ("", "")
    else:
        word, allowed = "close", (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
    return (
        f"Scalars are not {word}!\n\nExpected {expected} but got {actual}.\n"
        f"Absolute difference: {gap}{allowed[0]}\nRelative difference: {relative}{allowed[1]}"
    )


def _tensor_difference(actual: Tensor, expected: Tensor, options: _Options) -> str | None:
    named: list[tuple[str, Any, Any]] = [("shape", actual.shape, expected.shape)]
    for name in ("layout", "device", "dtype"):
        if options.checks[name]:
            named.append((name, getattr(actual, name), getattr(expected, name)))
    if options.checks["stride"]:
        named.append(("stride()", actual.stride(), expected.stride()))
    for name, first, second in named:
        if first != second:
            return f"The values for attribute '{name}' do not match: {first} != {second}."
    rtol, atol = options.tolerances(actual.dtype, expected.dtype)
    kind = torch.promote_types(actual.dtype, expected.dtype)
    if kind is torch.bfloat16:
        kind = torch.float32  # NumPy has no bfloat16.
    first, second = (x.detach().cpu().to(kind).numpy() for x in (actual, expected))
    close = np.isclose(first, second, rtol=rtol, atol=atol, equal_nan=options.equal_nan)
    if close.all():
        return None
    if first.ndim == 0:
        return _scalar_text(first.item(), second.item(), rtol, atol)
    return _elements_text(first, second, close, rtol, atol)


def _elements_text(
    actual: np.ndarray, expected: np.ndarray, close: np.ndarray, rtol: float, atol: float
) -> str:
    """How many elements are off, and where the greatest differences are."""
    if actual.dtype.kind in "iub":
        actual, expected = actual.astype(np.int64), expected.astype(np.int64)
    with np.errstate(all="ignore"):
        gaps = np.abs(actual - expected)
        relative = gaps / np.abs(expected)
    gaps, relative = np.where(close, 0, gaps), np.where(close, 0, relative)
    off = int((~close).sum())
    equal = rtol == atol == 0
    lines = [
        f"Tensor-likes are not {'equal' if equal else 'close'}!\n",
        f"Mismatched elements: {off} / {close.size} ({off / close.size:.1%})",
    ]
    for name, values, allowed in (("absolute", gaps, atol), ("relative", relative, rtol)):
        place = tuple(int(number) for number in np.unravel_index(values.argmax(), values.shape))
        bound = "" if equal else f" (up to {allowed} allowed)"
        lines.append(f"Greatest {name} difference: {values[place].item()} at index {place}{bound}")
    return "\n".join(lines)


__all__ = ["assert_close"]
