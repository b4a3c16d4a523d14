"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.tensor.overrides import refuse_overriding
from lazytorch.tensor.tensor import Tensor, alias


class Parameter(Tensor):
    """A tensor to be trained: an attribute of a module that ``parameters()`` returns.

    Shares memory with ``data``. ``requires_grad`` is True unless said otherwise, also where
    gradients are switched off.

    >>> nn.Parameter(torch.zeros(2)).requires_grad
    True
    """

    __torch_function__ = classmethod(refuse_overriding)

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        source = torch.empty(0) if data is None else data.detach()
        parameter: Any = alias(source, cls)
        return parameter.requires_grad_(requires_grad)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            copied: Any = type(self)(self.data.clone(), self.requires_grad)
            gradient = getattr(self, "grad", None)
            if gradient is not None:
                copied.grad = gradient.detach().clone()
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]

    def __repr__(self, **options: Any) -> str:
        return "Parameter containing:\n" + super().__repr__(**options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild_parameter, (self.data, self.requires_grad)


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned to it."""

    persistent: bool
    __torch_function__ = classmethod(refuse_overriding)

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        source = torch.empty(0) if data is None else data.detach()
        buffer: Any = alias(source, cls)
        buffer.persistent = persistent
        return buffer.requires_grad_(data is not None and data.requires_grad)  # type: ignore[no-any-return]


def _rebuild_parameter(data: Tensor, requires_grad: bool) -> Parameter:
    return Parameter(data, requires_grad)
