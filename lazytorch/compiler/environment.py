"""What a function can reach without being told: closures, globals, modules, optimizers, tensors.

A captured plan may be repeated only while all of this is what it was. The walk notes every Python
number, text and flag it meets by value, every other object by identity, and every tensor, whose
content is read anew at each repetition. It follows functions into their closures and the globals
they name, and objects into their attributes; lazytorch's own functions hold no state of the user.
"""

from __future__ import annotations

import builtins
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lazytorch.optim.optimizer import Optimizer
from lazytorch.tensor.device import device
from lazytorch.tensor.generator import Generator
from lazytorch.tensor.tensor import Tensor

# More objects than this are not worth checking at every call.
MOST_OBJECTS = 50_000
LARGEST_ARRAY = 1 << 14
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_FOREIGN = ("lazytorch", "numpy", "torch", "builtins", "functools", "collections", "typing")
_missing: Any = object()
# Builtins whose effect a repetition would not have.
_EFFECTS = frozenset(("print", "input", "open", "exec", "eval"))


class Environment:
    """Everything found from some roots, and whether it still is as it was found."""

    def __init__(self, *roots: Any) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.optimizers: list[Optimizer] = []
        self.refused: str | None = None
        self._tables: list[tuple[Any, int, tuple[tuple[Any, Any], ...]]] = []
        self._lists: list[tuple[Any, tuple[Any, ...]]] = []
        self._cells: list[tuple[Any, Any]] = []
        self._arrays: list[tuple[np.ndarray, bytes]] = []
        self._updates: list[tuple[Optimizer, tuple[Any, ...]]] = []
        self._seen: dict[int, Any] = {}
        self._reads_groups = False
        stack = list(roots)
        while stack:
            stack.extend(self._visit(stack.pop()))
            if len(self._seen) > MOST_OBJECTS:
                self.refused = "it can reach too many objects to check them at every call"
                break
        # What was only passed through need not stay alive; the roots' identities are in keys.
        self._seen = {}
        self._roots = roots
        if self._reads_groups:
            # It computes with options of an optimizer itself: they are constants of the plan.
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    self._note_table(group)

    def changed(self) -> str | None:
        """What is not as it was found, or ``None``."""
        for table, length, entries in self._tables:
            if len(table) != length and not isinstance(table, _Attributes):
                return f"a table of {length} entries has {len(table)}"
            for key, value in entries:
                now = table.get(key, _missing)
                if now is not value and not _equal(now, value):
                    return f"{key!r} is another"
        for items, before in self._lists:
            if len(items) != len(before):
                return f"a list of {len(before)} entries has {len(items)}"
            for now, value in zip(items, before):
                if now is not value and not _equal(now, value):
                    return "an entry of a list is another"
        for cell, value in self._cells:
            now = _content(cell)
            if now is not value and not _equal(now, value):
                return "a variable of an enclosing function is another"
        for array, content in self._arrays:
            if array.tobytes() != content:
                return "a NumPy array has other values"
        for optimizer, shape in self._updates:
            if optimizer._shape_of_update() != shape:
                return "an optimizer's options are others"
        return None

    def note_updates(self) -> None:
        """Take the optimizers' options as they are now for what must not change."""
        self._updates = [(optimizer, optimizer._shape_of_update()) for optimizer in self.optimizers]

    # The walk ---------------------------------------------------------------------------------

    def _visit(self, item: Any) -> Iterator[Any]:
        kind = type(item)
        if kind in _SCALARS or id(item) in self._seen:
            return
        self._seen[id(item)] = item
        if isinstance(item, Tensor):
            self.tensors[id(item)] = item
            if item.__dict__:
                yield item.__dict__
        elif isinstance(item, types.FunctionType):
            yield from self._visit_function(item)
        elif isinstance(item, types.MethodType):
            yield from (item.__func__, item.__self__)
        elif isinstance(item, functools.partial):
            yield from (item.func, item.args, item.keywords)
        elif isinstance(item, (list, tuple)):
            if kind is not tuple:
                self._lists.append((item, tuple(item)))
            yield from item
        elif isinstance(item, Mapping):
            if isinstance(item, (dict, types.MappingProxyType)):
                self._note_table(item)
            yield from item.values()
        elif isinstance(item, (set, frozenset)):
            self._lists.append((_Sorted(item), tuple(_Sorted(item))))
            yield from item
        elif isinstance(item, np.ndarray):
            if item.nbytes > LARGEST_ARRAY:
                self.refused = "it can reach a large NumPy array, whose values may change"
            else:
                self._arrays.append((item, item.tobytes()))
        elif isinstance(item, Optimizer) and item._has_numbers:
            yield from self._visit_optimizer(item)
        elif isinstance(item, (type, types.ModuleType, device, Generator)):
            return
        else:
            yield from self._visit_object(item)

    def _visit_function(self, function: Any) -> Iterator[Any]:
        if _is_foreign(function):
            wrapped = getattr(function, "__wrapped__", None)
            yield wrapped
            if wrapped is None and not function.__closure__:
                return
        for cell in function.__closure__ or ():
            content = _content(cell)
            self._cells.append((cell, content))
            yield content
        yield from (function.__defaults__, function.__kwdefaults__)
        if not _is_foreign(function):
            yield from self._visit_code(function.__code__, function.__globals__)

    def _visit_code(self, code: Any, scope: dict[str, Any]) -> Iterator[Any]:
        names = _names(code)
        self._reads_groups |= "param_groups" in names or "get_last_lr" in names
        used = []
        for name in names:
            if name in scope:
                used.append((name, scope[name]))
                yield from self._named_in(scope[name], names)
            elif name in _EFFECTS and hasattr(builtins, name):
                self.refused = f"it calls {name}()"
        if used:
            self._tables.append((_Attributes(scope.get), 0, tuple(used)))
            for _, value in used:
                if not isinstance(value, types.ModuleType):
                    yield value

    def _named_in(self, module: Any, names: frozenset[str]) -> Iterator[Any]:
        """What the code may take from a module of the user's: ``settings.rate``."""
        if not isinstance(module, types.ModuleType) or _package(module.__name__) in _FOREIGN:
            return
        found = [(name, vars(module)[name]) for name in names if name in vars(module)]
        if found:
            self._tables.append((_Attributes(vars(module).get), 0, tuple(found)))
            for _, value in found:
                if not isinstance(value, types.ModuleType):
                    yield value

    def _visit_optimizer(self, optimizer: Optimizer) -> Iterator[Any]:
        self.optimizers.append(optimizer)
        for group in optimizer.param_groups:
            yield from group["params"]
        for parameter, state in optimizer.state.items():
            # Step counters are replaced in every step and counted on the host.
            entries = tuple((key, value) for key, value in state.items() if key != "step")
            get = functools.partial(_state_entry, optimizer, parameter)
            self._tables.append((_Attributes(get), 0, entries))
            for _, value in entries:
                yield value

    def _visit_object(self, item: Any) -> Iterator[Any]:
        attributes = getattr(item, "__dict__", None)
        if isinstance(attributes, dict):
            yield attributes
        for cls in type(item).__mro__:
            if cls is object or _package(cls.__module__) in _FOREIGN:
                continue
            entries = [
                (name, value)
                for name, value in vars(cls).items()
                if not name.startswith("__") or callable(value)
            ]
            self._tables.append((_Attributes(vars(cls).get), 0, tuple(entries)))
            for name, value in entries:
                if isinstance(value, (staticmethod, classmethod)):
                    yield value.__func__
                elif isinstance(value, property):
                    yield from (value.fget, value.fset)
                else:
                    yield value
                if name in getattr(cls, "__slots__", ()):
                    yield getattr(item, name, None)

    def _note_table(self, table: Any) -> None:
        self._tables.append((table, len(table), tuple(table.items())))


class _Attributes:
    """Some names of a large table (the globals of a file): entries may come and go beside them."""

    __slots__ = ("get",)

    def __init__(self, get: Callable[..., Any]) -> None:
        self.get = get

    def __len__(self) -> int:
        return 0


class _Sorted:
    """A set as a list, so that it can be compared entry by entry."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(self._items, key=lambda item: (str(type(item)), repr(item))))


def _state_entry(optimizer: Optimizer, parameter: Tensor, key: str, default: Any) -> Any:
    return optimizer.state.get(parameter, {}).get(key, default)


def _equal(now: Any, before: Any) -> bool:
    return type(now) is type(before) and type(now) in _SCALARS and bool(now == before)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _missing


@functools.lru_cache(maxsize=4096)
def _names(code: Any) -> frozenset[str]:
    """Every name a code object and those inside it use."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return frozenset(names)


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _is_foreign(function: Any) -> bool:
    return _package(function.__module__) in _FOREIGN


__all__ = ["Environment"]
