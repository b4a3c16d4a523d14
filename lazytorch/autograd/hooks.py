"""Running the users' hooks during a backward pass, and what they may return.

A hook that returns something replaces the gradient: by a tensor of the same shape and dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

Hook = Callable[..., Any]


def run_tensor_hooks(entry: Any, received: list[Any]) -> None:
    """Hooks on the results of an entry, each with that result's gradient."""
    for number, hooks in entry.tensor_hooks.items():
        for hook in list(hooks.values()):
            if received[number] is not None:
                received[number] = _replaced(hook, received[number], hook(received[number]))


def run_leaf_hooks(variable: Tensor, gradient: Any) -> Any:
    """Hooks on a leaf, which has no entry of its own while nothing uses it."""
    extra = variable._extra
    if extra is not None and gradient is not None:
        for hook in list(extra.get("hooks", {}).values()):
            gradient = _replaced(hook, gradient, hook(gradient))
    return gradient


def run_post_accumulate_hooks(variable: Tensor) -> None:
    """Hooks that want a leaf after its ``.grad`` was updated."""
    if variable._extra is not None:
        for hook in list(variable._extra.get("post_hooks", {}).values()):
            hook(variable)


def run_pre_hooks(entry: Any, received: list[Any]) -> None:
    """Hooks that get the gradients of all results of an entry before it runs."""
    for hook in list(entry.pre_hooks.values()):
        changed = hook(tuple(received))
        if changed is not None:
            received[:] = _all_replaced(hook, received, changed)


def run_post_hooks(
    entry: Any, results: tuple[Any, ...], received: Sequence[Any]
) -> tuple[Any, ...]:
    """Hooks that get what an entry made, and from what."""
    for hook in list(entry.post_hooks.values()):
        changed = hook(results, tuple(received))
        if changed is not None:
            results = tuple(_all_replaced(hook, results, changed))
    return results


def _all_replaced(hook: Hook, before: Sequence[Any], changed: Any) -> list[Any]:
    """What a hook returned for several gradients, checked."""
    if not isinstance(changed, tuple):
        changed = (changed,)
    if len(changed) != len(before):
        raise RuntimeError(
            f"hook '{_name(hook)}' has returned an incorrect number of values (got "
            f"{len(changed)}, but expected {len(before)})"
        )
    return [_checked(hook, old, new) for old, new in zip(before, changed)]


def _replaced(hook: Hook, gradient: Tensor, changed: Any) -> Tensor:
    """The gradient after a hook that may have returned another."""
    return gradient if changed is None else _checked(hook, gradient, changed)


def _checked(hook: Hook, before: Any, after: Any) -> Any:
    if after is None:
        return None
    if not isinstance(after, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(after).__name__}'")
    if before is None:
        raise RuntimeError("can't replace a None gradient with a non-None value")
    if dtype_of(after) is not dtype_of(before):
        raise RuntimeError(
            f"hook '{_name(hook)}' has changed the type of value (was {_type_name(before)} got "
            f"{_type_name(after)})"
        )
    if shape_of(after) != shape_of(before):
        raise RuntimeError(
            f"hook '{_name(hook)}' has changed the size of value: it got "
            f"{list(shape_of(before))} and returned {list(shape_of(after))}"
        )
    return after


def _type_name(tensor: Tensor) -> str:
    return f"torch.{scalar_name(dtype_of(tensor))}Tensor"


def _name(hook: Hook) -> str:
    name: str = getattr(hook, "__name__", type(hook).__name__)
    return name
