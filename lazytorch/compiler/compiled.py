"""Compiled functions and modules: which program fits a call, and when to make another."""

from __future__ import annotations

import functools
import os
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from lazytorch import config, engine
from lazytorch.autograd.grad_mode import mode
from lazytorch.autograd.watch import watch
from lazytorch.compiler.program import Changed, Program
from lazytorch.compiler.recording import record
from lazytorch.errors import LazytorchError, LazytorchWarning
from lazytorch.nn.global_hooks import call_hooks
from lazytorch.nn.module import Module
from lazytorch.tensor import autocast
from lazytorch.tensor.promotion import get_default_dtype
from lazytorch.tensor.storage import dtype_of, shape_of
from lazytorch.tensor.tensor import Tensor

MOST_PROGRAMS = 16
MOST_ATTEMPTS = 4
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_functions: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


class Unsupported(LazytorchError):
    """``fullgraph=True`` was asked for, and the function cannot be repeated from one plan."""


class _Calls:
    """What is known about calls with one signature of arguments."""

    __slots__ = ("attempts", "ordinary", "programs", "reason")

    def __init__(self) -> None:
        self.programs: list[Program] = []
        self.attempts = 0
        self.ordinary = False
        self.reason = ""


class _AllCalls:
    """Whether all compiled functions run as if they were not compiled (``set_stance``)."""

    ordinary = False


calls = _AllCalls()


class CompiledFunction:
    """A function whose calls are repeated from plans; what :func:`compile` returns."""

    def __init__(self, function: Callable[..., Any], fullgraph: bool) -> None:
        functools.update_wrapper(self, function)
        self._orig_function = function
        self._fullgraph = fullgraph
        self._calls: dict[Any, _Calls] = {}
        self._warned = False
        _functions.add(self)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (
            engine.current.capture is not None
            or watch.active
            or calls.ordinary
            or config.get("EAGER")
        ):
            # Inside another compiled function, its capture covers this call too.
            return self._orig_function(*args, **kwargs)
        arguments: list[Tensor] = []
        key = _key_of(args, kwargs, arguments)
        if key is None:
            return self._orig_function(*args, **kwargs)
        known = self._calls.get(key)
        if known is None:
            known = self._calls[key] = _Calls()
        elif known.ordinary:
            return self._orig_function(*args, **kwargs)
        for program in known.programs:
            if program.verified and program.stale() is None:
                try:
                    return program.run(arguments)
                except Changed:
                    return self._orig_function(*args, **kwargs)
        return self._traced(known, args, kwargs, arguments)

    def _traced(
        self, calls: _Calls, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: list[Tensor]
    ) -> Any:
        """Call the function under a capture and learn from it."""
        if len(self._calls) > MOST_PROGRAMS or len(calls.programs) > MOST_PROGRAMS:
            calls.ordinary = True
            self._warn(f"it is called in more than {MOST_PROGRAMS} different ways")
            return self._orig_function(*args, **kwargs)
        outcome = record(
            self._orig_function, args, kwargs, arguments, self._refused if self._fullgraph else None
        )
        if outcome.program is None:
            calls.attempts += 1
            if outcome.on_tape:
                calls.ordinary = calls.attempts >= 2
            elif calls.attempts >= MOST_ATTEMPTS:
                calls.ordinary = True
                self._warn(outcome.reason)
            return outcome.value
        self._keep(calls, outcome.program)
        return outcome.value

    def _keep(self, calls: _Calls, program: Program) -> None:
        """A program is believed when a second capture gives the same one."""
        signature = program.signature()
        for place, known in enumerate(calls.programs):
            if known.signature() == signature:
                program.verified = True
                calls.attempts = 0
                calls.programs[place] = program
                return
        unverified = [known for known in calls.programs if not known.verified]
        if unverified and unverified[0].stale() is None:
            calls.attempts += 1
            calls.programs.remove(unverified[0])
            if calls.attempts >= MOST_ATTEMPTS:
                calls.ordinary = True
                self._warn("it computes with numbers that differ from call to call")
                return
        calls.programs.insert(0, program)

    def _warn(self, reason: str) -> None:
        if self._fullgraph:
            raise self._refused(reason)
        if not self._warned:
            self._warned = True
            code = getattr(self._orig_function, "__code__", None)
            where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
            warnings.warn(
                f"LT006: {getattr(self, '__name__', 'the function')}{where} is not repeated from "
                f"a plan: {reason}. It runs as if it were not compiled.",
                LazytorchWarning,
                stacklevel=4,
            )

    def _refused(self, reason: str) -> Exception:
        name = getattr(self, "__name__", "the function")
        return Unsupported(
            f"torch.compile(fullgraph=True): {name} cannot be repeated from one plan: {reason}"
        )


