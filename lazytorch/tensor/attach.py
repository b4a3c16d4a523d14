"""One definition of a function, every surface of it: ``torch.f``, ``Tensor.f``, ``f_``, ``out=``.

``functions`` is the namespace that gradient rules get as ``f``. It is filled by the layers
above, which is why the layers below can name functions they may not import.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

from lazytorch.dtypes import DType
from lazytorch.tensor.autocast import cast_method, casting, regions
from lazytorch.tensor.tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

functions: Any = SimpleNamespace()


class NoTensorError(TypeError):
    """None of the operands is a tensor: whoever knows the function's name says it."""


@dataclass(frozen=True)
class Target:
    """What a function asks of ``out=``.

    ``apart``: in no memory that an input reads. ``exact``: how many results, from the first, are
    stored only where the dtype is their own. ``decides``: the result is made in the target's
    dtype and on its device, where the call names no others. ``known``: the dtype of the result
    where it is the same always; another target is refused before inputs are looked at.
    """

    apart: bool = False
    exact: int = 0
    decides: bool = False
    known: DType | None = None


ANY_TARGET = Target()


def public(
    name: str | None = None,
    *,
    method: bool = True,
    function: bool = True,
    inplace: bool = False,
    out: bool | Target = True,
    aliases: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Decorate ``f(input, ...)`` to make it public.

    ``method`` attaches it to Tensor, ``function`` to the torch namespace (where ``out=`` is
    understood unless ``out`` is false; a Target says what is asked of it), ``inplace`` adds
    ``name_`` to both. In ``autocast`` regions the function casts, its form in place does not.
    Aliases are further names for all of these. Parameters whose type is Tensor take nothing else.
    """

    def decorate(original: Function) -> Function:
        main = name or original.__name__
        target = ANY_TARGET if out is True else out
        implementation = _with_numpy_names(original)
        cast_first = casting(main, implementation)
        for spelled in (main, *aliases):
            if method:
                setattr(Tensor, spelled, implementation)
                cast_method(spelled, main)
            if function:
                called: Any = cast_first
                if target:
                    called = _as_function(implementation, spelled, target, cast_first)
                setattr(functions, spelled, called)
            if inplace:
                changed = _in_place(implementation, spelled)
                setattr(Tensor, spelled + "_", changed)
                if function:
                    setattr(functions, spelled + "_", changed)
        return original

    return decorate


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def _with_numpy_names(implementation: Function) -> Function:
    """Let NumPy's ``axis`` and ``keepdims`` stand for ``dim`` and ``keepdim``, as PyTorch does."""
    code = inspect.unwrap(implementation).__code__
    taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "dim" not in taken or "axis" in taken:
        return implementation

    @functools.wraps(implementation)
    def renaming(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for alias, proper in _NUMPY_NAMES.items():
                if alias in kwargs:
                    kwargs[proper] = kwargs.pop(alias)
        return implementation(*args, **kwargs)

    return renaming  # type: ignore[return-value]


def with_out(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """The function with ``out=``: tensors into which the results are stored."""
    return _as_function(implementation, implementation.__name__, ANY_TARGET, implementation)


def _as_function(
    implementation: Callable[..., Any],
    name: str,
    target: Target,
    cast_first: Callable[..., Any],
) -> Callable[..., Any]:
    """What is called as ``torch.name``: it knows ``out=``, and says which argument was wrong.

    A call that succeeds pays for neither: arguments are looked at when the function has failed.
    ``cast_first`` is the implementation that casts in ``autocast`` regions; ``out=`` wants none of
    that.
    """
    places = _tensor_places(implementation)

    @functools.wraps(implementation)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            if "out" in kwargs:
                return functions.call_with_out(name, implementation, target, args, kwargs)
            return (cast_first if regions.open else implementation)(*args, **kwargs)
        except Exception as error:
            complaint = _complaint(name, places, args, error)
            if complaint is None:
                raise
            raise TypeError(complaint) from None

    return call


def _tensor_places(implementation: Callable[..., Any]) -> tuple[tuple[int, str], ...]:
    """Position and name of the parameters that have to be tensors."""
    written = inspect.unwrap(implementation)
    code = written.__code__
    names = code.co_varnames[: code.co_argcount]
    kinds = written.__annotations__
    return tuple(
        (place, name) for place, name in enumerate(names) if kinds.get(name) in ("Tensor", Tensor)
    )


def _complaint(
    name: str, places: tuple[tuple[int, str], ...], args: Any, error: Exception, first: int = 1
) -> str | None:
    """What was wrong with the arguments of a call that failed, where it is their type.

    ``first`` is the position of the first argument: a method's is before the ones that count.
    """
    for place, parameter in places:
        if place < len(args) and not isinstance(args[place], Tensor):
            return not_a_tensor(name, parameter, place + first or 1, args[place])
    if isinstance(error, NoTensorError):
        given = ", ".join(type(arg).__name__ for arg in args)
        return (
            f"{name}() received an invalid combination of arguments - got ({given}), but one of "
            "them must be a Tensor"
        )
    return None


def not_a_tensor(name: str, parameter: str, position: int, value: Any) -> str:
    """The message about an argument that has to be a tensor and is not."""
    return (
        f"{name}(): argument '{parameter}' (position {position}) must be Tensor, not "
        f"{type(value).__name__}"
    )


def _in_place(implementation: Callable[..., Any], name: str) -> Callable[..., Any]:
    places = _tensor_places(implementation)

    def changed(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        try:
            value = implementation(functions.snapshot(self), *args, **kwargs)
        except Exception as error:
            complaint = _complaint(name + "_", places, (self, *args), error, first=0)
            if complaint is None:
                raise
            raise TypeError(complaint) from None
        result: Tensor = functions.assign_result(self, value)
        return result

    changed.__name__ = changed.__qualname__ = name + "_"
    changed.__doc__ = f"``{name}`` that writes its result into the tensor itself."
    return changed
