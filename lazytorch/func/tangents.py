"""Forward mode: products of the Jacobian with tangents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch.autograd.levels import pusher
from lazytorch.autograd.trees import flatten
from lazytorch.func.arguments import Function, run_on_inputs
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor


def jvp(
    func: Function, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> tuple[Any, ...]:
    """``func(*primals)`` and how it changes along ``tangents``, of the form of the primals.

    With ``has_aux`` the function's second result comes third; ``strict`` refuses a result that
    depends on no primal.

    >>> torch.func.jvp(torch.sin, (torch.zeros(2),), (torch.ones(2),))
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    result, push, aux = _linearized(func, primals, strict, has_aux)
    moved = push(tangents)
    return (result, moved, aux) if has_aux else (result, moved)


def linearize(func: Function, *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``func(*primals)``, and the linear function of tangents that approximates it there.

    The function runs once, however many tangents follow.

    >>> out, push = torch.func.linearize(torch.exp, torch.zeros(1))
    >>> push(torch.tensor([3.]))
    tensor([3.])
    """
    result, push, _ = _linearized(func, primals, False, False)
    return result, lambda *tangents: push(tangents)


def _linearized(
    func: Function, primals: Any, strict: bool, has_aux: bool
) -> tuple[Any, Callable[[Any], Any], Any]:
    if not isinstance(primals, tuple):
        raise RuntimeError(
            f"jvp(f, primals, tangents): Expected primals to be a tuple. E.g. it should be valid "
            f"to call f(*primals), but got {type(primals).__name__}"
        )
    if not primals:
        raise RuntimeError("jvp(f, primals, tangents): expected at least one primal")
    places = tuple(range(len(primals)))
    run = run_on_inputs(func, primals, {}, places, has_aux, "jvp", "jvp(f, primals, tangents)")
    if strict and not all(out._requires_grad for out in run.outputs):
        raise RuntimeError(
            "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs"
        )
    push = pusher(run.outputs, run.leaves, run.level)

    def moved(tangents: Any) -> Any:
        given, _ = flatten(tangents)
        _check_tangents(given, run.leaves)
        return run.rebuild(run.level.leave(push(given)))

    return run.rebuild(run.level.leave(run.outputs)), moved, run.left_aux()


def _check_tangents(given: list[Any], leaves: list[Tensor]) -> None:
    if len(given) != len(leaves):
        raise RuntimeError(
            "jvp(f, primals, tangents): Expected primals and tangents to have the same python "
            f"structure: {len(leaves)} tensors, but got {len(given)}"
        )
    for tangent, leaf in zip(given, leaves):
        if not isinstance(tangent, Tensor) or shape_of(tangent) != shape_of(leaf):
            raise RuntimeError(
                "jvp(f, primals, tangents): Expected a tangent of shape "
                f"{list(shape_of(leaf))}, as the primal has, but got "
                f"{list(getattr(tangent, 'shape', ())) or type(tangent).__name__}"
            )
