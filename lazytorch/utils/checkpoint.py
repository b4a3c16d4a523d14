"""Checkpointing: activations are made again in the backward pass instead of being kept.

A checkpointed region keeps its inputs. When the backward pass asks for the first value that the
region would have saved, the region runs again and gives them all (T. Chen et al., "Training Deep
Nets with Sublinear Memory Cost", 2016).

In a lazy graph this needs care, for a value and its recomputation are the same computation: left
in one graph they would be merged, and nothing would be saved. So a region's inputs and results
are computed when it ends, which lets go of what lies between, and the gradients on their way are
computed before a region runs again. For the same reason a compiled function that checkpoints is
not repeated from one plan.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from lazytorch import engine
from lazytorch.autograd.backward_pass import current_pass, values_underway
from lazytorch.autograd.flow import backward
from lazytorch.autograd.function import Function
from lazytorch.autograd.grad_mode import enable_grad, is_grad_enabled
from lazytorch.autograd.saved import saved_tensors_hooks
from lazytorch.random import fork_rng, get_rng_state, set_rng_state
from lazytorch.tensor import autocast
from lazytorch.tensor.attach import functions
from lazytorch.tensor.site import format_site, user_site
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor

Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


class CheckpointError(RuntimeError):
    """A region saved other tensors when it ran again than the first time."""


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts around the region and around its repetition that do nothing."""
    return nullcontext(), nullcontext()


class _Settings:
    """What ``set_checkpoint_debug_enabled`` and ``set_checkpoint_early_stop`` set; ``None``
    leaves it to each call."""

    debug: bool | None = None
    early_stop: bool | None = None


@contextmanager
def _setting(name: str, value: bool | None) -> Iterator[None]:
    before = getattr(_Settings, name)
    setattr(_Settings, name, value)
    try:
        yield
    finally:
        setattr(_Settings, name, before)


def set_checkpoint_debug_enabled(enabled: bool | None) -> AbstractContextManager[None]:
    """For a ``with`` block, whether errors list the lines that saved each tensor."""
    return _setting("debug", enabled)


def set_checkpoint_early_stop(enable: bool) -> AbstractContextManager[None]:
    """For a ``with`` block, whether a repetition ends when everything was saved again."""
    return _setting("early_stop", enable)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Contexts = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)`` without keeping what its gradient needs.

    With ``use_reentrant=False`` (to be preferred) everything works as without a checkpoint:
    ``autograd.grad``, nesting, keyword arguments. ``True`` runs a backward pass of its own for the
    region, which needs an argument that requires a gradient. ``preserve_rng_state=False`` lets
    random numbers differ in the repetition. ``context_fn`` gives contexts for the region and for
    its repetition; with ``determinism_check="default"`` shapes, dtypes and devices of what is
    saved are compared (:class:`CheckpointError`), with ``"none"`` they are not.

    >>> x = torch.ones(3, requires_grad=True)
    >>> checkpoint(lambda t: t.sin().exp(), x, use_reentrant=False).sum().backward()
    """
    preserve = bool(kwargs.pop("preserve_rng_state", True))
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. "
            "use_reentrant=False is recommended; without it the call is reentrant.",
            UserWarning,
            stacklevel=2,
        )
        use_reentrant = True
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError(
                "Passing `context_fn` or `debug` is only supported when use_reentrant=False."
            )
        return CheckpointFunction.apply(function, preserve, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(
            f"determinism_check should be one of ['default', 'none'], but got {determinism_check}"
        )
    if not is_grad_enabled():
        return function(*args, **kwargs)
    if _Settings.debug is not None:
        debug = _Settings.debug
    if _Settings.early_stop is not None:
        early_stop = _Settings.early_stop
    first, again = context_fn()
    frame = _Frame(function, kwargs, again, preserve, determinism_check, debug, early_stop)
    frame.inputs = _SaveInputs.apply(functions.empty(0, requires_grad=True), *args).grad_fn
    with saved_tensors_hooks(frame.pack, frame.unpack), first:
        result = function(*args, **kwargs)
    _compute([*args, *(result if isinstance(result, (tuple, list)) else (result,))])
    return result


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """The functions (or children of a Sequential) one after another, in checkpointed segments.

    All but the last of ``segments`` about equal parts are checkpointed.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be "
            "passed explicitly. use_reentrant=False is recommended; without it calls are "
            "reentrant.",
            UserWarning,
            stacklevel=2,
        )
        use_reentrant = True
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children() if hasattr(functions, "children") else functions)
    size = len(steps) // segments
    end = -1
    for start in range(0, size * (segments - 1), size):
        end = start + size - 1
        segment = _in_order(steps[start : end + 1])
        input = checkpoint(
            segment, input, use_reentrant=use_reentrant, preserve_rng_state=preserve
        )
    return _in_order(steps[end + 1 :])(input)


