"""Names of composites: functions that PyTorch shows as one entry of the tape under its own name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from lazytorch.autograd.entries import next_sequence
from lazytorch.autograd.tape import label
from lazytorch.tensor.tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
Name = str | Callable[..., str | None]


def shown_as(name: Name) -> Callable[[Function], Function]:
    """Decorate a function whose results ``grad_fn`` shows under PyTorch's name for it.

    ``name`` may be a function of the same arguments; ``None`` leaves the entry its own name. Only
    entries made by the call itself are renamed, not those of an argument that is returned.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            first = next_sequence()
            result = function(*args, **kwargs)
            wanted = name if isinstance(name, str) else None
            for out in (result,) if isinstance(result, Tensor) else result:
                if isinstance(out, Tensor) and out._grad_fn is not None:
                    if wanted is None and not isinstance(name, str):
                        wanted = name(*args, **kwargs)
                    if wanted is not None and out._grad_fn._sequence > first:
                        label(out, wanted)
            return result

        return call  # type: ignore[return-value]

    return decorate


def by_operand(name: str) -> Name:
    """``name`` with the number that tells a tensor as second operand (1) from a number (0)."""

    def chosen(input: Any, other: Any = None, *_: Any, **options: Any) -> str:
        other = options.get("value", options.get("other", other))
        return f"{name}{int(isinstance(other, Tensor))}"

    return chosen


def if_unbatched(rank: int) -> Name:
    """What a layer function on ``rank`` spatial dimensions ends with when no batch was given."""

    def chosen(input: Any, *_: Any, **__: Any) -> str | None:
        return "SqueezeBackward1" if input.ndim == rank + 1 else None

    return chosen


def by_rank(pattern: str, batched: int = 2) -> Name:
    """``pattern`` with the number of spatial dimensions of the first argument in place of ``N``."""

    def chosen(input: Any, *_: Any, **__: Any) -> str:
        return pattern.replace("N", str(input.ndim - batched))

    return chosen


def by_reduction(unreduced: str | None) -> Name:
    """What a loss that is an ordinary composite ends with: its mean, its sum, or ``unreduced``."""

    def chosen(input: Any, target: Any, *_: Any, reduction: str = "mean", **__: Any) -> str | None:
        return {"mean": "MeanBackward0", "sum": "SumBackward0", "none": unreduced}.get(reduction)

    return chosen
