"""What the transforms do with the arguments and results of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union

from lazytorch.autograd.grad_mode import enable_grad
from lazytorch.autograd.levels import Level
from lazytorch.autograd.trees import Rebuild, flatten
from lazytorch.tensor.tensor import Tensor

Argnums = Union[int, tuple[int, ...]]
Function = Callable[..., Any]


class Chosen:
    """The arguments that ``argnums`` names, as inputs of a level."""

    def __init__(self, level: Level, args: Sequence[Any], argnums: Argnums, name: str) -> None:
        self.args = list(args)
        places = (argnums,) if isinstance(argnums, int) else argnums
        if not isinstance(places, tuple) or not all(isinstance(one, int) for one in places):
            raise RuntimeError(f"{name}: argnums must be int or Tuple[int, ...], got: {argnums!r}")
        if not places:
            raise RuntimeError(f"{name}: argnums must be non-empty")
        for place in places:
            if not -len(args) <= place < len(args):
                raise RuntimeError(
                    f"{name}: Got argnum={place}, but only {len(args)} positional inputs"
                )
        if len({place % len(args) for place in places}) != len(places):
            raise RuntimeError(f"{name}: argnums elements must be unique, got {argnums}")
        picked = args[places[0]] if isinstance(argnums, int) else [args[one] for one in places]
        given, rebuild = flatten(picked if isinstance(argnums, int) else tuple(picked))
        self.leaves = [level.own(leaf, name) for leaf in given]
        self.rebuild: Rebuild = rebuild
        own = rebuild(self.leaves)
        for place, value in zip(places, (own,) if isinstance(argnums, int) else own):
            self.args[place] = value


def without_aux(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """(result, auxiliary value) of a function that may return such a pair."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError(
            f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True"
        )
    return result


def tensor_leaves(result: Any, name: str) -> tuple[list[Tensor], Rebuild]:
    """The tensors of a function's result; ``RuntimeError`` for anything else in it."""
    leaves, rebuild = flatten(result)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(
                f"{name}: Expected f(*args) to return only tensors, got unsupported type "
                f"{type(leaf).__name__}"
            )
    return leaves, rebuild


def left(level: Level, value: Any) -> Any:
    """A nested value without the level's tape."""
    leaves, rebuild = flatten(value)
    return rebuild(level.leave(leaves))


class Run(NamedTuple):
    """One run of a function on inputs of a level: what it made and what it was given."""

    level: Level
    leaves: list[Tensor]
    rebuild_inputs: Rebuild
    outputs: list[Tensor]
    rebuild: Rebuild
    aux: Any

    def left_aux(self) -> Any:
        """The auxiliary value without the level's tape."""
        return left(self.level, self.aux)


def run_on_inputs(
    func: Function, args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums, has_aux: bool,
    name: str, call: str,
) -> Run:  # fmt: skip
    """Run ``func`` with the arguments ``argnums`` as inputs of a new level.

    ``name`` and ``call`` are what messages call the transform and its use.
    """
    level = Level()
    with enable_grad():
        chosen = Chosen(level, args, argnums, name)
        made, aux = without_aux(func(*chosen.args, **kwargs), has_aux, call)
        outputs, rebuild = tensor_leaves(made, call)
    return Run(level, chosen.leaves, chosen.rebuild, outputs, rebuild, aux)
