"""``torch.autograd.forward_ad``: tensors that carry a tangent along.

A dual tensor is an input of a level (``autograd.levels``) with a tangent kept beside it. What is
computed of it goes on the tape, and its tangent is found when somebody unpacks it, by pushing
the tangents through that tape. So the tape is written inside of a dual level even where
``no_grad`` would turn it off, and a dual tensor says, other than PyTorch's, that it requires a
gradient. Writing into one does not change the tensor it was made of.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from lazytorch.autograd.grad_mode import ModeGuard, enable_grad, mode
from lazytorch.autograd.levels import Level, pusher
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, edge_of
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

__all__ = [
    "UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual",
    "unpack_dual",
]  # fmt: skip

_SAME = Rule("AliasBackward0", (lambda g: g,))


class UnpackedDualTensor(NamedTuple):
    """A value and its tangent, ``None`` where it depends on no dual tensor."""

    primal: Tensor
    tangent: Tensor | None


class _Duals:
    """The dual tensors of the open level: what their tape begins at, and their tangents."""

    def __init__(self) -> None:
        self.level = Level()
        self.anchors: list[Tensor] = []
        self.tangents: list[Tensor] = []

    def reached_from(self, tensor: Tensor) -> list[int]:
        """The numbers of the dual tensors that the tensor was made of."""
        # Kept here, so that no other object gets the address of one meanwhile.
        begins = [edge_of(anchor)[0] for anchor in self.anchors]
        places = {id(entry): place for place, entry in enumerate(begins)}
        found: set[int] = set()
        seen: set[int] = set()
        stack = [edge_of(tensor)[0]] if tensor._requires_grad else []
        while stack:
            entry = stack.pop()
            if id(entry) in seen:
                continue
            seen.add(id(entry))
            if id(entry) in places:
                found.add(places[id(entry)])
            stack.extend(following for following, _ in entry._edges if following is not None)
        return sorted(found)


class _State(threading.local):
    duals: _Duals | None = None


_state = _State()


def enter_dual_level() -> int:
    """Open a level, in which tensors can be made dual; its number, 0.

    RuntimeError when one is open already: they do not nest (``torch.func.jvp`` does).
    """
    if _state.duals is not None:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _state.duals = _Duals()
    mode.forward = True
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Close the level: its tangents are forgotten."""
    if _state.duals is None:
        raise RuntimeError("Dual level must be a positive number: none has been entered.")
    if level not in (None, 0):
        raise RuntimeError(f"Trying to exit dual level {level}, but the open one is level 0")
    _state.duals = None
    mode.forward = False


class dual_level(ModeGuard):
    """A level for a ``with`` block or a function.

    >>> with dual_level():
    ...     x = make_dual(torch.tensor([1., 2.]), torch.tensor([1., 0.]))
    ...     unpack_dual(x * x).tangent
    tensor([2., 0.])
    """

    def __enter__(self) -> int:  # type: ignore[override]
        return enter_dual_level()

    def __exit__(self, *_: Any) -> None:
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor of the value of ``tensor`` that carries ``tangent``, of the same shape.

    Raises RuntimeError outside of a level, for a tensor that has a tangent already and for
    another shape, ValueError for integers.
    """
    duals = _state.duals
    if duals is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."
        )
    for name, one in (("primal", tensor), ("tangent", tangent)):
        if dtype_of(one).kind not in "fc":
            raise ValueError(
                f"Expected {name} to be floating point or complex, but got: {dtype_of(one)!r}"
            )
    if shape_of(tangent) != shape_of(tensor):
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original "
            f"Tensor, this is not supported. Tensor is of size {list(shape_of(tensor))} while the "
            f"given forward gradient is of size {list(shape_of(tangent))}."
        )
    if duals.reached_from(tensor):
        raise RuntimeError(
            "Making a dual Tensor based on a Tensor that already has a forward gradient at the "
            "same level 0 is not supported."
        )
    with enable_grad():
        anchor = duals.level.own_value(tensor, _SAME)
        duals.anchors.append(anchor)
        duals.tangents.append(tangent)
        return attach(fresh(node_of(anchor), anchor._device), _SAME, (anchor,))


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value of a tensor, and its tangent: ``None`` where it has none in the open level."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            "_unpack_dual(): argument 'dual' (position 1) must be Tensor, not "
            f"{type(tensor).__name__}"
        )
    duals = _state.duals
    places = [] if duals is None else duals.reached_from(tensor)
    if duals is None or not places:
        return UnpackedDualTensor(tensor, None)
    push = pusher([tensor], [duals.anchors[place] for place in places], duals.level)
    moved = push([duals.tangents[place] for place in places])
    primal, tangent = duals.level.leave([tensor, moved[0]])
    return UnpackedDualTensor(primal, tangent)
