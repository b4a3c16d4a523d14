"""Reverse mode: gradients, and products of cotangents with the Jacobian."""

from __future__ import annotations

from functools import wraps
from typing import Any

from lazytorch.autograd.grad_mode import enable_grad
from lazytorch.autograd.levels import Level, floats, pull
from lazytorch.autograd.trees import flatten
from lazytorch.func.arguments import Argnums, Chosen, Function, left, run_on_inputs, without_aux
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor


def grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that gives the gradient of ``func`` by the arguments ``argnums``.

    ``func`` returns a scalar, or (scalar, aux) where ``has_aux``; then so does the result. An
    argument may be a container of tensors. Uses nest. Raises RuntimeError when the function
    returns anything but a floating-point scalar.

    >>> torch.func.grad(torch.sin)(torch.tensor(0.))
    tensor(1.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """As :func:`grad`, with the value: (gradient, value) or (gradient, (value, aux))."""

    @wraps(func)
    def gradient_and_value(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        with enable_grad():
            chosen = Chosen(level, args, argnums, "grad")
            made = func(*chosen.args, **kwargs)
            value, aux = without_aux(made, has_aux, "grad_and_value(f)(*args)")
            _check_scalar(value)
            found = pull([value], chosen.leaves, [functions.ones_like(value)])
        gradients = chosen.rebuild(level.leave(found))
        value = level.leave([value])[0]
        return gradients, ((value, left(level, aux)) if has_aux else value)

    return gradient_and_value


def _check_scalar(value: Any) -> None:
    if not isinstance(value, Tensor):
        raise RuntimeError(
            "grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got "
            f"{type(value).__name__}"
        )
    if shape_of(value):
        raise RuntimeError(
            "grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor "
            f"with {len(shape_of(value))} dims. Maybe you wanted to use the vjp or jacrev APIs "
            "instead?"
        )


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``func(*primals)``, and the function from cotangents of it to those of the primals.

    That function returns one cotangent for one primal, otherwise a tuple. With ``has_aux`` the
    function's second result comes third.

    >>> out, pullback = torch.func.vjp(torch.sin, torch.zeros(2))
    >>> pullback(torch.tensor([1., 2.]))
    (tensor([1., 2.]),)
    """
    if not primals:
        raise RuntimeError("vjp: expected at least one primal")
    places = tuple(range(len(primals)))
    run = run_on_inputs(func, primals, {}, places, has_aux, "vjp", "vjp(f, *primals)")

    def pullback(cotangents: Any, retain_graph: bool = True, create_graph: bool = True) -> Any:
        seeds, _ = flatten(cotangents)
        _check_cotangents(seeds, run.outputs)
        with enable_grad():
            found = pull(run.outputs, run.leaves, seeds)
        return run.rebuild_inputs(run.level.leave(found))

    result = run.rebuild(run.level.leave(run.outputs))
    return (result, pullback, run.left_aux()) if has_aux else (result, pullback)


def _check_cotangents(seeds: list[Any], outputs: list[Tensor]) -> None:
    if len(seeds) != len(outputs):
        raise RuntimeError(
            f"Expected pytree structure of cotangents to be the same as that of the outputs: "
            f"{len(outputs)} tensors, but got {len(seeds)}"
        )
    for seed, out in zip(seeds, outputs):
        if floats(out) and shape_of(seed) != shape_of(out):
            raise RuntimeError(
                f"Expected a cotangent of shape {list(shape_of(out))}, as the output has, but "
                f"got {list(shape_of(seed))}"
            )
