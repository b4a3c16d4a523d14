"""autograd.Function: operations whose gradient the user writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.autograd.entries import Edge, GradientFunction, used_twice
from lazytorch.autograd.function_results import finish
from lazytorch.autograd.function_vmap import apply_to_batches, innermost_level
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.packed import Packed
from lazytorch.autograd.tape import edge_of
from lazytorch.autograd.watch import watch
from lazytorch.tensor.attach import functions
from lazytorch.tensor.inplace import base_before
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor


class FunctionCtx:
    """What ``forward`` and ``backward`` of a Function are given first."""

    _saved: tuple[Any, ...] = ()
    _materialize = True
    _undifferentiable: tuple[Any, ...] = ()
    _dirty: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (or ``None``) for ``backward``, checked against later in-place changes."""
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for a ``jvp`` of forward mode, which is not differentiated by here."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Say which inputs ``forward`` changed in place; they must be among its results."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say which results have no gradient."""
        self._undifferentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing gradients arrive as zeros (the default) or as ``None``."""
        self._materialize = value


class BackwardCFunction(FunctionCtx, GradientFunction):
    """The tape entry of a user's function; it is the ``ctx`` of forward and backward."""

    _forward_cls: Any = None
    _released = False
    # Which of the values that ``apply`` got were tensors.
    _arguments: tuple[bool, ...] = ()

    def saves(self, values: Sequence[Any]) -> None:
        """Turn what ``forward`` saved into what can be checked, and packed, later."""
        for number, value in enumerate(values):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {number} is of type "
                    f"{type(value).__name__}"
                )
        self._saved = tuple((value, 0 if value is None else _version(value)) for value in values)
        if watch.active:
            watch.note(self)

    def pack(self, packed: Callable[[Any], Any]) -> None:
        self._saved = tuple((packed(value), version) for value, version in self._saved)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        if self._released:
            raise used_twice()
        return tuple(self._restored(value, version) for value, version in self._saved)

    def _restored(self, value: Any, version: int) -> Any:
        if isinstance(value, Packed):
            return value.unpacked(self)
        if value is not None and _version(value) != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: [{value.type()} {list(value.shape)}] is at version "
                f"{_version(value)}; expected version {version} instead. Hint: enable anomaly "
                "detection to find the operation that failed to compute its gradient, with "
                "torch.autograd.set_detect_anomaly(True)."
            )
        return value

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        if self._materialize:
            gradients = [
                functions.zeros(shape, dtype=dtype, device=self._device)
                if gradient is None
                else gradient
                for gradient, shape, dtype in zip(gradients, self.shapes_out, self.dtypes_out)
            ]
        cls = self._forward_cls
        own = cls.vjp if cls.vjp is not Function.vjp else cls.backward
        if own is cls.vjp and cls.backward is not Function.backward:
            raise RuntimeError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You "
                "should only implement one of them."
            )
        result = own(self, *gradients)
        return self._checked(result if isinstance(result, tuple) else (result,))

    def _checked(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """As many gradients as there were arguments, and only where they can go."""
        expected = len(self._edges)
        given = len(results)
        while len(results) > expected and results[-1] is None:
            results = results[:-1]
        if len(results) != expected:
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients (expected "
                f"{expected}, got {given})"
            )
        for number, (gradient, tensor) in enumerate(zip(results, self._arguments)):
            if gradient is not None and not tensor:
                raise RuntimeError(
                    f"function {self.name()} returned a gradient different than None at position "
                    f"{number + 1}, but the corresponding forward input was not a Variable"
                )
            if gradient is not None and not isinstance(gradient, Tensor):
                raise RuntimeError(
                    f"expected Variable or None (got {type(gradient).__name__}) as gradient "
                    f"{number} of {self.name()}"
                )
        return results

    def release(self) -> None:
        # What was put on the ctx by hand stays, as does the way on, where nothing was saved.
        if self._saved:
            self._saved = ()
            self._released = True


def _version(tensor: Tensor) -> int:
    return 0 if tensor._storage is None else tensor._storage.version


class FunctionMeta(type):
    """Gives every Function its own tape entry class, named as PyTorch names it."""

    def __init__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> None:
        super().__init__(name, bases, members)
        cls._entry = type(f"{name}Backward", (BackwardCFunction,), {"_forward_cls": cls})


class Function(FunctionCtx, metaclass=FunctionMeta):
    """An operation with a gradient of its own.

    Subclasses define static methods ``forward(ctx, *args)`` and ``backward(ctx, *grads)`` (also
    called ``vjp``), or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``, and are
    called by ``apply``. ``backward`` returns a gradient, or ``None``, for each argument.

    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         return grad * 2
    >>> Double.apply(torch.ones(2, requires_grad=True))
    tensor([2., 2.], grad_fn=<DoubleBackward>)
    """

    _entry: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            "new-style autograd function with static forward method, and call it by apply()."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """What the operation computes; to be defined by subclasses."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments from those of the results."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name for ``backward``."""
        return Function.backward(ctx, *grad_outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Where ``forward`` gets no ctx, what is saved; to be defined by subclasses."""
        raise NotImplementedError("setup_context is not implemented")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """(output, out_dims) for batches, inside of ``torch.vmap``; subclasses may define it.

        ``info`` has ``batch_size`` and ``randomness``; ``in_dims`` says which arguments have the
        batch, in front. Without it what ``forward`` records is rewritten for the batch.
        """
        raise NotImplementedError("vmap is not implemented")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward`` off the tape and write the whole as one entry."""
        separate = cls.setup_context is not Function.setup_context
        if kwargs:
            args = _bound(cls.forward, args, kwargs, separate)
        if cls.vmap is not Function.vmap:
            level = innermost_level(args)
            if level is not None:
                return apply_to_batches(cls, args, level)
        entry = cls._entry()
        entry.needs_input_grad = tuple(
            isinstance(value, Tensor) and value.requires_grad for value in args
        )
        tracked = mode.enabled and any(entry.needs_input_grad)
        edges: tuple[Edge, ...] = tuple(
            edge_of(value) if needed else (None, 0)
            for value, needed in zip(args, entry.needs_input_grad)
        )
        before = {id(value): base_before(value) for value in args if isinstance(value, Tensor)}
        with no_grad():
            if separate:
                output = cls.forward(*args)
                cls.setup_context(entry, args, output)
            else:
                output = cls.forward(entry, *args)
        entry._arguments = tuple(isinstance(value, Tensor) for value in args)
        return finish(entry, edges, args, output, before, tracked)


def _bound(
    forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any], separate: bool
) -> tuple[Any, ...]:
    """Arguments given by name in the places where ``forward`` takes them."""
    signature = inspect.signature(forward)
    bound = signature.bind(*args, **kwargs) if separate else signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    return bound.args if separate else bound.args[1:]


def once_differentiable(function: Any) -> Any:
    """Mark a ``backward`` that cannot be differentiated again: doing so is a ``RuntimeError``."""

    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            results = function(ctx, *args)
        if not mode.enabled or not any(isinstance(a, Tensor) and a._requires_grad for a in args):
            return results
        several = isinstance(results, tuple)
        made = results if several else (results,)
        refusing = tuple(_refusing(value) if isinstance(value, Tensor) else value for value in made)
        return refusing if several else refusing[0]

    return wrapper


class _Refusal(GradientFunction):
    """The end of what ``once_differentiable`` allows."""

    def name(self) -> str:
        return "torch::autograd::Error"

    def run(self, gradients: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )


def _refusing(value: Tensor) -> Tensor:
    """``value`` as the result of something that has no gradient."""
    out: Tensor = value.detach()
    if node_of(out).dtype.kind in "fc":
        entry = _Refusal()
        entry.start((), (out,))
        out._grad_fn, out._requires_grad = entry, True
    return out
