"""Whether operations are written to the tape: a setting of the current thread."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    enabled = True
    inference = False
    # Whether a level of ``forward_ad`` is open: its tangents come from the tape, which therefore
    # stays on; ``muted`` says then that it was to be off.
    forward = False
    muted = False


mode = _Mode()


class _Inference:
    """How many ``inference_mode`` blocks are open in the process: while there are none, making a
    tensor asks nothing further."""

    __slots__ = ("threads",)

    def __init__(self) -> None:
        self.threads = 0


inference = _Inference()


class ModeGuard:
    """A context manager that also decorates functions and generator functions."""

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_: Any) -> None:
        raise NotImplementedError

    def _again(self) -> ModeGuard:
        return self.__class__()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isclass(function):
            setattr(function, "__init__", self(function.__init__))  # noqa: B010 - for mypy
            return function
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapper

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            with self._again():
                try:
                    item = next(generator)
                except StopIteration as stop:
                    return stop.value
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:
                    with self._again():
                        item = generator.throw(error)
                else:
                    with self._again():
                        try:
                            item = generator.send(sent)
                        except StopIteration as stop:
                            return stop.value

        return wrapper


class no_grad(ModeGuard):
    """Operations inside are not written to the tape.

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """

    _wanted = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        guard = object.__new__(cls)
        # Used as a bare decorator: ``@torch.no_grad``.
        return guard if function is None else guard(function)

    def __enter__(self) -> None:
        self._before = _switch(self._wanted)

    def __exit__(self, *_: Any) -> None:
        mode.enabled, mode.muted = self._before


class enable_grad(no_grad):
    """Operations inside are written to the tape again."""

    _wanted = True


class set_grad_enabled(ModeGuard):
    """Turn the tape on or off, at once when called, or for a ``with`` block."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(
                "set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        self._wanted = mode
        self._before = _switch(self._wanted)

    def __enter__(self) -> None:
        _switch(self._wanted)

    def __exit__(self, *_: Any) -> None:
        mode.enabled, mode.muted = self._before

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode.enabled, mode.muted = self._before
        return super().__call__(function)

    def _again(self) -> ModeGuard:
        return set_grad_enabled(self._wanted)


class inference_mode(ModeGuard):
    """As ``no_grad``; tensors made inside are inference tensors for ever.

    They count no versions; outside they can neither be written to, nor require a gradient, nor be
    saved for one (``RuntimeError``): a clone can.
    """

    def __new__(cls, mode: Any = True) -> Any:
        guard = object.__new__(cls)
        if callable(mode):
            guard._wanted = True
            return guard(mode)
        return guard

    def __init__(self, mode: bool = True) -> None:
        self._wanted = bool(mode)

    def __enter__(self) -> None:
        self._before = (mode.enabled, mode.inference)
        mode.inference = self._wanted
        mode.enabled = not self._wanted or mode.forward
        inference.threads += self._wanted

    def __exit__(self, *_: Any) -> None:
        mode.enabled, mode.inference = self._before
        inference.threads -= self._wanted

    def _again(self) -> ModeGuard:
        return inference_mode(self._wanted)


def _switch(wanted: bool) -> tuple[bool, bool]:
    """Turn the tape on or off; what was set before."""
    before = mode.enabled, mode.muted
    mode.enabled, mode.muted = wanted or mode.forward, mode.forward and not wanted
    return before


def is_grad_enabled() -> bool:
    """Whether operations are written to the tape in this thread."""
    return mode.enabled and not mode.muted


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return mode.inference
