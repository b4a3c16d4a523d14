"""Subclasses of Tensor: operations on them give the subclass, or what it says they give.

PyTorch's protocol (https://docs.pytorch.org/docs/stable/notes/extending.html): a function or
method that is given an instance of a subclass calls the subclass's ``__torch_function__``, whose
default computes as if there were no subclass and makes the results instances of it.

Programs without subclasses pay nothing for this. The first class that is derived from Tensor puts
functions that ask in the place of Tensor's methods and of the functions of ``torch``,
``torch.nn.functional`` and the like: a function taken out of its module before that does not ask.
Parameters are subclasses that want none of it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from lazytorch.tensor.tensor import Tensor

# Whether a subclass that overrides functions was ever defined.
state: Any = type("State", (), {"active": False})()
_thread = threading.local()


class Overridable(Tensor):
    """What stands between Tensor and a subclass: Tensor's properties, asking the subclass first."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unbind(0)) if self.ndim else super().__iter__()


def default(
    cls: type[Tensor], func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
) -> Any:
    """Compute ``func`` as for plain tensors; results are instances of the subclass.

    ``NotImplemented`` where another of the types is no base of the subclass.
    """
    if not all(issubclass(cls, other) for other in types):
        return NotImplemented
    with disabled():
        result = func(*args, **(kwargs or {}))
    return result if func in _KEPT_PLAIN else _converted(result, cls, args)


def refuse_overriding(
    cls: type[Tensor], func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
) -> Any:
    """``__torch_function__`` of subclasses whose operations give plain tensors."""
    return NotImplemented


@contextmanager
def disabled() -> Iterator[None]:
    """Subclasses count as plain tensors inside."""
    before = getattr(_thread, "disabled", False)
    _thread.disabled = True
    try:
        yield
    finally:
        _thread.disabled = before


def _converted(result: Any, cls: type[Tensor], args: Any) -> Any:
    if isinstance(result, Tensor):
        if isinstance(result, cls):
            return result
        if any(result is arg for arg in args) or type(result) is not Tensor:
            return result.as_subclass(cls)
        try:
            # A view stays the view that it is, of the same base.
            result.__class__ = cls
        except TypeError:  # The subclass has slots of its own.
            return result.as_subclass(cls)
        return result
    if isinstance(result, (tuple, list)):
        items = [_converted(item, cls, args) for item in result]
        if type(result) in (tuple, list):
            return type(result)(items)
        # Named results take their fields one by one; a Size holds numbers.
        return type(result)(*items) if hasattr(result, "_fields") else result
    return result


# Asking the subclasses ------------------------------------------------------------------------


def overriding(args: Sequence[Any]) -> list[type]:
    """The overriding types among arguments and lists of them, subclasses before their bases."""
    found: list[type] = []
    for arg in args:
        for item in arg if isinstance(arg, (tuple, list)) else (arg,):
            kind = type(item)
            if isinstance(item, Overridable) and kind not in found and _overrides(kind):
                place = next((i for i, t in enumerate(found) if issubclass(kind, t)), len(found))
                found.insert(place, kind)
    return found


def _overrides(kind: Any) -> bool:
    return kind.__torch_function__.__func__ is not refuse_overriding


