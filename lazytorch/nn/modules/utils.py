"""Spelling of layer arguments, and names in state dicts, as programs import them from PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lazytorch.nn.arguments import repeat


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    """What makes a tuple of ``n`` of one value, and a tuple of what is several already."""

    def parse(x: Any) -> tuple[Any, ...]:
        return repeat(x, n)

    parse.__name__ = name
    return parse


_single = _ntuple(1, "_single")
_pair = _ntuple(2, "_pair")
_triple = _ntuple(3, "_triple")
_quadruple = _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(t: Sequence[Any], n: int) -> tuple[Any, ...]:
    """Each entry ``n`` times, the last first: padding as ``F.pad`` takes it.

    >>> _reverse_repeat_tuple((1, 2), 2)
    (2, 2, 1, 1)
    """
    return tuple(x for x in reversed(t) for _ in range(n))


def _list_with_default(out_size: Any, defaults: Sequence[int]) -> Any:
    """``out_size`` with the last of ``defaults`` in the places of None."""
    if not isinstance(out_size, Iterable):
        return out_size
    sizes = list(out_size)
    if len(defaults) <= len(sizes):
        raise ValueError(f"Input dimension should be at least {len(sizes) + 1}")
    ends = defaults[-len(sizes) :]
    return [end if size is None else size for size, end in zip(sizes, ends)]


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Take ``prefix`` off the names in a state dict and its metadata, in place.

    >>> state = {"module.weight": 1}; consume_prefix_in_state_dict_if_present(state, "module.")
    >>> state
    {'weight': 1}
    """
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[key[len(prefix) :]] = state_dict.pop(key)
    metadata = getattr(state_dict, "_metadata", None)
    if metadata is None:
        return
    # "module" for the prefix "module." is the outermost module itself.
    for key in [key for key in metadata if key and (key.startswith(prefix) or key == prefix[:-1])]:
        metadata[key[len(prefix) :]] = metadata.pop(key)
