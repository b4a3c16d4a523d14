"""``torch.autograd.functional``: Jacobians, Hessians and products with them, at given inputs.

Functions of one tensor or several, returning one tensor or several; nothing is nested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.autograd.grad_mode import enable_grad
from lazytorch.autograd.levels import Level, columns, pull, pusher, rows
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import shape_of
from lazytorch.tensor.tensor import Tensor

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
Function = Callable[..., Any]


class _Call:
    """One call of a user's function on inputs of its own."""

    def __init__(self, func: Function, inputs: Any, name: str, create_graph: bool) -> None:
        self.name, self.create_graph = name, create_graph
        self.level = Level()
        # Without ``create_graph`` nothing that comes out has a tape.
        self.level.taped = self.level.taped and create_graph
        self.one_input = not isinstance(inputs, tuple)
        given = (inputs,) if self.one_input else inputs
        _check_tensors(given, "inputs given to", name)
        with enable_grad():
            self.inputs = [self.level.own(tensor, name) for tensor in given]
            made = func(*self.inputs)
        self.one_output = not isinstance(made, tuple)
        self.outputs: list[Tensor] = [made] if self.one_output else list(made)
        _check_tensors(self.outputs, "outputs of the user-provided function given to", name)

    def check_strict(self, strict: bool) -> None:
        """``RuntimeError`` where an output does not depend on the inputs."""
        for number, out in enumerate(self.outputs):
            if strict and not out._requires_grad:
                raise RuntimeError(
                    f"Output {number} of the user-provided function does not require gradients. "
                    "The outputs must be computed in a differentiable manner from the input when "
                    "running in strict mode."
                )

    def as_inputs(self, values: Sequence[Any]) -> Any:
        left = self.level.leave(values)
        return left[0] if self.one_input else tuple(left)

    def as_outputs(self, values: Sequence[Any]) -> Any:
        left = self.level.leave(values)
        return left[0] if self.one_output else tuple(left)


def _check_tensors(values: Any, what: str, name: str) -> None:
    for number, value in enumerate(values):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"The {what} {name} must be either a Tensor or a tuple of Tensors but the value "
                f"at index {number} has type {type(value).__name__}."
            )


def _vector(v: Any, like: Sequence[Tensor], one: bool, what: str) -> list[Tensor]:
    """The vector to multiply with, of the form of ``like``; a one where it may be left out."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if {what} is a single Tensor with a single element."
            )
        return [functions.ones_like(like[0])]
    given = list(v) if isinstance(v, tuple) else [v]
    if len(given) != len(like):
        if one:
            raise RuntimeError("The given v should be a single Tensor, or a tuple of one.")
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(like)} but got {len(given)}."
        )
    for number, (vector, tensor) in enumerate(zip(given, like)):
        if shape_of(vector) != shape_of(tensor):
            which = f"Entry {number} in v" if len(like) > 1 else "v"
            raise RuntimeError(
                f"{which} has invalid size: should be {tensor.shape} but got {vector.shape}."
            )
    return given


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(*inputs)``, and ``v`` (of the form of the outputs) times the Jacobian.

    ``v`` may be left out for an output of one element. Without ``create_graph`` neither result
    has a tape. ``strict`` refuses outputs that do not depend on the inputs (RuntimeError).

    >>> torch.autograd.functional.vjp(torch.square, torch.tensor([3.]))
    (tensor([9.]), tensor([6.]))
    """
    call = _Call(func, inputs, "vjp", create_graph)
    call.check_strict(strict)
    vector = _vector(v, call.outputs, call.one_output, "the user-provided function returns")
    with enable_grad():
        found = pull(call.outputs, call.inputs, vector)
    return call.as_outputs(call.outputs), call.as_inputs(found)


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(*inputs)``, and the Jacobian times ``v`` (of the form of the inputs).

    >>> torch.autograd.functional.jvp(torch.square, torch.tensor([3.]), torch.tensor([2.]))
    (tensor([9.]), tensor([12.]))
    """
    call = _Call(func, inputs, "jvp", create_graph)
    call.check_strict(strict)
    vector = _vector(v, call.inputs, call.one_input, "the input to the user-provided function")
    moved = pusher(call.outputs, call.inputs, call.level)(vector)
    return call.as_outputs(call.outputs), call.as_outputs(moved)


def jacobian(
    func: Function, inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Jacobian: for an output of shape (...) and an input of shape (,,,) it is (..., ,,,).

    Several inputs give a tuple, several outputs a tuple (of these). ``strategy`` is
    'reverse-mode', a pass backward for each output, or 'forward-mode', one forward for each
    input. ``vectorize`` changes nothing: a pass is always one for all elements (``vmap``).

    >>> torch.autograd.functional.jacobian(torch.square, torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise ValueError(
            f'Expected strategy to be either "reverse-mode" or "forward-mode", but got {strategy!r}'
        )
    call = _Call(func, inputs, "jacobian", create_graph)
    call.check_strict(strict)
    with enable_grad():
        if strategy == "reverse-mode":
            blocks = [rows(out, call.inputs) for out in call.outputs]
        else:
            blocks = columns(call.outputs, call.inputs, call.level)
    return call.as_outputs([]) if not blocks else _nested(call, blocks)


def _nested(call: _Call, blocks: list[list[Tensor]]) -> Any:
    parts = [call.as_inputs(block) for block in blocks]
    return parts[0] if call.one_output else tuple(parts)


def _scalar(func: Function, name: str) -> Function:
    """The function, which must return one element, as a function to differentiate twice."""

    def checked(*inputs: Any) -> Tensor:
        out = func(*inputs)
        if not isinstance(out, Tensor):
            raise RuntimeError(f"The function given to {name} should return a single Tensor")
        if out.numel() != 1:
            raise RuntimeError(
                f"The Tensor returned by the function given to {name} should contain a single "
                "element"
            )
        return functions.reshape(out, ())  # type: ignore[no-any-return]

    return checked


def _slopes(func: Function, name: str) -> Function:
    """The function's gradients by all its inputs, as a function with a tape."""
    checked = _scalar(func, name)

    def slopes(*inputs: Any) -> tuple[Tensor, ...]:
        out = checked(*inputs)
        return tuple(pull([out], list(inputs), [functions.ones_like(out)]))

    return slopes


def hessian(
    func: Function, inputs: Any, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Jacobian of the gradient of a function that returns one element.

    Several inputs give a tuple of tuples.

    >>> torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    found = jacobian(
        _slopes(func, "hessian"), given, create_graph, strict, vectorize, outer_jacobian_strategy
    )
    return found if isinstance(inputs, tuple) else found[0][0]


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(*inputs)``, one element, and ``v`` (of the form of the inputs) times its Hessian.

    >>> torch.autograd.functional.vhp(lambda x: (x**3).sum(), torch.tensor([2.]))
    (tensor(8.), tensor([12.]))
    """
    call = _Call(_scalar(func, "vhp"), inputs, "vhp", create_graph)
    call.check_strict(strict)
    vector = _vector(v, call.inputs, call.one_input, "the input to the user-provided function")
    with enable_grad():
        first = pull(call.outputs, call.inputs, [functions.ones_like(call.outputs[0])])
        found = pull(first, call.inputs, vector)
    return call.as_outputs(call.outputs), call.as_inputs(found)


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(*inputs)``, one element, and its Hessian times ``v``.

    The Hessian is symmetric where the function is smooth, so this is :func:`vhp`.
    """
    return vhp(func, inputs, v, create_graph, strict)
