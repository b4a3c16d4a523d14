"""One definition of a function, every surface of it: ``torch.f``, ``Tensor.f``, ``f_``, ``out=``.

``functions`` is the namespace that gradient rules get as ``f``. It is filled by the layers
above, which is why the layers below can name functions they may not import.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from lazytorch.tensor.tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

functions: Any = SimpleNamespace()
_finish_inplace: list[Callable[[Tensor, Tensor], Tensor]] = []
_snapshot: list[Callable[[Tensor], Tensor]] = []


def public(
    name: str | None = None,
    *,
    method: bool = True,
    function: bool = True,
    inplace: bool = False,
    out: bool = True,
    aliases: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Decorate ``f(input, ...)`` to make it public.

    ``method`` attaches it to Tensor, ``function`` to the torch namespace (where ``out=`` is
    understood unless ``out`` is false), ``inplace`` adds ``name_`` to both. Aliases are further
    names for all of these.
    """

    def decorate(original: Function) -> Function:
        main = name or original.__name__
        implementation = _with_numpy_names(original)
        for spelled in (main, *aliases):
            if method:
                setattr(Tensor, spelled, implementation)
            if function:
                setattr(functions, spelled, with_out(implementation) if out else implementation)
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
    code = implementation.__code__  # type: ignore[attr-defined]
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

    @functools.wraps(implementation)
    def storing(*args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            return _store(implementation, args, kwargs)
        return implementation(*args, **kwargs)

    return storing


def _store(implementation: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    out = kwargs.pop("out")
    result = implementation(*args, **kwargs)
    if out is None:
        return result
    if isinstance(result, tuple):
        for target, value in zip(out, result):
            functions.copy_out(target, value)
        return type(result)(out) if type(result) is tuple else type(result)(*out)
    functions.copy_out(out, result)
    return out


def _in_place(implementation: Callable[..., Any], name: str) -> Callable[..., Any]:
    def changed(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = functions.assign_result(
            self, implementation(functions.snapshot(self), *args, **kwargs)
        )
        return result

    changed.__name__ = changed.__qualname__ = name + "_"
    changed.__doc__ = f"``{name}`` that writes its result into the tensor itself."
    return changed
