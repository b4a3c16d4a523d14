"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lazytorch as torch
from lazytorch.nn.module import Module

_Place = tuple[dict[str, Any], str]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with other tensors in the place of parameters and buffers.

    Names are those of ``state_dict``; a sequence of dicts is joined. ``tie_weights`` gives
    parameters that are one tensor the same replacement. With ``strict`` every parameter and
    buffer must be named and nothing else, or RuntimeError is raised.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> torch.func.functional_call(layer, {"weight": torch.ones(1, 2)}, torch.ones(2))
    tensor([2.])
    """
    values: dict[str, Any] = {}
    if isinstance(parameter_and_buffer_dicts, Mapping):
        values.update(parameter_and_buffer_dicts)
    else:
        for part in parameter_and_buffer_dicts:
            if repeated := values.keys() & part.keys():
                raise ValueError(f"{sorted(repeated)} appear in multiple dictionaries")
            values.update(part)
    given = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, values, tie_weights, strict):
        return module(*given, **(kwargs or {}))


@contextmanager
def _replaced(
    module: Module, values: dict[str, Any], tie_weights: bool, strict: bool
) -> Iterator[None]:
    places = _places(module)
    if strict:
        _check_names(places, values)
    else:
        for name in values:
            if name not in places:
                raise KeyError(f"the module has no parameter or buffer {name!r}")
    if tie_weights:
        values = _with_tied(places, values)
    before = {name: places[name][0][places[name][1]] for name in values}
    try:
        for name, value in values.items():
            table, key = places[name]
            table[key] = value
        yield
    finally:
        # What the module wrote into a buffer's place belongs to the given value's owner.
        for name, value in before.items():
            table, key = places[name]
            table[key] = value


def _places(module: Module) -> dict[str, _Place]:
    """Where each parameter and buffer stands, by its full name; shared modules under each name."""
    found: dict[str, _Place] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        for table in (part._parameters, part._buffers):
            for key in table:
                found[f"{prefix}.{key}" if prefix else key] = (table, key)
    return found


def _check_names(places: dict[str, _Place], values: dict[str, Any]) -> None:
    missing = [name for name in places if name not in values]
    unexpected = [name for name in values if name not in places]
    if missing or unexpected:
        raise RuntimeError(
            "Error(s) in functional_call: "
            + ", ".join(
                f"{kind} key(s): {names}"
                for kind, names in (("Missing", missing), ("Unexpected", unexpected))
                if names
            )
        )


def _with_tied(places: dict[str, _Place], values: dict[str, Any]) -> dict[str, Any]:
    replacements: dict[int, tuple[str, Any]] = {}
    for name, value in values.items():
        table, key = places[name]
        known = replacements.setdefault(id(table[key]), (name, value))
        if known[1] is not value:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted((known[0], name))}, which "
                "are tied. Consider using tie_weights=False"
            )
    tied = dict(values)
    for name, (table, key) in places.items():
        if table[key] is not None and id(table[key]) in replacements:
            tied[name] = replacements[id(table[key])][1]
    return tied


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the buffers of equal modules, stacked along a new first dimension.

    The stacks of parameters are leaves that require gradients where the parameters do.
    """
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({type(model) for model in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    if len({model.training for model in models}) > 1:
        raise RuntimeError(
            "stack_module_state: Expected all models to have the same training/eval mode."
        )
    found: list[dict[str, Any]] = []
    for names in ("named_parameters", "named_buffers"):
        tables = [dict(getattr(model, names)()) for model in models]
        stacks = {}
        for name in tables[0]:
            parts = [table[name] for table in tables]
            stacks[name] = torch.stack([part.detach() for part in parts])
            stacks[name].requires_grad_(parts[0].requires_grad)
        found.append(stacks)
    return found[0], found[1]
