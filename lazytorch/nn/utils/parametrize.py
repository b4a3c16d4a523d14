"""Tensors of a module that are computed from others: ``layer.weight`` becomes ``f(original)``.

A parametrized module is an instance of a class of its own, derived from the module's, in which
the tensor is a property; the tensors that it is computed from are in
``module.parametrizations.<name>.original`` (``original0``, ``original1``, ... where there are
several), so that names in a ``state_dict`` are PyTorch's.
"""

from __future__ import annotations

import collections
import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from lazytorch.autograd.grad_mode import no_grad
from lazytorch.nn.container import ModuleDict, ModuleList
from lazytorch.nn.module import Module
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization",
    "remove_parametrizations", "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]  # fmt: skip

_cache: dict[tuple[int, str], Tensor] = {}
_cached_depth = 0


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inside, each parametrized tensor is computed once, at its first use.

    >>> with nn.utils.parametrize.cached():
    ...     pass
    """
    global _cached_depth
    _cached_depth += 1
    try:
        yield
    finally:
        _cached_depth -= 1
        if not _cached_depth:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The modules that compute one tensor, in their order, and what they compute it from."""

    original: Tensor

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            new: Any = original
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    # What cannot be assigned to starts as it is.
                    with contextlib.suppress(NotImplementedError):
                        new = _inverse(module, new)
        if not isinstance(new, Tensor) and not isinstance(new, collections.abc.Sequence):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if isinstance(new, Tensor):
            if original.dtype != new.dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {original.dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
            # The same parameter, which an optimizer may know, with other values.
            with no_grad():
                original.set_(new)
            _register(self, "original", original)
        else:
            for number, value in enumerate(new):
                if not isinstance(value, Tensor):
                    raise ValueError(
                        "'right_inverse' must return a Tensor or a Sequence of tensors (list, "
                        f"tuple...). Got element {number} of the sequence with type "
                        f"{type(value).__name__}."
                    )
                if isinstance(original, Parameter):
                    value = Parameter(value, original.requires_grad)
                _register(self, f"original{number}", value)
        if not unsafe:
            self._check(shape, dtype)

    def _check(self, shape: Any, dtype: Any) -> None:
        result = self()
        if not isinstance(result, Tensor):
            raise ValueError(
                f"A parametrization must return a tensor. Got {type(result).__name__}."
            )
        for what, found, wanted in (("dtype", result.dtype, dtype), ("shape", result.shape, shape)):
            if found != wanted:
                raise ValueError(
                    f"Registering a parametrization may not change the {what} of the tensor, "
                    "unless the `unsafe` flag is enabled.\n"
                    f"unparametrized {what}: {wanted}\nparametrized {what}: {found}"
                )

    def originals(self) -> list[Tensor]:
        """What the tensor is computed from."""
        if self.is_tensor:
            return [self.original]
        return [getattr(self, f"original{number}") for number in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Give the originals the values from which ``value`` is computed.

        The parametrizations need a ``right_inverse`` method; ``RuntimeError`` where one has none.
        """
        with no_grad():
            new: Any = value
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"parametrization {type(module).__name__} does not implement right_inverse."
                    )
                new = _inverse(module, new)
            values = [new] if self.is_tensor else list(new)
            if len(values) != self.ntensors:
                raise ValueError(
                    "'right_inverse' must return a sequence of tensors of length "
                    f"{self.ntensors}. Got a sequence of length {len(values)}."
                )
            for original, new_value in zip(self.originals(), values):
                if original.dtype != new_value.dtype:
                    raise ValueError(
                        f"The tensor returned by `right_inverse` has dtype {new_value.dtype} "
                        f"while `original` has dtype {original.dtype}"
                    )
                original.set_(new_value)

    def forward(self) -> Tensor:
        first, *others = list(self)
        value: Any = first(*self.originals())
        for module in others:
            value = module(value)
        return value  # type: ignore[no-any-return]


def _inverse(module: Any, value: Any) -> Any:
    return module.right_inverse(value)


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute a parameter or buffer of ``module`` by ``parametrization`` from now on.

    Where the parametrization has a ``right_inverse``, its result becomes the original, so that the
    tensor keeps its value. Several registered one after another compose. A parametrization that
    changes shape or dtype raises ``ValueError`` unless ``unsafe``.

    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = nn.utils.parametrize.register_parametrization(
    ...     nn.Linear(3, 3), "weight", Symmetric())
    >>> torch.equal(layer.weight, layer.weight.T), list(layer.state_dict())
    (True, ['bias', 'parametrizations.weight.original'])
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        known: Any = module.parametrizations[tensor_name]
        if not unsafe:
            before = getattr(module, tensor_name)
            after = parametrization(before)
            if not isinstance(after, Tensor):
                raise ValueError(
                    f"A parametrization must return a tensor. Got {type(after).__name__}."
                )
            for what in ("dtype", "shape"):
                if getattr(after, what) != getattr(before, what):
                    raise ValueError(
                        f"Registering a parametrization may not change the {what} of the "
                        "tensor, unless the `unsafe` flag is enabled.\n"
                        f"module.{tensor_name}.{what}: {getattr(before, what)}\n"
                        f"parametrization(module.{tensor_name}).{what}: {getattr(after, what)}"
                    )
        if hasattr(parametrization, "right_inverse"):
            with no_grad():
                known.right_inverse(_inverse(parametrization, getattr(module, tensor_name)))
        known.append(parametrization)
        known.unsafe |= unsafe
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    original = getattr(module, tensor_name)
    made = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _inject_class(module)
        module.parametrizations = ModuleDict()
    _inject_property(module, tensor_name)
    parametrizations: Any = module.parametrizations
    parametrizations[tensor_name] = made
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of ``module``, or any, is computed by parametrizations."""
    known = getattr(module, "parametrizations", None)
    if not isinstance(known, ModuleDict):
        return False
    return len(known) > 0 if tensor_name is None else tensor_name in known


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a parametrized tensor an ordinary one again.

    It keeps its computed value, or with ``leave_parametrized=False`` the original's, which must be
    a single tensor.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    parametrizations: Any = module.parametrizations
    known: ParametrizationList = parametrizations[tensor_name]
    if known.is_tensor:
        original: Any = known.original
        if leave_parametrized:
            with no_grad():
                original.set_(getattr(module, tensor_name).detach().clone())
    elif leave_parametrized:
        value = getattr(module, tensor_name).detach().clone()
        trained = known.originals()[0].requires_grad
        original = Parameter(value, trained) if trained else value
    else:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is "
            "parametrized in terms of a sequence of tensors."
        )
    delattr(type(module), tensor_name)
    del parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type_before_parametrizations(module)
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class of ``module`` without its parametrizations."""
    kind: type = type(module)
    return kind.__bases__[0] if is_parametrized(module) or _injected(kind) else kind


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give ``to_module`` copies of the parametrizations of ``from_module`` (of one tensor, or
    all), originals included."""
    if not is_parametrized(from_module):
        return to_module
    parametrizations: Any = from_module.parametrizations
    names = list(parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        source = parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in source:
            register_parametrization(to_module, name, copy.deepcopy(parametrization), unsafe=True)
        target: Any = to_module.parametrizations
        with no_grad():
            for mine, other in zip(target[name].originals(), source.originals()):
                mine.set_(other.detach().clone())
    return to_module


# Classes ------------------------------------------------------------------------------------------


def _injected(kind: type) -> bool:
    return "_parametrized_from" in vars(kind)


def _inject_class(module: Module) -> None:
    kind = type(module)

    def refuse(self: Any) -> Any:
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict(): save "
            "module.state_dict(), and load it into a module that is parametrized likewise"
        )

    def copied(self: Any, memo: dict[int, Any]) -> Any:
        twin = memo[id(self)] = self.__new__(self.__class__)
        state = copy.deepcopy(self.__dict__, memo)
        twin.__dict__.update(state)
        return twin

    members: dict[str, Any] = {"__getstate__": refuse, "_parametrized_from": kind}
    if not hasattr(kind, "__deepcopy__"):
        members["__deepcopy__"] = copied
    module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), members)


def _inject_property(module: Module, name: str) -> None:
    def get(self: Any) -> Tensor:
        compute = self.parametrizations[name]
        if not _cached_depth:
            return compute()  # type: ignore[no-any-return]
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = compute()
        return _cache[key]

    def set_(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, set_))
