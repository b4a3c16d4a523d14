"""One call made in PyTorch and here, and whether the answers agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as peer

import lazytorch
from tests.conformance.database import Entry, resolve

_TOLERANCE = {
    "float16": 1e-2, "bfloat16": 2e-2, "float32": 1e-4, "float64": 1e-7, "complex64": 1e-4,
    "complex128": 1e-7,
}  # fmt: skip


class Disagreement(AssertionError):
    """Another answer than PyTorch's, or none."""


def translated(value: Any, device: str) -> Any:
    """PyTorch's tensors, dtypes and devices in an argument as lazytorch's."""
    if isinstance(value, peer.Tensor):
        array = value.detach().resolve_conj().resolve_neg()
        if array.dtype is peer.bfloat16:
            made = lazytorch.tensor(array.float().numpy(), device=device)
            return made.to(lazytorch.bfloat16)
        return lazytorch.tensor(array.numpy(), device=device)
    if isinstance(value, peer.dtype):
        return getattr(lazytorch, str(value).removeprefix("torch."))
    if isinstance(value, peer.device):
        return lazytorch.device(device)
    if isinstance(value, (peer.memory_format, peer.layout)):
        return getattr(lazytorch, str(value).removeprefix("torch."))
    if isinstance(value, peer.Size):
        return tuple(value)
    if isinstance(value, (list, tuple)):
        return type(value)(translated(item, device) for item in value)
    if isinstance(value, peer.nn.PairwiseDistance):
        return lazytorch.nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
    if isinstance(value, Mapping):
        return {key: translated(item, device) for key, item in value.items()}
    return "cpu" if value == "cpu" else value


def check(entry: Entry, sample: Any, device: str) -> bool:
    """Make one call in both libraries; ``False`` when PyTorch itself refuses the sample.

    Raises :class:`Disagreement`, or whatever lazytorch raises.
    """
    theirs = resolve(peer, entry.path)
    arguments = (sample.input, *sample.args)
    if entry.path == "nn.functional.embedding_bag":
        # The database names the table first, the function the places in it.
        arguments = (arguments[1], arguments[0], *arguments[2:])
    try:
        given = [_cloned(argument) for argument in arguments]
        wanted = theirs(*given, **sample.kwargs)
    except Exception:
        return False
    if wanted is None or not _has_tensor(wanted):
        if not isinstance(wanted, (bool, int, float, complex)):
            return False
    ours = resolve(lazytorch, entry.path)
    options = translated(sample.kwargs, device)
    if "device" in options:
        options["device"] = device
    found = ours(*translated(list(arguments), device), **options)
    try:
        _agree(found, wanted, entry.has_values)
    except Disagreement:
        if not _is_drawn(lambda: theirs(*map(_cloned, arguments), **sample.kwargs)):
            raise
        _agree(found, wanted, False)
    return True


def _is_drawn(call: Callable[[], Any]) -> bool:
    """Whether PyTorch's own answer depends on its generator: attention with dropout, say."""

    def answer(seed: int) -> Any:
        peer.manual_seed(seed)
        result = call()
        return result[0] if isinstance(result, (list, tuple)) else result

    first, second = answer(0), answer(1)
    return isinstance(first, peer.Tensor) and not peer.equal(
        first.nan_to_num(), second.nan_to_num()
    )


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, peer.Tensor) else value


def _has_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_tensor, value))
    return isinstance(value, peer.Tensor)


def _agree(found: Any, wanted: Any, with_values: bool) -> None:
    if isinstance(wanted, (list, tuple)) and not isinstance(wanted, peer.Size):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            raise Disagreement(f"{len(wanted)} results expected, got {found!r:.80}")
        for mine, other in zip(found, wanted):
            _agree(mine, other, with_values)
        return
    if not isinstance(wanted, peer.Tensor):
        if found != wanted and not (found != found and wanted != wanted):
            raise Disagreement(f"{found!r:.60} instead of {wanted!r:.60}")
        return
    if tuple(found.shape) != tuple(wanted.shape):
        raise Disagreement(f"shape {list(found.shape)} instead of {list(wanted.shape)}")
    kind = str(found.dtype)
    if kind != str(wanted.dtype):
        raise Disagreement(f"{kind} instead of {wanted.dtype}")
    if not with_values:
        return
    kind = kind.removeprefix("torch.")
    mine, other = _array(found), _array(wanted)
    tolerance = _TOLERANCE.get(kind, 0.0)
    scale = float(np.abs(other[np.isfinite(other)]).max(initial=0)) if other.size else 0.0
    with np.errstate(all="ignore"):
        close = np.isclose(
            mine, other, rtol=tolerance, atol=tolerance * min(1.0, scale) + tolerance * 0.1,
            equal_nan=True,
        )  # fmt: skip
    if not close.all():
        place = tuple(int(axis[0]) for axis in np.nonzero(~close)) if mine.ndim else ()
        raise Disagreement(
            f"{int((~close).sum())} of {mine.size} values differ, at {list(place)} {mine[place]} "
            f"instead of {other[place]}"
        )


def _array(tensor: Any) -> np.ndarray:
    if isinstance(tensor, peer.Tensor):
        tensor = tensor.detach().resolve_conj().resolve_neg()
        return (tensor.float() if tensor.dtype is peer.bfloat16 else tensor).numpy()
    values = tensor.detach().cpu()
    return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