def _in_order(steps: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return run


def create_selective_checkpoint_contexts(*_: Any, **__: Any) -> Any:
    """Raises ``NotImplementedError``: operations do not pass a dispatcher that could select."""
    raise NotImplementedError(
        "selective checkpointing by operation is not available: checkpoint the parts that should "
        "be made again, or choose by tensor with torch.autograd.graph.saved_tensors_hooks"
    )


def _compute(values: Sequence[Any]) -> None:
    """Compute what is pending in the tensors among ``values``, and all noted state."""
    engine.looked("it checkpoints: its parts are computed one after another to save memory")
    tensors = [value for value in values if isinstance(value, Tensor)]
    waiting = [_Pending(tensor) for tensor in tensors if tensor._device.type != "meta"]
    for one in waiting:
        engine.note_state(one)
    engine.flush()


class _Pending:
    """A value that the engine is asked to compute with the noted state."""

    __slots__ = ("__weakref__", "node")

    def __init__(self, tensor: Tensor) -> None:
        self.node = node_of(tensor)


# Without a backward pass of its own -------------------------------------------------------------


class _Enough(Exception):
    """Everything was saved again: the rest of the region need not run."""


class _Holder:
    """Stands on the tape for a tensor that is made again when it is asked for."""

    __slots__ = ("__weakref__", "tensor")
    tensor: Tensor | None

    def __init__(self) -> None:
        self.tensor = None


class _SaveInputs(Function):
    """Keeps a region's inputs as an operation would: checked, and packed by hooks outside."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *args: Any) -> Tensor:
        places = [n for n, value in enumerate(args) if isinstance(value, Tensor)]
        ctx.save_for_backward(*[args[n] for n in places])
        ctx.rest = [None if n in places else value for n, value in enumerate(args)]
        ctx.places = places
        return functions.empty(0)  # type: ignore[no-any-return]


class _Frame:
    """One run of a checkpointed region: what it takes to run it again."""

    inputs: Any

    def __init__(
        self, function: Callable[..., Any], kwargs: dict[str, Any],
        context: AbstractContextManager[Any], preserve: bool, check: str, debug: bool,
        early_stop: bool,
    ) -> None:  # fmt: skip
        self._function = function
        self._kwargs = kwargs
        self._context = context
        self._rng = get_rng_state() if preserve else None
        self._casts = autocast.snapshot()
        self._checks = check == "default"
        self._debug = debug
        self._stops_early = early_stop
        self._holders: list[weakref.ref[_Holder]] = []
        self._forms: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def pack(self, tensor: Tensor) -> _Holder:
        """Note that the region saved a tensor; a holder is all that is kept."""
        holder = _Holder()
        self._holders.append(weakref.ref(holder))
        self._forms.append(_form(tensor))
        if self._debug:
            self._lines.append(_line())
        return holder

    def unpack(self, holder: _Holder) -> Tensor:
        """The tensor for a holder, which forgets it: another pass makes it anew."""
        if holder.tensor is None:
            self._run_again()
        found = holder.tensor
        if found is None:
            raise CheckpointError(
                "torch.utils.checkpoint: a tensor saved in the forward pass was not saved when "
                "the region ran again"
            )
        holder.tensor = None
        return found

    def _run_again(self) -> None:
        _compute(values_underway())
        ctx = self.inputs
        args = list(ctx.rest)
        for place, tensor in zip(ctx.places, ctx.saved_tensors):
            args[place] = tensor
        again = _Repetition(self)
        hooks = saved_tensors_hooks(again.pack, lambda nothing: nothing)
        casts, random = autocast.restored(self._casts), _random_state(self._rng)
        with enable_grad(), casts, random, self._context, hooks, suppress(_Enough):
            self._function(*args, **self._kwargs)
        if self._checks:
            again.check()


class _Repetition:
    """What a region saves when it runs again, handed to the holders of the first run."""

    def __init__(self, frame: _Frame) -> None:
        self._frame = frame
        self._forms: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def pack(self, tensor: Tensor) -> None:
        """Hand a tensor to its holder, if that is still wanted."""
        frame, place = self._frame, len(self._forms)
        self._forms.append(_form(tensor))
        if frame._debug:
            self._lines.append(_line())
        if place < len(frame._holders):
            holder = frame._holders[place]()
            if holder is not None:
                holder.tensor = tensor.detach()  # type: ignore[attr-defined]
        if frame._stops_early and len(self._forms) == len(frame._holders):
            raise _Enough

    def check(self) -> None:
        """Compare with the first run: the number of tensors, then their forms."""
        first = self._frame._forms
        if len(first) != len(self._forms):
            raise CheckpointError(
                "torch.utils.checkpoint: A different number of tensors was saved during the "
                "original forward and recomputation.\n"
                f"Number of tensors saved during forward: {len(first)}\n"
                f"Number of tensors saved during recomputation: {len(self._forms)}.{self._hint()}"
            )
        differing = [
            f"tensor at position {place}:\nsaved metadata: {before}\nrecomputed metadata: {now}\n"
            for place, (before, now) in enumerate(zip(first, self._forms))
            if before != now
        ]
        if differing:
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values for the following tensors have "
                f"different metadata than during the forward pass.\n{''.join(differing)}"
                f"{self._hint()}"
            )

    def _hint(self) -> str:
        if not self._frame._debug:
            return "\nPass debug=True to checkpoint() to see the lines that saved them."
        lines = [
            "\nSaved during forward at:", *self._frame._lines,
            "Saved during recomputation at:", *self._lines,
        ]  # fmt: skip
        return "\n  ".join(lines)


def _form(tensor: Tensor) -> dict[str, Any]:
    return {"shape": tensor.shape, "dtype": tensor.dtype, "device": tensor.device}


def _line() -> str:
    site = user_site()
    return "an unknown line" if site is None else format_site(site)


@contextmanager
def _random_state(state: Any) -> Iterator[None]:
    """The generator as it was, for a ``with`` block; as it is where there is no state."""
    with fork_rng(enabled=state is not None):
        if state is not None:
            set_rng_state(state)
        yield


# With a backward pass of its own ----------------------------------------------------------------


class CheckpointFunction(Function):
    """A region run off the tape, and again, with a backward pass of its own, for its gradient."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if not any(isinstance(value, Tensor) and value.requires_grad for value in args):
            warnings.warn(
                "None of the inputs have requires_grad=True. Gradients will be None",
                UserWarning,
                stacklevel=4,
            )
        ctx.function = function
        ctx.rng = get_rng_state() if preserve else None
        ctx.casts = autocast.snapshot()
        ctx.places = [n for n, value in enumerate(args) if isinstance(value, Tensor)]
        ctx.rest = [None if n in ctx.places else value for n, value in enumerate(args)]
        ctx.save_for_backward(*[args[n] for n in ctx.places])
        result = function(*args)
        _compute([*args, *(result if isinstance(result, tuple) else (result,))])
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if current_pass().wanted is not None:
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or "
                "passing an `inputs` parameter to .backward(). To resolve this error, you can "
                "either set use_reentrant=False, or call .backward() without passing the `inputs` "
                "argument."
            )
        _compute(values_underway())
        args = list(ctx.rest)
        for place, tensor in zip(ctx.places, ctx.saved_tensors):
            args[place] = tensor.detach().requires_grad_(tensor.requires_grad)
        with _random_state(ctx.rng), autocast.restored(ctx.casts), enable_grad():
            results = ctx.function(*args)
        made = results if isinstance(results, tuple) else (results,)
        pairs = [
            (out, gradient)
            for out, gradient in zip(made, gradients)
            if isinstance(out, Tensor) and out.requires_grad
        ]
        if not pairs:
            raise RuntimeError(
                "none of output has requires_grad=True, this checkpoint() is not necessary"
            )
        backward([out for out, _ in pairs], [gradient for _, gradient in pairs])
        return None, None, *[a.grad if isinstance(a, Tensor) else None for a in args]


__all__ = [
    "CheckpointError",
    "CheckpointFunction",
    "checkpoint",
    "checkpoint_sequential",
    "create_selective_checkpoint_contexts",
    "noop_context_fn",
    "set_checkpoint_debug_enabled",
    "set_checkpoint_early_stop",
]
