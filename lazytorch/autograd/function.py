"""autograd.Function: operations whose gradient the user writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazytorch.autograd.entries import GradientFunction
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.tape import edge_of
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor, fresh


class FunctionBackward(GradientFunction):
    """The tape entry of a user's function; it is the ``ctx`` of forward and backward."""

    __slots__ = (
        "__dict__", "_dirty", "_materialize", "_released", "_saved", "_undifferentiable",
        "needs_input_grad",
    )  # fmt: skip
    function: Any = None

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._released = False
        self._materialize = True
        self._undifferentiable: tuple[Tensor, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for ``backward``, checked against later in-place changes."""
        self._saved = tuple(
            (tensor, tensor._version if tensor is not None else 0) for tensor in tensors
        )

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self._released:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed). Specify retain_graph=True if you "
                "need to backward through the graph a second time."
            )
        for tensor, version in self._saved:
            if tensor is not None and tensor._version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an "
                    f"inplace operation: it is at version {tensor._version}; expected version "
                    f"{version} instead."
                )
        return tuple(tensor for tensor, _ in self._saved)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs ``forward`` changed in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which results have no gradient."""
        self._undifferentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing gradients arrive as zeros (the default) or as ``None``."""
        self._materialize = value

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if self._materialize:
            gradients = [
                functions.zeros(shape, dtype=dtype, device=self.device)
                if gradient is None
                else gradient
                for gradient, shape, dtype in zip(gradients, self.shapes_out, self.dtypes_out)
            ]
        result = self.function.backward(self, *gradients)
        results = result if isinstance(result, tuple) else (result,)
        expected = len(self.edges)
        while len(results) > expected and results[-1] is None:
            results = results[:-1]
        if len(results) != expected:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected "
                f"{expected}, got {len(results)})"
            )
        return results

    def release(self) -> None:
        self._saved = ()
        self._released = True


class _FunctionType(type):
    """Gives every Function its own tape entry class, named as PyTorch names it."""

    def __init__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> None:
        super().__init__(name, bases, members)
        cls._entry = type(
            f"{name}Backward", (FunctionBackward,), {"__slots__": (), "function": cls}
        )


class Function(metaclass=_FunctionType):
    """An operation with a gradient of its own.

    Subclasses define static methods ``forward(ctx, *args)`` and ``backward(ctx, *grads)``, or
    ``forward(*args)`` with ``setup_context(ctx, inputs, output)``, and are called by ``apply``.
    """

    _entry: Any

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise NotImplementedError("setup_context is not implemented")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run ``forward`` off the tape and write the whole as one entry."""
        entry = cls._entry()
        entry.needs_input_grad = tuple(
            isinstance(value, Tensor) and value._requires_grad for value in args
        )
        tracked = mode.enabled and any(entry.needs_input_grad)
        edges = tuple(
            edge_of(value) if isinstance(value, Tensor) and value._requires_grad else (None, 0)
            for value in args
        )
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args)
                cls.setup_context(entry, args, output)
            else:
                output = cls.forward(entry, *args)
        if not tracked:
            return output
        outputs = output if isinstance(output, tuple) else (output,)
        made = tuple(_own_output(value, args, entry) for value in outputs)
        _write(entry, edges, made)
        return made if isinstance(output, tuple) else made[0]


def _own_output(value: Any, inputs: Sequence[Any], entry: FunctionBackward) -> Any:
    """Results that are inputs (unless changed in place) or views become tensors of their own."""
    if not isinstance(value, Tensor):
        return value
    if any(value is dirty for dirty in entry._dirty):
        return value
    if value._view is not None or any(value is other for other in inputs):
        saved = entry._saved
        twin = fresh(node_of(value), value._device)
        entry._saved = tuple(
            (twin if t is value else t, v if t is not value else 0) for t, v in saved
        )
        if any(value is other for other in entry._undifferentiable):
            entry._undifferentiable = (*entry._undifferentiable, twin)
        return twin
    return value


def _write(entry: FunctionBackward, edges: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
    tensors = [value for value in outputs if isinstance(value, Tensor)]
    entry.start(edges, tensors)
    for number, out in enumerate(tensors):
        if dtype_is_floating(out) and not any(out is other for other in entry._undifferentiable):
            out._grad_fn = entry
            out._output_number = number
            out._requires_grad = True


def dtype_is_floating(tensor: Tensor) -> bool:
    """Whether a gradient can exist."""
    return node_of(tensor).dtype.kind in "fc"


def once_differentiable(function: Any) -> Any:
    """Mark a ``backward`` that cannot be differentiated again."""

    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            return function(ctx, *args)

    return wrapper