class OptimizedModule(Module):
    """A module whose calls are compiled; attributes and state are those of ``_orig_mod``."""

    _orig_mod: Module

    def __init__(self, module: Module, fullgraph: bool) -> None:
        super().__init__()
        self._orig_mod = module
        self.__dict__["_compiled"] = CompiledFunction(module.__call__, fullgraph)
        self.__dict__["training"] = module.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The compiled call of the original module."""
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ("_orig_mod", "_modules"):
            return super().__getattr__(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._orig_mod, name)


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "lazytorch",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
) -> Any:
    """A function or module whose calls are repeated from captured plans, with no graph in between.

    The first calls run as ever and are captured; when two agree, later ones bind the plan to the
    current tensors and launch it. A plan is used only while everything the function can reach is
    what it was: shapes, dtypes and flags of tensors, Python numbers and texts among arguments, in
    closures, globals and attributes, the training flags and hooks of modules. Learning rates,
    step counts and random offsets are read anew in each call. Where something differs the call is
    traced again. Best compiled is a whole training step, with ``backward`` and ``optimizer.step()``
    inside.

    A call whose result has a live gradient history (a model compiled on its own in a training
    loop) is traced each time: its plans are cached, and its backward belongs to the caller. What
    looks at values on the way (``.item()``, ``print``) or changes Python objects it can reach is
    not repeated: after a few calls one warning says why, and with ``fullgraph`` it is an
    :class:`Unsupported` error. ``dynamic``, ``backend``, ``mode`` and ``options`` are accepted and
    change nothing; ``disable`` returns the function itself. Usable as a decorator, with and
    without arguments.

    >>> @torch.compile
    ... def double(x):
    ...     return x + x
    >>> [double(torch.ones(2) * i) for i in range(3)][2]
    tensor([4., 4.])
    """
    del dynamic, backend, mode, options
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, disable=disable)
    if disable:
        return model
    if isinstance(model, OptimizedModule):
        return model
    if isinstance(model, Module):
        return OptimizedModule(model, fullgraph)
    if not callable(model):
        raise TypeError(f"torch.compile expects a function or a Module, got {type(model).__name__}")
    return CompiledFunction(model, fullgraph)


def reset() -> None:
    """Forget every captured program of every compiled function."""
    for function in list(_functions):
        function._calls.clear()
        function._warned = False


# Their plans are of devices that a forked child may not use.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)


def is_compiling() -> bool:
    """Whether a compiled function is being captured now."""
    return engine.current.capture is not None


# Keys of calls ----------------------------------------------------------------------------------


def _key_of(args: tuple[Any, ...], kwargs: dict[str, Any], arguments: list[Tensor]) -> Any:
    """What a program may depend on in a call's arguments and modes; fills ``arguments``.

    ``None`` when tensors among them have hooks: those run Python at times a plan knows nothing of.
    """
    parts: list[Any] = [
        mode.enabled, mode.inference, get_default_dtype(), config.get("FUSION"),
        autocast.settings(), len(call_hooks),
    ]  # fmt: skip
    for value in args:
        parts.append(_part(value, arguments))
    for name in kwargs:
        parts.append((name, _part(kwargs[name], arguments)))
    aliases: dict[int, int] = {}
    for place, tensor in enumerate(arguments):
        if tensor._extra is not None:
            return None
        storage = tensor._storage
        first = aliases.setdefault(id(tensor if storage is None else storage), place)
        if first != place:
            parts.append((first, place))
    return tuple(parts)


def _part(value: Any, arguments: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        arguments.append(value)
        view = value._view
        layout = None if view is None else (view.strides, view.offset)
        return (
            shape_of(value), dtype_of(value), value._device, value._requires_grad,
            value._grad_fn is None, value._grad is None, layout,
        )  # fmt: skip
    kind = type(value)
    if kind in _PLAIN:
        return (kind, repr(value) if kind in (float, complex) else value)
    if kind in (list, tuple) or hasattr(value, "_fields"):
        return (kind, *[_part(item, arguments) for item in value])
    if kind is dict:
        return (kind, *[(key, _part(item, arguments)) for key, item in value.items()])
    return (kind, id(value))


__all__ = ["CompiledFunction", "OptimizedModule", "Unsupported", "compile", "is_compiling", "reset"]