def ask(
    func: Any, name: str, types: list[type], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """What the first type that implements ``func`` answers; ``TypeError`` where none does."""
    for kind in types:
        answer = kind.__torch_function__(func, tuple(types), tuple(args), kwargs)  # type: ignore[attr-defined]
        if answer is not NotImplemented:
            return answer
    listed = "\n".join(f"  - tensor subclass {kind}" for kind in types)
    raise TypeError(
        f"Multiple dispatch failed for '{name}'; all __torch_function__ handlers returned "
        f"NotImplemented:\n\n{listed}"
    )


def make_overridable(namespace: dict[str, Any]) -> None:
    """Let the public functions of a module ask subclasses, from the first subclass on."""
    _namespaces.append(namespace)
    if state.active:
        _replace_functions(namespace)


def _replace_functions(namespace: dict[str, Any]) -> None:
    for name, function in list(namespace.items()):
        if name.startswith("_") or name in _PLAIN or not isinstance(function, FunctionType):
            continue
        if function.__module__.startswith("lazytorch"):
            namespace[name] = overridable(function)


_namespaces: list[dict[str, Any]] = []
# Functions that make plain tensors of anything, as PyTorch's do.
_PLAIN = {"as_tensor", "asarray", "is_tensor", "tensor", "typename"}


def overridable(function: Callable[..., Any], place: str = "torch") -> Callable[..., Any]:
    """The function, asking subclasses first."""

    @functools.wraps(function)
    def asking(*args: Any, **kwargs: Any) -> Any:
        if not getattr(_thread, "disabled", False):
            types = overriding((*args, *kwargs.values()) if kwargs else args)
            if types:
                return ask(asking, f"{place}.{asking.__name__}", types, args, kwargs)
        return function(*args, **kwargs)

    return asking


# The methods of subclasses --------------------------------------------------------------------

# Of these the subclass is made or copied, or they are made of methods that ask themselves.
_NOT_ASKED = {
    "__new__", "__init__", "__init_subclass__", "__torch_function__", "__hash__", "__iter__",
    "__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__setstate__", "as_subclass",
    "__getattr__", "__class__",
}  # fmt: skip
# What an operator is called to a subclass: the method of the same meaning.
_METHODS = {
    "__add__": "add", "__radd__": "add", "__sub__": "sub", "__mul__": "mul", "__rmul__": "mul",
    "__truediv__": "div", "__iadd__": "add_", "__isub__": "sub_", "__imul__": "mul_",
    "__itruediv__": "div_",
}  # fmt: skip
_OPERATORS = {
    f"__{side}{name}__"
    for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
        "lshift", "rshift",
    )
    for side in ("", "r", "i")
} | {f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")}  # fmt: skip
_KEPT_PLAIN: list[Any] = []


def _asking_operator(name: str, method: str) -> Callable[..., Any]:
    """The operator, which subclasses know as a method; NotImplemented where that is a TypeError."""
    plain = getattr(Tensor, name)
    known = getattr(Tensor, method)

    @functools.wraps(plain)
    def operator(*args: Any) -> Any:
        if getattr(_thread, "disabled", False) or not (types := overriding(args)):
            return plain(*args)
        try:
            return ask(known, f"torch.Tensor.{method}", types, args, {})
        except TypeError:
            return NotImplemented

    return operator


def _asking_property(name: str, plain: property) -> property:
    def of(accessor: str) -> Any:
        function = getattr(plain, accessor)

        def access(*args: Any) -> Any:
            if not getattr(_thread, "disabled", False) and (types := overriding(args[:1])):
                return ask(function, f"torch.Tensor.{name}.{accessor}", types, args, {})
            return function(*args)

        return access

    return property(*(of(f"__{verb}__") for verb in ("get", "set", "delete")))


def _install() -> None:
    """Put what asks in the place of what does not."""
    for name, member in list(vars(Tensor).items()):
        if name in _NOT_ASKED or (name.startswith("_") and not name.startswith("__")):
            continue
        if isinstance(member, FunctionType):
            asking = overridable(member, "torch.Tensor")
            asking.__name__ = name
            setattr(Tensor, name, asking)
        elif isinstance(member, property):
            setattr(Overridable, name, _asking_property(name, member))
    for name in _OPERATORS:
        if hasattr(Tensor, name):
            setattr(Tensor, name, _asking_operator(name, _METHODS.get(name, name)))
    _KEPT_PLAIN.extend(vars(Tensor)[name].__get__ for name in ("grad", "_base"))
    for namespace in _namespaces:
        _replace_functions(namespace)
    state.active = True


def _prepare(cls: type[Tensor]) -> None:
    """Derive a new subclass from Overridable, unless operations on it give plain tensors."""
    if cls is Overridable or not _overrides(cls):
        return
    if not state.active:
        _install()
    cls.__bases__ = tuple(Overridable if base is Tensor else base for base in cls.__bases__)


_members: Any = Tensor
_members.__torch_function__ = classmethod(default)
_members.__init_subclass__ = classmethod(_prepare)
