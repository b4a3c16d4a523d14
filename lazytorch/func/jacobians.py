"""Whole Jacobians, row by row or column by column, and Hessians.

The function runs once, and so does the pass through its tape: on one row (reverse mode) or column
(forward mode), from which ``vmap``'s rules make all of them.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from lazytorch.autograd.grad_mode import enable_grad
from lazytorch.autograd.levels import columns, rows
from lazytorch.func.arguments import Argnums, Function, Run, run_on_inputs
from lazytorch.tensor.tensor import Tensor


def jacrev(
    func: Function, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Function:
    """The function that gives the Jacobian of ``func`` by the arguments ``argnums``.

    For an output of shape (...) and an argument of shape (,,,) it has the shape (..., ,,,), in
    the containers of the output and, within, of the arguments. ``chunk_size`` rows are computed
    together (all of them where it is not given), which bounds the memory that they take.

    >>> torch.func.jacrev(torch.square)(torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @wraps(func, updated=())
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        run = run_on_inputs(func, args, kwargs, argnums, has_aux, "jacrev", "jacrev")
        with enable_grad():
            blocks = [rows(out, run.leaves, chunk_size) for out in run.outputs]
        return _nested(run, blocks, has_aux)

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

    @wraps(func, updated=())
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        run = run_on_inputs(func, args, kwargs, argnums, has_aux, "jacfwd", "jacfwd")
        with enable_grad():
            blocks = columns(run.outputs, run.leaves, run.level)
        return _nested(run, blocks, has_aux)

    return jacobian


def _nested(run: Run, blocks: list[list[Tensor]], has_aux: bool) -> Any:
    """Blocks in the containers of the outputs and, within, of the arguments."""
    found = run.rebuild([run.rebuild_inputs(run.level.leave(block)) for block in blocks])
    return (found, run.left_aux()) if has_aux else found


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """The Jacobian of the Jacobian of a function.

    >>> torch.func.hessian(lambda x: (x**3).sum())(torch.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)
