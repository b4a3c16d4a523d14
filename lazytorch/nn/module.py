"""Module: a tree of parameters, buffers and submodules with a forward function.

Knows what is registered, how a module is called and how it prints. How the tree is walked stands
in ``module_tree``, how it is saved in ``module_state``, how it is moved and cast in
``module_conversion``, how hooks are registered in ``module_hooks`` and ``global_hooks``.
It must not know any particular layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import lazytorch as torch
from lazytorch.nn.global_hooks import registered
from lazytorch.nn.module_conversion import ConversionMethods
from lazytorch.nn.module_hooks import BackwardHookPass, HookMethods
from lazytorch.nn.module_state import StateMethods
from lazytorch.nn.module_tree import TreeMethods
from lazytorch.nn.parameter import Buffer, Parameter
from lazytorch.tensor.tensor import Tensor

Self = TypeVar("Self", bound="Module")

_TABLES = ("_parameters", "_buffers", "_modules")


class Module(ConversionMethods, HookMethods, StateMethods, TreeMethods):
    """Base class of all networks and layers; subclass it and define ``forward``.

    Parameters, buffers and modules assigned as attributes are registered, so that
    ``parameters()``, ``state_dict()``, ``to()`` and ``train()`` reach them.

    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(torch.ones(3))
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    dump_patches: bool = False
    call_super_init: bool = False
    _version: int = 1
    training: bool
    # What calls go to after ``compile``.
    _compiled_call_impl: Callable[..., Any] | None = None
    T_destination = TypeVar("T_destination", bound=dict[str, Any])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and kwargs:
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                f"'{next(iter(kwargs))}'"
            )
        if not self.call_super_init and args:
            raise TypeError(
                f"{type(self).__name__}.__init__() takes 1 positional argument but "
                f"{len(args) + 1} were given"
            )
        # __setattr__ looks into these tables, so they are put in place behind its back.
        state = self.__dict__
        state["training"] = True
        for table in _TABLES:
            state[table] = {}
        state["_non_persistent_buffers_set"] = set()
        self._create_hook_tables()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines its own."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    # Calling ----------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None:
            return self._compiled_call_impl(*args, **kwargs)
        return self._call_impl(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        if self._has_no_hooks():
            return self.forward(*args, **kwargs)
        result, begun = None, set[int]()
        try:
            args, kwargs = self._run_forward_pre_hooks(args, kwargs)
            watch = BackwardHookPass(self)
            args = watch.watch_inputs(args)
            result = self.forward(*args, **kwargs)
            result = self._run_forward_hooks(args, kwargs, result, begun)
            return watch.watch_outputs(result)
        except Exception:
            self._run_always_called_hooks(args, kwargs, result, begun)
            raise

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Have calls of this module compiled; arguments are those of :func:`torch.compile`.

        Unlike ``torch.compile(module)`` this changes the module itself; state names stay.

        >>> layer = nn.Linear(2, 2); layer.compile()
        >>> layer(torch.ones(1, 2)).shape
        torch.Size([1, 2])
        """
        self._compiled_call_impl = torch.compile(self._call_impl, *args, **kwargs)

    # Registration -----------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name."""
        self._check_name("parameter", name, param, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                f"created explicitly. To express '{name}' as a function of another Tensor, "
                "compute the value in the forward() method."
            )
        self._parameters[name] = registered("parameter", self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but not trained.

        A buffer with ``persistent=False`` moves with the module but is left out of
        ``state_dict()``.
        """
        self._check_name("buffer", name, tensor, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        self._buffers[name] = registered("buffer", self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under ``name``; None reserves the name."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._check_name("module", name, module, "_modules")
        self._modules[name] = registered("module", self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Another name of :meth:`add_module`."""
        self.add_module(name, module)

    def _check_name(self, kind: str, name: str, value: Any, table: str) -> None:
        if table not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
        if hasattr(self, name) and name not in self.__dict__[table]:
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name!r}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')

    # Attributes -------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Only called when the ordinary lookup has failed.
        state = self.__dict__
        for table in _TABLES:
            entries = state.get(table)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        state = self.__dict__
        if isinstance(value, Parameter):
            self._require_init("_parameters", "parameters")
            self._forget(name, "_buffers", "_modules")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._require_init("_modules", "module")
            self._forget(name, "_parameters", "_buffers")
            self._modules[name] = registered("module", self, name, value)
        elif name in state.get("_parameters", ()):
            self._reject_unless_none(value, "parameter", name, "torch.nn.Parameter")
            self._parameters[name] = registered("parameter", self, name, None)
        elif name in state.get("_modules", ()):
            self._reject_unless_none(value, "child module", name, "torch.nn.Module")
            self._modules[name] = registered("module", self, name, None)
        elif isinstance(value, Buffer) or name in state.get("_buffers", ()):
            self._set_buffer(name, value)
        else:
            super().__setattr__(name, value)

    def _set_buffer(self, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(value)}' as buffer '{name}' "
                "(torch.nn.Buffer, torch.Tensor or None expected)"
            )
        if isinstance(value, Buffer):
            self._forget(name, "_parameters", "_modules")
            self.register_buffer(name, value, value.persistent)
        else:
            self._buffers[name] = registered("buffer", self, name, value)

    def _require_init(self, table: str, kind: str) -> None:
        if table not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")

    def _forget(self, name: str, *tables: str) -> None:
        state = self.__dict__
        state.pop(name, None)
        for table in tables:
            state[table].pop(name, None)
        if "_buffers" in tables:
            self._non_persistent_buffers_set.discard(name)

    @staticmethod
    def _reject_unless_none(value: Any, kind: str, name: str, expected: str) -> None:
        if value is not None:
            raise TypeError(
                f"cannot assign '{_type_name(value)}' as {kind} '{name}' "
                f"({expected} or None expected)"
            )

    def __delattr__(self, name: str) -> None:
        for table in _TABLES:
            if name in self.__dict__[table]:
                del self.__dict__[table][name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = set(super().__dir__())
        for table in _TABLES:
            names.update(self.__dict__[table])
        return sorted(name for name in names if not name[0].isdigit())

    def __getstate__(self) -> dict[str, Any]:
        # A compiled call belongs to this module; a copy is compiled by whoever wants that.
        return {key: value for key, value in self.__dict__.items() if key != "_compiled_call_impl"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name, empty in self._hook_table_defaults().items():
            self.__dict__.setdefault(name, empty)
        self.__dict__.setdefault("_non_persistent_buffers_set", set())

    # Modes ------------------------------------------------------------------------------------

    def apply(self: Self, fn: Callable[[Module], None]) -> Self:
        """Call ``fn`` on every submodule, children first, then on this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Switch training behaviour (dropout, batch statistics) on or off in the whole tree."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: Self) -> Self:
        """Switch to evaluation behaviour: the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad`` of every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        parameter: Any
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            parameter.grad = None if set_to_none else parameter.grad.detach().zero_()

    # Text -------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What a layer says about itself inside its parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        child_lines = [
            f"({name}): " + indent_continuation(repr(module))
            for name, module in self._modules.items()
        ]
        if not child_lines and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        body = "\n  ".join(extra_lines + child_lines)
        return f"{self._get_name()}(\n  {body}\n)"


def indent_continuation(text: str, spaces: int = 2) -> str:
    """``text`` with every line but the first moved to the right."""
    return ("\n" + " " * spaces).join(text.split("\n"))


def _type_name(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.type())
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
