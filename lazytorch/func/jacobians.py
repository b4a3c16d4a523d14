"""Whole Jacobians, row by row or column by column, and Hessians.

The function runs once. Each row (reverse mode) or column (forward mode) is one more pass
through its tape; all of them are one graph, computed together when somebody looks.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from lazytorch.autograd.grad_mode import enable_grad
from lazytorch.autograd.levels import Level, pull, pusher, stacked, units
from lazytorch.func.arguments import Argnums, Chosen, Function, left, tensor_leaves, without_aux
from lazytorch.tensor.storage import shape_of


def jacrev(
    func: Function, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Function:
    """The function that gives the Jacobian of ``func`` by the arguments ``argnums``.

    For an output of shape (...) and an argument of shape (,,,) it has the shape (..., ,,,), in
    the containers of the output and, within, of the arguments. ``chunk_size`` is accepted and
    needs not be given: no more memory is used for many rows than the rows themselves.

    >>> torch.func.jacrev(torch.square)(torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        with enable_grad():
            chosen = Chosen(level, args, argnums, "jacrev")
            made, aux = without_aux(func(*chosen.args, **kwargs), has_aux, "jacrev")
            outputs, rebuild = tensor_leaves(made, "jacrev")
            blocks = []
            for out in outputs:
                rows = [pull([out], chosen.leaves, [unit]) for unit in units(out)]
                blocks.append(
                    [
                        stacked(
                            [row[place] for row in rows], (*shape_of(out), *shape_of(leaf)), leaf, 0
                        )
                        for place, leaf in enumerate(chosen.leaves)
                    ]
                )
        found = rebuild([chosen.rebuild(level.leave(block)) for block in blocks])
        return (found, left(level, aux)) if has_aux else found

    return jacobian


def jacfwd(
    func: Function, argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Function:
    """As :func:`jacrev`, column by column: for functions of few inputs and many outputs.

    >>> torch.func.jacfwd(torch.square)(torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if randomness not in ("error", "same", "different"):
        raise RuntimeError(
            f"jacfwd: Only allowed values for randomness are 'error', 'different', or 'same', "
            f"got {randomness!r}"
        )

    @wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        with enable_grad():
            chosen = Chosen(level, args, argnums, "jacfwd")
            made, aux = without_aux(func(*chosen.args, **kwargs), has_aux, "jacfwd")
            outputs, rebuild = tensor_leaves(made, "jacfwd")
            push = pusher(outputs, chosen.leaves, level)
            columns = []
            for place, leaf in enumerate(chosen.leaves):
                rest = len(chosen.leaves) - place - 1
                columns.append(
                    [push([None] * place + [unit] + [None] * rest) for unit in units(leaf)]
                )
            blocks = [
                [
                    stacked(
                        [moved[number] for moved in column], (*shape_of(out), *shape_of(leaf)),
                        out, -1,
                    )
                    for leaf, column in zip(chosen.leaves, columns)
                ]
                for number, out in enumerate(outputs)
            ]  # fmt: skip
        found = rebuild([chosen.rebuild(level.leave(block)) for block in blocks])
        return (found, left(level, aux)) if has_aux else found

    return jacobian


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """The Jacobian of the Jacobian of a function.

    >>> torch.func.hessian(lambda x: (x**3).sum())(torch.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacrev(jacrev(func, argnums), argnums)
